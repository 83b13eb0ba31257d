"""More optimisers against plain NumPy loops of the published algorithms, and their spectra on bilinear games."""

import asymmetric
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from asymmetric import RATES
from hypothesis import given
from numpy.polynomial import polynomial

import dynamics as dy
from dynamics import optimisers
from dynamics.analysis import linearise
from dynamics.updates import Alternating, Simultaneous

STEPS = 8
ADAM = dict(b1=0.6, b2=0.9, eps=1e-3, eps_root=1e-4)


def momentum_steps(h, beta):
    """Nesterov's: m <- beta m + g, x <- x - h (g + beta m)."""
    m = 0.0

    def step(z, g):
        nonlocal m
        m = beta * m + g
        return z - h * (g + beta * m)

    return step


def complex_steps(h, beta):
    """Lorraine et al.: mu <- beta mu - g, x <- x + Re(h mu)."""
    mu = 0.0 + 0.0j

    def step(z, g):
        nonlocal mu
        mu = beta * mu - g
        return z + np.real(h * mu)

    return step


def optimistic_steps(h, b, first):
    before = None

    def step(z, g):
        nonlocal before
        last = before if before is not None else (g if first == "current" else 0 * g)
        before = g
        return z - (h + b) * g + b * last

    return step


def adam_directions(b1, b2, eps, eps_root, mean=True, square=True, nesterov=False, largest=False):
    m = v = top = 0.0
    t = 0

    def direction(g):
        nonlocal m, v, top, t
        t += 1
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        m_hat = m / (1 - b1**t) if mean else m
        v_hat = v / (1 - b2**t) if square else v
        if nesterov:
            ahead, fresh = (m / (1 - b1 ** (t + 1)), g / (1 - b1**t)) if mean else (m, g)
            m_hat = b1 * ahead + (1 - b1) * fresh
        top = np.maximum(top, v_hat)
        return m_hat / (np.sqrt((top if largest else v_hat) + eps_root) + eps)

    return direction


def adam_steps(h, **choices):
    direction = adam_directions(**ADAM, **choices)
    return lambda z, g: z - h * direction(g)


def optimistic_adam_steps(h, b, first, **choices):
    direction, step = adam_directions(**ADAM, **choices), optimistic_steps(h, b, first)
    return lambda z, g: step(z, direction(g))


BETA = 0.8 * np.exp(0.5j)
# By name: ours, and the published algorithm in NumPy, each a function of the rate.
CASES = {
    "nesterov": (lambda h: optimisers.nesterov(h, 0.7), lambda h: momentum_steps(h, 0.7)),
    "complex momentum": (lambda h: optimisers.complex_momentum(h, 0.8, 0.5), lambda h: complex_steps(h, BETA)),
    "optimistic": (
        lambda h: optimisers.optimistic(h, strength=0.03),
        lambda h: optimistic_steps(h, 0.03, "current"),
    ),
    "optimistic from zero": (
        lambda h: optimisers.optimistic(h, "zero", 0.03),
        lambda h: optimistic_steps(h, 0.03, "zero"),
    ),
    "optimistic by default": (lambda h: optimisers.optimistic(h), lambda h: optimistic_steps(h, h, "current")),
    "nadam": (lambda h: optimisers.adam(h, **ADAM, nesterov=True), lambda h: adam_steps(h, nesterov=True)),
    "adam without corrections": (
        lambda h: optimisers.adam(h, **ADAM, correct_mean=False, correct_square=False),
        lambda h: adam_steps(h, mean=False, square=False),
    ),
    "adam without correction of the square": (
        lambda h: optimisers.adam(h, **ADAM, correct_square=False),
        lambda h: adam_steps(h, square=False),
    ),
    "nadam without correction of the square": (
        lambda h: optimisers.adam(h, **ADAM, correct_square=False, nesterov=True),
        lambda h: adam_steps(h, square=False, nesterov=True),
    ),
    "nadam without correction of the mean": (
        lambda h: optimisers.adam(h, **ADAM, correct_mean=False, nesterov=True),
        lambda h: adam_steps(h, mean=False, nesterov=True),
    ),
    "amsgrad": (lambda h: optimisers.amsgrad(h, **ADAM), lambda h: adam_steps(h, largest=True)),
    "amsgrad as published": (
        lambda h: optimisers.amsgrad(h, **ADAM, correct_mean=False, correct_square=False),
        lambda h: adam_steps(h, mean=False, square=False, largest=True),
    ),
    "optimistic adam": (
        lambda h: optimisers.optimistic_adam(h, **ADAM),
        lambda h: optimistic_adam_steps(h, h, "current"),
    ),
    "optimistic adam as published": (
        lambda h: optimisers.optimistic_adam(h, "zero", **ADAM),
        lambda h: optimistic_adam_steps(h, h, "zero"),
    ),
    "optimistic adam with a strength": (
        lambda h: optimisers.optimistic_adam(h, "zero", 0.02, **ADAM, nesterov=True),
        lambda h: optimistic_adam_steps(h, 0.02, "zero", nesterov=True),
    ),
}


