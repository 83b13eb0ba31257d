r"""Tier B of sweeps on a GPU: the whole run of many games in one kernel, their state in registers.

Plain XLA (tier A) starts kernels at every iteration of a loop and writes the state to memory between them. Here the
program of a block of games is rewritten so that every number of a game is a value of its own, held by the one thread
that owns the game; all loops run inside one kernel (`jax.experimental.pallas`, compiled by Triton), which reads every
array once and writes every result once. A loop that ends when all games of a block are decided ends for each block by
itself.

What is rewritten is the jaxpr, so that games and methods need to know nothing of it. Small arrays (a player with three
numbers, a 2 x 2 matrix) are taken apart, sums and products over them written out. What the language of kernels lacks
(linear algebra, random numbers, gathers) stays outside: when only a part of a program can be rewritten, its loops
become the kernel and the rest is plain XLA, block after block, so that the bits of a game do not depend on how many
blocks there are; when no loop can be, `run_blocks` is `jax.lax.map`, and `choose` says why.

How to call it, in place of `jax.lax.map(block, arrays)` with arrays of shape (blocks, ..., lanes):

    run_blocks(block, arrays, platform=devices[0].platform)

inside the compiled function of a chunk (also inside `jax.shard_map` with `check_vma=False`). `block` gets one argument,
as under `jax.lax.map`, with leaves of shape (..., lanes), for *any* number of lanes: it may not have a number of lanes
built in, and a game must not depend on its neighbours, except in the condition of a loop (`until_decided`). On any
other platform than a GPU it is `jax.lax.map`, to the bit.

For arrays that are not cut into blocks there is `in_one_kernel`.
"""

import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from dynamics.compiler._jax import ClosedJaxpr, Jaxpr, Var, bind, is_literal
from dynamics.compiler.errors import Unsupported
from dynamics.compiler.gpu.interpreter import LOOPS
from dynamics.compiler.gpu.kernel import in_kernel, plan_of
from dynamics.compiler.jaxprs import inlined, same_type

logger = logging.getLogger(__name__)

LANES = 128  # games of a program instance: one per thread of four warps
FEWEST_GAMES = 1_000  # below, starting the kernel costs more than the run


class Choice(NamedTuple):
    """How a program runs.

    Attributes:
        tier: "A", plain XLA, or "B", in kernels.
        reason: why not in one kernel: empty when all of the program is in it.
    """

    tier: Literal["A", "B"]
    reason: str


# Which part of a program becomes a kernel


class _Part(NamedTuple):
    """Equations of a program that become a kernel."""

    numbers: frozenset[int]
    inputs: list[Var]
    outputs: list[Var]
    program: ClosedJaxpr


def _part(jaxpr: Jaxpr, known: dict[Var, np.ndarray], numbers: frozenset[int]) -> _Part:
    """Some equations as a program of their own."""
    chosen = [jaxpr.eqns[number] for number in sorted(numbers)]
    made = {variable for eqn in chosen for variable in eqn.outvars}
    used = dict.fromkeys(atom for eqn in chosen for atom in eqn.invars if not is_literal(atom))
    inputs = [variable for variable in used if variable not in made and variable not in known]
    others = [jaxpr.eqns[number].invars for number in range(len(jaxpr.eqns)) if number not in numbers]
    wanted = {atom for atoms in (*others, jaxpr.outvars) for atom in atoms if not is_literal(atom)}
    outputs = [variable for variable in dict.fromkeys(v for e in chosen for v in e.outvars) if variable in wanted]

    def evaluated(*arrays: Any) -> list[Any]:
        values = {**known, **dict(zip(inputs, arrays, strict=True))}
        for eqn in chosen:
            found = bind(eqn, [a.val if is_literal(a) else values[a] for a in eqn.invars])
            values.update(zip(eqn.outvars, found, strict=True))
        return [values[variable] for variable in outputs]

    program = jax.make_jaxpr(evaluated)(*(same_type(variable.aval) for variable in inputs))
    return _Part(numbers, inputs, outputs, program)


