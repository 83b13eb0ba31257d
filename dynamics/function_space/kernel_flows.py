"""Training of a discriminator in the space of a kernel: gradient flow of functions, in closed form or as an ODE."""

import functools
import math
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from dynamics._checks import as_leaf, is_concrete
from dynamics.compiler.twins import with_faster_twin
from dynamics.distributions import Sample
from dynamics.flows import Flow
from dynamics.function_space.kernel_functions import KernelFunction
from dynamics.function_space.kernels.base import Kernel, as_points, check_same_points
from dynamics.game import Game, Losses, Players
from dynamics.objectives import LeastSquares, Objective, Wasserstein
from dynamics.scalars import decayed
from dynamics.simulation import simulate

SPACES = 16, 32, 64  # dimensions of Krylov spaces that are tried, before all eigenvalues
ACCURACY = 64  # rounding units, of the error of an integral in a Krylov space


def trained_discriminator(
    kernel: Kernel,
    objective: Objective,
    real: ArrayLike,
    fake: ArrayLike,
    time: ArrayLike = 1.0,
    *,
    start: KernelFunction | float | Array = 0.0,
    closed_form: bool = True,
    tolerance: float | None = None,
) -> KernelFunction:
    r"""The discriminator after so much time of gradient flow on its loss, as a function: what a wide network learns.

    $\dot f = -k(\cdot, X)\,\partial L_D/\partial f(X)$ for X the real and the fake samples, which stay where they are.

    - `Wasserstein`, in closed form: $f_t = f_0 + t\,(E_{real}k(\cdot,y) - E_{fake}k(\cdot,x))$.
    - `LeastSquares` with targets $\rho$, in closed form: $f_t(X) = \rho + e^{-tKW}(f_0(X)-\rho)$ with the weights W of
      the samples, 1/n and 1/m. Its losses have a factor of one half, so that t is twice the time of a loss without.
    - any other objective: the ODE for $f(X)$, by `dynamics.simulate`.

    Source: Franceschi, de Bezenac, Ayed, Chen, Lamprier, Gallinari, A Neural Tangent Kernel Perspective of GANs, 2022,
    sections 3 and 5; the closed form of least squares for unequal weights follows with $\sqrt W K\sqrt W$.

    Args:
        kernel: k: a `NeuralTangent` for an infinitely wide network.
        objective: what the discriminator minimises.
        real, fake: samples, shape (m, ...) and (n, ...).
        time: t, >= 0.
        start: f_0: a number, or a function in the space of the kernel, as an earlier training returns.
        closed_form: use one where it is known; `False`: always the ODE.
        tolerance: of the ODE's solver, relative and absolute; `None`: 1e-9, in single precision 1e-6.

    Raises:
        TypeError: no kernel, or no objective of single scores.
        ValueError: samples of different shapes, or a negative time.
        RuntimeError: the ODE was not solved up to the time (NaN within a program that is traced).

    >>> from dynamics.function_space.kernels import Gaussian
    >>> critic = trained_discriminator(Gaussian(1.0), Wasserstein(), jnp.ones((1, 1)), jnp.zeros((1, 1)), time=2.0)
    >>> round(float(critic(jnp.ones(1))), 6)  # 2 (1 - exp(-1/2))
    0.786939
    """
    if not isinstance(kernel, Kernel):
        raise TypeError(
            f"kernel is {kernel!r}; expected a Kernel, e.g. dynamics.function_space.kernels.NeuralTangent()"
        )
    if not isinstance(objective, Objective) or objective.takes_vectors:
        raise TypeError(
            f"objective is {objective!r}; expected an Objective of single scores, e.g. dynamics.objectives.Hinge()"
        )
    real, fake = as_points(real, "real"), as_points(fake, "fake")
    check_same_points(real, fake, "real", "fake")
    duration: Any = as_leaf(time)
    if is_concrete(duration) and not 0 <= float(duration) < jnp.inf:
        raise ValueError(f"time is {float(duration):g}; expected a finite number >= 0")
    points = jnp.concatenate([real, fake])
    before = start if isinstance(start, KernelFunction) else None
    offset = start.offset if isinstance(start, KernelFunction) else as_leaf(start)
    scores = jnp.full(len(points), offset, points.dtype) if before is None else before.at(points)
    coefficients = _coefficients(kernel, objective, real, fake, scores, duration, closed_form, tolerance)
    if before is not None:
        points = jnp.concatenate([before.points.astype(points.dtype), points])
        coefficients = jnp.concatenate([before.coefficients.astype(points.dtype), coefficients])
    return KernelFunction(kernel, points, coefficients, offset)


