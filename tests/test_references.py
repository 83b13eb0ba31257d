"""Numbers that published programs print, reproduced through the public interface.

Expected values are strings, so that the tolerance is what was printed: one unit of the last digit.
"""

from decimal import Decimal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy

sgd = dy.optimisers.sgd


def assert_prints(found, printed):
    """`found` is what was printed, to one unit of the last digit; several numbers are separated by spaces."""
    found, printed = np.ravel(np.asarray(found, float)), printed.split()
    assert len(found) == len(printed), f"{len(found)} numbers for {printed}"
    for value, text in zip(found, printed):
        unit = float(Decimal(1).scaleb(Decimal(text).as_tuple().exponent))
        assert abs(value - float(text)) <= unit, f"{value!r} is not {text}"


def assert_same_numbers(found, expected, atol=1e-8):
    """Equal as multisets of complex numbers."""
    rest = list(np.asarray(expected, complex).ravel())
    assert len(found) == len(rest)
    for value in found:
        nearest = min(range(len(rest)), key=lambda i: abs(rest[i] - value))
        assert abs(rest.pop(nearest) - value) <= atol, f"{value} is not among {expected}"


def distances(run):
    """Distance from the origin at the saved steps, for two scalar players."""
    return np.hypot(*(np.asarray(player) for player in run.players))


# ---------------------------------------------------------------- Dirac-GAN, trajectories
# Mescheder, Geiger, Nowozin, Which Training Methods for GANs do actually Converge?, 2018, notebook: step 0.2, start
# (1, 1). Alternating updates move theta first.


class PublishedConsensus(dy.directions.Direction):
    """The consensus field of the published notebook, with its superfluous 1/2 in the terms with f''."""

    weight: jax.Array

    def __call__(self, game, players, key=None):
        theta, psi = players
        own, other = game.field(players, key)
        slope = jax.nn.sigmoid(-theta * psi)
        curvature = -slope * jax.nn.sigmoid(theta * psi)
        mixed = slope * curvature * (theta**2 + psi**2) / 2
        return (
            own - self.weight * (theta * slope**2 + psi * mixed),
            other - self.weight * (psi * slope**2 + theta * mixed),
        )


MINIMAX, NON_SATURATING, WASSERSTEIN = (
    dy.objectives.Minimax(),
    dy.objectives.NonSaturating(),
    dy.objectives.Wasserstein(),
)
CONSENSUS = dy.directions.Consensus(1.0)
PUBLISHED_CONSENSUS = PublishedConsensus(jnp.asarray(1.0))

# Game; direction and clip; then for each update theta_500 and psi_500, r_500 and r_100, with r the distance from 0.
DIRAC = {
    "GAN": (
        dy.games.DiracGAN(MINIMAX),
        (None, None),
        ("-2.1616112825 -2.2177753965", "3.0969486670", "1.96262393"),
        ("0.68683366122 1.2440072943", "1.4210188692", "1.40352948"),
        ("0.76885651314 1.6774665978", "1.8452735636", "2.44717736"),
    ),
    "non-saturating": (
        dy.games.DiracGAN(NON_SATURATING),
        (None, None),
        ("0.54833731900 0.33044105582", "0.64020708117", "0.741471379"),
        ("0.20488849198 0.19655333282", "0.28392341712", "0.575548485"),
        ("0.11589026357 -0.076525627812", "0.13887665355", None),
    ),
    "Wasserstein, clipped": (
        dy.games.DiracGAN(WASSERSTEIN),
        (None, 1.0),
        ("-0.065640782194 1.0", "1.0021520405", None),
        ("0.97907629729 0.30038151978", "1.0241188668", None),
        ("0.086773335671 -0.91276939681", "0.91688471660", None),
    ),
    # The published weight 0.7 goes with a factor 1/2.
    "Wasserstein with gradient penalty": (
        dy.games.DiracGAN(WASSERSTEIN, dy.penalties.WGANGP(0.35, 1.0)),
        (None, None),
        ("-0.18084919428 -1.7926941401", "1.8017931932", None),
        ("-0.13255947296 1.2138499514", "1.2210666314", None),
        ("0.71602759852 -0.019784810560", "0.71630088690", None),
    ),
    "R1 0.3": (
        dy.games.DiracGAN(MINIMAX, dy.penalties.R1(0.3)),
        (None, None),
        ("1.1103367e-6 -2.3980794e-6", "2.6426562905e-6", "0.0989894121"),
        ("-5.167e-8 -2.242e-7", "2.3009128210e-7", "0.0610042075"),
        (None, "9.25e-34", None),
    ),
    "R1 1.0": (
        dy.games.DiracGAN(MINIMAX, dy.penalties.R1(1.0)),
        (None, None),
        (None, "9.5287154e-22", "3.79132947e-4"),
        (None, "7.4812361e-17", "1.09327002e-3"),
        (None, "5.1435035e-12", None),
    ),
    "non-saturating, R1 0.3": (
        dy.games.DiracGAN(NON_SATURATING, dy.penalties.R1(0.3)),
        (None, None),
        (None, "2.2119604286e-6", None),
        (None, "1.4994194298e-7", None),
        (None, "3.98e-34", None),
    ),
    # The gradient of the squared norm: with five steps of the discriminator it diverges.
    "consensus": (
        dy.games.DiracGAN(MINIMAX),
        (CONSENSUS, None),
        (None, "2.58e-10", "0.0231619655"),
        (None, "1.72e-11", "0.0141018626"),
        (None, "10.97", None),
    ),
    "consensus as published": (
        dy.games.DiracGAN(MINIMAX),
        (PUBLISHED_CONSENSUS, None),
        (None, "2.0808429358e-10", "0.0186930174"),
        (None, "1.3323148449e-11", "0.0109750817"),
        (None, "4.6e-33", None),
    ),
}