def _parts(flat: ClosedJaxpr, known: dict[Var, np.ndarray], games: int, lanes: int) -> tuple[list[_Part], str]:
    """The parts of a program that become kernels, and why not all of it is one."""
    jaxpr = flat.jaxpr
    loops = [number for number, eqn in enumerate(jaxpr.eqns) if eqn.primitive.name in LOOPS]
    if not loops:
        return [], "there is no loop"

    def attempt(numbers: frozenset[int]) -> _Part | str:
        try:
            part = _part(jaxpr, known, numbers)
            plan_of(part.program, games, lanes)
            return part
        except Unsupported as unsupported:
            return str(unsupported)

    whole = attempt(frozenset(range(len(jaxpr.eqns))))
    if isinstance(whole, _Part):
        return [whole], ""
    single = [attempt(frozenset({number})) for number in loops]
    fine = [part for part in single if isinstance(part, _Part)]
    if not fine:
        return [], next(part for part in single if isinstance(part, str))
    if len(fine) > 1:
        between = attempt(_between(jaxpr, frozenset().union(*(part.numbers for part in fine))))
        if isinstance(between, _Part):
            return [between], whole
    return fine, whole


def _between(jaxpr: Jaxpr, numbers: frozenset[int]) -> frozenset[int]:
    """These equations and all that lie on the way from one to another."""
    after, makers = set(numbers), {}
    reached: set[Var] = set()
    for number, eqn in enumerate(jaxpr.eqns):
        makers.update((variable, number) for variable in eqn.outvars)
        if number in numbers or reached.intersection(a for a in eqn.invars if not is_literal(a)):
            after.add(number)
            reached.update(eqn.outvars)
    before, needed = set(), set()
    for number in range(len(jaxpr.eqns) - 1, -1, -1):
        if number in numbers or number in needed:
            before.add(number)
            needed.update(makers[a] for a in jaxpr.eqns[number].invars if not is_literal(a) and a in makers)
    return frozenset(after & before)


def can_run(jaxpr: ClosedJaxpr, *, games: int, platform: str = "cuda", lanes: int = LANES) -> str | None:
    """Why a whole program cannot become one kernel, or `None` if it can.

    Args:
        jaxpr: of all games at once; their axis is the one as long as there are games.
        games: a multiple of `lanes`.
        platform: "gpu" or "cuda".
        lanes: games of a program instance.
    """
    if platform not in ("gpu", "cuda"):
        return f"the platform is {platform}"
    try:
        plan_of(jaxpr, games, lanes)
    except Unsupported as unsupported:
        return str(unsupported)
    return None


def choose(block: Callable, arrays: PyTree, *, platform: str, tier: Literal["A", "B"] | None = None) -> Choice:
    """The tier in which `run_blocks` runs a block, and why.

    Args:
        block, arrays, platform: as for `run_blocks`; shapes and types of the arrays are enough.
        tier: override the choice by size; what cannot become a kernel is plain XLA nevertheless.
    """
    return _chosen(block, arrays, platform, tier, LANES)[0]


