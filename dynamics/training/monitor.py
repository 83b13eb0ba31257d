"""A look at a training while it goes on: spectrum of the step, gradients, and what a change of the rates would do."""

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from dynamics import _trees
from dynamics._checks import as_whole, described
from dynamics._plain import plain_fields
from dynamics._printing import Described
from dynamics._text import complex_text
from dynamics.analysis.stability.leading import Leading, LeadingStability
from dynamics.analysis.stability.verdict import stability
from dynamics.game import Game
from dynamics.training.generating import gans_in
from dynamics.training_step import TrainingStep
from dynamics.updates.base import State, Update
from dynamics.updates.rescaling import rescaled
from dynamics.updates.with_variables import for_game, game_at

if TYPE_CHECKING:
    import xarray as xr

SAME = 0.5  # overlap from which an eigenvector is taken for one of the reading before
ROTATING = 3.0  # |Im| / |Re - 1| from which a pair counts as rotation
UNBALANCED = 100.0  # ratio of how far numbers of two players move, from which a note is made
WON = 0.5  # share of the ideal loss below which the discriminator has nearly won


@dataclasses.dataclass(frozen=True)
class Change:
    """What another rate of a player would do to the spectrum of the step at this state."""

    player: int
    factor: float
    radius: float
    eigenvalue: complex  # the outermost


@dataclasses.dataclass(frozen=True)
class Reading(Described):
    """What a `Monitor` saw at a state.

    Attributes:
        step: number of the step.
        gradient_norms: of the gradient of every player's loss by its parameters.
        step_norms: how far every player's step goes.
        relative_steps: that relative to the player's norm.
        alignment: cosine of player i's step with minus the gradient of player j's loss by the parameters of i; on the
            diagonal whether a player goes down its own loss, elsewhere whether it helps (positive) or hurts (negative)
            the other. NaN where one of the two vanishes.
        gap: the discriminator's loss, with its penalty, less the ideal one of the objective; NaN where there is no GAN.
        eigenvalues: leading ones of the Jacobian of the step, the outermost first; none in a monitor without spectra.
        residuals: of these.
        tracks: a number for each eigenvalue that stays the same from reading to reading as long as its vector does.
        radius: the largest modulus of these; NaN without.
        rotation: angle of the outermost eigenvalue, radians per step.
        turning: |Im| / |Re - 1| at the outermost eigenvalue: above 1 it goes round more than in or out.
        changes: what other rates would do, where a warning asked for it.
        warnings: what somebody should know, a sentence each, with the numbers behind it.
        seconds: how long gradients, spectrum and changes took.
        products: with the Jacobian, that spectrum and changes took.
    """

    step: int
    gradient_norms: Float[np.ndarray, " players"]
    step_norms: Float[np.ndarray, " players"]
    relative_steps: Float[np.ndarray, " players"]
    alignment: Float[np.ndarray, "players players"]
    gap: float
    eigenvalues: Complex[np.ndarray, " k"]
    residuals: Float[np.ndarray, " k"]
    tracks: tuple[int, ...]
    radius: float
    rotation: float
    turning: float
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
    seconds: dict[str, float]
    products: int

    def describe(self) -> str:
        """The reading as text."""
        lines = [f"step {self.step}: gradient norms {_row(self.gradient_norms)}, step norms {_row(self.step_norms)}"]
        if math.isfinite(self.gap):
            lines[0] += f", discriminator's loss {self.gap:+.4g} from its ideal"
        if len(self.eigenvalues):
            shown = ", ".join(complex_text(value, 6) for value in self.eigenvalues[:4])
            lines.append(f"radius {self.radius:.6g}, rotation {self.rotation:.4g} per step; eigenvalues {shown}")
        return "\n".join([*lines, *self.warnings])

    def to_dict(self) -> dict[str, Any]:
        """The reading as plain Python data, ready for JSON; complex numbers are pairs, what is not finite is `None`."""
        return plain_fields(
            self,
            eigenvalues=[[value.real, value.imag] for value in self.eigenvalues],
            changes=[{"player": c.player, "factor": c.factor, "radius": c.radius} for c in self.changes],
        )


