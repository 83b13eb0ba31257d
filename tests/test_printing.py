"""Components print their numbers, results what they describe."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy
from dynamics import catalogue
from dynamics._printing import MOST_LINES, line, pretty
from dynamics.games import Bilinear, DiracGAN, Quadratic
from dynamics.penalties import R1

UPDATE = dy.updates.Simultaneous(dy.Optimiser(optax.sgd, 0.1), dy.Optimiser(optax.adam, 0.25, b1=0.5))


def test_numbers_are_written_out():
    assert repr(R1(0.3)) == "R1(weight=0.3)"
    assert pretty(np.float32(0.1)) == pretty(jnp.asarray(0.1, jnp.float32)) == "0.1"
    assert repr(Bilinear([[1.0, -0.5]])) == "Bilinear(matrix=[[1, -0.5]])"
    assert repr(UPDATE) == "Simultaneous(sgd(0.1), adam(0.25, b1=0.5), direction=Gradient())"
    assert "penalty=R1(weight=0.3)" in repr(DiracGAN(penalty=R1(0.3)))


def test_what_is_left_out_does_not_change_the_game():
    assert "noise" not in repr(DiracGAN())
    assert "noise=0.5, nodes=7" in repr(DiracGAN(noise=0.5, nodes=7))


def test_a_quadratic_game_prints_what_its_constructor_takes():
    game = Quadratic([[1.0, 2.0], [-3.0, 0.5]], offsets=[1.0, 0.25])
    again = eval(repr(game).replace("Quadratic", "make"), {"make": Quadratic})
    assert jax.tree.all(jax.tree.map(jnp.array_equal, game, again))


def test_optax_transformations_print_their_numbers():
    update = dy.updates.Simultaneous(optax.sgd(0.1, momentum=0.9), optax.adam(1e-3, b1=0.5))
    assert all(text in repr(update) for text in ("decay=0.9", "step_size=-0.1", "b1=0.5", "step_size=-0.001"))
    unknown = optax.GradientTransformation(lambda parameters: (), lambda gradients, memory, _=None: (gradients, memory))
    assert pretty(unknown) == "test_optax_transformations_print_their_numbers()"


def test_large_arrays_are_type_and_shape_and_one_line_has_everything():
    game = Bilinear(np.ones((20, 30)))
    assert repr(game) == "Bilinear(matrix=f64[20,30](jax))"
    assert line(game).count("1") == 600
    assert len(pretty({f"number {n}": np.zeros(3) for n in range(100)}).splitlines()) == MOST_LINES


def test_traced_and_batched_numbers_print():
    texts = []

    def loss(weight):
        texts.append(repr(R1(weight)))
        return weight

    jax.jit(loss)(jnp.asarray(1.0))
    jax.vmap(loss)(jnp.arange(3.0))
    assert texts[0].startswith("R1(weight=f64[]")
    assert len(texts) == 2
    assert repr(jax.vmap(R1)(jnp.arange(3.0))) == "R1(weight=[0, 1, 2])"


@pytest.mark.parametrize("room", [room for room in catalogue.ROOMS if room not in ("study", "claims")])
def test_every_component_prints_in_one_screen(room):
    for member in catalogue.members(room).values():
        if not hasattr(member, "example"):
            continue
        example = member.example()
        component = example[0] if isinstance(example, tuple) else example
        assert len(repr(component).splitlines()) <= MOST_LINES
        assert repr(component).startswith(type(component).__name__)


def test_runs_and_reports_print_what_they_describe():
    game, start = DiracGAN(penalty=R1(0.5)), (jnp.asarray(0.2), jnp.asarray(-0.3))
    simultaneous = dy.updates.Simultaneous(optax.sgd(0.5), optax.sgd(0.5))
    run = dy.simulate(game, simultaneous, start, steps=400, save_every="last")
    assert repr(run).startswith("converged (rate -0.1")
    assert "Players at the end: (" in repr(run)
    report = dy.stability(game, simultaneous, (0.0, 0.0))
    assert repr(report) == report.describe()
    assert report._repr_html_().startswith("<pre>stable")
    runs = jax.vmap(lambda x: dy.simulate(game, simultaneous, (x, x), steps=400, save_every="last"))(
        jnp.array([0.1, 0.2])
    )
    assert repr(runs) == "2 runs: 2 converged"


def test_outcomes_print_their_names_and_are_numbers():
    game, update = DiracGAN(penalty=R1(0.5)), dy.updates.Simultaneous(optax.sgd(0.5), optax.sgd(0.5))
    run = dy.simulate(game, update, (0.2, -0.3), steps=400, save_every="last")
    assert f"{run.outcome}" == str(run.outcome) == "converged" and f"{run.outcome:2d}" == " 0"
    assert run.outcome == 0 and run.outcome is dy.Outcome.converged
    names = jax.jit(lambda x: dy.simulate(game, update, (x, x), steps=400, save_every="last").outcome)(0.2)
    assert names.dtype == jnp.int8 and int(names) == 0
    assert run.to_xarray().outcome.dtype == np.int8


def test_random_keys_are_no_numbers():
    batches = dy.data.Batches(dy.data.DataSet(jnp.arange(6.0)), 2, jax.random.key(4))
    assert "key<fry>[]" in repr(batches)
    assert pretty({"keys": jax.random.split(jax.random.key(0), 3)}) == "{'keys': key<fry>[3](jax)}"


def test_networks_print_their_class_and_sizes():
    network = eqx.nn.MLP(2, "scalar", 4, 1, key=jax.random.key(1))
    text = repr(dy.split_module(network)[0])
    assert text.startswith("SplitModule(MLP, ") and "in_size=2, out_size='scalar', width_size=4, depth=1" in text
    assert "0x" not in text


@pytest.mark.parametrize("make", [dy.experiments.ring, dy.experiments.ladder, dy.experiments.rotation])
def test_experiments_print_their_settings(make):
    experiment = make()
    assert repr(experiment).startswith(f"{experiment.name}: {experiment.title}\nSettings: ")
    assert len(repr(experiment)) < 500


def test_claims_studies_and_monitors_print_in_a_few_lines():
    text = repr(dy.claims.find("bilinear/extragradient"))
    assert text.startswith("bilinear/extragradient (") and "\\" not in text and "$" not in text
    lines = repr(dy.studies.load("flagship")).splitlines()
    assert lines[0].startswith("flagship: ") and lines[1] == "518 cells"
    watch = dy.training.Monitor(Bilinear(1.0), UPDATE, leading=0, every=2)
    assert repr(watch) == "Monitor: 0 readings, one every 2 steps"
    watch(0, UPDATE.init(Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(1.0))))
    assert "1 reading, " in repr(watch) and "the last one at step 0: " in repr(watch)
