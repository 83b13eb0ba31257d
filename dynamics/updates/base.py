"""Discrete maps on the whole state: the players and the memory of the method."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optax
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import as_leaf, check_number, described
from dynamics._methods import WithMethods
from dynamics._printing import Printed
from dynamics._trees import replaced
from dynamics.directions import Direction
from dynamics.game import Game, Players, advanced
from dynamics.optimisers import AnyOptimiser, as_transformation, check_optimiser, first_memory, optimiser_step

Projection = Callable[[PyTree], PyTree]
COUNTER_LIMIT = 2**30  # where step counters are held: every bias correction and decay has run its course
replace = replaced  # the same by its older name


class State(Printed):
    """What the next step needs: the players and what the method remembers besides them."""

    players: Players
    memory: PyTree


def check_memory_of(method: Any, game: Game, state: State) -> None:
    """Raise `ValueError` unless the memory of a state is such as the method makes at its players."""
    expected = eqx.filter_eval_shape(method.init, game, state.players)

    def kinds(tree: PyTree) -> Any:
        return jax.tree.structure(tree), [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]

    if kinds(state) != kinds(expected):
        raise ValueError(
            f"the state has the memory {described(state.memory)}, which {type(method).__name__} does not know, as it "
            f"has {described(expected.memory)} at these players; go on with the method that made the state, or pass "
            "run.final to begin anew"
        )


class Update(WithMethods):
    """A training rule as a discrete map of the whole state."""

    @abstractmethod
    def init(self, game: Game, players: Players) -> State:
        """The state before the first step."""

    @abstractmethod
    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        """One step; a key draws the minibatch, `None` takes exact expectations."""

    @classmethod
    @abstractmethod
    def example(cls, players: int = 2) -> "Update":
        """An instance with unequal rates for so many players, for the catalogue and the conformance tests."""


class ThreadedUpdate(Update):
    """An update of several parts, each of which sees the variables of the game that the part before has left."""

    @abstractmethod
    def threaded_step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> tuple[State, Game]:
        """The state after one step, and the game with the variables that the step leaves."""


def threaded_step(update: Update, game: Game, state: State, key: PRNGKeyArray | None = None) -> tuple[State, Game]:
    """The state after one step of any update, and the game with the variables that the step leaves.

    Of an update that is no `ThreadedUpdate` the variables are the same throughout the step, and then updated once, by
    the losses at the players before the step, with the step's key.
    """
    if isinstance(update, ThreadedUpdate):
        return update.threaded_step(game, state, key)
    return update.step(game, state, key), advanced(game, state.players, key)


class Clip(Printed):
    r"""Projection of every parameter to the interval $[-c, c]$: weight clipping.

    Source: Arjovsky, Chintala, Bottou, Wasserstein Generative Adversarial Networks, 2017, algorithm 1.

    Args:
        bound: c, > 0.

    >>> Clip(1.0)({"w": jnp.asarray([-3.0, 0.5])})["w"].tolist()
    [-1.0, 0.5]
    """

    bound: Array = eqx.field(converter=as_leaf)

    def __check_init__(self):
        check_number(self, "bound", above=0)

    def __call__(self, player: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.clip(leaf, -self.bound, self.bound), player)


class Steppers(Printed):
    """One optimiser and one projection per player: turns directions into steps, for every update.

    Attributes:
        optimisers: one per player.
        projections: applied after each step.
        factors: of what the optimisers return, one per player; `None`: nothing is multiplied. See `rescaling.rescaled`.
    """

    optimisers: tuple[AnyOptimiser, ...]
    projections: tuple[Projection | None, ...] | None
    factors: tuple[Array, ...] | None = None

    splices = True  # an update prints what its constructor takes

    def printed_arguments(self) -> list[tuple[str | None, Any]]:
        """The optimisers, and what else there is."""
        others = [(name, getattr(self, name)) for name in ("projections", "factors")]
        return [
            *((None, optimiser) for optimiser in self.optimisers),
            *(pair for pair in others if pair[1] is not None),
        ]

    def __check_init__(self):
        if not self.optimisers:
            raise ValueError("no optimiser was given; expected one per player, e.g. optax.sgd(0.1), optax.sgd(0.2)")
        for optimiser in self.optimisers:
            check_optimiser(optimiser)
        if self.projections is not None and len(self.projections) != len(self.optimisers):
            raise ValueError(
                f"{len(self.projections)} projections for {len(self.optimisers)} optimisers; expected one per player, "
                "None for a player without"
            )

    def init(self, players: Players) -> tuple[PyTree, ...]:
        """The memory of every player's optimiser."""
        if len(players) != len(self.optimisers):
            raise ValueError(f"{len(self.optimisers)} optimisers for {len(players)} players; expected one per player")
        return tuple(
            first_memory(as_transformation(o), parameters)
            for o, parameters in zip(self.optimisers, players, strict=True)
        )

    def advance(
        self, game: Game, players: Players, memory: PyTree, player: int, direction: PyTree, key: PRNGKeyArray | None
    ) -> tuple[PyTree, PyTree]:
        """One player's new parameters and memory after a step along its direction from `players`."""
        transformation = as_transformation(self.optimisers[player])
        gradient = jax.tree.map(jnp.negative, direction)

        def loss() -> Array:
            return game.losses(players, key)[player]

        changes, memory = optimiser_step(transformation, gradient, memory, players[player], loss)
        if self.factors is not None:
            factor = self.factors[player]
            changes = jax.tree.map(lambda change: (factor * change).astype(change.dtype), changes)
        parameters = optax.apply_updates(players[player], changes)
        projection = None if self.projections is None else self.projections[player]
        return parameters if projection is None else projected(projection, parameters, player), memory