class Monitor(Described):
    """Reads a training off now and then, in anybody's loop or as a callback of `dynamics.train`.

    Args:
        game, update: what is trained, e.g. the first two results of `dynamics.from_step`.
        leading: how many eigenvalues of the step's Jacobian are followed. 0: none, the cheap mode: a reading takes the
            arithmetic of about three steps, so that with `every=100` it is less than 5 % of a training's time. With
            eigenvalues a reading takes some hundred products, and as long as some hundred steps;
            `benchmarks/spectra.py --parts monitor` measures both. There is no mode between: from fewer products, or
            from the vectors of the reading before alone, the outermost eigenvalue can be missed without a sign in the
            residuals.
        every: steps between readings; other calls return at once.
        key: for minibatches; reading t uses `fold_in(key, t)`. `None`: exact expectations.
        advise: whether a warning says what half the rate of each player would change, which takes as many spectra as
            there are players.

    Raises:
        TypeError: no game, or no update.
        ValueError: a number is out of bounds.

    >>> import optax
    >>> from dynamics.games import Bilinear
    >>> from dynamics.updates import Simultaneous
    >>> game, update = Bilinear(1.0), Simultaneous(optax.sgd(0.1), optax.sgd(0.1))
    >>> watch = Monitor(game, update, leading=2)
    >>> reading = watch(0, update.init(game, (jnp.asarray(1.0), jnp.asarray(1.0))))
    >>> round(reading.radius, 6), round(reading.rotation, 6)  # sqrt(1.01), atan(0.1)
    (1.004988, 0.099669)
    >>> len(reading.warnings)
    1
    """

    def __init__(
        self,
        game: Game,
        update: Update,
        *,
        leading: int = 4,
        every: int = 1,
        key: PRNGKeyArray | None = None,
        advise: bool = True,
    ):
        for value, kind, name in ((game, Game, "game"), (update, Update, "update")):
            if not isinstance(value, kind):
                raise TypeError(f"{name} is {described(value)}; expected a dynamics.{kind.__name__}")
        self.game, self.update = game, for_game(game, update)
        self.leading, self.every = as_whole("leading", leading, 0), as_whole("every", every)
        self.key, self.advise = key, advise
        self._ideal = _ideal(game)
        self._cast: tuple[Any, tuple[Game, Update]] | None = None
        self.readings: list[Reading] = []
        self._vectors, self._tracks = np.zeros((0, 0), complex), ()
        self._next_track = 0

    def __call__(self, step: int, state: Any, values: Any = None, *, batch: Any = None) -> Reading | None:
        """Read a state, and keep the reading in `readings`.

        Args:
            step: number of the step.
            state: a `State`; of an update from `dynamics.from_step`, also the training state itself.
            values: ignored, so that a monitor is a callback of `dynamics.train`.
            batch: of an update from `dynamics.from_step`, what its step gets; default the batch from there.

        Returns:
            the reading; `None` between the steps of `every`.

        Raises:
            TypeError: no state.
            ValueError: a state of another update.
        """
        del values
        if step % self.every:
            return None
        update = self.update
        if isinstance(update, TrainingStep):
            if batch is not None:
                update = eqx.tree_at(lambda step: step.batch, update, batch, is_leaf=lambda node: node is None)
            state = state if isinstance(state, State) else update.split(state)
        if not isinstance(state, State):
            raise TypeError(f"state is {described(state)}; expected a State, e.g. update.init(game, players)")
        game, update = self._of_type(update, _trees.float_dtype(state.players))
        reading = self._read(step, game, update, state)
        self.readings.append(reading)
        return reading

    def _of_type(self, update: Update, dtype: Any) -> tuple[Game, Update]:
        """Game and update in the players' type; those of the reading before where they are the same."""
        if update is not self.update:
            return _trees.cast((self.game, update), dtype)
        if self._cast is None or self._cast[0] != dtype:
            self._cast = dtype, _trees.cast((self.game, update), dtype)
        return self._cast[1]

    def _read(self, step: int, game: Game, update: Update, state: State) -> Reading:
        began = time.perf_counter()
        numbers = jax.device_get(_measured(game, update, state, self.key, np.uint32(step)))
        gradients, steps, sizes, alignment, losses = (np.asarray(value, float) for value in numbers)
        ideal = self._ideal
        seconds = {"gradients": time.perf_counter() - began, "spectrum": 0.0, "changes": 0.0}
        report, changes, tracks, products = None, (), (), 0
        finite = bool(np.isfinite(steps).all() and np.isfinite(gradients).all())
        if self.leading and finite:
            began = time.perf_counter()
            key = None if self.key is None else jax.random.fold_in(self.key, step)
            report = self._spectrum(game, update, state, key)
            tracks = self._tracked(report)
            seconds["spectrum"] = time.perf_counter() - began
            if self.advise and _doubtful(report):
                began = time.perf_counter()
                changes, products = self._changes(game, update, state, key, report)
                seconds["changes"] = time.perf_counter() - began
        outermost = complex("nan") if report is None else complex(report.eigenvalues[0])
        counts = np.array([_trees.size(player) for player in state.players])
        relative = steps / np.where(sizes > 0, sizes, np.nan)
        return Reading(
            step=step,
            gradient_norms=gradients,
            step_norms=steps,
            relative_steps=relative,
            alignment=alignment,
            gap=math.nan if math.isnan(ideal) else float(losses[1]) - ideal,
            eigenvalues=np.zeros(0, complex) if report is None else report.eigenvalues,
            residuals=np.zeros(0) if report is None else report.residuals,
            tracks=tracks,
            radius=math.nan if report is None else report.radius,
            rotation=abs(float(np.angle(outermost))),
            turning=_turning(outermost),
            changes=changes,
            warnings=tuple(_warnings(ideal, gradients, steps, counts, losses, report, changes)),
            seconds=seconds,
            products=products + (0 if report is None else report.products),
        )

    def _spectrum(
        self,
        game: Game,
        update: Update,
        state: State,
        key: PRNGKeyArray | None,
        near: Any = None,
        factors: Sequence[float] | None = None,
    ) -> LeadingStability:
        """The leading eigenvalues with rates times `factors`; other factors are other numbers of one program."""
        update = with_factors(update, (1.0,) * len(state.players) if factors is None else factors)
        count = min(self.leading, _trees.float_size(state))
        near = self._vectors if near is None else near
        start = None
        if len(near) and near.shape[1] == _trees.float_size(state):
            # From these vectors alone the solver would not see what they have no part in.
            random = np.random.default_rng(0).standard_normal(near.shape[1])
            start = near.real.sum(axis=0) + random / np.linalg.norm(random)
        leading = Leading(count, bound=0, conditions=False, start=start, quotients=False)
        return stability(game, update, state, key=key, leading=leading)  # pyright: ignore[reportReturnType]

    def _changes(
        self, game: Game, update: Update, state: State, key: PRNGKeyArray | None, report: LeadingStability
    ) -> tuple[tuple[Change, ...], int]:
        """The spectrum with half the rate of each player, and how many products that took."""
        count = len(state.players)
        changes, products = [], 0
        for player in range(count):
            factors = [0.5 if other == player else 1.0 for other in range(count)]
            other = self._spectrum(game, update, state, key, report.vectors, factors)
            changes.append(Change(player, 0.5, other.radius, complex(other.eigenvalues[0])))
            products += other.products
        return tuple(changes), products

    def _tracked(self, report: LeadingStability) -> tuple[int, ...]:
        """A number for each eigenvalue, that of the reading before whose vector is nearest."""
        vectors, before = report.vectors, self._vectors
        tracks = [-1] * len(vectors)
        if before.shape[1:] == vectors.shape[1:] and len(before):
            overlaps = np.abs(before.conj() @ vectors.T)
            for old, new in zip(*scipy.optimize.linear_sum_assignment(-overlaps), strict=True):
                if overlaps[old, new] > SAME:
                    tracks[new] = self._tracks[old]
        for place, track in enumerate(tracks):
            if track < 0:
                tracks[place], self._next_track = self._next_track, self._next_track + 1
        self._vectors, self._tracks = vectors, tuple(tracks)
        return self._tracks

    def largest_factor(
        self, state: State, *, players: Sequence[int] | None = None, limit: float | None = None, most: float = 64.0
    ) -> float:
        """By how much rates could be multiplied at this state before the step's spectral radius passes a limit.

        The first factor in 1, 2, 4, ... (or 1/2, 1/4, ..., where the radius is beyond the limit already) at which the
        radius is on the other side, narrowed down to 1 %; about ten spectra are computed.

        Args:
            state: where.
            players: whose rates; `None`: all.
            limit: of the radius; default 1, or 1.001 times the present radius where that is more.
            most: largest factor, and one over the smallest.

        Returns:
            the factor; `most` where none up to it passes the limit, 0 where all down to `1 / most` do.

        >>> import optax
        >>> from dynamics.games import Quadratic
        >>> from dynamics.updates import Simultaneous
        >>> game = Quadratic(jnp.diag(jnp.array([1.0, 2.0])))
        >>> update = Simultaneous(optax.sgd(0.1), optax.sgd(0.1))
        >>> state = update.init(game, (jnp.asarray(1.0), jnp.asarray(1.0)))
        >>> round(Monitor(game, update, leading=2).largest_factor(state), 1)  # 0.1 x 2 x 10 = 2
        10.0
        """
        moved = range(len(state.players)) if players is None else players
        game, update = self._of_type(self.update, _trees.float_dtype(state.players))
        key = None if self.key is None else jax.random.fold_in(self.key, 0)

        def radius(factor: float) -> float:
            factors = [factor if player in moved else 1.0 for player in range(len(state.players))]
            return self._spectrum(game, update, state, key, np.zeros((0, 0)), factors).radius

        now = radius(1.0)
        limit = max(1.0, 1.001 * now) if limit is None else float(limit)
        inside = now <= limit
        low = high = 1.0
        while True:
            low, high = (high, 2 * high) if inside else (low / 2, low)
            if high > most or low < 1 / most:
                return most if inside else 0.0
            if (radius(high if inside else low) <= limit) != inside:
                break
        while high > 1.01 * low:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if radius(middle) <= limit else (low, middle)
        return math.sqrt(low * high)

    def describe(self) -> str:
        """How many readings there are, and the last one."""
        often = "one every step" if self.every == 1 else f"one every {self.every:,} steps"
        last = f"; the last one at {self.readings[-1].describe()}" if self.readings else ""
        return f"Monitor: {len(self.readings):,} reading{'s' * (len(self.readings) != 1)}, {often}{last}"

    def to_dict(self) -> dict[str, Any]:
        """The readings as plain Python data, ready for JSON."""
        return {"every": self.every, "readings": [reading.to_dict() for reading in self.readings]}

    def to_xarray(self) -> "xr.Dataset":
        """All readings along the axis `step`; eigenvalues along `track` too, NaN where one is not among the leading."""
        import xarray as xr

        readings = self.readings
        players = np.arange(len(readings[0].step_norms)) if readings else np.arange(0)
        tracks = sorted({track for reading in readings for track in reading.tracks})
        values = np.full((len(readings), len(tracks)), complex("nan"))
        for row, reading in enumerate(readings):
            values[row, [tracks.index(track) for track in reading.tracks]] = reading.eigenvalues
        per_player = {name: ("step", "player") for name in ("gradient_norms", "step_norms", "relative_steps")}
        single = {name: ("step",) for name in ("gap", "radius", "rotation", "turning")}
        variables: dict[str, Any] = {
            name: (
                axes,
                np.array([getattr(reading, name) for reading in readings]).reshape(len(readings), len(players)),
            )
            for name, axes in per_player.items()
        }
        variables |= {name: (axes, np.array([getattr(r, name) for r in readings])) for name, axes in single.items()}
        variables["eigenvalues"] = (("step", "track"), values)
        return xr.Dataset(
            variables, {"step": [reading.step for reading in readings], "player": players, "track": tracks}
        )


