"""GANs of n real and n generated points, with the best of all discriminators: which places are bad local minima."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

import dynamics.objectives as objectives
from dynamics.checks.measures import agree, every
from dynamics.claims.base import claim
from dynamics.objectives import RelativisticPaired
from dynamics.strategies import arrays, numbers

SUN = "Sun, Fang, Schwing, Towards a Better Global Loss Landscape of GANs, 2020"
GRID = np.asarray([[0.0, 0.0], [2.0, 1.0], [-1.0, 2.0]])  # moved by less than a half: never close to each other


ORDERS = ((0, 1, 2), (1, 2, 0), (0, 2, 1))


def points_of(count):
    return arrays((count, 2), size=0.25).map(lambda jitter: GRID[:count] + jitter)


# So many points, where they are, and where the generated ones move to: nearby, and away from each other.
CONFIGURATIONS = st.sampled_from([2, 3]).flatmap(lambda n: st.tuples(points_of(n), arrays((n, 2), size=0.125)))


def assignments(count):
    """All ways to put the generated points on the real ones, shape (n^n, n)."""
    return np.asarray(list(itertools.product(range(count), repeat=count)))


def moves(count):
    """Which generated points move, shape (2^n - 1, n): all choices but none."""
    return np.asarray([mask for mask in itertools.product([0.0, 1.0], repeat=count) if any(mask)])


def first_of_equals(points):
    """For every point the number of the first one at the same place."""
    return jnp.argmax(jnp.all(points[:, None] == points, axis=-1), axis=1)


def measured(objective, real, generated):
    """By how much the best discriminator's loss is below the ideal one, for these points with equal weights."""
    count = len(real)
    places = first_of_equals(jnp.concatenate([real, generated]))
    nobody = jnp.zeros(2 * count)
    data = nobody.at[places[:count]].add(1 / count)
    model = nobody.at[places[count:]].add(1 / count)
    return objective.divergence_value(data, model)


def each_with_its_own(objective, real, generated, far=60.0):
    """The same for a loss that compares the i-th real point with the i-th generated one, for ever.

    Real points lead to their generated ones, and these, where they are real points, on to theirs. The best score grows
    by a large step against every arrow that is on no cycle and is constant on cycles: returned are the gain with it,
    and the slope of the loss in the scores, which vanishes at the best ones as the loss is convex.
    """
    count = len(real)
    places = first_of_equals(jnp.concatenate([real, generated]))
    index = jnp.arange(2 * count)
    # Where an arrow leads from each place; a generated point away from the data is an end, and leads to itself.
    following = index.at[:count].set(places[count:])
    after = index
    for _ in range(count):
        after = following[after]
    on_cycle = jnp.zeros(2 * count, bool).at[after].set(True)  # or at an end
    height, at = jnp.zeros(2 * count), index
    for _ in range(count):
        height, at = height + ~on_cycle[at], following[at]

    def loss(scores):
        return objective.discriminator(scores[places[:count]], scores[places[count:]])

    scores = far * height
    return objective.ideal_discriminator_loss - loss(scores), jax.grad(loss)(scores)


def neighbours(real, offsets):
    """All generated points that sit on data, shape (n^n, n, 2), and for each those close by, (n^n, 2 (2^n - 1), n, 2).

    What is measured depends on nothing but which points coincide. So it is enough to look at every choice of points
    that leave; those that were together leave apart, or together.
    """
    count = len(real)
    scale = 1 + jnp.arange(count)[:, None] / 8
    apart = (0.0625 + jnp.abs(offsets)) * scale  # to places of which no two are equal
    together = jnp.broadcast_to(apart[0], apart.shape)
    on_data = real[assignments(count)]
    masks = moves(count)[:, :, None]
    close = jnp.concatenate([masks * apart, masks * together])
    return on_data, on_data[:, None] + close


def counted(measure, real, offsets):
    """How many bad strict minima there are among the generated points that sit on data, and how many best ones."""
    on_data, close = neighbours(real, offsets)
    here = jax.vmap(measure)(on_data)
    there = jax.vmap(jax.vmap(measure))(close)
    tolerance = 1e-9
    strict = jnp.all(there > here[:, None] + tolerance, axis=1)
    best = here < tolerance
    return jnp.sum(strict & ~best), jnp.sum(strict & best)


def factorial(count):
    return int(np.prod(np.arange(1, count + 1)))


