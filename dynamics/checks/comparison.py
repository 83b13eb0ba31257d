"""Whether a method is the one that it claims to be: both run from the same starts of random games, step by step."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from dynamics._compiling import quick_jit
from dynamics.checks.measures import path
from dynamics.checks.of_updates import OfUpdate
from dynamics.checks.results import Answer, in_double_precision
from dynamics.game import Game, Losses, Players
from dynamics.optimisers import sgd
from dynamics.updates import Update

STEPS = 12
RATES = (0.25, 0.05)
GAMES = 8  # of each kind
ALLOWED = 1e-8  # difference of two runs of one method by rounding, relative to the size of the points
KINDS = ("bilinear", "quadratic", "smooth")


class _Random(Game):
    r"""$L_i=z^\top S_iz/2+b_i\cdot z+a\sum_k\cos(W_iz)_k$ with all numbers z of both players, of 3 and 2 numbers."""

    quadratic: Array  # (2, 5, 5)
    linear: Array  # (2, 5)
    waves: Array  # (2, 4, 5)
    height: Array

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        z = jnp.concatenate(players)
        return tuple(
            z @ (self.quadratic[i] @ z) / 2 + self.linear[i] @ z + self.height * jnp.sum(jnp.cos(self.waves[i] @ z))
            for i in (0, 1)
        )

    def equilibria(self) -> tuple[Players, ...]:
        return ()

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        kind, game, start = next(_drawn())
        return cls(*map(jnp.asarray, game)), (jnp.asarray(start[:3]), jnp.asarray(start[3:]))


def _drawn():
    """Kind, arrays and start of random games, always the same ones."""
    rng = np.random.default_rng(0)
    across = np.zeros((5, 5), bool)
    across[:3, 3:] = across[3:, :3] = True
    for kind in KINDS:
        for _ in range(GAMES):
            quadratic = rng.normal(size=(2, 5, 5))
            quadratic = (quadratic + quadratic.transpose(0, 2, 1)) / 2
            if kind == "bilinear":
                quadratic[0] *= across
                quadratic[1] = -quadratic[0]
            linear = rng.normal(size=(2, 5)) * (kind != "bilinear")
            game = quadratic, linear, rng.normal(size=(2, 4, 5)), np.asarray(float(kind == "smooth"))
            yield kind, game, rng.normal(size=5)


def made_of(like: Any) -> tuple[str, Callable[[Any], Update] | Update]:
    """The name of what `like` stands for, and a function of the rate, or an update.

    Raises:
        TypeError: it is no update, no class of updates that a rate alone makes, and no function that returns one.
    """
    if isinstance(like, Update):
        return type(like).__name__, like
    if not (inspect.isclass(like) and issubclass(like, Update)):
        if not callable(like):
            raise TypeError(
                f"like is {like!r}; expected a class of dynamics.updates, an update, or a function of the rate"
            )
        return getattr(like, "__name__", "the other method").replace("<lambda>", "the other method"), like
    parameters = inspect.signature(like).parameters
    needed = {
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    if "optimisers" in parameters and needed <= {"extrapolation"}:
        return like.__name__, lambda rate: like(sgd(rate), sgd(rate), **dict.fromkeys(needed, rate))
    if "rates" in parameters and not needed - {"rates"}:
        return like.__name__, lambda rate: like(rates=rate)
    raise TypeError(
        f"like is {like.__name__}, which needs more than a rate; pass a function of the rate instead, e.g. "
        f"lambda rate: dynamics.updates.{like.__name__}(...)"
    )


@dataclasses.dataclass
class Comparison:
    """A question of `check_update`: the answer for the method that is claimed."""

    like: Any

    def __post_init__(self):
        self.name, self.other = made_of(self.like)

    @in_double_precision
    def check_kinds(self, subject: OfUpdate) -> None:
        """Raise `TypeError` where `like` makes no update, or one of the two has its rates inside and the other not."""
        self.subject = OfUpdate(self.other)
        inside = isinstance(self.other, Update)
        if inside != (subject.instance is not None):
            held, asking = ("like", "the method") if inside else ("the method", "like")
            raise TypeError(
                f"{held} is an update, with its rates inside, and {asking} is made from a rate: nobody knows which. "
                "Pass two updates, or two functions of the rate"
            )

    def __call__(self, subject: OfUpdate) -> Answer:
        kinds, games, starts = zip(*_drawn(), strict=True)
        games = [jnp.asarray(np.stack(part)) for part in zip(*games, strict=True)]
        starts = np.stack(starts)
        runs = [_runs(make)(games, starts) for make in (subject.make, self.subject.make)]
        return self._answer(subject.name, kinds, starts, *(np.asarray(run) for run in runs))

    def _answer(self, name: str, kinds, starts, mine: np.ndarray, other: np.ndarray) -> Answer:
        """Of runs of shape (rates, games, 1 + steps, numbers)."""
        with np.errstate(all="ignore"):
            apart = np.abs(mine - other)
            size = 1 + np.max(np.abs(other), axis=-1, keepdims=True)
            # Where both blow up there is nothing to compare any more.
            gone = ~np.isfinite(other) & ~np.isfinite(mine) | (size > 1e6)
            relative = np.where(gone, 0.0, np.where(np.isfinite(apart), apart / size, np.inf))
        differs = np.any(relative > ALLOWED, axis=-1)
        value = {"equal": not bool(differs.any()), "largest": float(relative.max()), "first step": None}
        largest = f"{relative.max():.1g}"
        number = int(differs.any((0, 2)).sum())
        count = f"{len(kinds)} random games ({', '.join(dict.fromkeys(kinds))}), rates {', '.join(map(str, RATES))}"
        if value["equal"]:
            text = f"the same as {self.name} for {STEPS} steps of {count}: largest relative difference {largest}"
            return "pass", value, text
        step = int(np.flatnonzero(differs.any((0, 1)))[0])
        value["first step"] = step
        value["kinds"] = [kind for kind in KINDS if any(differs[:, i].any() for i, k in enumerate(kinds) if k == kind)]
        rate, game = (int(i) for i in np.argwhere(differs[:, :, step])[0])
        shown = [np.array2string(run[rate, game, step], precision=6) for run in (mine, other)]
        lengths = [np.linalg.norm(run[rate, game, step] - run[rate, game, step - 1]) for run in (mine, other)]
        text = (
            f"not {self.name}: of {count}, {number} games differ ({', '.join(value['kinds'])}), "
            f"first after step {step}. On the {kinds[game]} game {game}, rate {RATES[rate]}, from "
            f"{np.array2string(starts[game], precision=6)} the players are then at {shown[0]}, those of {self.name} at "
            f"{shown[1]}: a step of length {lengths[0]:.6g} instead of {lengths[1]:.6g}"
        )
        return "fail", value, text


def _runs(make: Callable[[Any], Update]) -> Callable:
    def run(rate, game, start):
        players = path(_Random(*game), make(rate), (start[:3], start[3:]), steps=STEPS)
        return jnp.concatenate(players, axis=-1)

    program = quick_jit(jax.vmap(jax.vmap(run, (None, 0, 0)), (0, None, None)))
    return functools.partial(program, np.asarray(RATES))