class Stretched(Update):
    """An update whose step is made longer or shorter for each player, as far as the players go; memory moves as before.

    Args:
        inner_update: the update.
        factors: one per player.
    """

    inner_update: Update
    factors: tuple[Array, ...]

    def init(self, game: Game, players: Any) -> State:
        return self.inner_update.init(game, players)

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        new = self.inner_update.step(game, state, key)

        def stretched(factor: Array, old: Any, moved: Any) -> Any:
            return jax.tree.map(
                lambda a, b: a + (factor * (b - a)).astype(b.dtype) if eqx.is_inexact_array(b) else b, old, moved
            )

        players = map(stretched, self.factors, state.players, new.players)
        return State(tuple(players), new.memory)

    @classmethod
    def example(cls, players: int = 2) -> Update:
        from dynamics.updates.simultaneous import Simultaneous

        return cls(Simultaneous.example(players), (jnp.asarray(1.0),) * players)


def with_factors(update: Update, factors: Sequence[float]) -> Update:
    """The update with other rates: of its optimisers, and where it has none that can be reached, of its whole steps."""
    try:
        return rescaled(update, [jnp.asarray(factor) for factor in factors])
    except TypeError:
        return Stretched(update, tuple(jnp.asarray(factor) for factor in factors))


@eqx.filter_jit
def _measured(game: Game, update: Update, state: State, key: PRNGKeyArray | None, step: Any) -> tuple[Array, ...]:
    """Norms of gradients, steps and players, alignment, and losses; at about the cost of three steps."""
    key = None if key is None else jax.random.fold_in(key, step)
    at, players = game_at(game, state), state.players
    count = len(players)

    # A gradient of each loss by itself: a penalty's second derivatives are taken for the player that pays it alone.
    slopes = [
        jax.grad(lambda players, number=number: at.losses(players, key)[number])(players) for number in range(count)
    ]
    losses = jnp.stack(at.losses(players, key))
    new = update.step(game, state, key).players
    changes = [ravel_pytree(jax.tree.map(jnp.subtract, b, a))[0] for a, b in zip(players, new, strict=True)]
    gradients = [jnp.stack([ravel_pytree(slope[player])[0] for slope in slopes]) for player in range(count)]
    lengths = jnp.stack([jnp.linalg.norm(change) for change in changes])
    norms = jnp.stack([jnp.linalg.norm(gradient, axis=1) for gradient in gradients])
    products = -jnp.stack([gradient @ change for gradient, change in zip(gradients, changes, strict=True)])
    scale = norms * lengths[:, None]
    alignment = jnp.where(scale > 0, products / jnp.where(scale > 0, scale, 1), jnp.nan)
    return jnp.diagonal(norms), lengths, _trees.norms(players), alignment, losses