def by_hand(make):
    game, steppers = asymmetric.ByHand(2), [make(rate) for rate in RATES[:2]]
    z = np.linspace(-0.6, 0.8, 5)
    for _ in range(STEPS):
        g = -game.field(z)
        z = np.concatenate([stepper(z[part], g[part]) for stepper, part in zip(steppers, game.parts)])
    return z


@pytest.fixture(scope="module", params=[np.float32, np.float64], ids=lambda dtype: dtype.__name__)
def ends(request):
    """The end of a run with every optimiser, in one program."""

    dtype = request.param
    updates = {name: Simultaneous(*(ours(rate) for rate in RATES[:2])) for name, (ours, _) in CASES.items()}

    return dtype, asymmetric.ends(updates, STEPS, dtype)


@pytest.mark.parametrize("name", CASES)
def test_optimisers(name, ends):
    dtype, found = ends
    asymmetric.same(found[name], by_hand(CASES[name][1]), dtype, scale=5)


def test_complex_momentum_of_a_real_coefficient_is_heavy_ball():
    gradients = np.random.default_rng(0).normal(size=(5, 3))

    def steps(optimiser):
        transformation, moved = optimiser.build(), []
        state = transformation.init(jnp.zeros(3))
        for g in gradients:
            change, state = transformation.update(jnp.asarray(g), state)
            moved.append(change)
        return np.stack(moved)

    for beta, argument in ((0.7, 0.0), (-0.7, np.pi)):
        found = steps(optimisers.complex_momentum(0.1, 0.7, argument))
        np.testing.assert_allclose(found, steps(optimisers.momentum(0.1, beta)), rtol=1e-12, atol=1e-15)


def test_complex_momentum_keeps_real_arrays():
    state = optimisers.complex_momentum(0.1).build().init({"w": jnp.zeros(3, jnp.float32)})
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {np.dtype(np.float32)}


# ---------------------------------------------------------------- spectra on f = sigma x y


def jacobian(method):
    @jax.jit
    def program(sigma, *numbers):
        game = dy.games.Bilinear(sigma)
        return linearise(game, method(*numbers), game.equilibria()[0]).jacobian

    return lambda *numbers: np.asarray(program(*(jnp.asarray(number, float) for number in numbers)))


def both(kind, make):
    return lambda *numbers: kind(make(*numbers), make(*numbers))


SPECTRA = {
    "complex momentum": jacobian(both(Simultaneous, optimisers.complex_momentum)),
    "nesterov": jacobian(both(Simultaneous, optimisers.nesterov)),
    "nesterov in turns": jacobian(both(Alternating, optimisers.nesterov)),
}


def product(*factors):
    result = np.ones(1)
    for factor in factors:
        result = polynomial.polymul(result, factor)
    return result


def characteristic(matrix):
    return np.poly(matrix)[::-1]


sigmas, rates = st.floats(0.1, 1.5), st.floats(0.02, 1.5)


@given(sigmas, rates, st.floats(0, 1), st.floats(0, 3.1))
def test_complex_momentum_on_the_bilinear_game(s, h, modulus, argument):
    """((l - 1)(l^2 - 2 Re b l + |b|^2))^2 + s^2 h^2 l^2 (l - Re b)^2, from the transfer of g to Re mu."""
    real = modulus * np.cos(argument)
    memory = [modulus**2, -2 * real, 1]
    still, moved = product([-1, 1], memory), s * h * product([0, 1], [-real, 1])
    expected = polynomial.polyadd(product(still, still), product(moved, moved))
    found = characteristic(SPECTRA["complex momentum"](s, h, modulus, argument))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_complex_momentum_converges_where_no_real_momentum_does():
    """Simultaneous moves on the bilinear game, which diverge for every real coefficient."""

    def radius(modulus, argument):
        return np.abs(np.linalg.eigvals(SPECTRA["complex momentum"](1.0, 0.1, modulus, argument))).max()

    assert min(radius(0.9, argument) for argument in np.linspace(0.1, 3, 30)) < 0.999
    for modulus in (0.1, 0.5, 0.9):
        assert radius(modulus, 0.0) > 1 and radius(modulus, np.pi) > 1