def _coefficients(
    kernel: Kernel,
    objective: Objective,
    real: Array,
    fake: Array,
    scores: Array,
    time: Array,
    closed_form: bool,
    tolerance: float | None,
) -> Array:
    """What the flow adds to the coefficients of kernels at the real, then the fake samples."""
    dtype, count = scores.dtype, len(real)
    weights = jnp.concatenate([jnp.full(len(sample), 1 / len(sample), dtype) for sample in (real, fake)])
    if closed_form and isinstance(objective, Wasserstein):
        return time * jnp.where(jnp.arange(len(weights)) < count, weights, -weights)
    points = jnp.concatenate([real, fake])
    gram = kernel.matrix(points)
    if closed_form and isinstance(objective, LeastSquares):
        targets = jnp.where(jnp.arange(len(weights)) < count, objective.b, objective.a)
        roots = jnp.sqrt(weights)
        # alpha = -W sum of e^(-s K W) (f_0 - rho) over the times s; no inverse of K, which may be singular.
        moved = decaying_integral(roots[:, None] * gram * roots, time, roots * (scores - targets))
        return -roots * moved
    game = FunctionTraining(objective, gram, scores, count)
    return solved(game, time, tolerance)


def solved(game: "FunctionTraining", time: Array, tolerance: float | None) -> Array:
    """The coefficients at a time, by the ODE.

    Raises:
        RuntimeError: the solver has not come so far; within a program that is traced the coefficients are NaN.
    """
    accuracy = tolerance or (1e-9 if game.scores.dtype == jnp.float64 else 1e-6)
    none = jnp.zeros_like(game.scores)
    if is_concrete(time) and float(time) == 0:
        return none
    # Scores are sums of kernels over all samples: coefficients have to be that much more accurate.
    controller = diffrax.PIDController(rtol=accuracy, atol=accuracy / len(none))
    options: dict[str, Any] = {"save_every": "last", "classify": False, "stepsize_controller": controller}
    # Of high order: a product with the matrix of the kernel is what a step costs.
    run = simulate(game, Flow(), (none,), until=time, solver=diffrax.Dopri8(), **options)
    (coefficients,) = run.final
    reached = run.times[-1] >= time * (1 - 1e-5)
    if is_concrete(reached) and not bool(reached):
        raise RuntimeError(
            f"the discriminator's ODE was solved up to time {float(run.times[-1]):g} of {float(time):g}; allow a "
            "larger tolerance, or a shorter time"
        )
    return jnp.where(reached, coefficients, jnp.nan)


class FunctionTraining(Game):
    r"""One player: a discriminator as a function, by the coefficients of kernels at its samples.

    The player $\alpha$ stands for the scores $f_0(X) + K\alpha$. Its loss is the discriminator's, its field
    $\dot\alpha = -\partial L_D/\partial f(X)$: the gradient in the space of functions, not that of the coefficients,
    which would have another factor of K. (The loss is written so that its gradient is that one.)

    Args:
        objective: what the discriminator minimises.
        gram: K, shape (m + n, m + n), of real and fake samples.
        scores: f_0(X), shape (m + n,).
        real: m, how many are real: the first ones.

    >>> game, players = FunctionTraining.example()
    >>> [float(v) for v in game.field(players)[0]]  # of Wasserstein: 1 on the real, -1 on the fake sample
    [1.0, -1.0]
    """

    objective: Objective
    gram: Array
    scores: Array
    real: int = eqx.field(static=True)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        (coefficients,) = players

        def loss(scores: Array) -> Array:
            return self.objective.discriminator(Sample(scores[: self.real]), Sample(scores[self.real :]))

        held = jax.lax.stop_gradient(coefficients)
        value, slope = jax.value_and_grad(loss)(self.scores + self.gram @ held)
        return (value + jnp.sum(jax.lax.stop_gradient(slope) * (coefficients - held)),)

    def equilibria(self) -> tuple[Players, ...]:
        return ()

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        gram = jnp.asarray([[1.0, 0.5], [0.5, 2.0]])
        return cls(Wasserstein(), gram, jnp.zeros(2), 1), (jnp.asarray([0.3, -0.2]),)


def decaying_integral(matrix: Array, time: Array, vector: Array) -> Array:
    r"""$\int_0^t e^{-sA}v\,ds$ for a symmetric positive semi-definite matrix A, singular or not.

    Of large matrices in a Krylov space, as far as a bound on the error allows it (a kernel's eigenvalues decay fast),
    else by all eigenvalues. Derivatives by the divided differences of $(1-e^{-t\lambda})/\lambda$, so that eigenvalues
    may be equal.
    Sources: Saad, Analysis of Some Krylov Subspace Approximations to the Matrix Exponential Operator, 1992, section 3;
    Higham, Functions of Matrices, 2008, theorem 3.11 (Daleckii and Krein).
    """
    return _integral(matrix, jnp.asarray(time, matrix.dtype), vector)


