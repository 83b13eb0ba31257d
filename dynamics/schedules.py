"""How large a step is, over time: gap-aware scheduling, for our updates and for anyone's own optax training loop.

Decay schedules are optax's own: pass one as the learning rate of any optax optimiser. `dynamics.updates.Scheduled` lets
a schedule act on any number of the game or of the update, such as the weight of a penalty; `Every` makes that lazy.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from dynamics._checks import as_whole, is_concrete
from dynamics._printing import Printed


class Every(Printed):
    """Something at every k-th step alone, and k times as strongly: lazy regularisation. A schedule as those of optax.

    k at steps 0, k, 2k, ... and 0 at all others: 1 on average. The steps of a method with it have the period k, and
    `dynamics.stability` judges the product of their k Jacobians.
    Source: Karras, Laine, Aittala, Hellsten, Lehtinen, Aila, Analyzing and Improving the Image Quality of StyleGAN,
    2020, appendix B (k = 16 for the discriminator's R1).

    Args:
        interval: k, a whole number >= 1; an array leaf, so that another one compiles nothing.

    Raises:
        ValueError: the interval is no such number.

    >>> [float(Every(3)(step)) for step in range(5)]
    [3.0, 0.0, 0.0, 3.0, 0.0]
    """

    interval: Array = eqx.field(converter=lambda interval: _whole(interval))

    def __call__(self, step: Any) -> Array:
        """The factor at a step, counted from 0."""
        return jnp.where(step % self.interval == 0, self.interval, 0) * 1.0


def _whole(interval: Any) -> Array:
    known = isinstance(interval, jax.Array) and not is_concrete(interval)
    return jnp.asarray(interval if known else as_whole("Every.interval", interval), jnp.int32)


class GapAwareState(NamedTuple):
    """Memory of `gap_aware`: the moving average of the loss."""

    average_loss: Array


def gap_multiplier(
    average_loss: Any,
    ideal_loss: Any,
    minimum: Any = 0.1,
    maximum: Any = 2.0,
    width_below: Any = None,
    width_above: Any = None,
) -> Array:
    r"""The factor of the adversary's rate as a function of the gap between its loss and the ideal loss.

    Above the ideal loss, by $x$: $\mathrm{clip}(f_{max}^{x/x_{max}}, 1, f_{max})$. Below it, by $x$:
    $\mathrm{clip}(h_{min}^{x/x_{min}}, h_{min}, 1)$. Continuous, 1 at the ideal loss, where it has a kink.
    Source: Hazimeh and Ponomareva, Mind the (optimality) Gap, AISTATS 2023, section 3.

    Args:
        average_loss: smoothed loss of the adversary, any shape.
        ideal_loss: V*, the loss of the best adversary when model and data agree.
        minimum: h_min, the smallest factor, in (0, 1].
        maximum: f_max, the largest factor, >= 1.
        width_below: x_min, the gap below V* at which the smallest factor is reached; default 0.1 |V*|.
        width_above: x_max, the gap above V* at which the largest factor is reached; default 0.1 |V*|.

    >>> round(float(gap_multiplier(1.05 * 2.0, 2.0)), 6)
    1.414214
    """
    below = 0.1 * jnp.abs(ideal_loss) if width_below is None else width_below
    above = 0.1 * jnp.abs(ideal_loss) if width_above is None else width_above
    # Clipping the exponent, not the power, keeps derivatives finite far from the ideal loss.
    excess = jnp.clip((average_loss - ideal_loss) / above, 0, 1)
    deficit = jnp.clip((ideal_loss - average_loss) / below, 0, 1)
    return jnp.exp(jnp.log(maximum) * excess + jnp.log(minimum) * deficit)


def gap_aware(
    ideal_loss: Any,
    minimum: Any = 0.1,
    maximum: Any = 2.0,
    width_below: Any = None,
    width_above: Any = None,
    decay: Any = 0.95,
) -> optax.GradientTransformationExtraArgs:
    r"""Gap-aware scheduling of the adversary's rate, as an optax transformation.

    Each step: $L \leftarrow \rho L + (1-\rho)\,$`value`, then the update is multiplied by `gap_multiplier(L, ...)`. The
    average starts at the ideal loss and is updated *before* it is used. Only the adversary (the discriminator) is
    scheduled. Source: Hazimeh and Ponomareva, Mind the (optimality) Gap, AISTATS 2023, algorithm 1.

    Args:
        ideal_loss: V*; `game.objective.ideal_discriminator_loss`.
        minimum: h_min, the smallest factor, in (0, 1].
        maximum: f_max, the largest factor, >= 1.
        width_below: x_min; default 0.1 |V*|, as in the paper.
        width_above: x_max; default 0.1 |V*|, as in the paper.
        decay: rho, in [0, 1).

    Returns:
        a transformation whose `update` needs the discriminator's loss on the batch: `update(..., value=loss)`.

    Raises:
        ValueError: a number is out of bounds, or the ideal loss is 0 and an absolute width is missing.
        TypeError: `update` was called without `value`.

    >>> careful = optax.chain(optax.sgd(1.0), gap_aware(2.0, decay=0.0))
    >>> state = careful.init(jnp.asarray(0.0))
    >>> update, state = careful.update(jnp.asarray(1.0), state, value=jnp.asarray(2.2))
    >>> round(float(update), 6)
    -2.0
    """
    _check("minimum", minimum, lambda x: 0 < x <= 1, "in (0, 1]")
    _check("maximum", maximum, lambda x: 1 <= x < jnp.inf, "at least 1")
    _check("decay", decay, lambda x: 0 <= x < 1, "in [0, 1)")
    _check("ideal_loss", ideal_loss, lambda x: abs(x) < jnp.inf, "a finite number")
    for name, width in (("width_below", width_below), ("width_above", width_above)):
        if width is not None:
            _check(name, width, lambda x: 0 < x < jnp.inf, "positive")
        elif is_concrete(ideal_loss) and float(ideal_loss) == 0:
            raise ValueError(
                f"the ideal loss is 0, so a tenth of it is no width; pass {name}, an absolute width of the gap, "
                "e.g. 0.1"
            )

    def init(params: Any) -> GapAwareState:
        leaves = jax.tree.leaves(params)
        dtype = jnp.result_type(*leaves) if leaves else jnp.result_type(float)
        return GapAwareState(jnp.asarray(ideal_loss, dtype))

    def update(
        updates: Any, state: Any, params: Any = None, *, value: Any = None, **extra: Any
    ) -> tuple[Any, GapAwareState]:
        del params, extra
        if value is None:
            raise TypeError(
                "gap_aware needs the discriminator's loss on the batch; call update(gradients, state, value=loss)"
            )
        average = decay * state.average_loss + (1 - decay) * value
        average = jnp.asarray(average, state.average_loss.dtype)
        factor = gap_multiplier(average, ideal_loss, minimum, maximum, width_below, width_above)
        scaled = jax.tree.map(lambda leaf: jnp.asarray(factor, leaf.dtype) * leaf, updates)
        return scaled, GapAwareState(average)

    return optax.GradientTransformationExtraArgs(init, update)


def _check(name: str, value: Any, valid: Any, expected: str) -> None:
    if is_concrete(value) and not valid(float(value)):
        raise ValueError(f"gap_aware: {name} is {float(value):g}; expected {expected}")