def dirac_update(kind, direction=None, clip=None, rate=0.2):
    projections = None if clip is None else (None, dy.updates.Clip(clip))
    if kind == 0:
        return dy.updates.Simultaneous(sgd(rate), sgd(rate), direction=direction, projections=projections)
    repeats = (1, (1, 5)[kind - 1])
    return dy.updates.Alternating(sgd(rate), sgd(rate), repeats=repeats, direction=direction, projections=projections)


@pytest.mark.slow_cases("Wasserstein with gradient penalty-simultaneous")
@pytest.mark.parametrize("kind", [0, 1, 2], ids=["simultaneous", "alternating 1:1", "alternating 1:5"])
@pytest.mark.parametrize("name", DIRAC)
def test_dirac_gan_trajectories(name, kind):
    game, (direction, clip), *expected = DIRAC[name]
    point, radius, early = expected[kind]
    update = dirac_update(kind, direction, clip)
    run = dy.simulate(game, update, (1.0, 1.0), steps=500, save_every=100, classify=False)
    if point is not None:
        assert_prints(run.final, point)
    assert_prints(distances(run)[-1], radius)
    if early is not None:
        assert_prints(distances(run)[1], early)


def test_dirac_gan_with_instance_noise_contracts():
    game = dy.games.DiracGAN(MINIMAX, noise=0.7)
    run = dy.simulate(game, dirac_update(0), (1.0, 1.0), steps=500, save_every="last", classify=False)
    assert distances(run)[-1] < 0.05  # one random run of the notebook ends at 0.0193


# ---------------------------------------------------------------- Dirac-GAN, spectra


@pytest.mark.slow_cases("GAN")
@pytest.mark.parametrize(
    ("objective", "alternating"),
    [(MINIMAX, "unstable"), (NON_SATURATING, "stable")],  # without a penalty, in the ninth and the third order
    ids=["GAN", "non-saturating"],
)
def test_dirac_gan_spectra(objective, alternating):
    def game(weight):
        return dy.games.DiracGAN(objective, dy.penalties.R1(weight))

    flow = dy.flows.Flow()
    weak, critical = dy.stability(game(0.3), flow), dy.stability(game(1.0), flow)
    assert_prints([weak.eigenvalues[0].real, abs(weak.eigenvalues[0].imag)], "-0.15 0.4769696007")
    assert_same_numbers(critical.eigenvalues, [-0.5, -0.5], 1e-7)  # a double eigenvalue
    assert_prints([weak.largest_step, critical.largest_step], "1.2 4.000000")
    for weight in np.linspace(0, 2, 11):  # the path of the published figure, to twice the critical weight
        root = np.emath.sqrt(weight**2 / 4 - 1 / 4)
        assert_same_numbers(
            dy.stability(game(weight), flow).eigenvalues, [-weight / 2 + root, -weight / 2 - root], 1e-7
        )

    maps = [[dy.stability(game(weight), dirac_update(kind)) for weight in (0.3, 1.0, 0.0)] for kind in (0, 1)]
    assert_prints(abs(maps[0][0].eigenvalues), "0.9746794345 0.9746794345")
    assert_same_numbers(maps[0][1].eigenvalues, [0.9, 0.9], 1e-7)
    assert_prints(abs(maps[1][0].eigenvalues), "0.9695359715 0.9695359715")
    assert_prints(maps[1][1].eigenvalues.real, "0.9270156212 0.8629843788")
    assert maps[0][2].radius == pytest.approx(np.sqrt(1 + 0.2**2 / 4), abs=1e-14)
    assert maps[1][2].radius == pytest.approx(1, abs=1e-14) and maps[1][2].verdict == alternating


