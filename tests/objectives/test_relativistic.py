"""Relativistic objectives: losses in NumPy, divergences in closed form and by another optimiser, and R3GAN."""

import functools
import itertools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import strategies as st

import dynamics as dy
from dynamics.distributions import Sample, normal
from dynamics.objectives import RelativisticAverage, RelativisticCentred, RelativisticPaired
from dynamics.penalties import R1, R2, Sum

FUNCTIONS = {
    "softplus": lambda y: np.logaddexp(0, -y),
    "squares": lambda y: (1 - y) ** 2,
    "hinge": lambda y: np.maximum(0, 1 - y),
}


def paired(phi, r, p, f, q):
    return p @ phi(r[:, None] - f) @ q


def average(phi, r, p, f, q):
    return p @ phi(r - q @ f) + q @ phi(p @ r - f)


def centred(phi, r, p, f, q):
    middle = (p @ r + q @ f) / 2
    return p @ phi(r - middle) + q @ phi(middle - f)


KINDS = {"paired": (RelativisticPaired, paired), "average": (RelativisticAverage, average)}
KINDS["centred"] = (RelativisticCentred, centred)
NAMES = list(itertools.product(KINDS, FUNCTIONS))
three = st.tuples(*[st.floats(-20, 20)] * 3).map(np.array)
two = st.tuples(*[st.floats(-20, 20)] * 2).map(np.array)


def masses(count):
    return st.tuples(*[st.floats(0.05, 1)] * count).map(lambda v: np.array(v) / np.sum(v))


@functools.cache
def losses():
    """Both losses of all of them, saturating and not: one program."""

    def everything(r, p, f, q):
        samples = Sample(r, p), Sample(f, q)
        computed = {}
        for kind, name in NAMES:
            for saturating in (False, True):
                objective = KINDS[kind][0](name, saturating=saturating)
                computed[kind, name, saturating] = objective.discriminator(*samples), objective.generator(*samples)
        return computed

    return jax.jit(everything)


@hypothesis.given(r=three, p=masses(3), f=two, q=masses(2))
def test_losses(r, p, f, q):
    for (kind, name, saturating), (discriminator, generator) in losses()(r, p, f, q).items():
        formula, phi = KINDS[kind][1], FUNCTIONS[name]
        loss = formula(phi, r, p, f, q)
        other = -loss if saturating else formula(phi, f, q, r, p)
        np.testing.assert_allclose([discriminator, generator], [loss, other], 1e-12, 1e-12, err_msg=f"{kind} {name}")


POINTS = 4


@functools.cache
def divergences():
    def everything(p, q):
        computed = {}
        for kind, name in NAMES:
            objective = KINDS[kind][0](name)
            scores = objective.optimal_score(p, q)
            slope = jax.grad(lambda s, o=objective: o.compared(Sample(s, p), Sample(s, q)))(scores)
            computed[kind, name] = objective.divergence_value(p, q), objective.divergence_value(q, p), slope
        return computed

    return jax.jit(everything)


def jsd(p, q):
    mixture = (p + q) / 2
    return (np.sum(p * np.log(p / mixture)) + np.sum(q * np.log(q / mixture))) / 2


@hypothesis.settings(max_examples=15)
@hypothesis.given(p=masses(POINTS), q=masses(POINTS))
@pytest.mark.slow
def test_divergences(p, q):
    computed = divergences()(p, q)
    delta = np.sum((p - q) ** 2 / (p + q))
    closed = {
        ("paired", "squares"): 4 * delta / (2 + delta),
        ("average", "squares"): 8 * delta / (2 + 3 * delta),
        ("centred", "squares"): delta,
        ("paired", "softplus"): 2 * jsd(np.outer(p, q), np.outer(q, p)),
    }
    for key, (value, exchanged, slope) in computed.items():
        if key[1] == "hinge":  # see below
            continue
        # The loss is convex in the scores: where its slope vanishes no other scores are better.
        np.testing.assert_allclose(slope, 0, atol=1e-9, err_msg=str(key))
        np.testing.assert_allclose(value, exchanged, 1e-9, 1e-12, err_msg=str(key))
        assert value >= -1e-12
        if key in closed:
            np.testing.assert_allclose(value, closed[key], 1e-10, 1e-13, err_msg=str(key))


def linear_programme(kind, p, q):
    """The smallest loss of the hinge: free scores, and what is paid for each pair, or for each real and fake sample."""
    count = len(p)
    scores = np.eye(count)
    if kind == "paired":
        differences, paid = (scores[:, None] - scores).reshape(-1, count), np.outer(p, q).ravel()
    else:
        middle = (p + q) / 2
        on_real, on_fake = (q, p) if kind == "average" else (middle, middle)
        differences, paid = np.vstack([scores - on_real, on_fake - scores]), np.concatenate([p, q])
    size = len(paid)
    return scipy.optimize.linprog(
        np.concatenate([np.zeros(count), paid]),
        -np.hstack([differences, np.eye(size)]),
        -np.ones(size),
        bounds=[(None, None)] * count + [(0, None)] * size,
    ).fun