def _chosen(block: Callable, arrays: PyTree, platform: str, tier, lanes: int) -> tuple[Choice, Any]:
    leaves = jax.tree.leaves(arrays)
    blocks, own = leaves[0].shape[0], leaves[0].shape[-1]
    if tier == "A" or platform not in ("gpu", "cuda"):
        return Choice("A", "as wished" if tier == "A" else f"the platform is {platform}"), None
    if tier is None and blocks * own < FEWEST_GAMES:
        return Choice("A", f"{blocks * own} games, fewer than {FEWEST_GAMES}"), None
    if any(leaf.ndim < 2 or (leaf.shape[0], leaf.shape[-1]) != (blocks, own) for leaf in leaves):
        return Choice("A", "arrays that are not of shape (blocks, ..., lanes)"), None
    games = -(-blocks * own // lanes) * lanes
    if any(games in leaf.shape[1:-1] for leaf in leaves):
        return Choice("A", "an axis as long as there are games"), None
    try:
        closed, results = _traced(block, arrays, games)
    except Exception as error:  # a block that has its number of lanes built in
        return Choice("A", f"the block does not take {games} lanes: {type(error).__name__}: {error}"), None
    flat = inlined(closed)
    given = itertools.zip_longest(flat.jaxpr.invars, closed.consts)
    fixed = [*zip(flat.jaxpr.constvars, flat.consts, strict=True), *given]
    known = {variable: np.asarray(constant) for variable, constant in fixed if _is_known(constant)}
    parts, reason = _parts(flat, known, games, lanes)
    if not parts:
        return Choice("A", reason), None
    work = _Work(flat, flat, parts, closed.consts, results, games)
    if reason:
        one_block = inlined(_traced(block, arrays, own)[0])
        if not _correspond(flat, one_block, games, own):
            return Choice("A", "a block whose program depends on the number of lanes"), None
        work = work._replace(one_block=one_block)
    return Choice("B", reason), work


class _Work(NamedTuple):
    """A program whose loops become kernels.

    Attributes:
        all_games: of all games at once, from which the kernels are made.
        one_block: of a block, from which the rest is: a game's numbers may not depend on how many blocks there are.
        parts: the kernels.
        constants: the first inputs.
        results: shapes of the results of all games.
        games: how many, filled up to a multiple of the lanes of a kernel.
    """

    all_games: ClosedJaxpr
    one_block: ClosedJaxpr
    parts: list[_Part]
    constants: list[Any]
    results: PyTree
    games: int


def _traced(block: Callable, arrays: PyTree, lanes: int) -> tuple[ClosedJaxpr, PyTree]:
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*leaf.shape[1:-1], lanes), leaf.dtype), arrays)
    return jax.make_jaxpr(block, return_shape=True)(shapes)


def _is_known(constant: Any) -> bool:
    if constant is None or isinstance(constant, jax.core.Tracer):
        return False
    return not jax.dtypes.issubdtype(constant.dtype, jax.dtypes.extended)


def _correspond(all_games: ClosedJaxpr, one_block: ClosedJaxpr, games: int, own: int) -> bool:
    """Whether two programs are the same but for the number of games."""

    def lines(closed: ClosedJaxpr, count: int) -> list[Any]:
        jaxpr = closed.jaxpr
        heads = [(None, jaxpr.constvars), (None, jaxpr.invars)]
        eqns = [(eqn.primitive, eqn.outvars) for eqn in jaxpr.eqns]
        return [
            (primitive, [(tuple(-1 if n == count else n for n in v.aval.shape), v.aval.dtype) for v in variables])
            for primitive, variables in (*heads, *eqns)
        ]

    return lines(all_games, games) == lines(one_block, own)


def run_blocks(
    block: Callable[[PyTree], PyTree],
    arrays: PyTree,
    *,
    platform: str,
    tier: Literal["A", "B"] | None = None,
    lanes: int = LANES,
    interpret: bool = False,
) -> PyTree:
    """`jax.lax.map(block, arrays)`, on a GPU in one kernel where that can be.

    Args:
        block: a function of one argument with leaves of shape (..., lanes), for any number of lanes; its results have
            an axis as long as there are lanes, or are the same for all.
        arrays: leaves of shape (blocks, ..., lanes).
        platform: of the devices, "gpu" for instance, known when the program is traced.
        tier: override the choice: "A" is `jax.lax.map`, "B" a kernel however few games there are.
        lanes: games of a program instance, a power of two.
        interpret: run the kernel on any platform, slowly, to look at its numbers.

    Returns:
        what `jax.lax.map` returns.

    >>> rates = jnp.linspace(0.1, 0.2, 6).reshape(2, 3)
    >>> def block(rate):
    ...     return jax.lax.fori_loop(0, 10, lambda _, x: x - rate * x, jnp.ones_like(rate))
    >>> found = run_blocks(block, rates, platform="gpu", tier="B", interpret=True)
    >>> bool(jnp.allclose(found, jax.lax.map(block, rates)))
    True
    """
    choice, work = _chosen(block, arrays, "gpu" if interpret else platform, tier, lanes)
    logger.debug("tier %s: %s", *choice)
    found = None if work is None else _evaluated(work, jax.tree.leaves(arrays), lanes, interpret)
    return jax.lax.map(block, arrays) if found is None else jax.tree.unflatten(jax.tree.structure(work.results), found)


