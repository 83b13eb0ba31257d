"""Training: the steps of the update on the batches, whatever is recorded, to the same bits after an interruption."""

import csv
import json
import signal
import subprocess
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_structure import compiled
from trainings import ARGUMENTS, small, spread
from trainings import __file__ as SCRIPT

import dynamics as dy
from dynamics.distributions import Points

KEY = ARGUMENTS["key"]


def same(one, two):
    """Whether two pytrees are equal to the bit."""
    assert jax.tree.structure(one) == jax.tree.structure(two)
    jax.tree.map(np.testing.assert_array_equal, one, two)


def train(**changes):
    game, update, players, data = small()
    arguments = {"steps": 13, "every": 5, "data": data} | ARGUMENTS | changes
    return dy.train(game, update, players, **arguments)


def plain_loop(game, update, players, data, steps, decay):
    """The same training by a loop of Python."""
    state, average = update.init(game, players), players[0]
    step = eqx.filter_jit(lambda game, state, key: update.step(game, state, key))
    for t in range(steps):
        game = eqx.tree_at(lambda gan: gan.data, game, Points(data.at(t)))
        state = step(game, state, jax.random.fold_in(KEY, t))
        average = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, average, state.players[0])
    return state, average


@pytest.mark.slow_cases("float32")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_steps_are_those_of_the_update_on_the_batches(dtype):
    game, update, players, data = small(dtype)
    assert jax.tree.leaves(game.data)[0].dtype == jnp.float64
    training = dy.train(game, update, players, steps=11, every=4, key=KEY, data=data, average=0.9)
    game, update = jax.tree.map(lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, (game, update))
    state, average = plain_loop(game, update, players, data, 11, 0.9)
    tolerance = 2e-4 if dtype == jnp.float32 else 1e-11
    for one, two in ((training.state, state), (training.average, average)):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    assert training.steps.tolist() == [0, 4, 8, 11]
    batch = Points(data.at(8))
    at_8, _ = plain_loop(game, update, players, data, 8, 0.9)
    losses = eqx.tree_at(lambda gan: gan.data, game, batch).losses(at_8.players, jax.random.fold_in(KEY, 8))
    np.testing.assert_allclose(training.losses[2], losses, rtol=10 * tolerance)


def test_numbers_do_not_depend_on_how_often_is_looked():
    often, seldom = train(every=1), train(every=6)
    same(often.state, seldom.state)
    same(often.average, seldom.average)
    assert often.steps.tolist() == list(range(14)) and seldom.steps.tolist() == [0, 6, 12, 13]
    np.testing.assert_array_equal(often.losses[seldom.steps], seldom.losses)
    assert list(often.metrics) == ["spread.std", "spread.score"]
    for name, series in seldom.metrics.items():
        np.testing.assert_array_equal(often.metrics[name][seldom.steps], series)


def test_metrics_are_of_the_average():
    training = train()
    game = small()[0]
    key = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(KEY, np.uint32(2**32 - 1)), 13), 0)
    assert float(spread(game, training.averaged_players, key)["std"]) == training.metrics["spread.std"][-1]
    assert float(spread(game, training.players, key)["std"]) != training.metrics["spread.std"][-1]
    plain = train(average=None)
    assert plain.average is None
    same(plain.averaged_players, plain.players)
    same(plain.players, training.players)  # the average does not act back


def test_other_numbers_and_more_steps_compile_nothing():
    _, update, players, data = small()
    train(steps=3, every=2)
    _, other, players, data = small(rate=0.03)
    game = eqx.tree_at(lambda gan: gan.penalty.weight, small()[0], jnp.asarray(0.7))
    with compiled() as programs:
        training = dy.train(game, other, players, steps=10, every=3, data=data, **ARGUMENTS)
    assert programs.count == 0 and training.step == 10


def test_a_training_goes_on_from_its_state():
    whole = train(steps=9)
    game, update, players, data = small()
    first = dy.train(game, update, players, steps=9, every=9, key=KEY, data=data)
    same(first.state, whole.state)
    further = dy.train(game, update, first.state, steps=2, key=jax.random.key(9), data=data)
    assert not np.array_equal(*(jax.tree.leaves(one.players)[0] for one in (first, further)))


