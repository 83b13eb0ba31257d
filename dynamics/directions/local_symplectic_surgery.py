import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_number
from dynamics.directions import _blocks
from dynamics.directions.base import Direction
from dynamics.game import Game, Players


class LocalSymplecticSurgery(Direction):
    r"""Local symplectic surgery: takes the rotation out of the field near critical points.

    With $\omega = -v$, $J = D\omega$ and $\lambda = \xi_1(1 - e^{-\xi_2\|\omega\|^2})$:
    $d = -\tfrac12\left(\omega + J^\top(J^\top J + \lambda I)^{-1}J^\top\omega\right)$. At a critical point with
    invertible J the Jacobian of d is $-\tfrac12(J + J^\top)$: its spectrum is real, and in a zero-sum game the point
    attracts exactly when it is a strict local Nash equilibrium. With more players, or in general-sum games, the formula
    is the same, but that guarantee is lost. $\|d\| \le \|v\|$ where J is normal; otherwise d can be up to
    $(1+\kappa)/2$ times as long as v, $\kappa$ the condition number of J.

    The inverse is found from the least-squares problem $\min_p \|Jp - \omega\|^2 + \lambda\|p\|^2$. At a critical point
    $\lambda = 0$; where J is singular there, the shortest solution is taken, and the Jacobian of d is
    $-\tfrac12(J + J^\top P)$ with P the projection to the row space of J. The paper approximates p by a second, faster
    recursion; here it is solved for.
    Source: Mazumdar, Jordan, Sastry, On Finding Local Nash Equilibria (and Only Local Nash Equilibria) in Zero-Sum
    Games, 2019.

    Args:
        first: $\xi_1$, > 0: the regularisation far from critical points.
        second: $\xi_2$, > 0: how soon it fades as they come near.
        solver: "dense", by singular values of J, or "iterative", by products with J and its transpose only (conjugate
            gradients), for players with many parameters.
        max_steps: bound on the iterations; `None`: ten per parameter. They need more steps the worse conditioned
            $J^\top J + \lambda I$ is; fewer steps give a shorter correction.

    Raises:
        ValueError: a number is not positive or not finite, or an unknown solver.

    >>> from dynamics.games import PlanarQuadratic
    >>> game = PlanarQuadratic(0.5, 2.0, 0.4)  # f = x^2/4 + 2xy - y^2/5
    >>> d = LocalSymplecticSurgery()(game, (jnp.asarray(1.0), jnp.asarray(3.0)))
    >>> [round(float(x), 3) for x in d]  # without the rotation: -x/2, -2y/5
    [-0.5, -1.2]
    """

    first: Array = eqx.field(converter=as_leaf, default=1e-4)
    second: Array = eqx.field(converter=as_leaf, default=1.0)
    solver: str = eqx.field(static=True, default="dense")
    max_steps: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        check_number(self, "first", above=0)
        check_number(self, "second", above=0)
        _blocks.check_solver(self)

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        point, unravel = ravel_pytree(players)

        def field(z: Array) -> Array:
            return ravel_pytree(game.field(unravel(z), key))[0]

        value, pullback = jax.vjp(field, point)
        regularisation = (-self.first * jnp.expm1(-self.second * jnp.sum(value**2))).astype(point.dtype)
        if self.solver == "dense":
            solution = _shortest_solution(jax.jacfwd(field)(point), value, regularisation)
        else:
            _, forward = jax.linearize(field, point)

            def normal(p: Array) -> Array:
                return pullback(forward(p))[0] + regularisation * p

            # Stops well above the rounding, which in the null space of a singular J has nothing that holds it.
            tolerance = float(jnp.finfo(point.dtype).eps) ** (2 / 3)
            solution, _ = cg(normal, pullback(value)[0], tol=tolerance, maxiter=self.max_steps)
        (adjustment,) = pullback(solution)
        return unravel((value + adjustment) / 2)


def _shortest_solution(jacobian: Array, value: Array, regularisation: Array) -> Array:
    # The derivative of the root is infinite at 0, where it does not matter: there the solution is 0.
    vanishes = regularisation == 0
    root = jnp.where(vanishes, 0, jnp.sqrt(jnp.where(vanishes, 1, regularisation)))
    rows = jnp.concatenate([jacobian, root * jnp.eye(value.size, dtype=value.dtype)])
    wanted = jnp.concatenate([value, jnp.zeros_like(value)])
    return lx.linear_solve(lx.MatrixLinearOperator(rows), wanted, lx.SVD()).value