def _evaluated(work: _Work, leaves: list[Array], lanes: int, interpret: bool) -> list[Array] | None:
    """The program with its parts in kernels over all games, each as soon as all it needs is there.

    `None` where what a kernel needs is not the same in all blocks: something was taken over the games of a block.
    """
    all_games, one_block = work.all_games.jaxpr, work.one_block.jaxpr
    blocks, own = leaves[0].shape[0], leaves[0].shape[-1]
    places = dict(zip(all_games.constvars, one_block.constvars, strict=True))
    places |= dict(zip(all_games.invars, one_block.invars, strict=True))
    for first, second in zip(all_games.eqns, one_block.eqns, strict=True):
        places.update(zip(first.outvars, second.outvars, strict=True))
    constants = [*one_block.constvars, *one_block.invars[: len(work.constants)]]
    shared: dict[Var, Any] = dict(zip(constants, [*work.one_block.consts, *work.constants], strict=True))
    stacked: dict[Var, Array] = dict(zip(one_block.invars[len(work.constants) :], leaves, strict=True))
    shapes: dict[Var, tuple[int, ...]] = {places[v]: v.aval.shape for v in places}

    def for_all_games(variable: Var) -> Any:
        """A value for all games."""
        shape = shapes[variable]
        if work.games not in shape:
            return shared[variable]
        if variable in shared:
            value = shared[variable]
            leaf = jnp.broadcast_to(value, (blocks, *jnp.shape(value)))
        else:
            leaf = stacked[variable]
        axis = shape.index(work.games)
        leaf = jnp.moveaxis(leaf, 0, axis)
        leaf = leaf.reshape(*leaf.shape[:axis], blocks * own, *leaf.shape[axis + 2 :])
        widths = [(0, work.games - blocks * own if place == axis else 0) for place in range(leaf.ndim)]
        return jnp.pad(leaf, widths, mode="edge")  # copies of the last game

    def in_blocks(variable: Var, leaf: Array) -> None:
        shape = shapes[variable]
        if work.games not in shape:
            shared[variable] = leaf
            return
        axis = shape.index(work.games)
        leaf = jax.lax.slice_in_dim(leaf, 0, blocks * own, axis=axis)
        leaf = leaf.reshape(*leaf.shape[:axis], blocks, own, *leaf.shape[axis + 1 :])
        stacked[variable] = jnp.moveaxis(leaf, axis, 0)

    def read(atom: Any, values: dict[Var, Any]) -> Any:
        if is_literal(atom):
            return atom.val
        return values[atom] if atom in values else shared[atom]

    def without_kernel(numbers: list[int]) -> None:
        """Equations that are no part of a kernel, block after block."""
        chosen = [one_block.eqns[number] for number in numbers]
        needs = {atom for eqn in chosen for atom in eqn.invars if not is_literal(atom)}
        makes = {variable for eqn in chosen for variable in eqn.outvars}
        rest = [one_block.eqns[n].invars for n in range(len(one_block.eqns)) if n not in numbers]
        wanted = {atom for atoms in (*rest, one_block.outvars) for atom in atoms if not is_literal(atom)}
        kept = [variable for e in chosen for variable in e.outvars if variable in wanted & makes]

        def one(values: dict[Var, Any]) -> list[Any]:
            values = dict(zip(inputs, values, strict=True))
            for eqn in chosen:
                found = bind(eqn, [read(atom, values) for atom in eqn.invars])
                values.update(zip(eqn.outvars, found, strict=True))
            return [values[variable] for variable in kept]

        inputs = [variable for variable in stacked if variable in needs]
        if inputs:
            stacked.update(zip(kept, jax.lax.map(one, [stacked[variable] for variable in inputs]), strict=True))
        else:
            shared.update(zip(kept, one([]), strict=True))

    def there(variables: Sequence[Any], also: set[Var]) -> bool:
        return all(v in shared or v in stacked or v in also for v in variables if not is_literal(v))

    inside = {number for part in work.parts for number in part.numbers}
    waiting, parts = [number for number in range(len(one_block.eqns)) if number not in inside], list(work.parts)
    while waiting or parts:
        fixed: list[int] = []
        ready: list[int] = []
        alike: set[Var] = set()  # the same in all blocks
        makes: set[Var] = set()
        for number in waiting:
            atoms = one_block.eqns[number].invars
            if all(atom in shared or atom in alike for atom in atoms if not is_literal(atom)):
                fixed.append(number)
                alike.update(one_block.eqns[number].outvars)
            elif there(atoms, alike | makes):
                ready.append(number)
                makes.update(one_block.eqns[number].outvars)
        for numbers in (fixed, ready):
            if numbers:
                without_kernel(numbers)
        waiting = [number for number in waiting if number not in {*fixed, *ready}]
        for part in [part for part in parts if there([places[v] for v in part.inputs], set())]:
            inputs = [places[variable] for variable in part.inputs]
            if any(variable in stacked and work.games not in shapes[variable] for variable in inputs):
                return None
            arrays = [for_all_games(variable) for variable in inputs]
            made = in_kernel.bind(*arrays, jaxpr=part.program, games=work.games, lanes=lanes, interpret=interpret)
            for variable, leaf in zip(part.outputs, made, strict=True):
                in_blocks(places[variable], leaf)
            parts = [other for other in parts if other is not part]

    def result(atom: Any) -> Array:
        if not is_literal(atom) and atom in stacked:
            return stacked[atom]
        value = jnp.asarray(read(atom, {}))
        return jnp.broadcast_to(value, (blocks, *value.shape))

    return [result(atom) for atom in one_block.outvars]


