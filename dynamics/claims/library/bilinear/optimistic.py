"""Bilinear games: optimistic descent and extrapolation from the past."""

import jax.numpy as jnp
from hypothesis import strategies as st

from dynamics.checks.measures import agree, below, epsilon, every, path, radius
from dynamics.claims.base import claim
from dynamics.claims.library.bilinear.common import GIDEL, RATES, SQUARE, ZHANG_YU, decides, largest
from dynamics.games import Bilinear
from dynamics.optimisers import optimistic, sgd
from dynamics.strategies import arrays, numbers
from dynamics.updates import Alternating, PastExtrapolation, Simultaneous


@claim(
    "bilinear/optimistic-radius",
    r"Optimistic gradient descent has, per $s = \sqrt{h_1 h_2}\,\sigma$, the radius "
    r"$\sqrt{(1 + \sqrt{1 - 4s^2})/2}$ for $s \le 1/2$ and $\sqrt{1/4 + (s + \sqrt{4s^2 - 1}/2)^2}$ above.",
    source="Daskalakis et al., Training GANs with Optimism, 2018; eigenvalues by hand",
    kind="closed form",
    domain=dict(matrix=SQUARE, **RATES),
    because="The eigenvalues are the roots of w^2 - (1 - 2 i s) w - i s and their conjugates.",
)
def optimistic_radius(matrix, first, second):
    s = jnp.sqrt(first * second) * jnp.linalg.svd(matrix, compute_uv=False)
    inside, outside = jnp.sqrt(jnp.maximum(1 - 4 * s**2, 0)), jnp.sqrt(jnp.maximum(4 * s**2 - 1, 0))
    expected = jnp.where(s <= 0.5, jnp.sqrt((1 + inside) / 2), jnp.sqrt(0.25 + (s + outside / 2) ** 2))
    computed = radius(Bilinear(matrix), Simultaneous(optimistic(first), optimistic(second)))
    return agree(computed, jnp.max(expected), 10 * epsilon() ** 0.5)


@claim(
    "bilinear/optimistic",
    r"Optimistic gradient descent converges on a bilinear game of full rank if and only if "
    r"$\sqrt{h_1 h_2}\,\sigma_{max} < 1/\sqrt3$.",
    source="Daskalakis et al., Training GANs with Optimism, 2018; the threshold by hand",
    kind="theorem",
    hypotheses="the last change of the direction counts as much as the direction",
    domain=dict(matrix=SQUARE, **RATES, strength=st.just(1.0)),
    because="At s = 1/sqrt(3) the larger root of w^2 - (1 - 2 i s) w - i s has modulus 1.",
)
def optimistic_converges(matrix, first, second, strength):
    update = Simultaneous(*(optimistic(rate, strength=strength * rate) for rate in (first, second)))
    computed = radius(Bilinear(matrix), update)
    return decides(1 / jnp.sqrt(3.0) - jnp.sqrt(first * second) * largest(matrix), computed)


optimistic_converges.without(
    "other-strength",
    "the last change of the direction counts as much as the direction",
    because="With half the strength or less small steps diverge; with more the largest stable step is another one.",
    strength=numbers(0.25, 4),
)


@claim(
    "bilinear/optimistic-best",
    r"Optimistic gradient descent contracts by $1/\sqrt2$ at best, at $\sqrt{h_1 h_2}\,\sigma = 1/2$.",
    source="by hand",
    kind="closed form",
    domain=dict(coupling=numbers(0.25, 4), **RATES),
    because="Both roots have the modulus 1/sqrt(2) where they meet; on either side one of them is larger.",
)
def optimistic_best(coupling, first, second):
    def computed(first, second):
        return radius(Bilinear(coupling), Simultaneous(optimistic(first), optimistic(second)))

    best, rounding = 1 / jnp.sqrt(2.0), 10 * epsilon() ** 0.5
    at_best = computed(first, 1 / (4 * coupling**2 * first))
    return every(below(best, computed(first, second), rounding), agree(at_best, best, rounding))


@claim(
    "bilinear/optimistic-up-to-one",
    r"Optimistic mirror descent converges on $\ell_1 = w_1 w_2$, $\ell_2 = -w_1 w_2$ for rates from 0.3 up to 1.2.",
    source="Letcher et al., Differentiable Game Mechanics, JMLR 2019, section 4.2, as its figure reads",
    kind="refuted",
    domain=dict(rate=numbers(0.3, 1.2)),
    because="With singular value 1 it diverges above 1/sqrt(3) = 0.577; the range of the figure is that of 1/2.",
)
def optimistic_up_to_one(rate):
    return 1 - radius(Bilinear(1.0), Simultaneous(optimistic(rate), optimistic(rate)))