@pytest.mark.parametrize("direction", [CONSENSUS, PUBLISHED_CONSENSUS], ids=["gradient", "as published"])
def test_dirac_gan_spectra_under_consensus(direction):
    game = dy.games.DiracGAN(MINIMAX)
    flow = dy.stability(game, dy.flows.Flow(direction))
    assert_same_numbers(flow.eigenvalues, [-0.25 + 0.5j, -0.25 - 0.5j], 1e-15)
    assert_prints(dy.stability(game, dirac_update(0, direction)).radius, "0.9552486587")


# ---------------------------------------------------------------- Dirac-GAN on two timescales
# Fiez and Ratliff, Local Convergence Analysis of Gradient Descent Ascent with Finite Timescale Separation, 2021, code.


def test_dirac_gan_two_timescale_spectra():
    def spectrum(weight, tau):
        game = dy.games.DiracGAN(MINIMAX, dy.penalties.R1(weight))
        return dy.stability(game, dy.flows.Flow(rates=(1.0, tau))).eigenvalues

    # The source has the opposite sign of the Jacobian.
    for tau, real, imaginary in ((1, 0.15, 0.4769696), (4, 0.6, 0.8), (8, 1.2, 0.74833148)):
        assert_same_numbers(spectrum(0.3, tau), [-real + 1j * imaginary, -real - 1j * imaginary], 1e-7)
    assert_same_numbers(spectrum(0.3, 16), [-1.07335008, -3.72664992], 1e-8)
    assert_same_numbers(spectrum(0.3, 1 / 0.3**2), [-5 / 3, -5 / 3], 1e-6)  # the fastest: a double eigenvalue
    for weight in (0.3, 1.0):  # tau* = 0: stable on every timescale
        assert all(spectrum(weight, tau).real.max() < 0 for tau in (1e-6, 1e-3, 1e3))


@pytest.mark.parametrize(
    "objective, expected",
    [
        (MINIMAX, ["0.24112890158", "6.8179852067e-3", "1.8404745627e-5", "2.4534397147e-4", "3.8833194090e-2"]),
        (NON_SATURATING, ["0.18439348404", "3.2980272125e-3", "2.2381284243e-5", "7.1188216589e-5", "7.6997477857e-3"]),
    ],
    ids=["GAN", "non-saturating"],
)
def test_dirac_gan_two_timescale_trajectories(objective, expected):
    settings = [(0.3, 1), (0.3, 4), (0.3, 8), (0.3, 16), (1.0, 1)]
    for (weight, tau), printed in zip(settings, expected):
        game = dy.games.DiracGAN(objective, dy.penalties.R1(weight))
        update = dy.updates.Simultaneous(sgd(0.01), sgd(0.01 * tau))
        run = dy.simulate(game, update, (1.0, 1.0), steps=4000, save_every=1000, classify=False)
        assert_prints(distances(run)[1], printed)
        if objective is MINIMAX and (weight, tau) == (0.3, 1):
            assert_prints(run.final, "2.8530522644e-3 1.9476601645e-3")


# ---------------------------------------------------------------- discretisation drift
# Rosca et al., Discretization Drift in Two-Player Games, 2021, notebook: linear games, step 0.2.


class SimultaneousDrift(dy.directions.Direction):
    """The field of the flow that simultaneous descent with a step follows to first order: v - h/2 Dv v."""

    step: jax.Array

    def __call__(self, game, players, key=None):
        field = game.field(players, key)
        _, drift = jax.jvp(game.field, (players,), (field,))
        return jax.tree.map(lambda v, d: v - self.step / 2 * d, field, drift)


def linear_game(first, second):
    """x' = first x + y, y' = -x + second y."""
    return dy.Game.from_losses(
        lambda players, key=None: (
            -first * players[0] ** 2 / 2 - players[0] * players[1],
            -second * players[1] ** 2 / 2 + players[0] * players[1],
        ),
        [(0.0, 0.0)],
    )


DRIFT_FLOWS = {
    "plain": dy.flows.Flow(SimultaneousDrift(jnp.asarray(0.0))),
    "simultaneous": dy.flows.Flow(SimultaneousDrift(jnp.asarray(0.2))),
    "alternating": dy.flows.AlternatingFlow(0.2),
}


