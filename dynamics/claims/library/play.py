"""Fictitious play: where the mixtures of past plays converge, how fast, and where they go round for ever."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from dynamics.checks.measures import agree, below, every, path
from dynamics.claims.base import claim
from dynamics.games import MatrixGame
from dynamics.strategies import arrays, numbers, several
from dynamics.updates import FictitiousPlay

PLAYS = 1000
ZERO_SUM = arrays((2, 2), (2, 3)).map(lambda matrix: np.stack([matrix, -matrix]))
PENNIES = np.array([[1.0, -1.0], [-1.0, 1.0]])
PURE = st.sampled_from(list(np.eye(3)))


def shapley(shift):
    """Shapley's payoffs, and relatives of them: one player wants to match, the other one to be one ahead."""
    ahead = np.roll(np.eye(3), 1, axis=1)
    return np.stack([np.eye(3) + shift * np.roll(np.eye(3), 2, axis=1), ahead - shift * np.eye(3)])


SHAPLEY = numbers(0, 0.25).map(shapley)


def gaps(payoffs, plays=PLAYS, first=None, second=None):
    """The duality gap after 1, 2, ..., so many plays; each player starts with its first action unless told."""
    game, (_, rows, columns) = MatrixGame(payoffs[0], payoffs[1]), jnp.shape(payoffs)
    start = (jnp.eye(rows)[0] if first is None else first, jnp.eye(columns)[0] if second is None else second)
    mixtures = path(game, FictitiousPlay(), start, plays - 1)
    return jax.vmap(lambda x, y: game.duality_gap((x, y)))(*mixtures)


def span(payoffs):
    """The difference of the largest and the smallest payoff, of the player for whom it is larger."""
    return jnp.max(jnp.max(payoffs, axis=(1, 2)) - jnp.min(payoffs, axis=(1, 2)))


def like_root(payoffs, factor):
    """Margin of "the gap after t plays is at most so many spans over the root of t"."""
    computed = gaps(payoffs)
    return below(computed, factor * span(payoffs) / jnp.sqrt(1 + jnp.arange(len(computed))))


@claim(
    "play/zero-sum",
    r"In a zero-sum game with m and n actions the duality gap after t plays is at most "
    r"$2^{m+n}\max|A|\,t^{-1/(m+n-2)}$.",
    source="Robinson, An Iterative Method of Solving a Game, 1951; the rate by Shapiro, Note on a Computation Method "
    "in the Theory of Games, 1958 (not read; the constant is of others' accounts)",
    kind="theorem",
    domain=dict(payoffs=ZERO_SUM),
    because="Either a game with one action less has been solved on the way, or every action has been a best answer.",
)
def zero_sum(payoffs):
    computed, size = gaps(payoffs), sum(payoffs.shape[1:])
    decay = (1.0 + jnp.arange(len(computed))) ** (-1 / (size - 2))
    return below(computed, 2.0**size * jnp.max(jnp.abs(payoffs)) * decay)


@claim(
    "play/root-of-time",
    r"The duality gap of fictitious play falls like $1/\sqrt t$, with lowest numbers first on ties: after t plays it "
    r"is at most $2(\max A - \min A)/\sqrt t$.",
    source="Karlin, Mathematical Methods and Theory in Games, 1959, without a constant; refuted for ties broken by an "
    "adversary by Daskalakis and Pan, A Counter-Example to Karlin's Strong Conjecture for Fictitious Play, 2014",
    kind="conjecture",
    hypotheses="zero-sum",
    domain=dict(payoffs=ZERO_SUM),
    because="No counterexample of this size is known; the largest factor seen is 1.5, after a few plays.",
)
def root_of_time(payoffs):
    return like_root(payoffs, 2)


root_of_time.without(
    "general-sum",
    "zero-sum",
    because="In Shapley's game the mixtures go round a triangle and the gap stays above a quarter.",
    payoffs=SHAPLEY,
)


