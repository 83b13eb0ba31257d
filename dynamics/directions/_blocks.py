"""Blocks of a game's second derivatives as linear maps, and linear systems in such maps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics.game import Game, Players

LinearMap = Callable[[PyTree], PyTree]
SOLVERS = ("iterative", "dense")


def loss_gradient(game: Game, players: Players, loss: int, key: PRNGKeyArray | None = None) -> Players:
    """The gradient of one player's loss with respect to everybody's parameters."""
    return jax.grad(lambda point: game.losses(point, key)[loss])(players)


def block(game: Game, players: Players, row: int, column: int, key: PRNGKeyArray | None = None) -> LinearMap:
    r"""The block $D_{ij} L_i$, i = row, j = column: from tangents of player j to changes of player i's own gradient."""

    def gradient(parameters: PyTree) -> PyTree:
        return _trees.scaled(-1, game.field(_trees.replaced(players, column, parameters), key)[row])

    return jax.linearize(gradient, players[column])[1]


def transpose(linear: LinearMap, tangent: PyTree) -> LinearMap:
    """The transposed map; `tangent` is anything of the shape that `linear` takes."""
    pull = jax.linear_transpose(linear, tangent)
    return lambda cotangent: pull(cotangent)[0]


def hessian(game: Game, players: Players, key: PRNGKeyArray | None = None) -> tuple[Players, LinearMap]:
    r"""The simultaneous gradient $\xi = -v$ and the game's Hessian $H = D\xi$ as a linear map."""
    return jax.linearize(lambda point: _trees.scaled(-1, game.field(point, key)), players)


def without(players: Players, player: int) -> Players:
    """The same with zeros in the place of one player."""
    return _trees.replaced(players, player, jax.tree.map(jnp.zeros_like, players[player]))


def solve(
    linear: LinearMap,
    vector: PyTree,
    solver: str,
    max_steps: int | None = None,
    *,
    symmetric: bool = False,
    regular: bool = False,
) -> PyTree:
    """The x with `linear(x) = vector`, of least norm among the best where there is none or more than one.

    Args:
        linear: a linear map from trees of the shape of `vector` to the same.
        vector: the right-hand side.
        solver: "iterative", products with the map and its transpose only (LSMR), or "dense", a matrix.
        max_steps: bound on the iterations; `None`: ten per number in `vector`.
        symmetric: the map is its own transpose.
        regular: the map has an inverse: "dense" then takes LU instead of singular values.
    """
    if not _trees.size(vector):
        return vector
    if regular:
        # The derivative of an inverse takes one more solution, that of a pseudo-inverse takes several.
        def run(linear: LinearMap, vector: PyTree) -> PyTree:
            return _solve(linear, vector, lx.LU() if solver == "dense" else _iteration(vector, max_steps))

        return jax.lax.custom_linear_solve(linear, vector, run, transpose_solve=run)
    method = lx.SVD() if solver == "dense" else _iteration(vector, max_steps)
    return _solve(linear, vector, method, lx.symmetric_tag if symmetric else ())


def _solve(linear: LinearMap, vector: PyTree, method: lx.AbstractLinearSolver, tags: Any = ()) -> PyTree:
    operator = lx.FunctionLinearOperator(linear, jax.eval_shape(lambda: vector), tags)
    return lx.linear_solve(operator, vector, method, throw=False).value


def _iteration(vector: PyTree, max_steps: int | None) -> lx.LSMR:
    # Relative tolerances alone: how small the gradient is, is no reason to be content with less. Near an equilibrium,
    # and in its Jacobian, small right-hand sides are all there is.
    epsilon = float(jnp.finfo(_trees.float_dtype(vector)).eps)
    return lx.LSMR(rtol=epsilon, atol=0.0, norm=_norm, max_steps=max_steps, conlim=1 / epsilon)


def _norm(tree: PyTree) -> Array:
    # LSMR puts its norms next to Python numbers, which have JAX's default precision, not that of the tree.
    return _trees.norm(tree).astype(jnp.result_type(float))


def check_solver(owner: Any) -> None:
    """Raise `ValueError` unless the fields `solver` and `max_steps` of `owner` are what `solve` knows."""
    name = type(owner).__name__
    if owner.solver not in SOLVERS:
        raise ValueError(f"{name}.solver is {owner.solver!r}; expected one of {', '.join(map(repr, SOLVERS))}")
    steps = owner.max_steps
    if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool) or steps < 1):
        raise ValueError(f"{name}.max_steps is {steps!r}; expected None or a whole number >= 1")


def check_two_players(owner: Any, players: Players) -> None:
    """Raise `ValueError` unless there are two players."""
    if len(players) != 2:
        raise ValueError(
            f"{type(owner).__name__} is defined for two players, this game has {len(players)}; for any number of "
            "players there are Consensus, SymplecticAdjustment, PolicyPrediction, LOLA and SOS"
        )


def check_leader(owner: Any) -> None:
    """Raise `ValueError` unless the field `leader` of `owner` is one of two players."""
    if isinstance(owner.leader, bool) or not isinstance(owner.leader, (int, np.integer)) or owner.leader not in (0, 1):
        raise ValueError(f"{type(owner).__name__}.leader is {owner.leader!r}; expected 0 or 1, the number of a player")
