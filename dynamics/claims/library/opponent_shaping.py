"""LookAhead, LOLA and SOS: their printed formulas, and which of them keep the equilibria of the game."""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics.checks.measures import agree, below, end, every, jacobian, norm, radius, same_sign
from dynamics.claims.base import claim
from dynamics.claims.library.adjustment import FORMS, POINT, SIZES, cubic_game, cubic_loss, flat, players_of
from dynamics.directions import LOLA, SOS, PolicyPrediction
from dynamics.flows import Flow
from dynamics.games import Bilinear, Quadratic, Tandem
from dynamics.optimisers import sgd
from dynamics.strategies import numbers, several, signed
from dynamics.updates import Simultaneous

FOERSTER = "Foerster et al., Learning with Opponent-Learning Awareness, 2018"
LETCHER = "Letcher et al., Stable Opponent Shaping in Differentiable Games, 2019"
WEIGHT = numbers(0, 2)
OWN = (np.array([1.0, 1, 0]), np.array([0.0, 0, 1]))  # which numbers are whose


def printed(forms, point, weight):
    r"""$\xi$, LookAhead's and LOLA's gradients and $-\alpha\chi$, all differentiated as printed."""

    def gradient(loss, player, z):
        return OWN[player] * jax.grad(lambda moved: cubic_loss(forms[loss], moved))(z)

    def look(player, z, stopped):
        other = 1 - player
        step = gradient(other, other, z)
        step = jax.lax.stop_gradient(step) if stopped else step
        return cubic_loss(forms[player], z) - weight * gradient(player, other, z) @ step

    def shape(player, z):
        other = 1 - player
        return jax.lax.stop_gradient(gradient(player, other, z)) @ gradient(other, other, z)

    def everybody(function):
        return sum(OWN[player] * jax.grad(function, 1)(player, point) for player in (0, 1))

    xi = sum(gradient(player, player, point) for player in (0, 1))
    looking = everybody(lambda player, z: look(player, z, True))
    lola = everybody(lambda player, z: look(player, z, False))
    return xi, looking, lola, -weight * everybody(shape)


def _scale(*vectors):
    return 1 + sum(jnp.max(jnp.abs(vector)) for vector in vectors)


@claim(
    "opponent-shaping/look-ahead",
    r"LookAhead descends $L_i - \alpha\sum_{j\ne i}\langle\nabla_jL_i, \mathrm{stop}(\nabla_jL_j)\rangle$: the others' "
    r"steps are foreseen, and taken for given.",
    source=f"{LETCHER}, section 3; Zhang and Lesser 2010",
    kind="closed form",
    domain=dict(forms=FORMS, point=POINT, weight=WEIGHT),
    because="The definition, by derivatives of the printed formula.",
)
def look_ahead(forms, point, weight):
    _, looking, _, shaping = printed(forms, point, weight)
    computed = flat(PolicyPrediction(weight)(cubic_game(forms), players_of(point)))
    return agree(computed, -looking, scale=_scale(looking, shaping))


@claim(
    "opponent-shaping/lola",
    r"LOLA descends $L_i - \alpha\sum_{j\ne i}\langle\nabla_jL_i, \nabla_jL_j\rangle$, LookAhead without the stop: "
    r"it is LookAhead plus $\alpha\chi_i$, $\chi_i = \nabla_i\sum_{j\ne i}\langle\mathrm{stop}(\nabla_jL_i), "
    r"\nabla_jL_j\rangle$.",
    source=f"{FOERSTER}, first-order form; {LETCHER}, section 3",
    kind="closed form",
    domain=dict(forms=FORMS, point=POINT, weight=WEIGHT),
    because="The product rule: one factor of each product at a time.",
)
def lola(forms, point, weight):
    _, looking, whole, shaping = printed(forms, point, weight)
    scale = _scale(looking, whole, shaping)
    computed = flat(LOLA(weight)(cubic_game(forms), players_of(point)))
    return every(agree(computed, -whole, scale=scale), agree(computed, -(looking + shaping), scale=scale))


