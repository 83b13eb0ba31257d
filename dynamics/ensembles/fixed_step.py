"""Flows with steps of one length as maps: what many small games need, and the loop of the library runs."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from dynamics import _trees
from dynamics.compiler.jaxprs import depends
from dynamics.flows import Flow
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players
from dynamics.updates.base import State, Update

Tableau = tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]


class FixedStep(Update):
    r"""One explicit Runge-Kutta step of length h along a flow $\dot z = f(t, z)$ of the whole state.

    $k_s = f(t + c_s h,\, z + h \sum_{q<s} a_{sq} k_q)$, $c_s = \sum_q a_{sq}$, then $z^+ = z + h \sum_s b_s k_s$, with
    the coefficients of a diffrax solver. The time is part of the memory if the flow depends on it.

    Args:
        flow: the flow.
        tableau: rows of a below its diagonal, and the weights b.
        length: h, a time.
    """

    flow: AbstractFlow
    tableau: Tableau = eqx.field(static=True)
    length: Array

    def init(self, game: Game, players: Players) -> State:
        state = self.flow.init(game, players)
        start = jnp.zeros((), _trees.float_dtype(state.players))
        leaves, structure = jax.tree.flatten(state)

        def field(time: Array, leaves: list[Array]) -> list[Array]:
            return jax.tree.leaves(self.flow.field(game, time, jax.tree.unflatten(structure, leaves)))

        jaxpr = jax.make_jaxpr(field)(start, leaves).jaxpr
        timed = any(depends(jaxpr, [index == 0 for index in range(len(jaxpr.invars))]))
        return State(state.players, (state.memory, (start,) if timed else ()))

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        memory, clock = state.memory
        begin = State(state.players, memory)
        rows, weights = self.tableau

        def after(coefficients: tuple[float, ...], slopes: list[State]) -> State:
            moved = _trees.combined(coefficients, slopes, self.length)  # lengths times coefficients are made once
            return begin if moved is None else jax.tree.map(jnp.add, begin, moved)

        slopes: list[State] = []
        for row in rows:
            time = clock[0] + sum(row) * self.length if clock else jnp.zeros_like(self.length)
            slopes.append(self.flow.field(game, time, after(row, slopes)))
        end = after(weights, slopes)
        return State(end.players, (end.memory, tuple(time + self.length for time in clock)))

    @classmethod
    def example(cls, players: int = 2) -> Update:
        return cls(Flow.example(players), (((), (1 / 2,)), (0.0, 1.0)), jnp.asarray(0.1))


def tableau_of(solver: Any) -> Tableau | None:
    """The coefficients of an explicit Runge-Kutta solver of diffrax; `None` for any other solver.

    >>> tableau_of(diffrax.Heun())
    (((), (1.0,)), (0.5, 0.5))
    """
    if type(solver) is diffrax.Euler:
        return ((),), (1.0,)
    if not isinstance(solver, diffrax.AbstractERK) or not isinstance(solver.tableau, diffrax.ButcherTableau):
        return None
    rows = ((), *[tuple(map(float, row)) for row in solver.tableau.a_lower])
    weights = tuple(map(float, solver.tableau.b_sol))
    while weights[-1] == 0:  # a stage that serves only to estimate the error, or to begin the next step
        rows, weights = rows[:-1], weights[:-1]
    return rows, weights


def whole_steps(until: Any, options: dict[str, Any]) -> int | None:
    """How many steps of one length an explicit solver makes until then; `None` if that is not what is asked for."""
    controller, length = options.get("stepsize_controller"), options.get("dt0")
    if not isinstance(controller, diffrax.ConstantStepSize) or length is None:
        return None
    if tableau_of(options.get("solver", diffrax.Tsit5())) is None:
        return None
    steps = float(until) / float(length)
    precision = 64 * float(np.finfo(np.asarray(length).dtype).eps)
    return round(steps) if round(steps) >= 1 and abs(steps - round(steps)) <= precision * steps else None
