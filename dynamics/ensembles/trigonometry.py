"""Sine and cosine as arithmetic: the compiler calls a library for each number, ten times slower than a register."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

# pi/2 in parts of which small multiples are exact, and the polynomials of the sine and cosine up to pi/4 (those of
# fdlibm for float64, of Cephes for float32), highest power first.
PARTS = {
    "float64": (1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624871116645580e-21),
    "float32": (1.5703125, 4.837512969970703125e-4, 7.54978995489188216e-8),
}
SINE = {
    "float64": (
        *(1.58969099521155010221e-10, -2.50507602534068634195e-8, 2.75573137070700676789e-6),
        *(-1.98412698298579493134e-4, 8.33333333332248946124e-3, -1.66666666666666324348e-1),
    ),
    "float32": (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1),
}
COSINE = {
    "float64": (
        *(-1.13596475577881948265e-11, 2.08757232129817482790e-9, -2.75573143513906633035e-7),
        *(2.48015872894767294178e-5, -1.38888888888741095749e-3, 4.16666666666666019037e-2),
    ),
    "float32": (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2),
}


def sine_and_cosine(x: Array) -> tuple[Array, Array]:
    r"""$\sin x$ and $\cos x$ of float32 or float64, elementwise, to about the last digit.

    With $x = k \pi/2 + r$, $|r| \le \pi/4$. Beyond $|x| = 10^5$ (10^3 in float32) the error is as if $x$ were changed
    in its last digit.
    """
    kind = x.dtype.name
    turns = jax.lax.round(x * np.asarray(2 / np.pi, x.dtype), jax.lax.RoundingMethod.TO_NEAREST_EVEN)
    rest = x
    for part in PARTS[kind]:
        rest = rest - turns * np.asarray(part, x.dtype)
    square = rest * rest

    def polynomial(coefficients: tuple[float, ...]) -> Array:
        value = jnp.full_like(square, coefficients[0])
        for coefficient in coefficients[1:]:
            value = value * square + np.asarray(coefficient, x.dtype)
        return value

    sine = rest + rest * square * polynomial(SINE[kind])
    cosine = 1 - square / 2 + square * square * polynomial(COSINE[kind])
    quarter = turns.astype(jnp.int32) & 3
    swapped = (quarter & 1) == 1
    one, other = jnp.where(swapped, cosine, sine), jnp.where(swapped, sine, cosine)
    return jnp.where(quarter >= 2, -one, one), jnp.where((quarter == 1) | (quarter == 2), -other, other)
