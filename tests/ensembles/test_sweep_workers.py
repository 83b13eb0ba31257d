"""Sweeps whose chunks are computed elsewhere: the same bits, and what happens when workers fail, die or are too old."""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweeps
from study_samples import small_toml
from sweeps import equal

import dynamics as dy
from dynamics import _progress as progress
from dynamics import cli, optimisers, studies
from dynamics.ensembles import WorkerError, local_workers, seeds, workers

RATES = np.linspace(0.05, 2.05, 30)


def linear(rate):
    """A game of one player that contracts by 1 - rate."""
    return dy.games.Quadratic([[1.0]]), dy.updates.Simultaneous(optimisers.sgd(rate)), (1.0,)


def small(build=linear, **changed):
    """A sweep of five chunks."""
    settings = dict(steps=20, predict=False, chunk=6, progress=False) | changed
    return dy.sweep(build, {"rate": RATES}, **settings)


@pytest.fixture(autouse=True)
def few_lanes(monkeypatch):
    sweeps.small_blocks(monkeypatch, 3)


@pytest.fixture(scope="module")
def pool():
    """Two processes; the initialiser sees to it that they have the flags, and that nothing of this process leaks."""
    with local_workers(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def whole():
    with pytest.MonkeyPatch.context() as patch:
        sweeps.small_blocks(patch, 3)
        return small()


class Inline(concurrent.futures.Executor):
    """Runs what a worker would run at once, by way of a pickle, in this process."""

    def __init__(self, change=lambda sent: sent, fail=None):
        self.change, self.fail, self.calls, self.sizes = change, fail, 0, []

    def submit(self, function, sent, *arguments):
        self.calls += 1
        future = concurrent.futures.Future()
        error = self.fail(self.calls) if self.fail else None
        if error is not None:
            future.set_exception(error)
        else:
            self.sizes.append(len(sent.content or b""))
            future.set_result(function(self.change(sent), *arguments))
        return future


# The same bits


@pytest.mark.slow
def test_processes_change_nothing(pool, tmp_path):
    weight = jnp.asarray(0.3)  # what a closure refers to travels, in its precision

    class Tilted(dy.Game):
        tilt: jax.Array = eqx.field(converter=jnp.asarray)
        shift: float = 0.5

        def losses(self, players, key=None):
            x, y = players
            return self.tilt * x * y + self.shift * x**2, y**2 / 2 - x * jnp.sin(y)

        def equilibria(self):
            return (dy.game.as_players((0.0, 0.0)),)

        @classmethod
        def example(cls):
            return cls(jnp.ones(())), (1.0, 1.0)

    def build(rate, tilt, seed, start_key):
        sgd = optimisers.sgd(rate * (1 + weight * jax.random.uniform(seed)))
        direction = dy.directions.Noisy(scale=1e-3)
        x, y = jax.random.normal(start_key, (2,))
        return Tilted(tilt), dy.updates.Alternating(sgd, sgd, direction=direction), (x, y)

    axes = {"rate": np.linspace(0.1, 1.9, 5), "tilt": 0.5, "seed": seeds(3)}
    measures = {"energy": lambda game, players: {"size": players[0] ** 2, "parts": jnp.arange(3) > players[1]}}
    common = dict(steps=30, starts=5, key=jax.random.key(2), measures=measures)
    with jax.default_prng_impl("rbg"):
        here = dy.sweep(build, axes, chunk=75, **common)
        seen = []
        there = dy.sweep(build, axes, executor=pool, **common, progress=lambda *told: seen.append(told))
        stored = dy.sweep(build, axes, executor=pool, chunk=10, store=tmp_path / "run.zarr", **common)
    equal(here, there)
    equal(here, stored)
    assert seen[-1][:2] == (75, 75) and len(seen) >= 7 and "converged" in seen[-1][2]
    equal(here, dy.sweep(build, axes, **common))  # the random numbers are those of every default generator


@pytest.mark.slow
def test_generators_that_draw_for_a_whole_batch():
    """rbg's numbers depend on the batch under `jax.vmap`; those of a sweep, and of its second look, may not."""
    key = jax.random.key(2, impl="rbg")

    def build(rate):
        sgd = optimisers.sgd(rate)
        return dy.games.DiracGAN(), dy.updates.Simultaneous(sgd, sgd, direction=dy.directions.Noisy(scale=0.1)), (1, 1)

    axes = {"rate": np.linspace(0.1, 0.5, 20)}
    together = dy.sweep(build, axes, steps=20, key=key, predict=False)
    apart = dy.sweep(build, axes, steps=20, key=key, predict=False, chunk=5)
    equal(together, apart)
    assert not np.array_equal(together.player_0, dy.sweep(build, axes, steps=20, key=jax.random.key(2)).player_0)


@pytest.mark.slow
def test_threads_change_nothing(whole):
    with concurrent.futures.ThreadPoolExecutor(3) as executor:
        equal(whole, small(executor=executor))
        axes = {"rate": np.linspace(0.1, 4.5, 12), "weight": [0.0, 0.3]}

        def build(rate, weight):
            sgd = optimisers.sgd(rate)
            return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), dy.updates.Alternating(sgd, sgd), (1.0, 0.5)

        equal(dy.sweep(build, axes, steps=20, chunk=4), dy.sweep(build, axes, steps=20, chunk=4, executor=executor))