@claim(
    "play/matching-pennies",
    r"In matching pennies for the stake c, begun with heads against heads, the gap is $14c/99$ after 99 plays, and at "
    r"most $\frac4{\sqrt3}c/\sqrt t$ after any number t, with equality after 3.",
    source="computed; a case of Karlin 1959",
    kind="closed form",
    domain=dict(stake=numbers(0.25, 4)),
    because="The plays come in runs that get longer by the same two plays, so that their number grows like a root.",
)
def matching_pennies(stake):
    computed = gaps(stake * np.stack([PENNIES, -PENNIES]))
    bound = 4 / 3**0.5 * stake / jnp.sqrt(1 + jnp.arange(len(computed)))
    return every(agree(computed[98], 14 / 99 * stake), agree(computed[2], 4 / 3 * stake), below(computed, bound))


@claim(
    "play/shapley",
    "In Shapley's game fictitious play that begins with pure actions does not converge: the players could always gain, "
    "together more than a quarter of the smaller stake.",
    source="Shapley, Some Topics in Two-Person Games, 1964; the quarter was computed",
    kind="theorem",
    hypotheses="the first mixtures are pure",
    domain=dict(stakes=several(numbers(0.25, 4), 2).map(np.asarray), first=PURE, second=PURE),
    because="Each pair of actions is played longer than the one before by a constant factor.",
)
def shapley_cycles(stakes, first, second):
    computed = gaps(stakes[:, None, None] * shapley(0.0), 2000, first, second)
    return jnp.min(computed[200:]) - jnp.min(stakes) / 4


shapley_cycles.without(
    "mixed-start",
    "the first mixtures are pure",
    because="From some mixtures the players go round in step, three plays a turn, and the mixtures become uniform.",
    first=several(numbers(0.25, 1), 3).map(lambda weights: np.asarray(weights) / sum(weights)),
    second=several(numbers(0.25, 1), 3).map(lambda weights: np.asarray(weights) / sum(weights)),
)


@claim(
    "play/converges",
    "Fictitious play converges in every game of two players: the gap of the mixtures vanishes, here to below a "
    "twentieth.",
    source="asked by Brown, Iterative Solution of Games by Fictitious Play, 1951; refuted by Shapley 1964",
    kind="refuted",
    domain=dict(shift=numbers(0, 1)),
    because="Where the players' interests are neither opposite nor common, best answers can chase each other.",
)
def converges(shift):
    ahead = jnp.roll(jnp.eye(3), 1, axis=1)
    payoffs = jnp.stack([jnp.eye(3) + shift * ahead.T, ahead - shift * jnp.eye(3)])
    return 0.05 - gaps(payoffs, 2000)[-1]


@claim(
    "play/two-by-two",
    "With two actions each fictitious play converges whatever the payoffs, with lowest numbers first on ties: after t "
    r"plays the gap is at most twice the larger span over $\sqrt t$.",
    source="Miyasawa, On the Convergence of the Learning Process in a 2 x 2 Non-Zero-Sum Two-Person Game, 1961; the "
    "rate was observed",
    kind="conjecture",
    domain=dict(payoffs=arrays((2, 2, 2))),
    because="Up to constants that change nothing a 2 x 2 game is zero-sum, of common interest or dominated.",
)
def two_by_two(payoffs):
    return like_root(payoffs, 2)


@claim(
    "play/common-interest",
    r"With common payoffs fictitious play converges: after t plays the gap is at most twice the span over $\sqrt t$.",
    source="Monderer and Shapley, Fictitious Play Property for Games with Identical Interests, 1996; the rate was "
    "observed",
    kind="conjecture",
    domain=dict(payoffs=arrays((2, 2), (2, 3)).map(lambda matrix: np.stack([matrix, matrix]))),
    because="Best answers increase the payoff of the mixtures, up to terms that can be summed.",
)
def common_interest(payoffs):
    return like_root(payoffs, 2)