@claim(
    "empirical-gans/bad-minima",
    r"A separable GAN of n different real and n generated points, with the best of all functions as its discriminator, "
    r"has exactly $n^n - n!$ strict local minima that are not global, in the places of the generated points: all that "
    r"sit on real points and leave one out. For n = 2 and 3 they are 2 and 21.",
    source=f"{SUN}, theorem on separable GANs; that there are no others, by hand",
    kind="theorem",
    hypotheses="the least loss is strictly convex in the share of fakes",
    domain=dict(
        configuration=CONFIGURATIONS, objective=st.sampled_from(["Minimax", "LeastSquares", "SquaredHellinger"])
    ),
    because="A generated point that leaves the data is told apart with certainty, which costs more than to share a "
    "place does. One that is away from them may move freely: such places are no strict minima.",
)
def bad_minima(configuration, objective):
    real, offsets = configuration
    count = len(real)
    objective = getattr(objectives, objective)()
    bad, best = counted(lambda points: measured(objective, real, points), real, offsets)
    # Away from the data: the same is measured wherever the point is.
    away = real.at[0].add(0.25 + jnp.abs(offsets[0]))
    level = agree(*(measured(objective, real, points) for points in (away, away.at[0].add(0.125))))
    wrong = jnp.abs(bad - (count**count - factorial(count))) + jnp.abs(best - factorial(count))
    return every(0.5 - wrong, level)


bad_minima.without(
    "hinge",
    "the least loss is strictly convex in the share of fakes",
    because="Total variation does not see how many share a place: points there leave at no cost.",
    objective=st.just("Hinge"),
)


@claim(
    "empirical-gans/no-bad-minima-in-pairs",
    "A relativistic GAN in which the i-th of n different real points is paired with the i-th generated one for ever, "
    "with the best of all functions as its discriminator, has no strict local minimum but the n! global ones, and a "
    "generated point that is on no cycle of pairs can go to its real one, downhill.",
    source=f"{SUN}, theorem on RpGAN: from everywhere a way leads to a global minimum along which the loss never grows",
    kind="theorem",
    hypotheses="each real point is paired with one generated point, for ever",
    domain=dict(configuration=CONFIGURATIONS),
    because="Pairs that are on no cycle are told apart with certainty wherever their generated points are; these can "
    "leave at no cost. Cycles are permutations of real points, and the more points are on them the better.",
)
def no_bad_minima(configuration):
    real, offsets = configuration
    objective = RelativisticPaired(all_pairs=False)
    bad, best = counted(lambda points: each_with_its_own(objective, real, points)[0], real, offsets)
    on_data, close = neighbours(real, offsets)
    everywhere = jnp.concatenate([on_data, jnp.reshape(close, (-1, *real.shape))])
    gains, slopes = jax.vmap(lambda points: each_with_its_own(objective, real, points))(everywhere)
    # From every place that is not best, a point that is on no cycle goes home.
    home = jax.vmap(lambda points: _one_goes_home(objective, real, points))(everywhere)
    downhill = jnp.where(gains > 1e-9, gains - home, jnp.inf)
    wrong = bad + jnp.abs(best - factorial(len(real)))
    return every(0.5 - wrong, agree(slopes, jnp.zeros_like(slopes)), jnp.min(downhill))


def _one_goes_home(objective, real, points):
    """The least gain of the discriminator after one generated point has moved to its real one."""
    moved = [points.at[i].set(real[i]) for i in range(len(real))]
    return jnp.min(jnp.stack([each_with_its_own(objective, real, each)[0] for each in moved]))


def all_pairs(configuration):
    real, offsets = configuration
    bad, _ = counted(lambda points: measured(RelativisticPaired(), real, points), real, offsets)
    return 0.5 - bad


no_bad_minima.without(
    "all-pairs",
    "each real point is paired with one generated point, for ever",
    check=all_pairs,
    because="The mean over all pairs, which batches in any order have on average, measures a divergence of the two "
    "distributions: it has the bad minima of a separable GAN.",
)


@claim(
    "empirical-gans/paired-loss-counts-cycles",
    r"With the best discriminator the relativistic loss in pairs is $\varphi(0)\,m/n$, where m of the n pairs are on "
    r"cycles of the map that takes each real point to the place of its generated one.",
    source=f"{SUN}; the count of a drawn example by hand",
    kind="closed form",
    domain=dict(points=points_of(3), order=st.sampled_from(ORDERS), share=numbers(0.125, 0.375)),
    because="Around a cycle the differences of scores add up to 0, and Jensen's inequality gives phi(0) for each; off "
    "cycles the differences grow without bound at no cost.",
)
def counts_cycles(points, order, share):
    objective = RelativisticPaired(all_pairs=False)
    permuted = points[np.asarray(order)]
    between = share * points[0] + (1 - share) * points[1]
    # With the first generated point away from the data, its cycle is open: the pairs of all other cycles count.
    length, at = 1, order[0]
    while at != 0:
        length, at = length + 1, order[at]
    cases = ((permuted, 3), (permuted.at[0].set(between), 3 - length), (jnp.stack([points[0]] * 3), 1))
    rows = [each_with_its_own(objective, points, generated) for generated, _ in cases]
    return every(
        *(agree(gain, jnp.log(2.0) * (1 - on / 3)) for (gain, _), (_, on) in zip(rows, cases, strict=True)),
        *(agree(slope, jnp.zeros_like(slope)) for _, slope in rows),
    )