@pytest.mark.slow
def test_dask_changes_nothing(whole):
    import distributed

    here = dict(processes=True, n_workers=2, threads_per_worker=1, dashboard_address=None)
    with distributed.Client(**here) as client, client.get_executor() as executor:
        equal(whole, small(executor=executor))
        with pytest.raises(TypeError, match="executor is <Client.*take its get_executor"):
            small(executor=client)


def test_a_recipe_travels_once(whole, monkeypatch):
    monkeypatch.setattr(workers, "FEWEST_UNDER_WAY", 1)
    monkeypatch.setattr(workers, "REPEATED_BYTES", 0)
    workers._works.clear()
    executor = Inline()
    equal(whole, small(executor=executor))
    assert executor.sizes[0] > 0 and not any(executor.sizes[1:]) and len(executor.sizes) == 5

    class Forgetful(Inline):
        def submit(self, *arguments):
            workers._works.clear()
            return super().submit(*arguments)

    forgetful = Forgetful()
    equal(whole, small(executor=forgetful))
    assert [size > 0 for size in forgetful.sizes] == [True] + [False, True] * 4


@pytest.mark.slow
def test_a_worker_computes_in_the_precision_of_the_caller(whole):
    with jax.enable_x64(False):
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            single = small(executor=executor)
        assert single.player_0.dtype == np.float32
        settings = workers.current_settings()
    with workers.same_settings(settings):
        assert jnp.zeros(1).dtype == np.float32
    assert jnp.zeros(1).dtype == np.float64 and whole.player_0.dtype == np.float64


# What goes wrong


@pytest.mark.slow
def test_what_a_worker_cannot_do(pool):
    def build(rate):
        if isinstance(rate, jax.core.Tracer):
            raise ArithmeticError("not here")
        return linear(rate)

    with pytest.raises(ValueError, match=r"build\(rate=float64\[\]\) failed: ArithmeticError: not here") as caught:
        small(build, executor=pool)
    assert "in a worker" in caught.value.__notes__[-1]
    with pytest.raises(ValueError) as here:
        small(build)
    assert str(here.value) == str(caught.value)


def test_errors_that_do_not_travel():
    class Odd(Exception):
        def __reduce__(self):
            raise TypeError

    with pytest.raises(RuntimeError, match="Odd: strange"):
        workers.Failure.of(Odd("strange")).throw()


def test_workers_of_another_kind_are_refused():
    def other(name, value):
        def change(sent):
            return dataclasses.replace(sent, **{name: value})

        return Inline(change)

    versions = workers.versions() | {"jax": "0.4.1", "numpy": "1.9"}
    found = f"jax 0.4.1 here, {jax.__version__} there; numpy 1.9 here, {np.__version__} there; install the same"
    with pytest.raises(ValueError, match=found):
        small(executor=other("versions", versions))
    with pytest.raises(ValueError, match="computes on cpu, and the process that asks on gpu; .*JAX_PLATFORMS"):
        small(executor=other("platform", "gpu"))


def lost(*numbers):
    return lambda call: concurrent.futures.CancelledError() if call in numbers else None