@claim(
    "opponent-shaping/sos",
    r"SOS moves along $-(\xi_0 - p\alpha\chi)$, $\xi_0$ LookAhead's gradient, $p = \min(p_1, p_2)$: $p_1 = 1$ if "
    r"$\langle-\alpha\chi, \xi_0\rangle\ge0$, else $\min(1, -a\|\xi_0\|^2/\langle-\alpha\chi, \xi_0\rangle)$; $p_2 = "
    r"\|\xi\|^2$ if $\|\xi\| < b$, else 1.",
    source=f"{LETCHER}, algorithm 1 with the authors' code",
    kind="closed form",
    domain=dict(forms=FORMS, point=POINT, weight=WEIGHT, a=numbers(0.125, 0.875), b=numbers(0.125, 0.96875)),
    because="The definition, by derivatives of the printed formulas.",
)
def sos(forms, point, weight, a, b):
    xi, looking, _, shaping = printed(forms, point, weight)
    product, size = shaping @ looking, jnp.linalg.norm(xi)
    first = jnp.where(product >= 0, 1, jnp.minimum(1, -a * looking @ looking / jnp.where(product >= 0, -1, product)))
    expected = -(looking + jnp.minimum(first, jnp.where(size < b, size**2, 1)) * shaping)
    computed = flat(SOS(weight, a, b)(cubic_game(forms), players_of(point)))
    return agree(computed, expected, scale=_scale(looking, shaping))


@claim(
    "opponent-shaping/alignment",
    r"SOS never turns against LookAhead: $\langle\xi_p, \xi_0\rangle \ge (1-a)\|\xi_0\|^2$.",
    source=f"{LETCHER}, on the choice of p_1",
    kind="theorem",
    hypotheses="the shaping is scaled by p_1",
    domain=dict(forms=FORMS, point=POINT, weight=WEIGHT, a=numbers(0.125, 0.875)),
    because="p_1 bounds what the shaping term may take away.",
)
def alignment(forms, point, weight, a):
    return _alignment(SOS(weight, a), forms, point, weight, a)


def _alignment(direction, forms, point, weight, a):
    game, players = cubic_game(forms), players_of(point)
    looking = -flat(PolicyPrediction(weight)(game, players))
    square = looking @ looking
    computed = -flat(direction(game, players)) @ looking
    shaping = printed(forms, point, weight)[3]
    return below((1 - a) * square / (1 + square), computed / (1 + square), 1e-12 * _scale(shaping))


alignment.without(
    "lola",
    "the shaping is scaled by p_1",
    because="LOLA takes the whole shaping term, which may point the other way: it pushes on where LookAhead gives in.",
    check=lambda forms, point, weight, a: _alignment(LOLA(weight), forms, point, weight, a),
)


@claim(
    "opponent-shaping/tandem-lola",
    r"In the tandem game LOLA with $\alpha < 1/4$ ends on $x + y = (1-2\alpha)/(1-4\alpha)$, which for $\alpha > 0$ is "
    r"no equilibrium: there the gradients are $4\alpha/(1-4\alpha)$, and the losses add up to "
    r"$4\alpha(1-2\alpha)/(1-4\alpha)^2$.",
    source=f"{LETCHER}, section 2.2 with the authors' code; alpha = 0.1: 4/3 and 8/9",
    kind="closed form",
    domain=dict(weight=numbers(0, 0.1875), x=numbers(-4, 4), y=numbers(-4, 4)),
    because="Each rider foresees that the other will give way, and pushes on.",
)
def tandem_lola(weight, x, y):
    game = Tandem()
    final = end(game, Simultaneous(sgd(0.1), sgd(0.1), direction=LOLA(weight)), (x, y), 400)
    total = sum(final)
    rest = (1 - 2 * weight) / (1 - 4 * weight)
    gradients = -jnp.stack(game.field(final))
    return every(
        agree(total, rest, 1e-10),
        agree(gradients, jnp.full(2, 4 * weight / (1 - 4 * weight)), 1e-10),
        agree(sum(game.losses(final)), 4 * weight * (1 - 2 * weight) / (1 - 4 * weight) ** 2, 1e-9),
    )


@claim(
    "opponent-shaping/tandem-sos",
    "In the tandem game SOS and LookAhead end on the line x + y = 1 of equilibria, from everywhere.",
    source=f"{LETCHER}, section 5 with the authors' code",
    kind="theorem",
    hypotheses="the shaping term vanishes at equilibria",
    domain=dict(weight=numbers(0, 0.1875), x=numbers(-4, 4), y=numbers(-4, 4)),
    because="p_2 turns the shaping term off where the gradients are small, and p_1 lets nothing rest elsewhere.",
)
def tandem_sos(weight, x, y):
    return every(*(_distance_to_equilibria(direction(weight), x, y) for direction in (SOS, PolicyPrediction)))


def _distance_to_equilibria(direction, x, y):
    final = end(Tandem(), Simultaneous(sgd(0.1), sgd(0.1), direction=direction), (x, y), 400)
    return agree(sum(final), 1, 1e-10)


tandem_sos.without(
    "lola",
    "the shaping term vanishes at equilibria",
    because="LOLA ends on the line x + y = (1 - 2 alpha)/(1 - 4 alpha), where both pay more.",
    check=lambda weight, x, y: _distance_to_equilibria(LOLA(weight), x, y),
)


