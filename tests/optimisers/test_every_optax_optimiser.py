"""The optimisers of optax as they stand: the spectrum of the real step, or a clear refusal."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import dynamics as dy
from dynamics.updates import Alternating, Simultaneous

H = 0.05

# With an eps far above the gradients that follow, so that the step next to the point is linear.
SMOOTH = {
    "acprop": lambda: contrib.acprop(H, eps=0.5),
    "adabelief": lambda: optax.adabelief(H, eps=0.5),
    "adadelta": lambda: optax.adadelta(H),
    "adagrad": lambda: optax.adagrad(H),
    "adam": lambda: optax.adam(H, eps=0.5),
    "adamw": lambda: optax.adamw(H, eps=0.5, weight_decay=0.1),
    "adan": lambda: optax.adan(H, eps=0.5),
    "ademamix": lambda: contrib.ademamix(H, eps=0.5),
    "amsgrad": lambda: optax.amsgrad(H, eps=0.5),
    "nadam": lambda: optax.nadam(H, eps=0.5),
    "nadamw": lambda: optax.nadamw(H, eps=0.5),
    "optimistic adam": lambda: optax.optimistic_adam_v2(H, eps=0.5),
    "optimistic": lambda: optax.optimistic_gradient_descent(H),
    "radam": lambda: optax.radam(H, eps=0.5),
    "rmsprop": lambda: optax.rmsprop(H, eps=0.5),
    "rmsprop, centred": lambda: optax.rmsprop(H, eps=0.5, centered=True, momentum=0.5),
    "sgd": lambda: optax.sgd(H),
    "momentum": lambda: optax.sgd(H, 0.9),
    "nesterov": lambda: optax.sgd(H, 0.9, nesterov=True),
    "yogi": lambda: optax.yogi(H, eps=0.5),
    "clipped": lambda: optax.chain(optax.clip(1.0), optax.clip_by_global_norm(1.0), optax.adam(H, eps=0.5)),
    "decayed": lambda: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(H)),
    "ema": lambda: optax.chain(optax.ema(0.9), optax.sgd(H)),
    "injected": lambda: optax.inject_hyperparams(optax.adamw)(H, eps=0.5),
    "injected schedule": lambda: optax.inject_hyperparams(optax.sgd)(optax.linear_schedule(0.2, H, 100)),
    "masked": lambda: optax.masked(optax.adam(H, eps=0.5), True),
    "scheduled": lambda: optax.adam(optax.warmup_cosine_decay_schedule(0.0, 0.2, 100, 1000, H), eps=0.5),
    "if finite": lambda: optax.apply_if_finite(optax.adam(H, eps=0.5), 3),
}  # fmt: skip


@pytest.mark.slow
def test_all_in_one_program_against_the_real_step():
    """One player has a coordinate for each, together in `multi_transform`; the real step is iterated from its memory.

    After k steps the derivative of the players with respect to the players is a block of the k-th power of the
    Jacobian, for k up to 40: nothing that the memory does stays hidden.
    """
    names = sorted(SMOOTH)
    random = np.random.default_rng(0)
    own, mixed = random.uniform(0.5, 1.5, len(names)), random.normal(size=len(names))

    def losses(players, key=None):
        x, y = jnp.stack([players[0][name] for name in names]), players[1]
        return jnp.sum(own * x**2) / 2 + y * (mixed @ x), y**2 / 2 - y * (mixed @ x) / len(names)

    point = ({name: jnp.zeros(()) for name in names}, jnp.zeros(()))
    game = dy.Game.from_losses(losses, [point])
    together = optax.multi_transform({name: SMOOTH[name]() for name in names}, {name: name for name in names})
    update = Simultaneous(together, optax.sgd(0.1))
    report = dy.stability(game, update)
    assert report.period == 1 and report.smoothness == "smooth" and report.verdict == "stable"

    @jax.jit
    def run(shifts):
        state, _ = jax.lax.scan(
            lambda s, _: (update.step(game, s), None), update.init(game, point), None, length=20_000
        )
        flat, unravel = jax.flatten_util.ravel_pytree(state.players)

        def one(shift):
            start = dy.updates.base.State(unravel(flat + shift), state.memory)
            return jax.lax.scan(
                lambda s, _: (lambda new: (new, jax.flatten_util.ravel_pytree(new.players)[0]))(update.step(game, s)),
                start,
                None,
                length=40,
            )[1]

        return jax.vmap(one)(shifts)

    size, delta = len(names) + 1, 1e-7
    moved = np.asarray(run(jnp.concatenate([delta * jnp.eye(size), -delta * jnp.eye(size)])))
    measured = (moved[:size] - moved[size:]) / (2 * delta)  # (shifted, step, coordinate)
    for step in (1, 2, 5, 15, 40):
        power = np.linalg.matrix_power(report.jacobian, step)[:size, :size]
        np.testing.assert_allclose(measured[:, step - 1].T, power, atol=2e-5, err_msg=f"after {step} steps")


@pytest.mark.parametrize(
    "optimiser, needs, instead",
    [
        (lambda: optax.lbfgs(), "line search", "linesearch=None"),
        (lambda: optax.chain(optax.lbfgs(), optax.scale(0.5)), "line search", "linesearch=None"),
        (lambda: contrib.sophia(0.1), "Hessian", "optax.adam"),
        (lambda: contrib.sam(optax.sgd(0.1), optax.sgd(0.1), opaque_mode=True), "other points", "Extragradient"),
        (lambda: optax.lookahead(optax.sgd(0.1), 5, 0.5), "two copies", "dynamics.updates.Lookahead"),
    ],
    ids=["lbfgs", "lbfgs in a chain", "sophia", "opaque sam", "lookahead"],
)
@pytest.mark.parametrize("ask", [
    lambda game, update: dy.stability(game, update, (0.0, 0.0)),
    lambda game, update: dy.simulate(game, update, (1.0, 1.0), steps=3),
], ids=["stability", "simulate"])  # fmt: skip
def test_what_needs_more_than_a_gradient_says_so(optimiser, needs, instead, ask):
    with pytest.raises(TypeError, match=needs) as raised:
        ask(dy.games.Bilinear(1.0), Simultaneous(optimiser(), optax.sgd(0.1)))
    assert instead in str(raised.value)


@pytest.mark.slow
def test_sharpness_aware_descent_is_a_method_of_period_two():
    """A step up with one rate, then one down from where it began: I - h H (I + r H)."""
    h, r, matrix = 0.1, 0.05, np.array([[1.0, 2.0], [-2.0, 1.0]])
    sam = contrib.sam(optax.sgd(h), optax.sgd(r))
    report = dy.stability(dy.games.Quadratic([[1.0, 2.0], [-2.0, 1.0]]), Simultaneous(sam, sam))
    expected = np.linalg.eigvals(np.eye(2) - h * matrix @ (np.eye(2) + r * matrix))
    found = report.eigenvalues[np.abs(report.eigenvalues) > 1e-8]
    np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(expected), atol=1e-12)
    assert report.period == 2


OTHERS = {
    "adafactor": lambda: optax.adafactor(H),
    "adamax": lambda: optax.adamax(H, eps=0.5),
    "adopt": lambda: contrib.adopt(H, eps=0.5),
    "cocob": contrib.cocob,
    "dadapt adamw": contrib.dadapt_adamw,
    "dog": contrib.dog,
    "dowg": contrib.dowg,
    "fromage": lambda: optax.fromage(H),
    "galore": lambda: contrib.galore(H),
    "lamb": lambda: optax.lamb(H, eps=0.5),
    "lars": lambda: optax.lars(H),
    "lion": lambda: optax.lion(H),
    "madgrad": lambda: contrib.madgrad(H),
    "mechanize": lambda: contrib.mechanize(optax.sgd(H)),
    "momo": contrib.momo,
    "momo adam": contrib.momo_adam,
    "muon": lambda: contrib.muon(H),
    "noisy sgd": lambda: optax.noisy_sgd(H, key=0),
    "novograd": lambda: optax.novograd(H, eps=0.5),
    "polyak": optax.polyak_sgd,
    "prodigy": contrib.prodigy,
    "reduce on plateau": lambda: optax.chain(optax.sgd(H), contrib.reduce_on_plateau()),
    "rprop": lambda: optax.rprop(H),
    "schedule free": lambda: contrib.schedule_free_sgd(H),
    "sign": lambda: optax.sign_sgd(H),
    "signum": lambda: optax.signum(H),
    "simplified ademamix": lambda: contrib.simplified_ademamix(H, eps=0.5),
    "sm3": lambda: optax.sm3(H),
    "multi steps": lambda: optax.MultiSteps(optax.adam(H, eps=0.5), 4).gradient_transformation(),
    "every third": lambda: optax.chain(optax.apply_every(3), optax.sgd(H)),
    "cyclic": lambda: optax.sgd(lambda count: H * (1 + 0.9 * jnp.cos(2 * jnp.pi * count / 12)), 0.5),
    "injected and cyclic": lambda: optax.inject_hyperparams(optax.sgd)(lambda t: jnp.where(t % 3 == 0, 0.2, 0.02)),
    "cyclic if finite": lambda: optax.apply_if_finite(optax.sgd(lambda t: jnp.where(t % 3 == 0, 0.2, 0.02), 0.5), 3),
}  # fmt: skip
GAMES = {
    "attracts": [[1.0, 0.3, 1.2], [0.3, 0.5, 0.4], [-1.1, 0.2, 0.6]],
    "repels": [[0.1, 0.3, 1.2], [0.3, -0.5, 0.4], [-1.1, 0.2, 0.1]],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMOOTH | OTHERS))
def test_every_verdict_is_that_of_a_run(name):
    """A stable or unstable verdict agrees with the growth of a small disturbance; all else has a note that says why."""
    optimiser = (SMOOTH | OTHERS)[name]()
    for index, matrix in enumerate(GAMES.values()):
        matrix = np.array(matrix)
        game = dy.games.Quadratic([[matrix[:2, :2], matrix[:2, 2:]], [matrix[2:, :2], matrix[2:, 2:]]])
        update = (Simultaneous, Alternating)[index](optimiser, optimiser)
        try:
            report = dy.stability(game, update, (jnp.zeros(2), jnp.zeros(1)))
        except dy.analysis.EquilibriumError as error:
            assert "no fixed point of the method" in str(error)
            continue
        if report.verdict == "marginal" or report.smoothness != "smooth":
            assert report.notes
            continue
        # Room to grow, and squares that are numbers, in the coarsest type of the memory; as long as it takes to settle.
        memory = jax.tree.leaves(update.init(game, (jnp.zeros(2), jnp.zeros(1))).memory)
        size = 1e-30 if any(leaf.dtype == jnp.float32 for leaf in memory) else 1e-60
        start = (size * jnp.asarray([1.0, -0.5]), size * jnp.asarray([0.7]))
        steps = 120 * int(np.clip(100 / abs(report.rate), 1000, 24_000) / 120)
        run = dy.simulate(game, update, start, steps=steps, save_every=steps // 120, classify=False)
        norms = np.sqrt(sum(np.sum(np.asarray(leaf) ** 2, axis=1) for leaf in run.players))
        if any("stays where it is put" in note for note in report.notes):  # and goes along with the players
            assert report.verdict == "stable" or np.max(norms) > 1e6 * norms[0]
            continue
        linear = np.flatnonzero((norms < 1e-8) & (norms > 1e-140))
        linear = linear[len(linear) // 2 :]
        measured = np.polyfit(np.asarray(run.steps)[linear], np.log(norms[linear]), 1)[0]
        if not any("fade" in note for note in report.notes):
            # Players may settle faster than the memory, which they act on by their squares alone.
            close = 2e-3 + 0.2 * abs(report.rate)
            assert measured < report.rate + close, (measured, report.rate)
            assert measured > report.rate - close or report.verdict == "stable", (measured, report.rate)
        assert np.sign(measured) == (1 if report.verdict == "unstable" else -1)
