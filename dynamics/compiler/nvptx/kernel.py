"""A program as a kernel in PTX, the assembly language of NVIDIA's GPUs; the driver compiles it for the GPU at hand."""

import functools
import hashlib
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir

from dynamics.compiler._jax import ClosedJaxpr
from dynamics.compiler.llvm.context import FunctionContext
from dynamics.compiler.llvm.jit import POINTER
from dynamics.compiler.llvm.programs import write_program
from dynamics.compiler.nvptx.target import Thread

TRIPLE = "nvptx64-nvidia-cuda"
ARCHITECTURE = "sm_80"  # PTX for it runs on all later ones
THREADS = 128  # of a block
WORD = ir.IntType(32)


class Kernel(NamedTuple):
    """A kernel and how it is launched.

    Attributes:
        name: of its entry.
        ptx: the text.
        blocks, threads: how many blocks, and threads in each.
    """

    name: str
    ptx: str
    blocks: int
    threads: int


def kernel_ir(closed: ClosedJaxpr, batch_size: int) -> str:
    """The kernel of a program in LLVM, before LLVM optimises it.

        game = block * threads + thread
        if game < batch_size:
            outputs[..., game] = program(inputs[..., game])

    Its parameters are pointers to the inputs, then to the outputs.

    Args:
        closed: the program.
        batch_size: the last axis of every array whose last axis is as long is that of the games.

    Raises:
        Unsupported: there is no rule for an operation, or the program is too large.
    """
    context = FunctionContext(batch_size, Thread())
    module = context.module
    module.triple, module.data_layout = TRIPLE, str(_machine(ARCHITECTURE).target_data)
    inputs, outputs = len(closed.jaxpr.invars), len(closed.jaxpr.outvars)
    kernel = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER] * (inputs + outputs)), "games")
    kernel.calling_convention = "ptx_kernel"
    kernel.attributes.add("nounwind")
    names = [*(f"input_{n}" for n in range(inputs)), *(f"output_{n}" for n in range(outputs))]
    for pointer, name in zip(kernel.args, names, strict=True):
        pointer.name = name
        pointer.add_attribute("noalias")  # XLA gives every output memory for itself
    builder = context.builder = ir.IRBuilder(kernel.append_basic_block("entry"))
    work, end = kernel.append_basic_block("work"), kernel.append_basic_block("end")

    def special(name: str) -> Any:
        return builder.call(context.declare(f"llvm.nvvm.read.ptx.sreg.{name}.x", WORD, []), [])

    block, threads, thread = (builder.zext(special(name), ir.IntType(64)) for name in ("ctaid", "ntid", "tid"))
    game = builder.add(builder.mul(block, threads), thread)
    builder.cbranch(builder.icmp_unsigned("<", game, context.index(batch_size)), work, end)
    builder.position_at_end(work)
    write_program(context, closed, kernel.args[:inputs], kernel.args[inputs:], game)
    builder.branch(end)
    builder.position_at_end(end)
    builder.ret_void()
    # In float32 numbers below the normal ones count as zero, as on the CPU; of float64 a GPU keeps them.
    flushed = f'nounwind "denormal-fp-math-f32"="preserve-sign,preserve-sign" "nvvm.maxntid"="{THREADS}"'
    return str(module).replace("nounwind", flushed, 1)


def compiled(closed: ClosedJaxpr, batch_size: int, architecture: str = ARCHITECTURE) -> Kernel:
    """The kernel of a program.

    Args:
        closed, batch_size: as of `kernel_ir`.
        architecture: for which GPUs: "sm_80" for those of compute capability 8.0 and later ones.

    Raises:
        Unsupported: there is no rule for an operation, or the program is too large.
    """
    text = kernel_ir(closed, batch_size)
    name = f"games_{hashlib.sha256(f'{architecture} {text}'.encode()).hexdigest()[:32]}"
    return Kernel(name, ptx_of(text, architecture).replace("games(", f"{name}(", 1), -(-batch_size // THREADS), THREADS)


def ptx_of(text: str, architecture: str) -> str:
    """PTX from LLVM."""
    machine = _machine(architecture)
    module = llvm.parse_assembly(text)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    return machine.emit_assembly(module)


@functools.cache
def _machine(architecture: str) -> Any:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(TRIPLE).create_target_machine(cpu=architecture, opt=3)