def test_a_lost_chunk_is_tried_again_once(whole, tmp_path, monkeypatch):
    executor = Inline(fail=lost(2, 4))
    equal(whole, small(executor=executor))
    assert executor.calls == 7
    monkeypatch.setattr(workers, "FEWEST_UNDER_WAY", 2)
    path = tmp_path / "run.zarr"
    with pytest.raises(WorkerError, match=r"CancelledError.*12 of 30 cells are done.*run.zarr.*same call") as caught:
        small(executor=Inline(fail=lost(2, 3)), store=path)  # the second chunk, twice
    assert caught.value.done == 12 and np.sum(caught.value.partial.outcome >= 0) == 12 and caught.value.total == 30
    equal(whole, small(store=path))


def test_an_executor_that_was_shut_down():
    executor = concurrent.futures.ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(WorkerError, match="cannot schedule new futures.*0 of 30 cells"):
        small(executor=executor)


def kill_one(executor):
    def progress(done, total, text):
        if not progress.killed:
            progress.killed = [*executor._processes][0]
            os.kill(progress.killed, signal.SIGKILL)

    progress.killed = None
    return progress


@pytest.mark.skipif(sys.platform == "win32", reason="there are other signals")
def test_a_worker_that_is_killed(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "FEWEST_UNDER_WAY", 2)
    path = tmp_path / "run.zarr"
    with local_workers(1) as executor, pytest.raises(WorkerError, match="BrokenProcessPool.*run.zarr") as caught:
        small(executor=executor, store=path, progress=kill_one(executor))
    done = caught.value.done
    assert 6 <= done < 30 and int(np.sum(caught.value.partial.outcome >= 0)) == done
    seen = []
    equal(whole, small(store=path, progress=lambda done, *_: seen.append(done)))
    assert len(seen) == (30 - done) / 6


def test_interruption_keeps_what_is_done(whole, monkeypatch):
    """The chunks of the three that were under way are done; of the last one nobody has heard."""
    monkeypatch.setattr(workers, "FEWEST_UNDER_WAY", 3)

    def interrupt(*_):
        raise KeyboardInterrupt

    executor = Inline()
    with pytest.raises(dy.ensembles.SweepInterrupted) as caught:
        small(executor=executor, progress=interrupt)
    assert caught.value.done == 18 and executor.calls == 3
    partial = caught.value.partial
    done = partial.outcome.values >= 0
    np.testing.assert_array_equal(partial.player_0.values[done], whole.player_0.values[done])