def test_linear_game_drift_spectra():
    game = linear_game(-0.09, 0.09)
    matrix = dy.stability(game, DRIFT_FLOWS["simultaneous"]).jacobian
    assert_prints([np.trace(matrix), np.linalg.det(matrix)], "0.19838 1.0017386561")
    report = dy.stability(game, DRIFT_FLOWS["alternating"])
    assert_prints([np.trace(report.jacobian), np.linalg.det(report.jacobian)], "-0.00162 0.9819006561")
    assert_prints([report.eigenvalues[0].real, abs(report.eigenvalues[0].imag)], "-0.00081 0.99090867")
    assert report.verdict == "stable"
    report = dy.stability(game, DRIFT_FLOWS["simultaneous"])
    assert_prints([report.eigenvalues[0].real, abs(report.eigenvalues[0].imag)], "0.09919 0.99594177")
    assert report.verdict == "unstable"

    maps = [dy.stability(game, dirac_update(kind)) for kind in (0, 1)]
    assert_prints([report.radius for report in maps], "1.01964504 0.99983799")
    generators = [np.log(report.eigenvalues[0]) / 0.2 for report in maps]
    assert_prints([generators[0].real, abs(generators[0].imag)], "0.09727282 0.98307504")
    assert_prints([generators[1].real, abs(generators[1].imag)], "-0.00081013 0.99767638")


@pytest.mark.slow
def test_linear_game_drift_trajectories():
    game, start = linear_game(-0.09, -0.09), (0.07, -0.09)
    maps = [dy.stability(game, dirac_update(kind)).radius for kind in (0, 1)]
    assert_prints(maps, "1.00215967 0.982")
    matrix = dy.stability(game, DRIFT_FLOWS["simultaneous"]).jacobian
    assert_prints([np.trace(matrix), np.linalg.det(matrix)], "0.01838 1.0364084561")

    printed = ("-0.10863943 0.06311307", "-0.04121881 0.0290353")
    for kind, point in enumerate(printed):
        assert_prints(dy.simulate(game, dirac_update(kind), start, steps=45, classify=False).final, point)
    printed = {
        "plain": "-0.04487274 0.02364573",
        "simultaneous": "-0.09882037 0.0746531",
        "alternating": "-0.04271774 0.02660647",
    }
    for name, point in printed.items():
        run = dy.simulate(game, DRIFT_FLOWS[name], start, until=9.0, save_every="last", classify=False)
        assert_prints(run.final, point)


@pytest.mark.parametrize("rates", [(0.01, 0.01), (0.01, 0.05), (0.05, 0.01), (1e-4, 0.5)])
def test_drift_coefficients(rates):
    # In each player's own time: x_i' = v_i - (self coefficient) D_i v_i v_i - (interaction) D_j v_i v_j.
    matrix = np.array([[-0.4, 1.3], [-0.9, 0.3]])
    game = dy.games.Quadratic(-matrix)

    def coefficients(update, player):
        moved = dy.stability(game, update).jacobian
        own, other = player, 1 - player
        rate = rates[player]
        drift = (moved - np.eye(2) - rate * matrix - rate**2 / 2 * matrix @ matrix)[player] / -rate
        terms = np.array([matrix[own, own] * matrix[own], matrix[own, other] * matrix[other]]).T
        return np.linalg.solve(terms, drift)

    simultaneous = dy.updates.Simultaneous(sgd(rates[0]), sgd(rates[1]))
    for player in (0, 1):
        np.testing.assert_allclose(coefficients(simultaneous, player), [0.5 * rates[player]] * 2, atol=1e-11)
    alternating = dy.updates.Alternating(sgd(rates[0]), sgd(rates[1]))
    np.testing.assert_allclose(coefficients(alternating, 0), [0.5 * rates[0]] * 2, atol=1e-11)
    interaction = 0.5 * rates[1] * (1 - 2 * rates[0] / rates[1])
    np.testing.assert_allclose(coefficients(alternating, 1), [0.5 * rates[1], interaction], atol=1e-11)


# ---------------------------------------------------------------- Wasserstein GAN that learns a mean
# Daskalakis, Ilyas, Syrgkanis, Zeng, Training GANs with Optimism, 2018, notebook: mean (3, 4), theta from 1.7, w from
# 1.4, step 0.1, simultaneous. Tables of 1000 rows, the starting row included.

WGAN = dy.games.LinearWasserstein([3.0, 4.0])
WGAN_START = jnp.full(2, 1.7), jnp.full(2, 1.4)


def penalised_wgan(weight):
    return dy.games.LinearWasserstein([3.0, 4.0], penalty=dy.penalties.WGANGP(weight, 1.0))


def with_velocity(state):
    """The notebook's momentum starts at the weights themselves: a velocity of -1.7 for theta and 1.4 for w."""

    def fill(memory, trace):
        return jax.tree.map(lambda leaf: jnp.full_like(leaf, trace) if eqx.is_inexact_array(leaf) else leaf, memory)

    generator, discriminator = state.memory
    return dy.updates.State(state.players, (fill(generator, 1.7 / 0.1), fill(discriminator, -1.4 / 0.1)))