@jax.custom_jvp
def _integral(matrix: Array, time: Array, vector: Array) -> Array:
    if len(vector) < 4 * SPACES[0]:
        return _by_eigenvalues(matrix, time, vector)
    return with_faster_twin(_by_eigenvalues, _in_krylov_spaces)(matrix, time, vector)


def _by_eigenvalues(matrix: Array, time: Array, vector: Array) -> Array:
    values, basis = jnp.linalg.eigh(matrix)
    return basis @ (decayed(time, jnp.maximum(values, 0)) * (basis.T @ vector))


def _in_krylov_spaces(matrix: Array, time: Array, vector: Array) -> Array:
    """In the smallest of the spaces that is accurate enough, and by all eigenvalues where none is."""
    result, missing = jnp.zeros_like(vector), jnp.asarray(True)
    for size in SPACES:
        if 4 * size <= len(vector):
            result, missing = jax.lax.cond(
                missing,
                functools.partial(_in_krylov_space, matrix, time, vector, size),
                lambda result=result, missing=missing: (result, missing),
            )
    return jax.lax.cond(missing, lambda: _by_eigenvalues(matrix, time, vector), lambda: result)


def _in_krylov_space(matrix: Array, time: Array, vector: Array, size: int) -> tuple[Array, Array]:
    """The integral in the space of the first powers of the matrix on the vector, and whether it is not accurate enough.

    By the method of Lanczos, orthogonalised anew at each step. The residual is the next basis vector times the last
    entry of the integral for the tridiagonal matrix, which only grows with time, and the semigroup of a semi-definite
    matrix enlarges nothing: the error is at most the time times the residual at the end.
    """
    unit, length = jnp.finfo(vector.dtype).eps, jnp.linalg.norm(vector)
    start = jnp.zeros((size + 1, len(vector)), vector.dtype).at[0].set(vector / jnp.where(length > 0, length, 1))

    def step(basis: Array, k: Array) -> tuple[Array, tuple[Array, Array]]:
        image = matrix @ basis[k]
        along = basis @ image
        rest = image - along @ basis
        rest = rest - (basis @ rest) @ basis
        norm = jnp.linalg.norm(rest)
        goes_on = norm > unit * jnp.linalg.norm(image)
        norm = jnp.where(goes_on, norm, 0)
        return basis.at[k + 1].set(jnp.where(goes_on, rest / jnp.where(goes_on, norm, 1), 0)), (along[k], norm)

    basis, (diagonal, beside) = jax.lax.scan(step, start, jnp.arange(size))
    values, vectors = jnp.linalg.eigh(jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1))
    values = jnp.maximum(values, 0)
    coordinates = vectors @ (decayed(time, values) * vectors[0])
    bound = time * beside[-1] * jnp.abs(coordinates[-1])
    enough = ACCURACY * unit * jnp.minimum(time, 1 / jnp.where(values[-1] > 0, values[-1], unit))
    return length * (coordinates @ basis[:-1]), ~(bound <= enough)


@_integral.defjvp
def _integral_jvp(primals, tangents):
    (matrix, time, vector), (dmatrix, dtime, dvector) = primals, tangents
    values, basis = jnp.linalg.eigh(matrix)
    values = jnp.maximum(values, 0)
    factors = decayed(time, values)
    inner = basis.T @ vector
    change = basis.T @ ((dmatrix + dmatrix.T) / 2) @ basis
    moved = divided_differences(values, time) * change @ inner + factors * (basis.T @ dvector)
    return _integral(matrix, time, vector), basis @ (moved + dtime * jnp.exp(-time * values) * inner)


def divided_differences(values: Array, time: Array) -> Array:
    r"""$(g(\lambda)-g(\mu))/(\lambda-\mu)$ for $g(\lambda) = (1-e^{-t\lambda})/\lambda$, of all pairs of eigenvalues.

    Of close ones the derivative halfway, $-\int_0^t s\,e^{-s\lambda}ds$: what either way gets wrong is of the order of
    the rounding unit to the power of two thirds.
    """
    one, two = values[:, None], values[None]
    gap = one - two
    close = jnp.abs(gap) * time < jnp.finfo(values.dtype).eps ** (1 / 3)
    quotient = (decayed(time, one) - decayed(time, two)) / jnp.where(close, 1, gap)
    product = time * (one + two) / 2
    small = product < 1e-2
    large = jnp.where(small, 1, product)
    integral = (1 - jnp.exp(-large) * (1 + large)) / jnp.square(large)
    first = sum((-product) ** order / (math.factorial(order) * (order + 2)) for order in range(6))
    return jnp.where(close, -jnp.square(time) * jnp.where(small, first, integral), quotient)