def some_empty(count):
    weight = st.one_of(st.just(0.0), st.floats(0.05, 1), st.floats(-8, 0).map(lambda power: 10**power))
    return st.tuples(*[weight] * count).filter(lambda v: sum(v) > 0.05).map(lambda v: np.array(v) / np.sum(v))


@functools.cache
def best(function):
    def everything(p, q):
        computed = {}
        for kind, (cls, _) in KINDS.items():
            objective = cls(function)
            scores = objective.optimal_score(p, q)
            loss = objective.compared(Sample(scores, p), Sample(scores, q))
            computed[kind] = objective.divergence_value(p, q), objective.divergence_value(q, p), scores, loss
        return computed

    return jax.jit(everything)


@pytest.mark.slow
@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(p=some_empty(POINTS), q=some_empty(POINTS))
def test_the_hinge_is_a_linear_programme(p, q):
    for kind, (value, exchanged, scores, loss) in best("hinge")(p, q).items():
        smallest = linear_programme(kind, p, q)
        scale, most = (2, 1) if kind == "paired" else (1, 2)
        np.testing.assert_allclose(value, scale * (most - smallest), atol=2e-7, err_msg=kind)
        np.testing.assert_allclose(loss, smallest, atol=2e-7, err_msg=kind)  # attained, at finite scores
        np.testing.assert_allclose(value, exchanged, 1e-10, 1e-12, err_msg=kind)
        assert np.isfinite(scores).all()


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(p=some_empty(POINTS), q=some_empty(POINTS))
@pytest.mark.slow
def test_softplus_for_densities_that_hardly_overlap(p, q):
    data_alone, model_alone = ((p > 0) & (q == 0)).any(), ((q > 0) & (p == 0)).any()
    for kind, (value, exchanged, scores, loss) in best("softplus")(p, q).items():
        assert not np.isnan(scores).any()
        np.testing.assert_allclose(value, exchanged, 1e-7, 1e-9, err_msg=kind)
        assert -1e-12 < value < 2 * np.log(2) + 1e-12
        scale, most = (2, np.log(2)) if kind == "paired" else (1, 2 * np.log(2))
        if np.isfinite(scores).all():
            np.testing.assert_allclose(scale * (most - loss), value, 1e-7, 1e-9, err_msg=kind)
        elif kind == "paired":
            pairs = np.outer(p, q)
            terms = pairs * np.log1p(pairs.T / np.where(pairs > 0, pairs, 1))
            np.testing.assert_allclose(value, 2 * (np.log(2) - terms.sum()), 1e-10, 1e-12)
        elif kind == "centred":  # the condition on the mean is met by what is paid for no longer
            assert data_alone and model_alone
            halves = (p + q) / 2
            entropy = sum(
                np.sum(np.where(m > 0, m * np.log(np.where(m > 0, m / np.where(m > 0, halves, 1), 1)), 0))
                for m in (p, q)
            )
            np.testing.assert_allclose(value, entropy, 1e-9, 1e-11)
        elif data_alone and model_alone:  # either mean runs away, and nobody else pays
            np.testing.assert_allclose(value, 2 * np.log(2), 1e-12)


@pytest.mark.slow
def test_one_side_alone_is_the_limit_of_very_little():
    p, q = np.array([0.4, 0.35, 0.25, 0.0]), np.array([0.2, 0.3, 0.1, 0.4])
    alone, _, scores, _ = best("softplus")(p, q)["average"]
    gaps = [abs(best("softplus")(p + [0, 0, -tiny, tiny], q)["average"][0] - alone) for tiny in (1e-6, 1e-9)]
    assert gaps[1] < 1e-2 * gaps[0] < 1e-2 * 1e-4
    assert np.isneginf(scores[3]) and np.isfinite(scores[:3]).all()


@pytest.mark.slow_cases("hinge")
@pytest.mark.parametrize("name", ["softplus", "hinge"])
@pytest.mark.slow_cases("softplus")
def test_single_precision_and_points_with_nothing(name):
    p, q, twice = np.append(P, 0), np.append(Q, 0), np.array([0.5, 0.15, 0.2, 0.15])
    whole, single = best(name)(p, q), best(name)(p.astype(np.float32), q.astype(np.float32))
    split = best(name)(twice, np.array([0.2, 0.15, 0.5, 0.15]))  # of one point two are made
    for value, *_ in best(name)(p, np.where(p == 0, np.nan, q)).values():
        assert np.isnan(value)
    for kind, (value, *_) in best(name)(p, p).items():
        np.testing.assert_allclose(value, 0, atol=1e-12)
        assert single[kind][0].dtype == np.float32
        np.testing.assert_allclose(single[kind][0], whole[kind][0], 2e-5)
        np.testing.assert_allclose(split[kind][0], whole[kind][0], 1e-12)


