"""What machine code is made for: a processor and a system, and how LLVM makes object code for them.

Tested where the tests run, on x86-64 under Linux. For ARM under Linux and macOS (`ARM_LINUX`, `ARM_MACOS`) and for
x86-64 under Windows the programs of sweeps are compiled in tests, and nothing has been run there.
"""

import functools
from typing import Any, NamedTuple

import llvmlite
import llvmlite.binding as llvm

from dynamics.compiler.errors import Unavailable

OPTIMISATION = 3  # of the passes, and of code generation
WITHOUT_LOOPS = 1  # of code generation where there are no passes


class Processor(NamedTuple):
    """A processor under a system.

    Attributes:
        triple: of LLVM, which names both.
        name: LLVM's name of the processor.
        features: what it can do, as LLVM writes it.
        register_bytes: the length of a register.
    """

    triple: str
    name: str
    features: str
    register_bytes: int

    @property
    def architecture(self) -> str:
        """The first part of the triple: "x86_64", "aarch64" (also for "arm64"), ..."""
        first = self.triple.partition("-")[0]
        return "aarch64" if first == "arm64" else first


ARM_LINUX = Processor("aarch64-unknown-linux-gnu", "generic", "+neon", 16)
ARM_MACOS = Processor("arm64-apple-macosx11.0.0", "apple-m1", "+neon", 16)


@functools.cache
def host() -> Processor:
    """The processor of this machine.

    Raises:
        Unavailable: LLVM does not know it.
    """
    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError as error:
        raise Unavailable(f"the processor is not known: {error}") from error
    length = 64 if features.get("avx512f") else 32 if features.get("avx") else 16
    return Processor(llvm.get_default_triple(), llvm.get_host_cpu_name(), features.flatten(), length)


def target_machine(processor: Processor, level: int = OPTIMISATION) -> Any:
    """What makes code for a processor; it belongs to the engine that it is given to, and ends with that.

    Args:
        processor: what the code is for.
        level: of optimisation in code generation, 0 to 3.

    Raises:
        RuntimeError: this LLVM cannot write code for it.
    """
    if processor == host():
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(processor.triple)
    return target.create_target_machine(
        cpu=processor.name, features=processor.features, opt=level, reloc="pic", jit=True
    )


def with_attributes(text: str, processor: Processor) -> str:
    """The text of a module whose function is compiled for a processor, full registers, and a stack that fits them."""
    width = str(8 * processor.register_bytes)
    attributes = {"prefer-vector-width": width, "min-legal-vector-width": width, "target-cpu": processor.name}
    attributes["target-features"] = processor.features
    written = " ".join(f'"{key}"="{value}"' for key, value in attributes.items())
    # What lies on the stack for want of registers must not cross lines of the cache.
    return text.replace("nounwind", f'nounwind alignstack({processor.register_bytes}) "stackrealign" {written}', 1)


def object_code(text: str, processor: Processor, loops: bool = True) -> tuple[bytes, tuple[str, ...]]:
    """Compile the text of a module.

    What is written out, without loops, runs once per game: it goes to code generation as it is, and takes less than
    half the time to compile. There is little for the passes to find, as `batch/` has merged equal terms, and nothing
    can be taken out of a loop: the code is as long as with them, and as fast.

    Args:
        text: of the module.
        processor: what the code is for.
        loops: whether the program of a game has loops, which run many times.

    Returns:
        object code, and the names of the functions that it needs from elsewhere.

    Raises:
        RuntimeError: LLVM cannot read it.
    """
    machine = target_machine(processor, OPTIMISATION if loops else WITHOUT_LOOPS)
    module = llvm.parse_assembly(text)
    module.verify()
    needed = tuple(f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm."))
    if loops:
        options = llvm.create_pipeline_tuning_options(speed_level=OPTIMISATION)
        options.loop_vectorization = options.slp_vectorization = False
        passes = llvm.create_pass_builder(machine, options)
        passes.getModulePassManager().run(module, passes)
    return machine.emit_object(module), needed


@functools.cache
def translator() -> str:
    """Which LLVM makes the code, and its levels: what object code depends on besides text, processor, and loops."""
    numbers = ".".join(map(str, llvm.llvm_version_info))
    return f"LLVM {numbers}, llvmlite {llvmlite.__version__}, levels {OPTIMISATION}, {WITHOUT_LOOPS}"
