"""What a part of the compiler raises when it leaves a program to XLA, and where in the program it was."""

import contextlib
from collections.abc import Iterator
from typing import Any

STAGES = "batching", "lowering"


class Unsupported(Exception):
    """The program cannot be lowered here; the text says why."""


class Unavailable(Exception):
    """Nothing can be compiled on this machine, or with this version of JAX; the text says why."""


@contextlib.contextmanager
def naming(eqn: Any, stage: str = "lowering") -> Iterator[None]:
    """Note at an error in which equation it was: the innermost one, its primitive and its types.

    >>> import jax
    >>> (eqn,) = jax.make_jaxpr(lambda x: x[0])(jax.numpy.ones((2, 3), "float32")).eqns[-1:]
    >>> try:
    ...     with naming(eqn):
    ...         raise Unsupported("an axis of length 1")
    ... except Unsupported as error:
    ...     print(text(error))
    an axis of length 1 (while lowering squeeze: float32[1,3] -> float32[3])
    """
    try:
        yield
    except Exception as error:
        if not _notes(error):
            error.add_note(f"while {stage} {described(eqn)}")
        raise


def described(eqn: Any) -> str:
    """The primitive of an equation, and the types of its inputs and outputs."""
    inputs, outputs = (" ".join(map(_type, atoms)) for atoms in (eqn.invars, eqn.outvars))
    return f"{eqn.primitive.name}: {inputs} -> {outputs}"


def text(error: BaseException) -> str:
    """What an error says, with the equation where it was."""
    return " ".join([str(error), *(f"({note})" for note in _notes(error))])


def _notes(error: BaseException) -> list[str]:
    return [
        note
        for note in getattr(error, "__notes__", ())
        if note.startswith(tuple(f"while {stage} " for stage in STAGES))
    ]


def _type(atom: Any) -> str:
    aval = atom.aval
    return f"{aval.dtype}[{','.join(map(str, aval.shape))}]" if hasattr(aval, "dtype") else str(aval)
