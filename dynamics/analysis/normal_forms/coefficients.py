"""Coefficients of the normal form on the centre manifold, to third order."""

import itertools
from typing import Any, NamedTuple

import numpy as np

from dynamics.analysis.normal_forms.expansion import Expansion, NotDecided, Task
from dynamics.analysis.normal_forms.spectrum import Mode
from dynamics.compiler.many_digits import exact

MOST_MODES = 8  # critical eigenvalues that are reckoned with
NEAR = 1e-6  # a resonance within this distance is one, relative to the norm of the Jacobian
ROUNDING = 1e-28  # errors of coefficients, relative to the terms that they are sums of
# The same of numbers that a game was given in double precision: a coefficient below that is not what its author meant.
MEANT = 8 * float(np.finfo(float).eps)


class Coefficients(NamedTuple):
    r"""Amplitude equations: $\dot r_k = r_k\sum_j a_{kj}r_j^2$, or $r_k\mapsto r_k(1+\sum_j a_{kj}r_j^2)$ per step.

    Attributes:
        values: the critical eigenvalues, one of each pair, complex, shape (m,).
        cubic: $a_{kj}$, shape (m, m).
        errors: bounds on what is left of them when the game's numbers are off by rounding in double precision, (m, m);
            they themselves are known to `ROUNDING`.
        rotations: likewise the third-order terms of the angles, $\dot\varphi_k=\omega_k+\sum_jb_{kj}r_j^2$, (m, m).
        quadratic: at a single real eigenvalue 0 (flows) or 1 (maps) the coefficient a of $\dot x=ax^2$; else 0.
        quadratic_error: likewise.
        coupling: where a resonance adds a term to a single pair's equation (1:4), its modulus; else 0.
        second: the vectors $h_m$ of second order of the centre manifold, by the numbers of the two modes.
    """

    values: np.ndarray
    cubic: np.ndarray
    errors: np.ndarray
    rotations: np.ndarray
    quadratic: float = 0.0
    quadratic_error: float = 0.0
    coupling: float = 0.0
    second: dict[tuple[int, ...], np.ndarray] = {}


def coefficients_of(expansion: Expansion, modes: tuple[Mode, ...]) -> Task[Coefficients]:
    r"""Reduce a map or field to its centre manifold, and that to normal form.

    With $x=\sum_iz_iq_i+\sum_{|m|=2}h_mz^m$ and $B=D^2F$, $C=D^3F$ the coefficient of $z^m$, $|m|=2$, in
    $\tfrac12B[x,x]$ gives $h_m=(\lambda_m-J)^{-1}b_m$, with $\lambda_m=\prod_i\lambda_i^{m_i}$ for maps and
    $\sum_im_i\lambda_i$ for flows, and the coefficient of $z_kz_j\bar z_j$ in $\tfrac12B[x,x]+\tfrac16C[x,x,x]$,
    times the left vector of mode k, is $g_{kj}$: $a_{kj}=\Re g_{kj}$ for flows, $\Re\bar\lambda_kg_{kj}$ for maps.
    For a single pair this is $\omega$ times half the first Lyapunov coefficient, by the scale of the vectors.
    Source: Coullet and Spiegel, Amplitude Equations for Systems with Competing Instabilities, 1983; Kuznetsov,
    Numerical Normalization Techniques for All Codim 2 Bifurcations of Equilibria in ODE's, 1999, and Elements of
    Applied Bifurcation Theory, 3rd edition, equations (5.39), (5.62), (5.66) and (5.74).

    Args:
        expansion: the map or field.
        modes: its critical eigenvalues, all of them.

    Raises:
        NotDecided: a resonance, named, whose terms do not vanish.
    """
    if len(modes) > MOST_MODES:
        raise NotDecided(f"{len(modes)} eigenvalues are on the boundary; amplitude equations are made for {MOST_MODES}")
    return (yield from _Reduction(expansion, modes).coefficients())


