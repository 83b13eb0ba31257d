"""Hashes of programs and of numbers: whether two processes compute the same."""

import enum
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dynamics.compiler.jaxprs import is_literal


def fingerprint(jaxpr: Any, numbers: Any) -> str:
    """Hash of a program and of the numbers in it, the same in every process.

    Args:
        jaxpr: the program, with its constants.
        numbers: a pytree with what it is given.
    """
    known: dict[int, str] = {}

    def text(value: Any) -> str:
        if hasattr(value, "eqns"):
            if id(value) not in known:
                known[id(value)] = hashlib.sha256(program(value).encode()).hexdigest()
            return known[id(value)]
        if isinstance(value, (np.ndarray, jax.Array)):
            return hash_of(value)
        if isinstance(value, (tuple, list)):
            return "(" + ",".join(text(part) for part in value) + ")"
        if isinstance(value, dict):
            return "{" + ",".join(f"{key}:{text(part)}" for key, part in sorted(value.items())) + "}"
        if value is None or isinstance(value, (str, int, float, complex, np.generic, np.dtype, enum.Enum)):
            return repr(value)
        return type(value).__name__  # functions, shardings and the like, which say where they lie in memory

    def program(value: Any) -> str:
        closed = hasattr(value, "consts")
        jaxpr, constants = (value.jaxpr, value.consts) if closed else (value, ())
        places: dict[Any, int] = {}

        def name(atom: Any) -> str:
            if is_literal(atom):
                return f"{text(atom.val)}:{atom.aval}"
            return f"{places.setdefault(atom, len(places))}:{atom.aval}"

        lines = [" ".join(map(name, (*jaxpr.constvars, *jaxpr.invars))), *map(text, constants)]
        for equation in jaxpr.eqns:
            # The names of functions say nothing about what is computed.
            parameters = {key: parameter for key, parameter in equation.params.items() if key != "name"}
            inputs, outputs = " ".join(map(name, equation.invars)), " ".join(map(name, equation.outvars))
            lines.append(f"{equation.primitive} {inputs} -> {outputs} {text(parameters)}")
        return "\n".join([*lines, " ".join(map(name, jaxpr.outvars))])

    given = [leaf for leaf in jax.tree.leaves(numbers) if isinstance(leaf, (np.ndarray, np.generic, jax.Array))]
    return hashlib.sha256(text([jaxpr, *given]).encode()).hexdigest()


def hash_of(values: Any) -> str:
    """Hash of an array: numbers to the bit, type and shape."""
    if hasattr(values, "dtype") and jnp.issubdtype(values.dtype, jax.dtypes.prng_key):
        return f"{values.dtype} {hash_of(jax.random.key_data(values))}"
    values = np.asarray(values)
    return f"{values.dtype}{list(values.shape)} {hashlib.sha256(values.tobytes()).hexdigest()}"