SYMMETRIC = several(numbers(-2, 2), 6).map(
    lambda values: np.take(np.asarray(values), [[0, 3, 4], [3, 1, 5], [4, 5, 2]])
)
GENERAL = dict(first=SYMMETRIC, second=SYMMETRIC, point=POINT, weight=numbers(0.0625, 1))


def _with_equilibrium(first, second, point):
    """Two players with whole quadratic losses and an equilibrium at the point, where the others' losses have slopes."""
    offsets = [-(OWN[0] * (first @ point)), -(OWN[1] * (second @ point))]
    return Quadratic([first, second], offsets, shapes=[(size,) for size in SIZES]), players_of(point)


@claim(
    "opponent-shaping/sos-keeps-equilibria",
    r"Every equilibrium of the game is a point of rest of SOS, and to first order SOS is LookAhead there, with the "
    r"Jacobian $-(I - \alpha H_o)H$, $H_o$ the game's Hessian H without its diagonal blocks.",
    source=f"{LETCHER}, theorem on the local convergence of SOS",
    kind="theorem",
    hypotheses="p_2 turns the shaping off",
    domain=GENERAL,
    because="The shaping term is multiplied by the squared gradients.",
)
def sos_keeps_equilibria(first, second, point, weight):
    game, players = _with_equilibrium(first, second, point)
    hessian = OWN[0][:, None] * first + OWN[1][:, None] * second
    others = hessian * (1 - np.outer(OWN[0], OWN[0]) - np.outer(OWN[1], OWN[1]))
    expected = -(jnp.eye(3) - weight * others) @ hessian
    moves = flat(SOS(weight)(game, players))
    jacobians = [jacobian(game, Flow(direction), players) for direction in (SOS(weight), PolicyPrediction(weight))]
    scale = 1 + jnp.max(jnp.abs(expected))
    return every(agree(moves, jnp.zeros(3)), *(agree(computed, expected, scale=scale) for computed in jacobians))


def _lola_moves(first, second, point, weight):
    game, players = _with_equilibrium(first, second, point)
    return agree(flat(LOLA(weight)(game, players)), jnp.zeros(3))


sos_keeps_equilibria.without(
    "lola",
    "p_2 turns the shaping off",
    because="At an equilibrium the others' parameters still matter to everybody's loss: LOLA goes on shaping them.",
    check=_lola_moves,
)


@claim(
    "opponent-shaping/lola-finds-equilibria",
    "Where LOLA converges it has found an equilibrium of the game.",
    source=f"often taken for granted; refuted in {LETCHER}",
    kind="folklore",
    holds=False,
    domain=dict(weight=numbers(0, 0.1875), x=numbers(-4, 4), y=numbers(-4, 4)),
    because="In the tandem game it rests where nobody's gradient vanishes.",
)
def lola_finds_equilibria(weight, x, y):
    game = Tandem()
    final = end(game, Simultaneous(sgd(0.1), sgd(0.1), direction=LOLA(weight)), (x, y), 400)
    return agree(norm(game.field(final)), 0, 1e-9)


@claim(
    "opponent-shaping/bilinear",
    r"On $f = x^\top By$ steps h along LookAhead and SOS have the eigenvalues $1 - h\alpha\sigma^2\pm ih\sigma$, along "
    r"LOLA $1 - 2h\alpha\sigma^2\pm ih\sigma$: unlike the gradient they converge, if $h(1+c^2\sigma^2) < 2c$ for every "
    r"$\sigma$, $c = \alpha$ or $2\alpha$.",
    source=f"{LETCHER}; eigenvalues by hand",
    kind="closed form",
    domain=dict(
        first=signed(0.25, 2), second=numbers(0.25, 2), turn=numbers(-2, 2), weight=WEIGHT, rate=numbers(0.0625, 1)
    ),
    because="The look-ahead adds -alpha B B' x, and shaping as much again.",
)
def bilinear(first, second, turn, weight, rate):
    values = jnp.stack([jnp.abs(first), second])
    rotation = jnp.array([[1, turn], [-turn, 1]]) / jnp.sqrt(1 + turn**2)
    game = Bilinear(jnp.diag(jnp.stack([first, second])) @ rotation)
    margins = []
    for direction, strength in ((PolicyPrediction(weight), weight), (SOS(weight), weight), (LOLA(weight), 2 * weight)):
        computed = radius(game, Simultaneous(sgd(rate), sgd(rate), direction=direction))
        squares = (1 - rate * strength * values**2) ** 2 + (rate * values) ** 2
        slack = jnp.min(2 * strength - rate * (1 + strength**2 * values**2))
        margins += [agree(computed**2, jnp.max(squares), 1e-7), same_sign(slack, 1 - computed)]
    return every(*margins)