def test_games_without_data_take_their_own():
    game = dy.games.Bilinear(1.0)
    update = dy.updates.Extragradient(optax.sgd(0.1), optax.sgd(0.2), extrapolation=0.1)
    training = dy.train(game, update, (1.0, -2.0), steps=50, key=KEY)
    run = dy.simulate(game, update, (1.0, -2.0), steps=50, key=KEY)
    np.testing.assert_allclose(training.players, run.final, rtol=1e-12)
    assert len(training.steps) == 26  # every 2 steps


@pytest.mark.slow
def test_a_gan_within_a_game_gets_the_batches():
    game = dy.games.RingGAN(jax.random.key(0), width=3, depth=1, latents=8, batch_size=5)
    data = dy.data.Batches(jnp.zeros((10, 2)), 5, KEY)
    update = dy.updates.Simultaneous(optax.sgd(0.1), optax.sgd(0.1))
    training = dy.train(game, update, game.start(KEY), steps=1, key=KEY, data=data)
    real, _ = dy.training.generating.with_data(game, Points(data.at(0))).parts.samples(training.players, KEY)
    assert not np.asarray(real.values).any()
    assert dy.training.generate(game, training.players, KEY, 2000).shape == (2000, 2)


def test_generated_samples_are_those_of_the_generator():
    game, _, players, _ = small()
    samples = dy.training.generate(game, players, KEY, 1500)
    latent = jnp.concatenate([game.latent.sample(jax.random.fold_in(KEY, i), 1024).values for i in range(2)])
    expected = jax.vmap(lambda point: game.generator(players[0], point))(latent)[:1500]
    np.testing.assert_allclose(samples, expected, rtol=1e-12)


# What goes wrong


@pytest.mark.parametrize("fails_at", [0, 5, 7])
def test_a_training_that_blows_up_keeps_what_it_has(fails_at, tmp_path):
    class Limited(dy.Game):
        def losses(self, players, key=None):
            x, y = players  # moves by one a step, until the logarithm has nothing to take
            return -x + 0 * jnp.sqrt(fails_at + 0.5 - x), -2 * y

        def equilibria(self):
            return ()

        @classmethod
        def example(cls):
            return cls(), (0.0, 0.0)

    update = dy.updates.Simultaneous(optax.sgd(1.0), optax.sgd(1.0))
    arguments = {"steps": 20, "every": 5, "key": KEY, "average": 0.5, "directory": tmp_path}
    arguments["metrics"] = {"x": lambda game, players, key: players[1]}
    training, again = (dy.train(Limited(), update, (0.0, 0.0), **arguments) for _ in range(2))
    assert training.ending is dy.training.Ending.not_finite and training.step == fails_at + 1
    assert float(training.players[0]) == fails_at + 1 and float(training.players[1]) == 2 * (fails_at + 1)
    assert np.isfinite(training.average)
    steps = [step for step in (0, 5, 10) if step <= training.step]
    assert training.steps.tolist() == [*steps, *[training.step] * (training.step not in steps)]
    assert training.metrics["x"][: len(steps)].tolist() == [2.0 * step for step in steps]
    assert "not_finite after step" in training.describe() and "Smaller steps" in training.describe()
    same(training.state, again.state)
    np.testing.assert_array_equal(training.steps, again.steps)


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"steps": 0}, ValueError, "steps is 0"),
        ({"steps": 2**31}, ValueError, "fewer than 2"),
        ({"every": 0}, ValueError, "every is 0"),
        ({"average": 1.0}, ValueError, "average is 1.0; expected a decay >= 0 and < 1"),
        ({"data": jnp.zeros((9, 2))}, TypeError, r"data is array .* expected batches of it"),
        ({"data": dy.data.ring(KEY, 9)}, TypeError, "data is the data set 'ring'; expected batches"),
        ({"metrics": {"a": 3}}, TypeError, r"metrics\['a'\] is 3; expected a function"),
        ({"metrics": {"a": lambda *_: jnp.zeros(2)}}, TypeError, r"returned array of shape \(2,\).* one real number"),
    ],
)
def test_bad_input_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        train(**changes)