def _ideal(game: Game) -> float:
    """The ideal loss of the discriminator of the only GAN in a game; NaN where there is no such."""
    gans = gans_in(game)
    return float(gans[0].objective.ideal_discriminator_loss) if len(gans) == 1 else math.nan


def _turning(value: complex) -> float:
    return math.inf if value.real == 1 and value.imag else abs(value.imag) / abs(value.real - 1) if value != 1 else 0.0


def _beyond(report: LeadingStability) -> bool:
    """Whether the outermost eigenvalue is outside of the unit circle by more than its residual."""
    return report.radius > 1 + 10 * float(report.residuals[0]) + 1e-6


def _doubtful(report: LeadingStability) -> bool:
    return _beyond(report) or _turning(complex(report.eigenvalues[0])) > ROTATING


def _warnings(ideal, gradients, steps, counts, losses, report, changes) -> list[str]:
    lines: list[str] = []
    if not np.isfinite(losses).all() or not np.isfinite(steps).all() or not np.isfinite(gradients).all():
        return ["losses, gradients or the step are not finite numbers: the training has broken down"]
    if report is not None and _doubtful(report):
        value = complex(report.eigenvalues[0])
        what = []
        if _beyond(report):
            what.append(f"radius {report.radius:.6g} > 1: a perturbation grows over this step")
        if _turning(value) > ROTATING:
            what.append(f"|Im|/|Re - 1| = {_turning(value):.3g} at the leading pair {complex_text(value, 5)}: rotation")
        effects = [
            f"half the rate of player {c.player} moves it to {complex_text(c.eigenvalue, 5)}, radius {c.radius:.6g}"
            for c in changes
        ]
        lines.append("; ".join([*what, *effects]))
    paces = steps / np.sqrt(counts)
    if len(paces) > 1 and 0 < paces.min() < paces.max() / UNBALANCED:
        fast, slow = int(np.argmax(paces)), int(np.argmin(paces))
        lines.append(
            f"a number of player {fast} moves by {paces[fast]:.2g} in this step and one of player {slow} by "
            f"{paces[slow]:.2g}, root mean square: they are {paces[fast] / paces[slow]:.0f} times apart"
        )
    if ideal > 0 and losses[1] < WON * ideal:
        lines.append(
            f"the discriminator's loss {losses[1]:.4g} is far below {ideal:.4g}, the least where model and data are "
            "the same: it tells them apart nearly always"
        )
    return lines


def _row(values: np.ndarray) -> str:
    return " ".join(f"{value:.4g}" for value in values)