@claim(
    "bilinear/optimistic-up-to-one-at-half",
    r"Optimistic mirror descent converges on $\ell_1 = w_1 w_2/2$, $\ell_2 = -w_1 w_2/2$ for rates from 0.3 up to "
    r"1.15, best at 1.",
    source="by hand",
    kind="theorem",
    domain=dict(rate=numbers(0.3, 1.15)),
    because="The threshold is 2/sqrt(3) = 1.1547, the best rate 1.",
)
def optimistic_up_to_one_at_half(rate):
    def computed(rate):
        return radius(Bilinear(0.5), Simultaneous(optimistic(rate), optimistic(rate)))

    return every(1 - computed(rate), below(computed(1.0), computed(rate), 10 * epsilon() ** 0.5))


@claim(
    "bilinear/extrapolation-from-the-past",
    r"The look-ahead points of extrapolation from the past are the iterates of optimistic gradient descent, on any "
    r"bilinear game from any start: $w_t = 2x_t - x_{t-1}$ follows $w_{t+1} = w_t + 2h\,d(w_t) - h\,d(w_{t-1})$.",
    source=f"{GIDEL}, section 3.3; Popov 1980",
    kind="theorem",
    hypotheses="the look-ahead is as long as the step; the missing direction of the first step is 0 in both",
    domain=dict(
        matrix=arrays((2, 3), size=2.0),
        **RATES,
        x=arrays((2,)),
        y=arrays((3,)),
        look_ahead=st.just(1.0),
        start=st.just("zero"),
    ),
    because="The step from x_t to x_(t+1) is h d(w_t), which is also the next look-ahead.",
)
def extrapolation_from_the_past(matrix, first, second, x, y, look_ahead, start):
    game, ahead = Bilinear(matrix), (look_ahead * first, look_ahead * second)
    past = path(game, PastExtrapolation(sgd(first), sgd(second), extrapolation=ahead), (x, y), 10)
    other = path(game, Simultaneous(optimistic(first, start), optimistic(second, start)), (x, y), 10)
    return every(*(agree(2 * a[1:] - a[:-1], b[1:]) for a, b in zip(past, other)))


extrapolation_from_the_past.without(
    "other-look-ahead",
    "the look-ahead is as long as the step",
    because="With another look-ahead 2 x_t - x_(t-1) is not the point where the direction is taken.",
    look_ahead=numbers(0.25, 4),
)
extrapolation_from_the_past.without(
    "other-first-step",
    "the missing direction of the first step is 0 in both",
    because="Optimism that starts with a plain step has a first step of half the length.",
    start=st.just("current"),
)


@claim(
    "bilinear/optimistic-first-step",
    r"Optimistic gradient descent in the published form $-2h\,g_t + h\,g_{t-1}$ with $g_{-1} = 0$ starts with a step "
    r"of twice the length of a gradient step.",
    source="Berard et al., A Closer Look at the Optimization Landscapes of GANs, 2020, authors' code",
    kind="closed form",
    domain=dict(matrix=arrays((2, 3), size=2.0), **RATES, x=arrays((2,)), y=arrays((3,))),
    because="The missing previous gradient is 0 and takes nothing off.",
)
def optimistic_first_step(matrix, first, second, x, y):
    game, start = Bilinear(matrix), (x, y)
    plain = path(game, Simultaneous(sgd(first), sgd(second)), start, 1)
    other = path(game, Simultaneous(optimistic(first, "zero"), optimistic(second, "zero")), start, 1)
    return every(*(agree(b[1] - b[0], 2 * (a[1] - a[0])) for a, b in zip(plain, other)))


@claim(
    "bilinear/optimistic-in-turns",
    r"Optimistic gradient descent in turns (Gauss-Seidel) converges on a bilinear game of full rank if and only if "
    r"$\sqrt{h_1 h_2}\,\sigma_{max} < 2/3$.",
    source=f"{ZHANG_YU}; the threshold by hand",
    kind="theorem",
    domain=dict(matrix=SQUARE, **RATES),
    because="The cubic w (w - 1)^2 + s^2 (2 w - 1)^2 has the root -1 at s = 2/3, and it is the first one to leave.",
)
def optimistic_in_turns(matrix, first, second):
    computed = radius(Bilinear(matrix), Alternating(optimistic(first), optimistic(second)))
    return decides(2 / 3 - jnp.sqrt(first * second) * largest(matrix), computed)