class OwnLookAhead(dy.updates.Update):
    """Nesterov's momentum where each player looks ahead along its own velocity; the generator moves each 15th step."""

    rate: float
    momentum: float

    def init(self, game, players):
        return dy.updates.State(players, ((-WGAN_START[0], WGAN_START[1]), jnp.asarray(0)))

    def step(self, game, state, key=None):
        (theta, w), ((velocity, push), count) = state.players, state.memory
        now = (count + 1) % 15 == 0
        along_theta = game.field((theta + self.momentum * velocity, w))[0]
        along_w = game.field((theta, w + self.momentum * push))[1]
        moved = self.momentum * velocity + self.rate * along_theta
        push = self.momentum * push + self.rate * along_w
        theta = jnp.where(now, theta + moved, theta)
        return dy.updates.State((theta, w + push), ((jnp.where(now, moved, velocity), push), count + 1))

    @classmethod
    def example(cls, players=2):
        return cls(0.1, 0.2)


def each_15th(optimiser):
    return optax.conditionally_mask(optimiser, lambda step: (step + 1) % 15 == 0)


def wgan_update(*optimisers, clip=None):
    return dy.updates.Simultaneous(*optimisers, projections=None if clip is None else (None, dy.updates.Clip(clip)))


heavy = dy.optimisers.momentum(0.1, 0.5)
WGAN_RUNS = {
    "clip 1": (
        (WGAN, wgan_update(sgd(0.1), sgd(0.1), clip=1.0), 1000),
        "3.01224287 3.98588748",
        "3.48000545 5.07760794",
    ),
    "gradient penalty 0.1": (
        (penalised_wgan(0.1), wgan_update(sgd(0.1), sgd(0.1)), 1000),
        "2.99631726 4.02111631",
        "1.77182765 2.26763725",
    ),
    "momentum 0.5, clip 1": (
        (WGAN, wgan_update(heavy, heavy, clip=1.0), 1000),
        "2.97992172 3.96787225",
        "1.97080644 2.50190771",
    ),
    "gradient penalty 0.1, momentum 0.2, generator every 15": (
        (penalised_wgan(0.1), wgan_update(each_15th(optax.sgd(0.1, 0.2)), optax.sgd(0.1, 0.2)), 15_000),
        "2.99850775 3.9976579",
        "2.7099578 4.13706972",
    ),
    "Nesterov, gradient penalty 1, generator every 15": (
        (penalised_wgan(1.0), OwnLookAhead(0.1, 0.2), 15_000),
        "2.99259785 3.98787484",
        "3.21714755 3.84955942",
    ),
}


@pytest.mark.parametrize("name", WGAN_RUNS)
def test_wgan_mean_learning(name):
    (game, update, rows), mean, last = WGAN_RUNS[name]
    state = update.init(game, WGAN_START)
    start = with_velocity(state) if "omentum" in name else state
    run = dy.simulate(game, update, start, steps=rows - 1, classify=False)
    assert_prints(np.mean(run.players[0], axis=0), mean)
    assert_prints(run.players[0][-1], last)


def test_wgan_mean_learning_by_optimism():
    # The first two of the 1000 rows are equal: 998 steps, the first of which is a plain one.
    optimistic = dy.optimisers.optimistic(0.1)
    run = dy.simulate(WGAN, wgan_update(optimistic, optimistic), WGAN_START, steps=998, classify=False)
    theta, w = (np.asarray(player) for player in run.players)
    assert_prints(np.concatenate([theta[:1], theta]).mean(axis=0), "3.01131623 4.00931959")
    assert_prints(theta[-1], "2.99125639 3.98489638")
    assert_prints([np.abs(theta[-1] - [3, 4]).max(), np.abs(w[-1]).max()], "0.0151036168 0.0084623947")


# ---------------------------------------------------------------- optax on f = xy
# The notebook of optax on bilinear games, start (1, 1), and the example of optimistic_adam_v2 in its documentation.

XY = dy.ZeroSum(lambda x, y: x * y, [(0.0, 0.0)])