P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])


@pytest.mark.slow
def test_a_printed_divergence():
    np.testing.assert_allclose(RelativisticPaired().divergence_value(P, Q), 0.249032421915, atol=1e-12)


@pytest.mark.slow
def test_a_printed_divergence_of_gaussians():
    nodes = np.linspace(-8, 9, 401)
    p, q = (np.exp(-((nodes - mean) ** 2) / 2) / np.sqrt(2 * np.pi) for mean in (1, 0))
    value = RelativisticPaired().divergence_value(p, q, np.full(401, nodes[1] - nodes[0]))
    np.testing.assert_allclose(value, 0.4026909, atol=5e-8)


@pytest.mark.slow_cases("average", "centred")
@pytest.mark.parametrize("kind", ["average", "centred"])
def test_scores_without_a_closed_form_are_those_of_another_optimiser(kind):
    cls, formula = KINDS[kind]
    best = scipy.optimize.minimize(lambda s: formula(FUNCTIONS["softplus"], s, P, s, Q), np.zeros(3), tol=1e-13)
    np.testing.assert_allclose(cls().divergence_value(P, Q), 2 * np.log(2) - best.fun, atol=1e-10)
    scores = np.asarray(cls().optimal_score(P, Q))
    np.testing.assert_allclose(scores - scores[0], best.x - best.x[0], atol=1e-5)


@pytest.mark.slow
def test_a_function_of_ones_own():
    custom = RelativisticAverage(lambda y: jnp.square(1 - y))
    np.testing.assert_allclose(
        custom.divergence_value(P, Q), RelativisticAverage("squares").divergence_value(P, Q), 1e-10
    )
    assert custom.divergence == "the discriminator's: relativistic, no closed form known"
    with pytest.raises(ValueError, match="RelativisticPaired.function is 'hing'; did you mean 'hinge'"):
        RelativisticPaired("hing")


@pytest.mark.slow
def test_pairs_in_the_order_of_the_batch_average_to_all_pairs():
    r, f = np.array([0.3, -1.0, 2.0]), np.array([0.9, 0.1, -0.4])
    one, every = RelativisticPaired(all_pairs=False), RelativisticPaired()
    orders = [one.discriminator(r, jnp.asarray(f)[jnp.asarray(order)]) for order in itertools.permutations(range(3))]
    np.testing.assert_allclose(np.mean(orders), every.discriminator(r, f), 1e-13)
    np.testing.assert_allclose(orders[0], np.logaddexp(0, f - r).mean(), 1e-13)
    np.testing.assert_allclose(one.divergence_value(P, Q), every.divergence_value(P, Q), 1e-14)
    with pytest.raises(ValueError, match="as many real as fake samples, without weights; got 3 and 2"):
        one.discriminator(r, f[:2])


def eigenvalues(objective, penalty):
    """Of a generator that translates N(0, 1), and a linear critic with a bias, at the equilibrium."""
    data = normal(0.0, 1.0, 8)
    gan = dy.GAN(lambda t, z: z + t, lambda w, x: w[0] * x + w[1], data, data, objective, penalty)
    start = (jnp.zeros(()), jnp.zeros(2))

    def field(flat):
        theta, weights = gan.field((flat[0], flat[1:]))
        return jnp.concatenate([theta[None], weights])

    assert np.allclose(gan.field(start)[1], 0) and np.allclose(gan.field(start)[0], 0)
    return np.sort_complex(np.linalg.eigvals(np.asarray(jax.jacfwd(field)(jnp.zeros(3)))))


@pytest.mark.slow
def test_r3gan_has_a_neutral_direction():
    """The bias of the critic: eigenvalue 0 for the relativistic pair, -1/2 for the first GAN."""
    plain = eigenvalues(dy.objectives.NonSaturating(), R1(0.3))
    np.testing.assert_allclose(plain, [-0.5, -0.4 - 0.3j, -0.4 + 0.3j], atol=1e-12)
    pairs = eigenvalues(RelativisticPaired(), R1(0.3))
    np.testing.assert_allclose(pairs, [-0.4 - 0.3j, -0.4 + 0.3j, 0], atol=1e-12)
    both = eigenvalues(RelativisticPaired(saturating=True), Sum(R1(0.3), R2(0.3)))
    radius = 0.55 + np.sqrt(0.55**2 - 0.25)
    np.testing.assert_allclose(both, [-radius, -0.25 / radius, 0], atol=1e-12)


def test_without_a_penalty_r3gan_circles_on_the_dirac_gan():
    game = dy.games.DiracGAN(RelativisticPaired())
    jacobian = jax.jacfwd(lambda z: jnp.stack(game.field((z[0], z[1]))))(jnp.zeros(2))
    np.testing.assert_allclose(np.linalg.eigvals(np.asarray(jacobian)), [0.5j, -0.5j], atol=1e-14)