def test_games_and_updates_that_do_not_fit():
    game, update, players, data = small()
    with pytest.raises(TypeError, match="update is .* expected one of dynamics.updates"):
        dy.train(game, optax.sgd(0.1), players, steps=1, key=KEY)
    with pytest.raises(TypeError, match="data= needs a game with one GAN in it, and Bilinear has 0"):
        dy.train(dy.games.Bilinear(1.0), update, (1.0, 1.0), steps=1, key=KEY, data=data)


# Records


def test_the_log_and_the_dataset_hold_the_numbers(tmp_path):
    path = tmp_path / "new" / "log.csv"
    calls = []
    training = train(callbacks=[dy.training.CSVLog(path), lambda *values: calls.append(values)])
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert list(rows[0]) == ["step", "loss_0", "loss_1", "spread.std", "spread.score"]
    assert [int(row["step"]) for row in rows] == training.steps.tolist() == [call[0] for call in calls]
    assert [float(row["loss_1"]) for row in rows] == training.losses[:, 1].tolist()
    assert [float(row["spread.std"]) for row in rows] == training.metrics["spread.std"].tolist()
    same(calls[-1][1], training.state)
    dataset = training.to_xarray()
    np.testing.assert_array_equal(dataset.loss.sel(player=0), training.losses[:, 0])
    assert dataset["spread.std"].dims == ("step",) and dataset.attrs["ending"] == "finished"
    train(callbacks=[dy.training.CSVLog(path)])  # begins anew
    assert list(csv.DictReader(path.read_text().splitlines())) == rows


def test_the_log_replaces_rows_that_come_again(tmp_path):
    log = dy.training.CSVLog(tmp_path / "log.csv")
    for step, value in [(0, 1.0), (5, 2.0), (10, 3.0), (5, 0.1), (10, np.nan)]:
        log(step, None, {"loss_0": value})
    assert log.path.read_text() == "step,loss_0\n0,1.0\n5,0.1\n10,nan\n"
    with log.path.open("a") as stream:
        stream.write("15,4")  # cut off
    log(15, None, {"loss_0": 5.0})
    assert log.path.read_text().splitlines()[-2:] == ["10,nan", "15,5.0"]
    with pytest.raises(ValueError, match="has the columns step, loss_0; expected step, loss_0, fid"):
        log(20, None, {"loss_0": 5.0, "fid": 1.0})


def test_progress_is_shown(capsys):
    seen = []
    train(progress=lambda done, total, text: seen.append((done, total, text)))
    assert [entry[:2] for entry in seen] == [(0, 13), (5, 13), (10, 13), (13, 13)]
    assert "loss_0 0." in seen[-1][2] and "spread.std" in seen[-1][2]
    train(progress=True)
    assert "13" in (text := capsys.readouterr().err) and "loss_0" in text


# Checkpoints


class Stopped(Exception):
    pass


def stop_at(last):
    def callback(step, state, values):
        if step == last:
            raise Stopped

    return callback


@pytest.mark.parametrize("last", [0, 5, 13])
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(last, tmp_path):
    whole = train(callbacks=[dy.training.CSVLog(tmp_path / "whole.csv")])
    log = dy.training.CSVLog(tmp_path / "log.csv")
    with pytest.raises(Stopped):
        train(directory=tmp_path / "run", callbacks=[log, stop_at(last)])
    resumed, finished = (train(directory=tmp_path / "run", callbacks=[log]) for _ in range(2))
    for training in (resumed, finished):
        same(training.state, whole.state)
        same(training.average, whole.average)
        same(training.metrics, whole.metrics)
        np.testing.assert_array_equal(training.losses, whole.losses)
        np.testing.assert_array_equal(training.steps, whole.steps)
    assert log.path.read_text() == (tmp_path / "whole.csv").read_text()


def test_a_finished_training_goes_on_for_longer(tmp_path):
    train(steps=8, directory=tmp_path)
    longer, whole = train(steps=13, directory=tmp_path), train(steps=13)
    same(longer.state, whole.state)
    np.testing.assert_array_equal(longer.steps, whole.steps)
    np.testing.assert_array_equal(longer.losses, whole.losses)
    with pytest.raises(ValueError, match="is at step 13, and steps is 9; expected no fewer"):
        train(steps=9, directory=tmp_path)