class _Reduction:
    def __init__(self, expansion: Expansion, modes: tuple[Mode, ...]):
        self.expansion, self.modes = expansion, modes
        self.discrete = expansion.discrete
        self.context = expansion.context
        scale = float(self.context.norm(list(expansion.jacobian.ravel())))
        self.near = NEAR * (1.0 if self.discrete else max(scale, 1e-300))
        self.second: dict[tuple[int, ...], np.ndarray] = {}
        self.shift: dict[tuple[int, ...], np.ndarray] = {}
        self.quadratic = self.quadratic_error = 0.0

    def coefficients(self) -> Task[Coefficients]:
        count = len(self.modes)
        for pair in itertools.combinations_with_replacement(range(count), 2):
            yield from self.reduce(pair)
        chosen = [k for k in range(count) if k <= self.modes[k].conjugate]
        cubic, errors, rotations = np.zeros((3, len(chosen), len(chosen)))
        coupling = 0.0
        if abs(self.quadratic) > self.quadratic_error > 0:  # the second order decides
            return self._collected(chosen, cubic, errors, rotations, coupling)
        for monomial in itertools.combinations_with_replacement(range(count), 3):
            value = self.eigenvalue(monomial)
            resonant = [row for row, k in enumerate(chosen) if abs(value - self.modes[k].value) <= self.near]
            if not resonant:
                continue
            term, size = yield from self.third(monomial)
            for row in resonant:
                mode = self.modes[chosen[row]]
                length = self.context.norm(list(mode.left))
                g, error = mode.left @ term, float(ROUNDING * length * size)
                if self.discrete:
                    g = self.context.conj(mode.value) * g
                column = self.squared(monomial, chosen[row], chosen)
                if column is not None:
                    cubic[row, column] = float(self.context.re(g))
                    rotations[row, column] = float(self.context.im(g))
                    errors[row, column] = MEANT / ROUNDING * error
                elif abs(g) > error:
                    if len(chosen) > 1:
                        raise NotDecided(self.resonance(monomial, chosen[row]))
                    coupling += float(abs(g)) + error
        return self._collected(chosen, cubic, errors, rotations, coupling)

    def _collected(self, chosen, cubic, errors, rotations, coupling) -> Coefficients:
        values = np.array([complex(self.modes[k].value) for k in chosen])
        return Coefficients(
            values, cubic, errors, rotations, self.quadratic, self.quadratic_error, coupling, self.shift
        )

    def eigenvalue(self, monomial: tuple[int, ...]) -> Any:
        values = [self.modes[i].value for i in monomial]
        return self.context.fprod(values) if self.discrete else self.context.fsum(values)

    def squared(self, monomial: tuple[int, ...], k: int, chosen: list[int]) -> int | None:
        """The j of a monomial $z_k|z_j|^2$, as its place among the chosen modes; `None` for any other."""
        rest = list(monomial)
        if k not in rest:
            return None
        rest.remove(k)
        first, second = rest
        if self.modes[first].conjugate != second:
            return None
        return chosen.index(min(first, second))

    def reduce(self, pair: tuple[int, ...]) -> Task[None]:
        """The terms of second order: solved for where they are not resonant, and refused where they are."""
        i, j = pair
        term = yield from self.expansion.derivative(self.modes[i].right, self.modes[j].right)
        if i == j:
            term = term / 2
        self.second[pair] = term
        size = self.context.norm(list(term))
        if size == 0:
            self.shift[pair] = term
            return
        value = self.eigenvalue(pair)
        resonant = [mode for mode in self.modes if abs(value - mode.value) <= self.near]
        for mode in resonant:
            g, error = mode.left @ term, ROUNDING * self.context.norm(list(mode.left)) * size
            if abs(g) <= error:
                continue
            if len(self.modes) > 1:
                raise NotDecided(self.resonance(pair, self.modes.index(mode)))
            self.quadratic, self.quadratic_error = float(g), float(MEANT / ROUNDING * error)
        self.shift[pair] = self.solve(value, term, resonant)

    def solve(self, value: Any, term: np.ndarray, resonant: list[Mode]) -> np.ndarray:
        """h with $(\\lambda-J)h=b$, where that is singular on the complement of the resonant modes."""
        size, extra = self.expansion.size, len(resonant)
        matrix, right = self.context.matrix(size + extra, size + extra), self.context.matrix(size + extra, 1)
        for row in range(size):
            right[row] = term[row]
            for column in range(size):
                matrix[row, column] = (value if row == column else 0) - self.expansion.jacobian[row, column]
            for place, mode in enumerate(resonant):
                matrix[row, size + place] = mode.right[row]
                matrix[size + place, row] = mode.left[row]
        solution = self.context.lu_solve(matrix, right)
        return np.array([solution[row] for row in range(size)], object)

    def third(self, monomial: tuple[int, ...]) -> Task[tuple[np.ndarray, Any]]:
        """The coefficient of a monomial of third order, and the size of the terms that it is a sum of."""
        vectors = [self.modes[i].right for i in monomial]
        orders = len(set(itertools.permutations(monomial)))
        terms = [(yield from self.expansion.derivative(*vectors)) * orders / 6]
        for i in sorted(set(monomial)):
            rest = list(monomial)
            rest.remove(i)
            shift = self.shift[tuple(rest)]
            if np.any(shift != 0):
                terms.append((yield from self.expansion.derivative(self.modes[i].right, shift)))
        total = exact(np.zeros(self.expansion.size))
        for term in terms:
            total = total + term
        return total, sum(self.context.norm(list(term)) for term in terms)

    def resonance(self, monomial: tuple[int, ...], k: int) -> str:
        """What to tell about a resonance."""
        values = ", ".join(f"{complex(self.modes[i].value):.6g}" for i in sorted(set(monomial)))
        what = "product" if self.discrete else "sum"
        return (
            f"resonance: the eigenvalue {complex(self.modes[k].value):.6g} is a {what} of {len(monomial)} among "
            f"{values}, and its term of order {len(monomial)} does not vanish"
        )
