"""The field along the straight line between two points of a training: does it lead there, or round?"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from dynamics import _trees
from dynamics._checks import as_whole
from dynamics._compiling import cheap_jit
from dynamics._plain import PlainFields
from dynamics._printing import Described
from dynamics.analysis.equilibria.precision import as_point
from dynamics.game import Game, Players
from dynamics.updates.base import State
from dynamics.updates.with_variables import game_at

if TYPE_CHECKING:
    import xarray as xr

FROM, TO, POINTS = -0.1, 1.1, 121


@dataclasses.dataclass(frozen=True)
class PathAngle(Described, PlainFields):
    """The field along a line.

    Attributes:
        positions: a, 0 at the beginning and 1 at the end.
        cosines: of the angle between the field and the way to the end; NaN where the field vanishes.
        norms: of the field.
    """

    positions: Float[np.ndarray, " points"]
    cosines: Float[np.ndarray, " points"]
    norms: Float[np.ndarray, " points"]

    @property
    def attraction(self) -> float:
        """How much the cosine falls as the line passes the end, from 0 to 2; 2 where the field points straight back."""
        before, after = self._beside_the_end()
        return float(before - after)

    @property
    def bump(self) -> float:
        """The mean of the cosines on both sides: not 0 where the end is beside a point that the field goes round."""
        before, after = self._beside_the_end()
        return float((before + after) / 2)

    def _beside_the_end(self) -> tuple[float, float]:
        known = np.isfinite(self.cosines)
        before, after = known & (self.positions < 1), known & (self.positions > 1)
        if not before.any() or not after.any():
            return float("nan"), float("nan")
        return self.cosines[before][-1], self.cosines[after][0]

    def describe(self) -> str:
        """What the curve says of the end, in a sentence."""
        before, after = self._beside_the_end()
        least = self.norms[np.argmin(np.abs(self.positions - 1))] / np.max(self.norms)
        return (
            f"the cosine is {before:.3g} right before the end and {after:.3g} right behind it: attraction "
            f"{self.attraction:.3g} of 2, bump {self.bump:.3g}; the field at the end has {least:.2g} of its most"
        )

    def to_xarray(self) -> xr.Dataset:
        """The curve along the axis `position`, as an `xarray.Dataset`."""
        import xarray as xr

        variables = {"cosine": ("position", self.cosines), "norm": ("position", self.norms)}
        return xr.Dataset(variables, {"position": self.positions})


def path_angle(
    game: Game,
    start: Players | State,
    end: Players | State,
    *,
    points: int = POINTS,
    interval: tuple[float, float] = (FROM, TO),
    key: PRNGKeyArray | None = None,
) -> PathAngle:
    r"""The angle between the field and the way from one point to another, along the line through both.

    With $x_a = (1 - a) x + a x'$: the cosine $\langle x' - x, v(x_a)\rangle / (\|x' - x\| \|v(x_a)\|)$ and the norm
    $\|v(x_a)\|$. A cosine that jumps from positive to negative at a = 1 shows that the field leads to the end, one with
    a bump of a single sign there that it goes round it. In a linear field $-M(x - x')$ the cosine is constant on either
    side: $\pm d^T M d / (\|d\| \|M d\|)$ with $d = x' - x$.
    Source: Berard, Gidel, Almahairi, Vincent, Lacoste-Julien, A Closer Look at the Optimization Landscapes of
    Generative Adversarial Networks, 2020, section 3.1.

    Args:
        game: whose field.
        start, end: players, or states, of whose variables (BatchNorm and the like) those of the end are taken.
        points: number of places along the line.
        interval: where they begin and end.
        key: for a minibatch, the same at all places; `None`: exact expectations.

    Raises:
        ValueError: start and end are the same point or do not fit, or a number is out of bounds.

    >>> from dynamics.games import Bilinear
    >>> result = path_angle(Bilinear(1.0), (1.0, 0.0), (0.0, 0.0))  # a field that goes round
    >>> float(np.nanmax(np.abs(result.cosines)))
    0.0
    """
    count = as_whole("points", points, 2)
    low, high = map(float, interval)
    if not -np.inf < low < high < np.inf:
        raise ValueError(f"interval is {interval}; expected two increasing finite numbers, e.g. (-0.1, 1.1)")
    if isinstance(end, State):
        game = game_at(game, end)
    first, last = (
        as_point(point.players if isinstance(point, State) else point, name)
        for point, name in ((start, "start"), (end, "end"))
    )
    if jax.tree.structure(first) != jax.tree.structure(last) or [*map(jnp.shape, jax.tree.leaves(first))] != [
        *map(jnp.shape, jax.tree.leaves(last))
    ]:
        raise ValueError("start and end are different pytrees; expected players of one game")
    if not float(_trees.norm(jax.tree.map(jnp.subtract, last, first))) > 0:
        raise ValueError("start and end are the same point; expected two points with a line between them")
    positions = jnp.linspace(low, high, count, dtype=_trees.float_dtype(first))
    cosines, norms = _along(game, first, last, positions, key)
    return PathAngle(*(np.asarray(values, float) for values in (positions, cosines, norms)))


@cheap_jit
def _along(game: Game, start: Players, end: Players, positions: Array, key: PRNGKeyArray | None) -> tuple[Array, Array]:
    first, unravel = ravel_pytree(start)
    way = ravel_pytree(end)[0] - first
    length = jnp.linalg.norm(way)

    def at(position: Array) -> tuple[Array, Array]:
        field = ravel_pytree(game.field(unravel(first + position * way), key))[0]
        norm = jnp.linalg.norm(field)
        return jnp.where(norm > 0, way @ field / (length * norm), jnp.nan), norm

    return jax.lax.map(at, positions)