BAD = {
    "no executor": (dict(executor=3), TypeError, "executor is 3; expected a concurrent.futures.Executor"),
    "forks": (
        dict(
            executor=concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
            if sys.platform == "linux"
            else None
        ),
        ValueError,
        "does not work in a fork.*spawn",
    ),
    "devices": (dict(executor=Inline(), devices=jax.local_devices), ValueError, "devices are those of this process"),
    "workers": (dict(executor=0), ValueError, "workers is 0"),
    "not sent": (
        dict(executor=Inline(), build=lambda rate, stream=sys.stderr: linear(rate)),
        TypeError,
        "build or a measure cannot be sent to workers",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_at_the_door(name):
    settings, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        if name == "workers":
            local_workers(settings["executor"])
        if name == "devices":
            settings = settings | {"devices": jax.local_devices()}
        small(**settings)


# Progress


class Clock:
    now = 100.0

    @classmethod
    def monotonic(cls):
        return cls.now


def test_lines_in_a_log(capsys, monkeypatch):
    monkeypatch.setattr(progress, "time", Clock)
    with progress.Shown(True, 1000, 200, "sweep") as show:
        for done, passed in ((300, 2), (400, 4), (500, 16), (1000, 17)):
            Clock.now = 100.0 + passed
            show(done, f"{done} converged")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "sweep: 300/1000 cells, 50 cell/s, 00:14 left; 300 converged",
        "sweep: 500/1000 cells, 18.75 cell/s, 00:26 left; 500 converged",
        "sweep: 1000/1000 cells, 47.06 cell/s, 00:00 left; 1000 converged",
    ]


def test_a_bar_in_terminals_and_notebooks(monkeypatch):
    import tqdm

    assert progress._bar() is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert progress._bar() is tqdm.tqdm

    class Kernel:
        config = {"IPKernelApp": {}}

        @classmethod
        def get_ipython(cls):
            return cls

    monkeypatch.setitem(sys.modules, "IPython", Kernel)
    monkeypatch.setattr(progress.importlib.util, "find_spec", lambda name: None)
    assert progress._bar() is tqdm.tqdm
    monkeypatch.setattr(progress.importlib.util, "find_spec", lambda name: True)
    assert progress._bar().__module__ == "tqdm.notebook"


# Studies


class Direct(concurrent.futures.Executor):
    def submit(self, function, *arguments):
        future = concurrent.futures.Future()
        future.set_result(function(*arguments))
        return future


@pytest.mark.slow
def test_a_study_goes_on_where_it_stopped(tmp_path):
    (tmp_path / "small.toml").write_text(small_toml(steps=200, flow=True))
    study = studies.load(str(tmp_path / "small.toml"))
    path = tmp_path / "kept"
    whole = studies.execute(study, store=path, executor=Direct())
    files = {file.name: file.read_bytes() for file in path.iterdir()}
    assert set(files) == {"0.json", "1.json", "2.json", "lock", "study.json"} and "seconds" not in whole.provenance
    (path / "1.json").unlink()
    (path / "2.json").write_bytes(files["2.json"][:-100])
    with pytest.raises(studies.StudyError, match="2 of 4 cells; add --resume to go on with it"):
        studies.execute(study, store=path, resume=False)
    with pytest.raises(studies.StudyError, match="(?s)belongs to another run.*study.steps: 200 there, 100 here"):
        studies.execute(studies.load(str(tmp_path / "small.toml"), ["steps=100"]), store=path)
    seen = []
    again = studies.execute(study, lambda *told: seen.append(told), store=path, devices=1)
    assert [told[:2] for told in seen] == [(2, 4), (4, 4)] and seen[1][2] == "4 undecided"
    assert {file.name: file.read_bytes() for file in path.iterdir()} == files
    for one, other in zip(whole.cells, again.cells, strict=True):
        for name, value in vars(one).items():
            np.testing.assert_array_equal(value, getattr(other, name), name)
    (drawn,), (drawn_again,) = whole.portraits, again.portraits
    np.testing.assert_array_equal(drawn.trajectories[0][1], drawn_again.trajectories[0][1])
    with pytest.raises(studies.StudyError, match="holds something else"):
        studies.execute(study, store=tmp_path)
    with pytest.raises(WorkerError, match="a worker is gone .*they are lost"):
        studies.execute(study, executor=Dead())


class Dead(Direct):
    def submit(self, function, *arguments):
        future = concurrent.futures.Future()
        future.set_exception(concurrent.futures.process.BrokenProcessPool("gone"))
        return future


@pytest.mark.slow
def test_a_killed_command_goes_on(tmp_path):
    (tmp_path / "small.toml").write_text(small_toml(steps=200, flow=True))
    command = [sys.executable, "-m", "dynamics", "run", "small.toml"]
    subprocess.run([*command, "--out", "whole", "--store", "whole.kept"], cwd=tmp_path, check=True, capture_output=True)
    more = ["--out", "out", "--store", "kept", "--workers", "2"]
    running = subprocess.Popen([*command, *more], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    while running.poll() is None and not [*tmp_path.glob("kept/[0-9].json")]:
        time.sleep(0.01)
    running.kill()
    running.communicate()  # ends when the workers have ended as well
    assert len([*tmp_path.glob("kept/[0-9].json")]) < 3
    ended = subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2 and "add --resume" in ended.stderr
    subprocess.run([*command, *more, "--resume"], cwd=tmp_path, check=True, capture_output=True)
    for file in (tmp_path / "whole").iterdir():
        assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes(), file.name


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--resume"], "--resume goes on with what a store holds; name it with --store"),
        (["--devices", "2", "--workers", "2"], "two ways to share the work"),
        (["--workers", "0"], "--workers: got '0'; expected a whole number >= 1"),
    ],
)
def test_options_that_do_not_fit(arguments, message, capsys):
    assert cli.main(["run", "flagship", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_documentation_can_be_compiled():
    text = (pathlib.Path(dy.ensembles.__file__).parent / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 8
    for block in blocks:
        compile(block, "README.md", "exec")
    for name in re.findall(r"dy\.ensembles\.(\w+)|dynamics\.ensembles\.(\w+)", text):
        assert hasattr(dy.ensembles, name[0] or name[1])