@pytest.mark.slow
@given(sigmas, rates, st.floats(-0.9, 0.9))
def test_nesterov_on_the_bilinear_game(s, h, beta):
    """From d to x the transfer is h ((1 + b) l - b) / ((l - 1)(l - b)): m <- b m + d, x <- x + h (d + b m)."""
    still, moved = product([-1, 1], [-beta, 1]), [-beta, 1 + beta]
    together = polynomial.polyadd(product(still, still), (h * s) ** 2 * product(moved, moved))
    np.testing.assert_allclose(characteristic(SPECTRA["nesterov"](s, h, beta)), together, atol=1e-9)
    in_turns = polynomial.polyadd(product(still, still), (h * s) ** 2 * product([0, 1], moved, moved))
    np.testing.assert_allclose(characteristic(SPECTRA["nesterov in turns"](s, h, beta)), in_turns, atol=1e-9)


# ---------------------------------------------------------------- published runs on f = xy

BILINEAR = dy.games.Bilinear(1.0)


def distances(optimiser, point, steps):
    """Distances from the origin along a run that records the point before each step."""
    run = dy.simulate(BILINEAR, Simultaneous(optimiser, optimiser), point, steps=max(steps), classify=False)
    return [float(np.hypot(*(np.asarray(leaf)[step] for leaf in run.players))) for step in steps]


def test_nadam_as_in_the_example_of_optax():
    found = distances(optimisers.adam(0.05, nesterov=True), (1.0, 1.0), (1, 10, 100, 1000))
    np.testing.assert_allclose(found, [1.41804750, 1.57688653, 2.75547822, 9.73085505], rtol=1e-8)


def test_optimistic_adam_as_in_the_documentation_of_optax():
    optimiser = optimisers.optimistic_adam(0.01, strength=1.0, nesterov=True)
    found = distances(optimiser, (1.0, 2.0), (1, 4, 16, 64, 256, 1024))
    np.testing.assert_allclose(found, [2.242746, 2.195261, 2.160541, 2.054529, 0.795495, 0.000968], atol=6e-7)


def test_optimistic_descent_as_in_the_example_of_optax():
    """Its recorded distances are those of a plain first step, sqrt(2 (1 + h^2))."""
    found = distances(optimisers.optimistic(0.1, "current"), (1.0, 1.0), (1, 10, 100))
    np.testing.assert_allclose(found, [1.42126704, 1.35806928, 0.859985279], rtol=1e-8)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: optimisers.complex_momentum(0.1, -0.5), "the modulus is -0.5; expected a number >= 0"),
        (lambda: optimisers.optimistic(0.1, "last"), "optimistic: first is 'last'; expected 'current' or 'zero'"),
        (lambda: optimisers.optimistic_adam(0.1, "last"), "optimistic_adam: first is 'last'; expected 'current' or"),
        (lambda: optimisers.optimistic(-0.1, strength=0.1), "the learning rate is -0.1; expected a finite number >= 0"),
        (lambda: optimisers.nesterov(-0.1), "the learning rate is -0.1; expected a finite number >= 0"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["nesterov", "complex_momentum", "amsgrad", "optimistic_adam"])
def test_the_learning_rate_may_be_swept(name):
    """Numbers are leaves: a batch of rates is one program, and gives the first steps of each."""
    rates = jnp.asarray([0.1, 0.2])
    gradient = jnp.asarray([1.0, -2.0])

    @jax.vmap
    def first(rate):
        transformation = optimisers.CATALOGUE[name](rate).build()
        return optax.apply_updates(gradient, transformation.update(gradient, transformation.init(gradient))[0])

    small, large = first(rates) - gradient
    np.testing.assert_allclose(large, 2 * small, rtol=1e-9)
    assert np.all(small * gradient < 0)
