"""What a simulation returns."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from dynamics._checks import is_concrete
from dynamics._plain import plain
from dynamics._printing import pretty
from dynamics.game import Game, Losses, Players
from dynamics.outcomes import Outcome
from dynamics.updates.base import State

if TYPE_CHECKING:
    import xarray as xr

Measure = Callable[[Game, Players], PyTree]


# Of every run, besides the outcome:
_NUMBERS = ("rate", "period", "residual", "solver_steps", "reached", "needed", "exponent", "gave_up")


def _leaves(prefix: str, tree: PyTree) -> dict[str, Array]:
    """The arrays in players or measures by name: `player_0`, `player_0.weights`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {prefix + jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


class Pieces(eqx.Module):
    """The smooth pieces that a flow through jumps of its field is made of; see `dynamics.simulate`.

    Attributes:
        starts: the time at which each begins, shape (pieces,).
        surfaces: on how many surfaces, at which the field jumps, it slides; 0 between them; shape (pieces,).
        note: what is not known of the motion, in words; empty where nothing is missing.
    """

    starts: Array
    surfaces: Array
    note: str = eqx.field(static=True)

    def describe(self, end: float) -> str:
        """When it slid, and what is not known, in a sentence or two; empty where there is nothing to say."""
        starts, surfaces = np.append(np.asarray(self.starts), end), np.append(np.asarray(self.surfaces), 0)
        slides = np.diff(surfaces > 0, prepend=False)
        times = starts[slides]  # at which it begins to slide, and no longer does
        text = []
        if len(times):
            text.append(
                f"It slides along surfaces at which the field jumps, from time {times[0]:.6g} to {times[1]:.6g}"
            )
            text[0] += f", and {len(times) // 2 - 1} times more." if len(times) > 2 else "."
        return " ".join([*text, *([self.note] if self.note else [])])


class Run(eqx.Module):
    """What a simulation returns. All fields are arrays, so that a batch of runs is a run with a leading axis.

    Attributes:
        players: the players at the saved steps, each leaf with a leading axis.
        losses: the loss of every player at the saved steps.
        steps: the saved steps (updates) or times (flows).
        measures: what the caller's measures returned at the saved steps.
        final: the players at the end.
        state: the whole state at the end, memory included; pass it as `players` to go on from there.
        outcome_number: the integer of the outcome, see `dynamics.Outcome`.
        rate: slope of the log amplitude per step or unit of time; negative when contracting. NaN when there is nothing
            to measure.
        period: steps or time of one turn of a cycling game, else NaN; NaN as well where the motion never closes up.
        residual: norm of the field at the end.
        solver_steps: steps the ODE solver took; the number of steps for updates.
        reached: the last step or time at which the players were finite numbers, as far as it was looked for; otherwise
            the end of the run, or where the ODE solver gave up.
        failed: for every player, whether its gradient is not a number there.
        needed: steps or time that would decide an undecided game if it goes on as it does; NaN where nothing tells.
        exponent: p where the distance to rest shrinks like $t^{-p}$, for the outcome `power_law`; else NaN.
        gave_up: whether the ODE solver stopped before the end, with finite players.
        pieces: of a flow that was followed through jumps of its field, else `None`. Where it slides at the end,
            `residual` is the norm of the sliding velocity.
    """

    players: Players
    losses: Losses
    steps: Array
    measures: dict[str, PyTree]
    final: Players
    state: State
    outcome_number: Array
    rate: Array
    period: Array
    residual: Array
    solver_steps: Array
    reached: Array
    failed: Array
    needed: Array
    exponent: Array
    gave_up: Array
    pieces: Pieces | None = None

    def __repr__(self) -> str:
        if not is_concrete(self.outcome_number):
            return eqx.tree_pformat(self)
        if jnp.ndim(self.outcome_number) == 0:
            return f"{self.describe()} Players at the end: {pretty(self.final, digits=6)}"
        numbers, counts = np.unique(self.outcome_number, return_counts=True)
        ends = ", ".join(f"{count:,} {Outcome(number).name}" for number, count in zip(numbers, counts, strict=True))
        return f"{' x '.join(f'{size:,}' for size in jnp.shape(self.outcome_number))} runs: {ends}"

    def to_dict(self) -> dict[str, Any]:
        """All but the state as plain Python data, ready for JSON; what is not finite is `None`.

        Players and measures are by name, as in `to_xarray`; of one run the outcome is by name as well.
        """
        numbers = self._numbers()
        named: dict[str, Any] = dict(numbers)
        if not numbers["outcome"].ndim:
            named["outcome"] = Outcome(int(numbers["outcome"])).name
        series = {"steps": self.steps, "losses": self.losses, "failed": self.failed}
        whole = _leaves("player_", self.players) | _leaves("", self.measures)
        end = [np.asarray(leaf) for leaf in jax.tree.leaves(self.final)]
        arrays = jax.tree.map(np.asarray, {**series, "saved": whole, "final": end})
        return plain({**named, **arrays})

    def to_xarray(self) -> "xr.Dataset":
        """What was saved as an `xarray.Dataset` along `step`, of a flow along `time`.

        `loss` has the axis `player`; players are `player_0`, or `player_0.name` where they are pytrees, and measures
        go by their names, with axes of their own. Outcome, rate, period and residual have no axis. A batch of runs has
        the axis `run` in front, or `run_0`, `run_1` and so on where it has several.

        >>> import optax
        >>> from dynamics.games import Bilinear
        >>> from dynamics.simulation import simulate
        >>> from dynamics.updates import Alternating
        >>> update = Alternating(optax.sgd(0.1), optax.sgd(0.1))
        >>> data = simulate(Bilinear(1.0), update, (1.0, 0.0), steps=100, save_every=10).to_xarray()
        >>> data.loss.dims, data.sizes["step"], str(data.player_1.dims)
        (('step', 'player'), 11, "('step',)")
        """
        import xarray as xr

        batch = np.ndim(self.outcome_number)
        runs = ["run"] if batch == 1 else [f"run_{number}" for number in range(batch)]
        steps = np.asarray(self.steps)
        along = "time" if steps.dtype.kind == "f" else "step"
        columns: dict[str, Any] = {"loss": ([*runs, along, "player"], np.stack(self.losses, axis=-1))}
        for name, leaf in (_leaves("player_", self.players) | _leaves("", self.measures)).items():
            values = np.asarray(leaf)
            further = [f"{name}_{number}" for number in range(values.ndim - batch - 1)]
            columns[name] = ([*runs, along, *further], values)
        columns |= {name: (runs, numbers) for name, numbers in self._numbers().items()}
        first = steps.reshape(-1, steps.shape[-1])[0]
        if np.array_equal(steps, np.broadcast_to(first, steps.shape), equal_nan=True):
            return xr.Dataset(columns, {along: first})
        return xr.Dataset(columns | {f"{along}s": ([*runs, along], steps)})

    def _numbers(self) -> dict[str, np.ndarray]:
        """What a run is in numbers, by name."""
        named = {"outcome": self.outcome_number} | {name: getattr(self, name) for name in _NUMBERS}
        return {name: np.asarray(number) for name, number in named.items()}

    @property
    def outcome(self) -> Any:
        """What became of it: of one run an `Outcome`, which prints its name; of a batch an array of their integers.

        Inside `jax.jit` and `jax.vmap` the integer as well.
        """
        number = self.outcome_number
        return Outcome(int(number)) if is_concrete(number) and not jnp.ndim(number) else number

    @property
    def times(self) -> Array:
        """Another name for `steps`, for flows."""
        return self.steps

    def describe(self) -> str:
        """Outcome, rate and advice of one run, in a sentence or two.

        Raises:
            ValueError: this is a batch of runs.
        """
        if jnp.ndim(self.outcome_number):
            raise ValueError("this is a batch of runs; look at run.outcome, an array, instead")
        outcome = Outcome(int(self.outcome_number))
        flow = jnp.issubdtype(jnp.result_type(self.reached), jnp.floating)
        reached = f"time {float(self.reached):.6g}" if flow else f"step {int(self.reached)}"
        parts = [f"rate {float(self.rate):.4g}"]
        if outcome is Outcome.cycling:
            period = float(self.period)
            parts.append("no period" if np.isnan(period) else f"period {period:.6g}")
        if outcome is Outcome.power_law:
            parts.append(f"like t^-{float(self.exponent):.3g}")
        if outcome is Outcome.stalled:
            parts.append(f"residual {float(self.residual):.4g}")
        if outcome in (Outcome.not_a_number, Outcome.diverged) and self.failed.any():
            names = ", ".join(str(index) for index in np.flatnonzero(self.failed))
            players = "player" if self.failed.sum() == 1 else "players"
            parts.append(f"after {reached} the gradient of {players} {names} is not a number")
        text = f"{outcome.name} ({', '.join(parts)}). {outcome.advice}"
        motion = "" if self.pieces is None else self.pieces.describe(float(self.reached))
        more = f" {motion}" if motion else ""
        if outcome is not Outcome.undecided:
            return text + more
        if self.gave_up and motion:
            return f"{outcome.name} ({', '.join(parts)}). The run ends at {reached}.{more}"
        if self.gave_up:
            return (
                f"{outcome.name} ({', '.join(parts)}). The solver gave up at {reached} after {int(self.solver_steps)} "
                "steps. A stiff flow makes an explicit solver take tiny steps: pass solver=diffrax.Kvaerno5(), or a "
                "larger max_steps."
            )
        needed = float(self.needed)
        if np.isfinite(needed):
            text += f" About {needed:.2g} {'units of time' if flow else 'steps'} should decide."
        return text + more
