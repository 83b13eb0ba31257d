r"""The best scores of relativistic discriminators, and the loss with them, for probabilities of finitely many points.

All take the probabilities p of data and q of the model, shape (n,), zeros allowed, and return scores of shape (n,), of
all that differ by a constant one set, and the smallest loss. Scores are infinite where the smallest loss is a limit.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy
from jaxtyping import Array

from dynamics.objectives.base import log_ratio
from dynamics.scalars import relu, softplus

Best = tuple[Array, Array]
HALVINGS = 52
NEWTON_STEPS = 40


def newton(loss: Callable[[Array], Array], start: Array, real: Array, fake: Array) -> Best:
    """The minimum of any convex function of all scores, with halved steps where the full one goes too far."""
    scale = jnp.sqrt(real + fake)

    def step(_: int, scores: Array) -> Array:
        hessian = jax.hessian(loss)(scores) / (scale[:, None] * scale)
        # All scores can be shifted alike: that direction is given a curvature, and has no slope.
        hessian = hessian + scale[:, None] * scale
        change = jnp.linalg.solve(hessian, jax.grad(loss)(scores) / scale) / scale
        candidates = scores - jnp.concatenate([0.5 ** jnp.arange(12.0), jnp.zeros(1)])[:, None] * change
        return candidates[jnp.nanargmin(jax.vmap(loss)(candidates))]

    scores = jax.lax.fori_loop(0, NEWTON_STEPS, step, start)
    return scores, loss(scores)


# Softplus


def paired_softplus(p: Array, q: Array) -> Best:
    r"""$\log(p/q)$; the loss of a pair and of the same pair in the other order, $a\log(1+b/a)$ and $b\log(1+a/b)$."""
    real_first, fake_first = p[:, None] * q, q[:, None] * p
    known = jnp.where(real_first > 0, real_first, 1)
    return log_ratio(p, q), jnp.sum(jnp.where(real_first > 0, real_first * jnp.log1p(fake_first / known), 0))


def centred_softplus(p: Array, q: Array) -> Best:
    r"""$\sigma(x) = p/(p+q) + \lambda$ for the scores x above the centre, whose mean $\sum (p+q)x/2$ is 0."""
    present = (p > 0) | (q > 0)
    total = jnp.where(present, p + q, 1)
    first, second = jnp.where(present, p / total, 0.5), jnp.where(present, q / total, 0.5)
    low, high = -jnp.min(first, where=present, initial=1), jnp.min(second, where=present, initial=1)

    def scores(level: Array) -> Array:
        upper, lower = jnp.maximum(first + level, rounding * first), jnp.maximum(second - level, rounding * second)
        return jnp.where(present, jnp.log(upper) - jnp.log(lower), 0)  # never infinite from rounding

    rounding = jnp.finfo(p.dtype).eps
    # Where data alone are at a point, and the model alone at another, one condition more costs nothing.
    apart = low == high
    level = jnp.where(apart, 0, _bisected(lambda level: jnp.sum((p + q) * scores(level)) < 0, low, high))
    x = scores(level)
    top, bottom = jnp.argmax(jnp.where(present, x, -jnp.inf)), jnp.argmin(jnp.where(present, x, jnp.inf))
    balanced = _balanced(x, p + q, top, bottom)
    x = jnp.where(apart, log_ratio(p, q), balanced)
    return x, jnp.sum(_paid(p, softplus(-x)) + _paid(q, softplus(x)))


@jax.jit
def average_softplus(p: Array, q: Array) -> Best:
    r"""Through the dual problem, which is bounded: the largest $\sum p\,h(t) + q\,h(w)$, h the entropy of two outcomes.

    Here $t = \sigma(-x)$ and $w = \sigma(-y)$ for the advantages $x = s - E_{fake} s$ and $y = E_{real} s - s$. That
    the scores have no slope says $p(t + W) = q(w + T)$ with $T = \sum p\,t$, $W = \sum q\,w$; the largest value is
    sought over T and W, with the share of every point from a quadratic equation.
    """
    top, bottom = _extremes(p, q)
    # Data alone at a point, and the same with real and fake exchanged; then T is 0.
    exchanged = q[top] == 0
    p, q = jnp.where(exchanged, q, p), jnp.where(exchanged, p, q)
    top, bottom = jnp.where(exchanged, bottom, top), jnp.where(exchanged, top, bottom)
    scores, value = _average_softplus(p, q, top, bottom)
    return jnp.where(exchanged, -scores, scores), value


def _average_softplus(p: Array, q: Array, top: Array, bottom: Array) -> Best:
    present = (p > 0) | (q > 0)
    least, most = q[top] / p[top], p[bottom] / q[bottom]  # of q/p, and of p/q
    rounding = jnp.finfo(p.dtype).eps
    furthest = 0.9 * jnp.log(jnp.finfo(p.dtype).max)

    def shares(both: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        """Masses a = p t and b = q w with sum a = T, and x + y."""
        real, fake = both
        excess = p * fake - q * real  # b - a

        def masses_at(level: Array) -> Array:
            odds = jnp.exp(level)
            half = (excess + odds * (p + q - excess)) / 2
            rest = odds * p * jnp.maximum(q - excess, 0)
            root = jnp.sqrt(jnp.maximum(jnp.square(half) + (1 - odds) * rest, 0))
            large = jnp.where(half > 0, rest / jnp.where(half > 0, half + root, 1), (root - half) / (1 - odds))
            return jnp.clip(large, jnp.maximum(-excess, 0), jnp.minimum(p, q - excess))

        level = _bisected(lambda level: jnp.sum(masses_at(level)) < real, -furthest, furthest)
        a = masses_at(level)
        return jnp.clip(a, 0, p), jnp.clip(a + excess, 0, q), -level

    def advantages(both: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        a, b, difference = shares(both)
        # Never infinite from rounding: a and b are differences, and end where no other number lies before 0 or 1.
        a = jnp.clip(a, 0, p * (1 - rounding))
        b = jnp.clip(b, rounding * jnp.abs(p * both[1] - q * both[0]), q * (1 - rounding))
        x, y = jnp.log(p - a) - jnp.log(a), jnp.log(q - b) - jnp.log(b)
        x, y = jnp.where(p > 0, x, difference - y), jnp.where(q > 0, y, difference - x)
        return jnp.where(present, x, 0), jnp.where(present, y, 0), difference

    def least_fake(real: Array) -> Array:
        return jnp.where(most > 0, jnp.maximum(real / jnp.where(most > 0, most, 1) - 1, 0), 0)

    def best_fake(real: Array) -> Array:
        def more(fake: Array) -> Array:
            feasible = jnp.sum(jnp.minimum(p, q - p * fake + q * real)) > real
            return feasible & (jnp.sum(_paid(p, advantages((real, fake))[1])) > 0)

        return _bisected(more, least_fake(real), jnp.minimum((1 + real) * least, 1))

    def more(real: Array) -> Array:
        _, y, difference = advantages((real, best_fake(real)))
        # Close to an end of what W may be no rounded W tells how far ahead the first point is, or behind the last.
        furthest_off = jnp.where(jnp.abs(y[top]) > jnp.abs(difference - y[bottom]), top, bottom)
        y = _balanced(y, p, furthest_off, furthest_off)
        return jnp.sum(_paid(q, difference - y)) > 0

    alone = most == 0
    highest = jnp.where(alone, 0, (1 + least) * most / (1 - least * most))
    real = jnp.where(alone, 0, _bisected(more, jnp.zeros_like(highest), jnp.clip(highest, 0, 1)))
    both = real, jnp.where(least > 0, best_fake(real), 0)
    a, b, _ = shares(both)
    value = jnp.sum(_entropy(a, p) + _entropy(b, q))
    _, y, difference = advantages(both)
    index = jnp.arange(len(p))
    middle = jnp.where((index == top) | (index == bottom), 0, y)
    rows = jnp.stack([jnp.stack([p[top], p[bottom]]), jnp.stack([q[top], q[bottom]])])
    ends = jnp.stack(_solved(rows, -jnp.sum(_paid(p, middle)), difference - jnp.sum(_paid(q, middle))))
    # Where rounding hides how far the two are, it follows from the two means; elsewhere these are met already.
    hidden = jnp.maximum(jnp.abs(y[top]), jnp.abs(difference - y[bottom])) > -jnp.log(rounding) / 2
    regular = ~alone & hidden & jnp.all(jnp.isfinite(ends))
    y = jnp.where(regular, y.at[top].set(ends[0]).at[bottom].set(ends[1]), y)
    y = jnp.where(alone, jnp.where(p > 0, _balanced(y, p, top, top), jnp.where(present, jnp.inf, 0)), y)
    return jnp.where(alone & (least == 0), log_ratio(p, q), -y), value


def _entropy(part: Array, whole: Array) -> Array:
    share = part / jnp.where(whole > 0, whole, 1)
    return -xlogy(part, share) - xlogy(whole - part, 1 - share)


# The hinge: linear programmes, whose corners are few


def paired_hinge(p: Array, q: Array) -> Best:
    """Whole numbers, which grow with p/q: the cheapest way to cut the points, in order of p/q, into neighbours.

    With groups g = 0, 1, ... the loss is the sum of P_g Q_h (1 + h - g) over h >= g. Every group adds a term that
    depends on no other, so that the cheapest cut of the first k points follows from those of fewer.
    """
    order = jnp.argsort(log_ratio(p, q))
    nothing = jnp.zeros(1, p.dtype)
    real, fake = (jnp.concatenate([nothing, jnp.cumsum(mass[order])]) for mass in (p, q))
    count = len(p)
    before, after = jnp.arange(count + 1)[:, None], jnp.arange(count + 1)
    # Of the group of the points from `before` to `after`: within it, what is below it, and the cut that begins it.
    cost = (fake - fake[:, None]) * real + (real * (fake[-1] - fake))[:, None]
    cost = jnp.where(before < after, cost, jnp.inf)

    def cheapest(after: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        totals = best[0] + cost[:, after]
        return best[0].at[after].set(jnp.min(totals)), best[1].at[after].set(jnp.argmin(totals))

    start = jnp.full(count + 1, jnp.inf, p.dtype).at[0].set(0), jnp.zeros(count + 1, int)
    totals, begins = jax.lax.fori_loop(1, count + 1, cheapest, start)

    def mark(_: int, path: tuple[Array, Array]) -> tuple[Array, Array]:
        at = begins[path[1]]
        return path[0].at[at].set(1), at

    cuts, _ = jax.lax.fori_loop(0, count, mark, (jnp.zeros(count + 1, p.dtype), jnp.asarray(count)))
    levels = jnp.cumsum(cuts[:-1]) - 1
    return jnp.zeros_like(p).at[order].set(levels), totals[-1]


def centred_hinge(p: Array, q: Array) -> Best:
    """1 where p/q is large, -1 where it is small, and one score between or beyond that puts the mean to 0."""
    total = p + q

    def candidate(upper: Array, free: Array) -> Array:
        return _balanced(jnp.where(upper, 1.0, -1.0), total, free, free)

    def loss(x: Array) -> Array:
        return jnp.sum(_paid(p, relu(1 - x)) + _paid(q, relu(1 + x)))

    return _least(p, q, candidate, loss)


def average_hinge(p: Array, q: Array) -> Best:
    """Advantage 1 over the mean of the fakes where p/q is large, 1 under that of the real where it is small, one free.

    The free score and the distance of the two means follow from what the means are. Or the means are 2 apart, where one
    score is both, and those of the largest and the smallest ratio are free.
    """

    def loss(scores: Array) -> Array:
        ahead, behind = scores - jnp.sum(_paid(q, scores)), jnp.sum(_paid(p, scores)) - scores
        return jnp.sum(_paid(p, relu(1 - ahead)) + _paid(q, relu(1 - behind)))

    def candidate(upper: Array, free: Array) -> Array:
        one = jnp.arange(len(p)) == free
        high, low = upper & ~one, ~upper & ~one
        (real_high, real_low), (fake_high, fake_low) = (
            (jnp.sum(mass, where=high), jnp.sum(mass, where=low)) for mass in (p, q)
        )
        # sum q x = 0 and sum p x = d, with x = 1 above and d - 1 below.
        rows = jnp.stack([jnp.stack([real_low - 1, p[free]]), jnp.stack([fake_low, q[free]])])
        distance, score = _solved(rows, real_low - real_high, fake_low - fake_high)
        return jnp.where(one, score, jnp.where(upper, 1, distance - 1))

    scores, value = _least(p, q, candidate, loss)
    top, bottom = _extremes(p, q)
    index = jnp.arange(len(p))
    middle = (index != top) & (index != bottom)
    rows = jnp.stack([jnp.stack([p[top], p[bottom]]), jnp.stack([q[top], q[bottom]])])
    first, second = _solved(rows, 2 - jnp.sum(p, where=middle), -jnp.sum(q, where=middle))
    both = jnp.where(index == top, first, jnp.where(index == bottom, second, 1))
    other = jnp.where(jnp.all(jnp.isfinite(both)), loss(both), jnp.inf)
    return jnp.where(other < value, both, scores), jnp.minimum(other, value)


def _least(p: Array, q: Array, candidate: Callable[..., Array], loss: Callable[[Array], Array]) -> Best:
    """The best of the candidates: points in order of p/q are cut in two, and one score is free."""
    order = jnp.argsort(log_ratio(p, q))
    rank = jnp.zeros_like(order).at[order].set(jnp.arange(len(p)))
    cuts = jnp.arange(len(p) + 1)
    # Free is the point at the cut, or the first or the last that is there.
    present = jnp.asarray((p > 0) | (q > 0))[order]
    lowest, highest = jnp.argmax(present), len(p) - 1 - jnp.argmax(present[::-1])
    free = jnp.concatenate([jnp.minimum(cuts, len(p) - 1), jnp.full_like(cuts, lowest), jnp.full_like(cuts, highest)])
    scores = jax.vmap(lambda cut, free: candidate(rank >= cut, order[free]))(jnp.tile(cuts, 3), free)
    losses = jax.vmap(loss)(scores)
    losses = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
    losses = jnp.where((p + q)[order[free]] > 0, losses, jnp.inf)
    best = jnp.argmin(losses)
    return scores[best], losses[best]


# Arithmetic


def _extremes(p: Array, q: Array) -> tuple[Array, Array]:
    """Where p/q is largest and where it is smallest, of the points that are there."""
    ratios, present = log_ratio(p, q), (p > 0) | (q > 0)
    return jnp.argmax(jnp.where(present, ratios, -jnp.inf)), jnp.argmin(jnp.where(present, ratios, jnp.inf))


def _bisected(below: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Where a condition that holds first ceases to hold between two numbers."""

    def halved(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = (ends[0] + ends[1]) / 2
        keep = below(middle)
        return jnp.where(keep, middle, ends[0]), jnp.where(keep, ends[1], middle)

    low, high = jax.lax.fori_loop(0, HALVINGS, halved, (jnp.asarray(low), jnp.asarray(high)))
    return (low + high) / 2


def _paid(mass: Array, value: Array) -> Array:
    """What has no mass counts nothing, also where the value is infinite."""
    return jnp.where(mass == 0, 0, mass * value)


def _balanced(values: Array, mass: Array, top: Array, bottom: Array) -> Array:
    """Values of which one is moved until their sum is 0: one of the two, so that the largest grows, or the smallest."""
    moved = jnp.where(jnp.sum(_paid(mass, values)) > 0, bottom, top)
    rest = jnp.sum(_paid(mass, jnp.where(jnp.arange(len(mass)) == moved, 0, values)))
    return values.at[moved].set(jnp.where(mass[moved] > 0, -rest / jnp.where(mass[moved] > 0, mass[moved], 1), 0))


def _solved(rows: Array, first: Array, second: Array) -> tuple[Array, Array]:
    """Two equations in two unknowns; infinite or NaN where they say nothing."""
    (a, b), (c, d) = rows
    determinant = a * d - b * c
    return (first * d - b * second) / determinant, (a * second - c * first) / determinant
