"""Compiling quickly what runs for milliseconds, and calling at little cost what is compiled."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import equinox as eqx
import jax
from jax.core import Tracer

from dynamics._functions import comparable

QUICKLY: dict[str, Any] = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


def compile_quickly(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compile without the costly optimisations, as far as this version of the compiler knows the options."""
    return lowered.compile(compiler_options=quick_options())


@functools.cache
def quick_options() -> dict[str, Any]:
    """Those options of `QUICKLY` that this version of the compiler knows."""
    lowered = jax.jit(lambda x: x).lower(jax.ShapeDtypeStruct((), jax.numpy.int32))
    known = {}
    for name, value in QUICKLY.items():
        try:
            lowered.compile(compiler_options={name: value})
        except Exception:  # an option of the compiler's own that is gone
            continue
        known[name] = value
    return known


def filter_jit_quickly(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`equinox.filter_jit` without the costly optimisations of the compiler; `options` are those of `filter_jit`."""

    @functools.cache  # asked for at the first call: it starts JAX's backend
    def program() -> Callable[..., Any]:
        jit: Any = eqx.filter_jit
        return jit(function, compiler_options=quick_options(), **options)

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        return program()(*arguments, **named)

    return call


def quick_jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` for programs that are compiled for a few calls; positional arguments of arrays only."""
    programs: dict[Any, jax.stages.Compiled] = {}

    def call(*arguments: Any) -> Any:
        leaves, structure = jax.tree.flatten(arguments)
        kind = structure, tuple((jax.numpy.shape(leaf), jax.numpy.result_type(leaf)) for leaf in leaves)
        if kind not in programs:
            programs[kind] = compile_quickly(jax.jit(function).lower(*arguments))
        return programs[kind](*arguments)

    return call


class Structure:
    """What a program depends on of its arguments besides their arrays: the tree, and the leaves that are no arrays.

    Two are equal when one compiled program serves both, as far as shapes and dtypes agree.
    """

    __slots__ = ("_hash", "leaves", "tree")

    def __init__(self, tree: Any, leaves: tuple[Any, ...]):
        self.tree, self.leaves = tree, leaves
        self._hash = hash((tree, leaves))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: Any) -> bool:
        return self is other or (
            isinstance(other, Structure)
            and self._hash == other._hash
            and self.tree == other.tree
            and self.leaves == other.leaves
        )

    def filled(self, arrays: Iterable[Any]) -> Any:
        """The tree with these arrays."""
        rest = iter(arrays)

        def fill(leaf: Any) -> Any:
            if leaf is _ARRAY:
                return next(rest)
            if type(leaf) is _Bound:
                given, named = leaf.structure.filled(rest)
                return jax.tree_util.Partial(leaf.function, *given, **named)
            return leaf

        return jax.tree.unflatten(self.tree, map(fill, self.leaves))


class _Array:
    """Stands where a tree has an array."""


class _Bound(NamedTuple):
    """Stands where a tree has a `jax.tree_util.Partial`."""

    function: Any
    structure: Structure


_ARRAY = _Array()


def taken_apart(tree: Any) -> tuple[list[Any], Structure]:
    """The arrays of a tree, and the rest, in which functions that do the same are equal.

    Raises:
        TypeError: something that is no array cannot be hashed.
    """
    arrays: list[Any] = []

    def take(leaf: Any) -> Any:
        if eqx.is_array(leaf):
            arrays.append(leaf)
            return _ARRAY
        if type(leaf) is jax.tree_util.Partial:
            inner, structure = taken_apart((leaf.args, leaf.keywords))
            arrays.extend(inner)
            return _Bound(comparable(leaf.func), structure)
        return comparable(leaf)

    leaves, structure = jax.tree.flatten(tree, is_leaf=_is_partial)
    return arrays, Structure(structure, tuple(map(take, leaves)))


def _is_partial(node: Any) -> bool:
    return type(node) is jax.tree_util.Partial


def sharing(tree: Any) -> Any:
    """The tree with functions that are equal to others that do the same, for what is compiled once for equal ones."""

    def share(leaf: Any) -> Any:
        if _is_partial(leaf):
            return jax.tree_util.Partial(comparable(leaf.func), *sharing(leaf.args), **sharing(leaf.keywords))
        return comparable(leaf)

    return jax.tree.map(share, tree, is_leaf=_is_partial)


def kind_of(tree: Any) -> Any:
    """What a program that is traced for a tree depends on, for a table; `None` where that cannot be hashed."""
    try:
        arrays, structure = taken_apart(tree)
    except TypeError:
        return None
    kinds = tuple((array.shape, array.dtype, getattr(array, "weak_type", False)) for array in arrays)
    config = jax.config
    return (
        structure,
        kinds,
        config.jax_enable_x64,
        config.jax_numpy_rank_promotion,
        config.jax_numpy_dtype_promotion,
    )


_results: dict[Any, Any] = {}  # of `once_per_kind`


def once_per_kind(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns that looks at shapes and types only; called once for all arguments of a kind."""
    kind = kind_of(arguments)
    if kind is None:
        return function(*arguments)
    if (function, kind) not in _results:
        result = function(*arguments)
        if len(_results) >= 4096:
            _results.clear()
        _results[function, kind] = result
    return _results[function, kind]


@jax.tree_util.register_static
class _Static:
    """Hands what is no array out of a compiled program."""

    def __init__(self, structure: Structure):
        self.structure = structure

    def __hash__(self) -> int:
        return hash(self.structure)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Static) and self.structure == other.structure


def cheap_jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`equinox.filter_jit` at a fifth of the cost of a call; positional arguments only.

    Arrays are traced, all else is static; `options` are those of `jax.jit`.
    """
    jit: Any = eqx.filter_jit
    errors = jit(function, **options)

    @functools.partial(jax.jit, static_argnums=0, **options)
    @functools.wraps(function)
    def compiled(structure: Structure, arrays: list[Any]) -> tuple[list[Any], _Static]:
        arrays, structure = taken_apart(function(*structure.filled(arrays)))
        return arrays, _Static(structure)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        arrays, structure = taken_apart(arguments)
        try:
            arrays, static = compiled(structure, arrays)
            if not any(isinstance(array, Tracer) for array in arrays):
                jax.block_until_ready(arrays)
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            if "_EquinoxRuntimeError: " not in str(error):
                raise
            return errors(*arguments)  # which words what went wrong inside of a compiled program
        return static.structure.filled(arrays)

    return call