def test_a_directory_of_another_training_is_refused(tmp_path):
    train(steps=1, every=1, directory=tmp_path)
    game, update, players, data = small()
    heavier = eqx.tree_at(lambda gan: gan.penalty.weight, game, jnp.asarray(0.7))
    arguments = {"steps": 1, "every": 1, "data": data, "directory": tmp_path} | ARGUMENTS
    for others, what in [
        ((heavier, update, players), "game"),
        ((game, small(rate=0.01)[1], players), "update"),
        ((game, update, (players[0], jax.tree.map(lambda x: 2 * x, players[1]))), "start"),
        ((eqx.tree_at(lambda gan: gan.objective, game, dy.objectives.Hinge()), update, players), "program"),
    ]:
        with pytest.raises(ValueError, match=rf"holds another training; what differs: {what}\. Give another"):
            dy.train(*others, **arguments)
    with pytest.raises(ValueError, match=r"average \(0.9 there, 0.8 here\)"):
        train(steps=1, every=1, directory=tmp_path, average=0.8)
    with pytest.raises(ValueError, match=r"every \(1 there, 2 here\)"):
        train(steps=2, every=2, directory=tmp_path)
    with pytest.raises(ValueError, match="key"):
        train(steps=1, every=1, directory=tmp_path, key=jax.random.key(0))
    assert train(steps=1, every=1, directory=tmp_path).step == 1


def test_a_damaged_checkpoint_is_refused(tmp_path):
    train(steps=1, every=1, directory=tmp_path)
    file = tmp_path / "checkpoint"
    content = file.read_bytes()
    assert json.loads(content.split(b"\n")[0])["step"] == 1
    for damaged in (content[:-3], content[:40], b"", content[:-9] + b"x" + content[-8:]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="checkpoint is damaged"):
            train(steps=1, every=1, directory=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="which is a file; expected a folder"):
        train(steps=1, every=1, directory=tmp_path / "file")


@pytest.mark.slow
def test_networks_with_variables_resume_as_well(tmp_path):
    class Normalised(eqx.Module):
        first: eqx.nn.Linear
        norm: eqx.nn.BatchNorm
        last: eqx.nn.Linear

        def __init__(self, key):
            one, two = jax.random.split(key)
            self.first, self.last = eqx.nn.Linear(3, 4, key=one), eqx.nn.Linear(4, 2, key=two)
            self.norm = eqx.nn.BatchNorm(4, "batch", mode="batch")

        def __call__(self, point, state):
            values, state = self.norm(self.first(point), state)
            return self.last(jnp.tanh(values)), state

    game, update, players, data = small()
    module, state = eqx.nn.make_with_state(Normalised)(jax.random.key(1))
    network, parameters = dy.networks.from_equinox(module, state, axis_name="batch")
    game = dy.GAN(network, game.discriminator, game.data, game.latent)
    arguments = {"steps": 6, "every": 3, "data": data} | ARGUMENTS
    players = parameters, players[1]
    whole = dy.train(game, update, players, **arguments)
    with pytest.raises(Stopped):
        dy.train(game, update, players, directory=tmp_path, callbacks=[stop_at(6)], **arguments)
    resumed = dy.train(game, update, players, directory=tmp_path, **arguments)
    same(resumed.state, whole.state)
    same(resumed.metrics, whole.metrics)
    means = [leaf for leaf in jax.tree.leaves(whole.state.memory.variables) if leaf.shape == (4,)]
    assert np.any(means[0] != 0)  # running means have moved


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_to_the_same_bits(tmp_path):
    def process(folder, wait):
        folder.mkdir(exist_ok=True)
        command = [sys.executable, SCRIPT, str(folder), "4000", "20", str(int(wait))]
        return subprocess.Popen(command, stdout=subprocess.PIPE if wait else subprocess.DEVNULL, text=True)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert process(whole, False).wait() == 0
    random = np.random.default_rng(0)
    kills = 0
    for _ in range(6):
        running = process(killed, True)
        running.stdout.readline()
        time.sleep(random.uniform(0, 0.3))
        running.send_signal(signal.SIGKILL)
        running.stdout.close()
        kills += running.wait() == -signal.SIGKILL
    assert kills >= 3
    assert process(killed, False).wait() == 0
    for name in ("checkpoint", "log.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
