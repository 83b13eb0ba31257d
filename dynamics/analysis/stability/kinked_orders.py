"""Terms of third order of fields with kinks that fade towards the point: by averages over a turn."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from dynamics.analysis.normal_forms.coefficients import Coefficients, coefficients_of
from dynamics.analysis.normal_forms.expansion import NotDecided, Task, expanded
from dynamics.analysis.normal_forms.spectrum import Spectrum, spectrum_of
from dynamics.analysis.stability.sliding import NotSliding, surfaces_at
from dynamics.compiler.many_digits import NotEvaluated, Specialised
from dynamics.compiler.switches import NoSide, short_on_sides, shortened

# Radii of the turn on which pieces are held against each other, and up to which share of it a tenth of the radius shows
# the same: the smallest by which the rounding of the game's numbers, which moves a kink off the point, is outweighed.
RADII = ((1e-10, 1e-6), (1e-6, 1e-4), (1e-4, 1e-2))
ANGLES = 192  # on it


class Averaged(NamedTuple):
    """The motion on the centre manifold of a field with kinks.

    Attributes:
        coefficients: of third order, those of one smooth piece and what the others add on average over a turn.
        spectrum: of the piece, and of all others.
    """

    coefficients: Coefficients
    spectrum: Spectrum


def averaged_over_kinks(function: Callable[[Array], Array], position: Array, is_player: np.ndarray) -> Task[Averaged]:
    r"""The coefficient a of $\dot r=ar^3$ at a single pair of eigenvalues on the imaginary axis, where pieces meet.

    The field is $v=v_++\Delta$, with $v_+$ one of its smooth pieces continued, and a difference $\Delta$ that on the
    centre manifold of $v_+$ is of third order in the distance: the pieces have the same Jacobian and the same terms of
    second order there. Then $a=a_++\frac1{2\pi}\int\Re e^{-i\varphi}p\,\Delta(x(\varphi))d\varphi/r^3$, with p the left
    vector of the pair and $x(\varphi)$ the turn of radius r on the centre manifold to second order, as r goes to 0: to
    this order $\Delta$ is Lipschitz, which is all that averaging asks for.
    Source: Sanders, Verhulst, Murdock, Averaging Methods in Nonlinear Dynamical Systems, 2007, chapters 2 and 4.

    Args:
        function: the field on vectors.
        position: the point.
        is_player: which of its coordinates are players.

    Raises:
        NotDecided: there is no such piece, no single pair, or the difference is not of third order.
    """
    function = shortened(function, position)
    try:
        surfaces = surfaces_at(function, position)
        held, _ = short_on_sides(function, surfaces.signs(np.ones(len(surfaces.groups), int)), position)
    except (NotSliding, NoSide) as reason:
        raise NotDecided(f"it is not smooth enough there, and {reason}") from None
    expansion = yield from expanded(held, position, False)
    spectrum = spectrum_of(expansion, is_player)
    yield from expansion.confirm([])
    modes, arithmetic = spectrum.critical, expansion.context
    if spectrum.inside > 0 or len(modes) != 2 or not isinstance(modes[0].value, arithmetic.mpc):
        raise NotDecided("there is a kink at the point, where a single pair of imaginary eigenvalues could be judged")
    coefficients = yield from coefficients_of(expansion, modes)
    program = jax.make_jaxpr(shortened(lambda vector: function(vector) - held(vector), position))(position)
    many_digits = None
    first, second = (0, 1) if modes[0].value.imag > 0 else (1, 0)
    pair = modes[first]

    def difference(angle: float, radius: float) -> np.ndarray:
        z = {first: radius * arithmetic.expj(angle), second: radius * arithmetic.expj(-angle)}
        point = expansion.point
        for number, mode in enumerate(modes):
            point = point + np.array([arithmetic.re(x) for x in mode.right * z[number]], object)
        for (i, j), shift in coefficients.second.items():
            point = point + np.array([arithmetic.re(x) for x in shift * (z[i] * z[j])], object)
        nonlocal many_digits
        try:
            if many_digits is None:
                many_digits = Specialised(program, [], zeros=False)
            return many_digits([point])[0]
        except (NotEvaluated, ZeroDivisionError) as error:
            raise NotDecided(f"next to the point it cannot be evaluated in many digits: {error}") from None

    def term(angle: float, radius: float) -> float:
        value = pair.left @ difference(angle, radius) * arithmetic.expj(-angle)
        return float(arithmetic.re(value) / arithmetic.mpf(radius) ** 3)

    radius, alike = _radius_of_third_order(difference, arithmetic)
    offset = 0.1234
    terms = np.array([term(offset + 2 * math.pi * k / ANGLES, radius) for k in range(ANGLES)])
    fine, coarse, other = terms.mean(), terms[::2].mean(), terms[1::2].mean()
    error = 2 * max(abs(fine - coarse), abs(fine - other)) + alike * float(np.max(np.abs(terms)))
    cubic = coefficients.cubic + fine
    # Closer to the point than that the kink may be off it, by rounding of the game's numbers.
    moved = abs(float(cubic[0, 0])) * (radius / 10) ** 2
    return Averaged(
        coefficients._replace(cubic=cubic, errors=coefficients.errors + error),
        spectrum._replace(error=max(spectrum.error, moved)),
    )


def _radius_of_third_order(difference: Callable[[float, float], np.ndarray], arithmetic: Any) -> tuple[float, float]:
    """A radius at which the difference of the pieces is of third order, and to what share."""
    angles = np.random.default_rng(8).uniform(0, 2 * math.pi, 6)
    for radius, alike in RADII:
        near, far = (
            np.array([[float(x / arithmetic.mpf(size) ** 3) for x in difference(angle, size)] for angle in angles])
            for size in (radius / 10, radius)
        )
        if np.max(np.abs(near - far)) <= alike * np.max(np.abs(far), initial=1e-20):
            return radius, alike
    raise NotDecided("the pieces that meet at a kink differ by terms that are not of third order")