@pytest.mark.parametrize(
    "optimiser, printed, last",
    [
        (sgd(0.1), "1.42126704 1.48635267 2.32586063 204.739618", "5.69e21"),
        (dy.optimisers.optimistic(0.1), "1.42126704 1.35806928 0.859985279 8.91624351e-3", "1.28616e-22"),
        (dy.Optimiser(optax.adam, 0.05, nesterov=True), "1.41804750 1.57688653 2.75547822 9.73085505", "17.8633"),
        (
            dy.Optimiser(optax.optimistic_adam_v2, 1.0, alpha=0.05, beta=0.5),
            "1.41804750 1.43351163 0.823624890 1.75e-6",
            None,
        ),
    ],
    ids=["sgd", "optimistic", "Adam with Nesterov momentum", "optimistic Adam"],
)
def test_optax_on_a_bilinear_game(optimiser, printed, last):
    update = dy.updates.Simultaneous(optimiser, optimiser)
    run = dy.simulate(XY, update, (1.0, 1.0), steps=9999, classify=False)
    assert_prints(distances(run)[[1, 10, 100, 1000]], printed)
    if last is not None:
        assert_prints(distances(run)[-1], last)
    else:  # It leaves the equilibrium again; how far it gets hangs on rounding (4.2e-5 here).
        assert 20 * distances(run)[1000] > 1e-5 and 1e-5 < distances(run)[-1] < 1e-3


def test_optimistic_adam_v2_of_the_documentation():
    optimiser = dy.Optimiser(optax.optimistic_adam_v2, 1.0, alpha=1e-2, beta=1.0)
    run = dy.simulate(XY, dy.updates.Simultaneous(optimiser, optimiser), (1.0, 2.0), steps=1024, classify=False)
    found = distances(run)[[1, 4, 16, 64, 256, 1024]]
    assert_prints(found, "2.243 2.195 2.161 2.055 0.796 0.001")
    assert_prints(found, "2.242746 2.195261 2.160541 2.054529 0.795495 0.000968")


# ---------------------------------------------------------------- closed forms on f = xy

BILINEAR = dy.games.Bilinear(1.0)


def radius(make, *optimisers, **settings):
    return dy.stability(BILINEAR, make(*optimisers, **settings)).radius


def both(optimiser):
    return optimiser, optimiser


@pytest.mark.parametrize("eta", [0.1, 0.2, 0.3, 0.5, 0.9])
def test_radius_on_a_bilinear_game(eta):
    simultaneous, alternating = dy.updates.Simultaneous, dy.updates.Alternating
    assert radius(simultaneous, *both(sgd(eta))) == pytest.approx(np.sqrt(1 + eta**2), abs=1e-14)
    assert radius(alternating, *both(sgd(eta))) == pytest.approx(1, abs=1e-13)
    ahead = radius(dy.updates.Extragradient, *both(sgd(eta)), extrapolation=eta)
    assert ahead == pytest.approx(np.sqrt((1 - eta**2) ** 2 + eta**2), abs=1e-14)
    for weight in (0.05, 1.0, 12.0):
        found = radius(simultaneous, *both(sgd(eta)), direction=dy.directions.Consensus(weight))
        assert found == pytest.approx(np.sqrt((1 - eta * weight) ** 2 + eta**2), abs=1e-14)


def test_printed_radii_on_a_bilinear_game():
    def optimistic(eta):
        return radius(dy.updates.Simultaneous, *both(dy.optimisers.optimistic(eta)))

    assert_prints([optimistic(0.1), optimistic(0.2)], "0.9949361530 0.9789063129")
    assert optimistic(0.5) == pytest.approx(np.sqrt(0.5), abs=1e-7)  # a double eigenvalue
    assert_prints(radius(dy.updates.Extragradient, *both(sgd(0.3)), extrapolation=0.3), "0.9581753493")

    def heavy_ball(make, eta):
        return radius(make, *both(dy.optimisers.momentum(eta, -0.5)))

    etas = (0.1, 0.2, 0.5)
    alternating = [heavy_ball(dy.updates.Alternating, eta) for eta in etas]
    assert_prints(alternating, "0.9985177891 0.9940625099 0.9625437032")
    simultaneous = [heavy_ball(dy.updates.Simultaneous, eta) for eta in etas]
    assert_prints(simultaneous, "1.0007430334 1.0029999583 1.0200536742")


@pytest.mark.slow
def test_critical_parameters_on_a_bilinear_game():
    def consensus(weight):
        return BILINEAR, dy.updates.Simultaneous(*both(sgd(0.2)), direction=dy.directions.Consensus(weight))

    found = dy.critical(consensus, 0.0, 12.0)
    assert_prints([found.value, found.others[0].value], "0.1010205144 9.8989794856")
    assert [found.below, found.above, found.others[0].above] == ["unstable", "stable", "unstable"]

    def optimistic(eta):
        return BILINEAR, dy.updates.Simultaneous(*both(dy.optimisers.optimistic(eta)))

    assert_prints(dy.critical(optimistic, 0.1, 0.9).value, "0.5773502692")

    def extragradient(eta):
        return BILINEAR, dy.updates.Extragradient(*both(sgd(eta)), extrapolation=eta)

    assert dy.critical(extragradient, 0.5, 1.7).value == pytest.approx(1, abs=1e-10)

    def alternating(eta):
        return BILINEAR, dy.updates.Alternating(*both(sgd(eta)))

    found = dy.critical(alternating, 0.5, 3.1)
    assert found.value == pytest.approx(2, abs=1e-9) and (found.below, found.above) == ("marginal", "unstable")