def in_one_kernel(
    function: Callable[..., PyTree], *, lanes: int = LANES, interpret: bool = False
) -> Callable[..., PyTree]:
    """A function of arrays of shape (..., games), elementwise over games, as one kernel on a GPU.

    Args:
        function: of as many arrays as wished, for any number of games.
        lanes: games of a program instance, a power of two.
        interpret: run the kernel on any platform.

    Raises:
        Unsupported: when called with a function that cannot become one kernel, with the reason.
    """

    def call(*arrays: PyTree) -> PyTree:
        whole = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], arrays)
        choice, work = _chosen(lambda given: function(*given), whole, "gpu", "B", lanes)
        if choice != ("B", ""):
            raise Unsupported(choice.reason)
        found = run_blocks(
            lambda given: function(*given), whole, platform="gpu", tier="B", lanes=lanes, interpret=interpret
        )
        return jax.tree.map(lambda leaf: leaf[0], found)

    return call


def until_decided(
    step: Callable[[Any, PyTree], PyTree], decided: Callable[[PyTree], Array], state: PyTree, steps: Any
) -> PyTree:
    """Step a block of games until all are decided, or so many times; a decided game stays as it is.

    The result of a game depends on no other one, whatever the blocks.

    Args:
        step: from the number of the step, int32, and the state of a block to the next state.
        decided: from the state to booleans of shape (lanes,).
        state: leaves of shape (..., lanes).
        steps: the most there are.
    """

    def goes_on(carry: tuple[Any, PyTree, Array]) -> Array:
        number, _, finished = carry
        return (number < steps) & ~jnp.all(finished)

    def iteration(carry: tuple[Any, PyTree, Array]) -> tuple[Any, PyTree, Array]:
        number, state, finished = carry
        state = jax.tree.map(lambda old, new: jnp.where(finished, old, new), state, step(number, state))
        return number + 1, state, decided(state)

    return jax.lax.while_loop(goes_on, iteration, (jnp.int32(0), state, decided(state)))[1]