def projected(projection: Projection, parameters: PyTree, player: int) -> PyTree:
    """A player's parameters after its projection.

    Raises:
        TypeError: the projection returned something of another structure, shape or dtype.
    """
    result = projection(parameters)
    given, got = jax.tree.structure(parameters), jax.tree.structure(result)
    same = given == got and all(
        eqx.is_array(b) and (jnp.shape(a), a.dtype) == (jnp.shape(b), b.dtype)
        for a, b in zip(jax.tree.leaves(parameters), jax.tree.leaves(result), strict=True)
    )
    if not same:
        raise TypeError(
            f"the projection of player {player} returned {described(result)} for the parameters "
            f"{described(parameters)}; expected the same structure, shapes and dtypes"
        )
    return result


def project(projections: Sequence[Projection | None] | None, players: Players) -> Players:
    """Every player after its projection, if it has one."""
    if projections is None:
        return players
    return tuple(
        parameters if projection is None else projected(projection, parameters, player)
        for player, (parameters, projection) in enumerate(zip(players, projections, strict=True))
    )


def rates_of(rates: tuple[Array, ...], players: Players) -> tuple[Array, ...]:
    """One rate per player, where a single rate is that of all players.

    Raises:
        ValueError: a wrong number of rates.
    """
    if len(rates) not in (1, len(players)):
        raise ValueError(f"{len(rates)} rates for {len(players)} players; expected one number or one per player")
    return rates if len(rates) == len(players) else rates * len(players)


def moved(players: Players, rates: Sequence[Array], directions: Players) -> Players:
    """Every player after a step along its direction, with its rate."""
    return tuple(
        _trees.add_scaled(parameters, rate, direction)
        for parameters, rate, direction in zip(players, rates, directions, strict=True)
    )


DENSE = 64  # unknowns up to which the linear system of an implicit step is solved by elimination


def linear_solver(size: int, tolerance: float) -> lx.AbstractLinearSolver:
    """The solver of the linear systems of implicit steps: elimination for few unknowns, products alone for many."""
    return lx.LU() if size <= DENSE else lx.GMRES(rtol=tolerance, atol=tolerance, restart=64)


def linear_solution(matrix: Callable[[PyTree], PyTree], right: PyTree) -> PyTree:
    """The solution of `matrix(x) = right` to about the last digit; differentiable, and never raises.

    Without `custom_linear_solve` lineax would raise, inside a compiled program, when the solve for a derivative fails.
    """
    structure = jax.eval_shape(lambda: right)
    tolerance = 8 * float(jnp.finfo(_trees.float_dtype(right)).eps)
    solver = linear_solver(_trees.size(right), tolerance)

    def solve(matrix: Callable[[PyTree], PyTree], right: PyTree) -> PyTree:
        operator = lx.FunctionLinearOperator(matrix, structure)
        return lx.linear_solve(operator, right, solver, throw=False).value

    return jax.lax.custom_linear_solve(matrix, right, solve, transpose_solve=solve)


def joint_step(steppers: Steppers, direction: Direction, game: Game, state: State, key: PRNGKeyArray | None) -> State:
    """All players move at once, from the same point."""
    directions = direction(game, state.players, key)
    moved = [
        steppers.advance(game, state.players, memory, player, velocity, key)
        for player, (velocity, memory) in enumerate(zip(directions, state.memory, strict=True))
    ]
    players, memory = zip(*moved, strict=True)
    return State(players, memory)


def sub_steps(order: Sequence[int], repeats: Sequence[int]) -> list[int]:
    """Who moves, sub-step by sub-step: (0, 1) with repeats (1, 2) is [0, 1, 1]; repeats are counted by player."""
    return [player for player in order for _ in range(repeats[player])]


def check_order(order: Sequence[int], repeats: Sequence[int], players: int) -> None:
    """Raise `ValueError` unless every player is in the order and has a number of inner steps."""
    if sorted(order) != list(range(players)):
        raise ValueError(f"order is {tuple(order)}; expected each of the players 0 to {players - 1} once")
    if len(repeats) != players or any(not isinstance(n, int) or n < 1 for n in repeats):
        raise ValueError(f"repeats is {tuple(repeats)}; expected a whole number >= 1 for each of {players} players")


def alternating_step(
    steppers: Steppers,
    direction: Direction,
    order: Sequence[int],
    repeats: Sequence[int],
    game: Game,
    state: State,
    key: PRNGKeyArray | None,
) -> tuple[State, Game]:
    """One player after the other, each seeing what the earlier ones have done, to the game's variables too."""
    players, memory = state.players, state.memory
    for index, player in enumerate(sub_steps(order, repeats)):
        own_key = None if key is None else jax.random.fold_in(key, index)
        aim = direction(game, players, own_key)[player]
        own, own_memory = steppers.advance(game, players, memory[player], player, aim, own_key)
        game = advanced(game, players, own_key)
        players, memory = replaced(players, player, own), replaced(memory, player, own_memory)
    return State(players, memory), game