# ---------------------------------------------------------------- quadratic game and torus on two timescales
# Fiez and Ratliff, Local Convergence Analysis of Gradient Descent Ascent with Finite Timescale Separation, 2021, code.

QUADRATIC = dy.games.TimescaleQuadratic()


def test_timescale_quadratic_spectra():
    def spectrum(tau):
        return -dy.stability(QUADRATIC, dy.flows.Flow(rates=(1.0, tau))).eigenvalues

    for tau, printed in (
        (1, [-1 + 2.64575131j, -1 - 2.64575131j, 3 + 1.73205081j, 3 - 1.73205081j]),
        (3, [1 + 4.79583152j, 1 - 4.79583152j, 3.39444872, 10.60555128]),
        (10, [8 + 4j, 8 - 4j, 3.08352713, 38.91647287]),
    ):
        assert_same_numbers(spectrum(tau), printed, 1e-8)
    turn = 6 + 4 * np.sqrt(2)
    assert_prints(turn, "11.6568542495")
    assert np.sum(np.abs(spectrum(turn - 1e-6).imag) > 1e-4) == 2 and np.all(spectrum(turn + 1e-6).imag == 0)

    found = dy.critical(lambda tau: (QUADRATIC, dy.flows.Flow(rates=(1.0, tau))), 0.5, 9.0)
    assert found.value == pytest.approx(2, abs=1e-10)
    assert found.kind == "Hopf" and found.eigenvalue == pytest.approx(4j, abs=1e-9)
    assert (found.below, found.above, found.others) == ("unstable", "stable", ())


@pytest.mark.parametrize(
    "tau, early, late",
    [
        (
            2,
            "-8.63337666 2.69087390e-4 4.60066999 2.68489225e-4",
            "2.73389560 2.44893353e-17 -12.1646086 2.44893353e-17",
        ),
        (2.5, "-2.06605645 6.16547711e-4 4.21737678 4.77981069e-4", "0.0564020185 1.64e-15 -0.0268301625 1.27e-15"),
        (3, "3.22190423e-3 8.64135923e-4 0.913302990 6.02496615e-4", "-4.36852761e-4 0.0 4.73620550e-4 0.0"),
        (5, "0.00519074 0.00138456 -0.0116223 0.00082364", None),
        (10, "-2.89496318e-8 1.78891879e-3 6.32231452e-8 9.69171022e-4", None),
    ],
)
def test_timescale_quadratic_trajectories(tau, early, late):
    update = dy.updates.Simultaneous(sgd(5e-4), sgd(5e-4 * tau))
    start = jnp.asarray([5.0, 4.0]), jnp.asarray([3.0, 2.0])
    run = dy.simulate(QUADRATIC, update, start, steps=20_000, save_every=5000, classify=False)
    states = np.concatenate([np.asarray(player) for player in run.players], axis=1)
    assert_prints(states[1], early)
    if late is not None:
        assert_prints(states[-1], late)


TORUS = dy.games.Torus(0.15, 0.15)


@pytest.mark.slow_cases("origin")
@pytest.mark.parametrize(
    "point, matrix, tau, peer",
    [
        ((0.0, 0.0), [[-0.85, 1], [-1, 1.15]], "0.7391304348", "0.74"),
        ((np.pi, np.pi), [[-1.15, 1], [-1, 0.85]], "1.3529411765", "1.35"),
    ],
    ids=["origin", "pi"],
)
def test_torus_spectra(point, matrix, tau, peer):
    np.testing.assert_allclose(dy.stability(TORUS, dy.flows.Flow(), point).jacobian, -np.array(matrix), atol=1e-14)
    found = dy.critical(lambda tau: (TORUS, dy.flows.Flow(rates=(1.0, tau)), point), 0.1, 5.0)
    assert_prints(found.value, tau)
    assert_prints(found.value, peer)
    assert (found.below, found.above) == ("unstable", "stable")


