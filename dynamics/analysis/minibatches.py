"""The spectrum of a step over minibatches, beside the exponents of the product of the steps that are really taken."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Complex, Float

from dynamics import _trees
from dynamics._checks import as_whole, described
from dynamics._plain import plain_fields
from dynamics._printing import Described
from dynamics._text import complex_text
from dynamics.analysis.asymptotics.lyapunov import LyapunovExponents, lyapunov_exponents
from dynamics.analysis.stability.leading import Leading
from dynamics.analysis.stability.verdict import stability
from dynamics.game import Game, Players
from dynamics.simulation import start_state
from dynamics.updates.base import State, Update
from dynamics.updates.with_variables import for_game

if TYPE_CHECKING:
    import xarray as xr


@dataclasses.dataclass(frozen=True)
class SpectraOverBatches(Described):
    """Leading eigenvalues of the step with every minibatch, and the exponents of the run that draws them in turn.

    Attributes:
        eigenvalues: of the step from this state with each key, the outermost first, shape (keys, k); NaN where a
            spectrum has fewer.
        radii: their largest moduli, shape (keys,).
        mean: mean of the log of the radius, the rate that single batches suggest.
        spread: its standard deviation over the keys.
        outside: share of the keys whose radius is above 1.
        exponents: of a run from this state on, with a new minibatch in every step: what a perturbation of training
            really does, on average. Each batch has its own expanding direction, and what one stretches the next may
            shrink: the largest exponent may be far below `mean`.
        size: numbers in the state.
    """

    eigenvalues: Complex[np.ndarray, "keys k"]
    radii: Float[np.ndarray, " keys"]
    mean: float
    spread: float
    outside: float
    exponents: LyapunovExponents
    size: int

    def describe(self) -> str:
        """The result as text."""
        first, error = float(self.exponents.exponents[0]), float(self.exponents.errors[0])
        outermost = ", ".join(complex_text(value, 5) for value in self.eigenvalues[:4, 0])
        return "\n".join(
            [
                f"{len(self.radii)} minibatches: log radius {self.mean:.6g} on average, standard deviation "
                f"{self.spread:.2g}; {self.outside:.0%} of them outside of the unit circle",
                f"outermost eigenvalues of the first: {outermost}",
                f"largest exponent of the run: {first:.6g} (+- {error:.1g}) per step over {self.exponents.steps} steps",
            ]
        )

    def to_xarray(self) -> xr.Dataset:
        """Eigenvalues and radii along the axis `key`, as an `xarray.Dataset`."""
        import xarray as xr

        variables = {"eigenvalue": (("key", "index"), self.eigenvalues), "radius": ("key", self.radii)}
        return xr.Dataset(variables, attrs={"mean": self.mean, "spread": self.spread, "outside": self.outside})

    def to_dict(self) -> dict[str, Any]:
        """The result as plain Python data, ready for JSON; what is not finite is `None`."""
        pairs = [[[value.real, value.imag] for value in row] for row in self.eigenvalues]
        return plain_fields(self, eigenvalues=pairs, exponents=self.exponents.to_dict())


def spectra_over_batches(
    game: Game,
    update: Update,
    at: Players | State,
    keys: Any,
    *,
    leading: int = 4,
    steps: int = 500,
    exponents: int = 2,
) -> SpectraOverBatches:
    """Leading eigenvalues of the step for several minibatches, and the Lyapunov exponents of training on from there.

    A step with a minibatch is another map each time. Its eigenvalues say what one batch does; what a sequence of them
    does are the exponents of the product of their Jacobians, which exist whatever the batches are (Oseledets, A
    Multiplicative Ergodic Theorem, 1968), and which are not the means of the logs of the eigenvalues.

    Args:
        game, update: as in `dynamics.stability`.
        at: a state, memory as it is; or players, with the memory of the first step.
        keys: random keys, shape (n,), such as `jax.random.split(key, 20)`.
        leading: how many eigenvalues of each.
        steps: of the run whose exponents are taken, half as many again before, in which directions settle.
        exponents: how many of these, the largest ones.

    Raises:
        TypeError: no update, or no keys.
        ValueError: a number is out of bounds, or the state is that of another update.

    >>> import optax
    >>> from dynamics.games import LinearWasserstein
    >>> from dynamics.updates import Simultaneous
    >>> game, start = LinearWasserstein.example()
    >>> update = Simultaneous(optax.sgd(0.1), optax.sgd(0.1))
    >>> result = spectra_over_batches(game, update, start, jax.random.split(jax.random.key(0), 3), leading=2)
    >>> result.eigenvalues.shape, result.exponents.exponents.shape
    ((3, 2), (2,))
    """
    if not isinstance(update, Update):
        raise TypeError(f"update is {described(update)}; expected one of dynamics.updates")
    count, steps = as_whole("leading", leading), as_whole("steps", steps)
    if not isinstance(keys, jax.Array) or not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) or keys.ndim != 1:
        raise TypeError(f"keys is {described(keys)}; expected several random keys, e.g. jax.random.split(key, 20)")
    if not len(keys):
        raise ValueError("keys is empty; expected at least one random key")
    update = for_game(game, update)
    state = start_state(game, update, at)
    size = _trees.float_size(state)
    count = min(count, size)
    values = np.full((len(keys), count), complex("nan"))
    options = Leading(count, bound=0, conditions=False)
    for row, key in enumerate(keys):
        report = stability(game, update, state, key=key, leading=options)
        values[row, : len(report.eigenvalues)] = report.eigenvalues[:count]
    radii = np.nanmax(np.abs(values), axis=1)
    with np.errstate(divide="ignore"):
        logs = np.log(radii)
    run = lyapunov_exponents(
        game, update, state, steps=steps, warm_up=steps // 2, count=min(exponents, size), key=keys[0]
    )
    spread = float(np.std(logs, ddof=1)) if len(keys) > 1 else float("nan")
    return SpectraOverBatches(values, radii, float(np.mean(logs)), spread, float(np.mean(radii > 1)), run, size)
