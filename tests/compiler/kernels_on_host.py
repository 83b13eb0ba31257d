"""Kernels for a GPU, run on this machine: one thread after another, the very LLVM of the kernel but for its registers.

The special registers that tell a thread which one it is become variables, which a loop over blocks and threads sets.
"""

import re

import jax
import jax.numpy as jnp
from llvmlite import ir

from dynamics.compiler._jax import lower_ffi_call, new_primitive, register_lowering
from dynamics.compiler.llvm import jit
from dynamics.compiler.llvm.jit import POINTER, WORD
from dynamics.compiler.nvptx.kernel import THREADS, kernel_ir

REGISTERS = "ctaid", "ntid", "tid"


class _WithText(ir.Module):
    """A module of llvmlite which declares a kernel, with the kernel itself as text."""

    text = ""

    def __repr__(self):
        return re.sub(r'declare void @"kernel".*', "", super().__repr__()) + self.text


def host_ir(program, batch_size):
    """The kernel for this machine's processor, as a function `kernel`."""
    text = kernel_ir(program, batch_size)
    text = re.sub(r"^target .*$|^; ModuleID.*$|^source_filename.*$", "", text, flags=re.MULTILINE)
    text = text.replace("ptx_kernel", "").replace('@"games"', '@"kernel"').replace("nounwind", "", 1)
    text = re.sub(r'"denormal-fp-math-f32"="[a-z,-]*"|"nvvm.maxntid"="\d+"', "", text)
    for name in REGISTERS:
        text = re.sub(rf'declare i32 @"llvm.nvvm.read.ptx.sreg.{name}.x"\(\)', "", text)
        text = text.replace(f'call i32 @"llvm.nvvm.read.ptx.sreg.{name}.x"()', f'load i32, ptr @"{name}"')
    assert "nvvm" not in text
    return text


def compiled(program, batch_size):
    """The name of the function for XLA that runs all threads of the kernel."""
    module = _WithText()
    module.text = host_ir(program, batch_size)
    numbers = {name: ir.GlobalVariable(module, WORD, name) for name in REGISTERS}
    for number in numbers.values():
        number.initializer = WORD(0)
    inputs, outputs = len(program.jaxpr.invars), len(program.jaxpr.outvars)

    def loop(builder, count, body):
        before, inside, after = builder.block, *(builder.append_basic_block(name) for name in ("inside", "after"))
        builder.branch(inside)
        builder.position_at_end(inside)
        at = builder.phi(WORD)
        at.add_incoming(WORD(0), before)
        body(at)
        following = builder.add(at, WORD(1))
        at.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_unsigned("<", following, WORD(count)), inside, after)
        builder.position_at_end(after)

    def body(builder, sources, targets):
        kernel = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER] * (inputs + outputs)), "kernel")
        builder.store(WORD(THREADS), numbers["ntid"])

        def block(at):
            builder.store(at, numbers["ctaid"])

            def thread(at):
                builder.store(at, numbers["tid"])
                builder.call(kernel, [*sources, *targets])

            loop(builder, THREADS, thread)

        loop(builder, -(-batch_size // THREADS), block)

    return jit.compiled(module, inputs, outputs, body)


def _lower(context, *arrays, program, batch_size):
    return lower_ffi_call(context, compiled(program, batch_size), arrays)


_on_host = new_primitive("games_in_a_kernel_on_host", lambda *avals, program, batch_size: list(program.out_avals))
register_lowering(_on_host, _lower, platform="cpu")


def run(program, batch_size, *arrays):
    """The results of a program in a kernel; traceable, in place of `launching.in_kernel`."""
    return _on_host.bind(*arrays, program=program, batch_size=batch_size)


def results(function, *given, batch_size):
    """Those of a function of arrays, in a kernel on this machine."""
    closed = jax.make_jaxpr(function)(*given)
    flat = jax.jit(lambda *arrays: run(closed, batch_size, *arrays))(*jax.tree.leaves(given))
    return jax.tree.unflatten(jax.tree.structure(jax.eval_shape(function, *given)), flat)


def damped(x, rate):
    """A program with a loop, for tests."""
    return jax.lax.fori_loop(0, 20, lambda _, x: x - rate * jnp.tanh(x), x)