# The published torus runs are labelled simultaneous, but let y see the x that has already moved.
TORUS_RUNS = [
    (True, (2.0, -1.0), 1, "-2.97921936 0.69862119", "-2.91715735 -0.33789866"),
    (True, (2.0, -1.0), 2, "-0.69723496 -0.61786188", "-0.00687716 -0.00606348"),
    (True, (2.0, -1.0), 5, "2.95556437 2.92121712", "3.14081938 3.14067503"),
    (True, (2.0, -1.0), 10, "2.66351348 2.58250869", "3.13625813 3.1352942"),
    (True, (1.9, -2.1), 1, "0.17100494 2.87640596", "-2.63749725 -0.65552969"),
    (True, (1.9, -2.1), 2, "-0.18403998 -0.16232131", "-0.00160169 -0.00141219"),
    (True, (1.9, -2.1), 5, "0.86830988 0.76638884", "0.03471016 0.03030402"),
    (True, (1.9, -2.1), 10, "1.52838839 1.38082429", "0.29907704 0.26089669"),
    (False, (2.0, -1.0), 1, "-2.99857534 0.69066606", "-2.23057735 0.43636895"),
    (False, (2.0, -1.0), 2, "-0.69494209 -0.61583463", "-0.0068009 -0.00599655"),
    (False, (2.0, -1.0), 5, "2.95599213 2.92171136", "3.14082819 3.14068544"),
    (False, (2.0, -1.0), 10, "2.66403016 2.58308609", "3.13629862 3.13534178"),
]


@pytest.mark.parametrize("alternating, start, tau, early, late", TORUS_RUNS)
def test_torus_trajectories(alternating, start, tau, early, late):
    make = dy.updates.Alternating if alternating else dy.updates.Simultaneous
    update = make(sgd(1e-3), sgd(1e-3 * tau))
    run = dy.simulate(TORUS, update, start, steps=180_000, save_every=30_000, classify=False)
    states = np.stack([np.asarray(player) for player in run.players], axis=1)
    wrapped = (states + np.pi) % (2 * np.pi) - np.pi
    assert_prints(wrapped[1], early)
    assert_prints(wrapped[-1], late)


def test_torus_outcomes():
    """The run that is shown as a cycle is a slow spiral: alternating steps contract towards a centre of the flow."""
    update = dy.updates.Alternating(sgd(1e-3), sgd(1e-3))
    spiral = dy.simulate(TORUS, update, (2.0, -1.0), steps=180_000, save_every="last")
    assert dy.Outcome(int(spiral.outcome)) is dy.Outcome.undecided
    predicted = dy.stability(TORUS, update, at=(np.pi, 0.0))
    assert predicted.verdict == "stable" and predicted.rate == pytest.approx(-3.6125e-7, rel=1e-4)
    longer = dy.simulate(TORUS, update, (2.0, -1.0), steps=2_000_000, save_every="last")
    assert float(longer.rate) == pytest.approx(predicted.rate, rel=0.1)
    faster = dy.updates.Alternating(sgd(1e-3), sgd(5e-3))
    converged = dy.simulate(TORUS, faster, (2.0, -1.0), steps=360_000, save_every="last")
    assert dy.Outcome(int(converged.outcome)) is dy.Outcome.converged


# ---------------------------------------------------------------- gap-aware scheduling
# Hazimeh and Ponomareva, Mind the (optimality) Gap, AISTATS 2023, with the defaults of the paper.


def test_gap_aware_multiplier():
    ideal = float(MINIMAX.ideal_discriminator_loss)
    assert_prints(ideal, "1.3862943611")
    ratios = np.array([0.85, 0.90, 0.95, 1, 1.05, 1.10, 1.20])
    found = dy.schedules.gap_multiplier(ratios * ideal, ideal)
    assert_prints(found, "0.1000000000 0.1000000000 0.3162277660 1 1.4142135624 2.0000000000 2")
    losses = np.array([1.2, 1.3, ideal, 1.4, 1.45, 1.6])
    found = dy.schedules.gap_multiplier(losses, ideal)
    assert_prints(found, "0.1 0.238516136 1 1.070930819 1.375102391 2")
    slope = jax.vmap(jax.grad(lambda loss: jnp.log(dy.schedules.gap_multiplier(loss, ideal))))
    below, above = slope(ideal + jnp.asarray([-1e-9, 1e-9]))
    assert below == pytest.approx(np.log(10) / (0.1 * ideal), rel=1e-12)
    assert above == pytest.approx(np.log(2) / (0.1 * ideal), rel=1e-12)


def test_ideal_losses():
    ideal = {name: float(getattr(dy.objectives, name)().ideal_discriminator_loss) for name in ("Minimax", "Hinge")}
    assert ideal == {"Minimax": np.log(4), "Hinge": 2.0}
    assert float(NON_SATURATING.ideal_discriminator_loss) == np.log(4)
    assert float(WASSERSTEIN.ideal_discriminator_loss) == 0
    # 0.5 for the sum of squares with labels 0 and 1; the factor 1/2 of the paper's loss halves it.
    assert 2 * float(dy.objectives.LeastSquares(0.0, 1.0, 1.0).ideal_discriminator_loss) == 0.5
