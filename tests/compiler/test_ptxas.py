"""Kernels as NVIDIA's assembler makes them: it takes them, nothing is spilled, and a step has few instructions.

Bounds are those of `benchmarks/results/kernels.json`, which `python benchmarks/kernels.py` writes.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.compiler.nvptx import kernel
from tests.test_benchmarks import FOLDER, load

kernels = load("kernels")
pytestmark = pytest.mark.skipif(
    kernels.tool("ptxas") is None, reason="no ptxas: pip install nvidia-cuda-nvcc nvidia-cuda-nvdisasm"
)
RECORDED = json.loads((FOLDER / "results" / "kernels.json").read_text())["rows"]


def recorded(row):
    (one,) = [
        other
        for other in RECORDED
        if all(row[name] == other[name] for name in ("game", "method", "precision", "architecture"))
    ]
    return one


def name_of(program):
    game, method, kind = program
    return f"{game}-{method}-{kind.__name__}"


SLOW = [program for program in kernels.PROGRAMS if program != ("non_saturating", "alternating", np.float32)]


@pytest.mark.slow_cases(*map(name_of, SLOW))
@pytest.mark.parametrize("program", kernels.PROGRAMS, ids=name_of)
def test_a_kernel_has_no_more_than_was_recorded(program):
    for row in kernels.measured(*program, kernels.ARCHITECTURES):
        known = recorded(row)
        assert row["spilled"] == known["spilled"] == 0 and row["stack"] == 0
        assert row["registers"] <= known["registers"] + 8
        if "loops" in row:  # there is a disassembler
            for one, other in zip(kernels.steps_of(row), kernels.steps_of(known), strict=True):
                assert one["instructions"] <= 1.05 * other["instructions"] + 1
                assert one["arithmetic"] <= other["arithmetic"] + 1


def test_steps_take_no_more_instructions_than_by_hand():
    """A tenth more and a few, of the recorded ones; the exponential is a polynomial, that of CUDA an instruction."""
    for row in RECORDED:
        if row["architecture"] == "sm_90":
            assert kernels.steps_of(row)[0]["instructions"] <= 1.1 * row["cuda"]["instructions"] + 4


def test_what_is_counted_in_a_loop():
    text = """
    .L_x_1:
        /*0000*/                   MOV R1, R2 ;
    .L_x_2:
        /*0010*/                   FFMA.FTZ R3, R4, R5, R3 ;
        /*0020*/              @P0  BRA `(.L_x_4) ;
        /*0030*/                   CALL.REL.NOINC `($slow) ;
        /*0040*/                   BRA `(.L_x_3) ;
    .L_x_4:
        /*0050*/                   MUFU.RCP R3, R4 ;
    .L_x_3:
        /*0060*/                   UIADD3 UR6, UR6, -0x2, URZ ;
        /*0070*/                   DADD R2, R4, R6 ;
        /*0080*/              @P1  BRA `(.L_x_2) ;
        /*0090*/              @P2  BRA `(.L_x_1) ;
        /*00a0*/                   EXIT ;
    .L_x_5:
        /*00b0*/                   BRA `(.L_x_5);
    """
    (loop,) = kernels.innermost_loops(text)
    assert [one.split()[0] for one in loop] == ["FFMA.FTZ", "@P0", "MUFU.RCP", "UIADD3", "DADD", "@P1"]
    assert kernels.counted(loop) == dict(steps=2, instructions=3, arithmetic=1.5, double=0.5, special=0.5)


def test_what_the_assembler_refuses_is_an_error():
    with pytest.raises(ValueError, match="ptxas"):
        kernels.assembled(".version 7.0\n.target sm_80\n.address_size 64\n nonsense", "sm_90")


REAL = "neg abs sign square sqrt rsqrt cbrt exp exp2 expm1 log log1p logistic sin cos tan asin acos atan sinh cosh tanh"
REAL += " asinh acosh atanh floor ceil round is_finite"
WHOLE = "neg sign square"
BINARY = "add sub mul div max min eq ne lt le gt ge"


def everything(x):
    """All operations on numbers of a type, and to other types."""
    real = jnp.issubdtype(x.dtype, jnp.floating)
    unary = [getattr(jax.lax, name) for name in (REAL if real else WHOLE).split()]
    binary = [getattr(jax.lax, name) for name in BINARY.split()]
    if real:
        binary += [jax.lax.pow, jax.lax.atan2, lambda x, y: jax.lax.pow(x, y.astype(jnp.int32))]
        unary += [lambda x: jax.lax.round(x, jax.lax.RoundingMethod.TO_NEAREST_EVEN)]
    else:
        binary += [jax.lax.rem, jax.lax.bitwise_and, jax.lax.bitwise_or, jax.lax.bitwise_xor, jax.lax.shift_left]
        binary += [jax.lax.shift_right_logical, jax.lax.shift_right_arithmetic]
        unary += [jax.lax.bitwise_not, lambda x: jax.lax.select_n(jnp.clip(x, 0, 2).astype(jnp.int32), x, 2 * x, 3 * x)]
    kinds = "float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool".split()
    unary += [lambda x, kind=kind: x.astype(kind) for kind in kinds]
    unary += [lambda x: jax.lax.integer_pow(x, 3), lambda x: jnp.clip(x, 1, 3), lambda x: jnp.where(x > 0, x, 2)]
    made = [function(x) for function in unary] + [function(x, x * x) for function in binary]
    return sum(one.astype(x.dtype) for one in made)


# LLVM ends the process where it has no instruction for something.
@pytest.mark.slow_cases("int64", "uint8", "float32")
@pytest.mark.parametrize("kind", ["float32", "float64", "int8", "int64", "uint8"])
def test_the_assembler_takes_every_operation(kind):
    closed = jax.make_jaxpr(everything)(jnp.ones(128, kind))
    assert kernels.assembled(kernel.compiled(closed, 128).ptx, "sm_80")["registers"] > 8
