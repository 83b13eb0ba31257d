"""Programs of sweeps compiled for processors that no test runs on."""

import functools
import struct

import jax
import pytest

import dynamics as dy
from dynamics.compiler.batch.interpreter import batch_last_axis
from dynamics.compiler.llvm import jit, lowering, processor
from dynamics.ensembles import cells

X86_LINUX = processor.Processor("x86_64-unknown-linux-gnu", "x86-64-v3", "+avx2,+fma", 32)
X86_WINDOWS = X86_LINUX._replace(triple="x86_64-pc-windows-msvc")
# How the files begin: formats ELF, Mach-O and COFF, with the number of the processor.
HEADERS = {
    "x86-linux": (X86_LINUX, "<4s14xH", (b"\x7fELF", 62)),
    "arm-linux": (processor.ARM_LINUX, "<4s14xH", (b"\x7fELF", 183)),
    "arm-macos": (processor.ARM_MACOS, "<II", (0xFEEDFACF, 0x0100000C)),
    "x86-windows": (X86_WINDOWS, "<H", (0x8664,)),
}


class Traced(Exception):
    """Ends a sweep that is not to be compiled for this processor."""


@pytest.fixture(scope="module")
def programs():
    """All that a sweep has compiled: what comes before its loops, the loops, and what comes after them."""
    taken = []

    def trace(recipe, values, indices, devices, count):
        block = batch_last_axis(functools.partial(cells._simulated, recipe), machine_code=True)
        first = {name: column[0] for name, column in values.items()}, indices[0]
        if recipe.compiled:
            jaxpr = jax.make_jaxpr(block)(*first).jaxpr
            taken.extend((closed, len(indices[0])) for closed in lowering.compiled_programs(jaxpr))
        raise Traced

    def build(rate, weight):
        sgd = dy.optimisers.sgd(rate)
        return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), dy.updates.Alternating(sgd, sgd), (1.0, 1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cells.LANES, "cpu", 24)
        patch.setattr(cells, "FEWEST_LANES", 1)
        patch.setattr(cells, "_chunk_on_processors", trace)
        with pytest.raises(Traced):
            dy.sweep(build, {"rate": [0.1, 0.5], "weight": 0.3}, steps=20, predict=False)
    loops = [any(eqn.primitive.name in ("while", "scan") for eqn in closed.jaxpr.eqns) for closed, _ in taken]
    assert len(taken) >= 4 and any(loops)
    return sorted(taken, key=lambda one: len(one[0].jaxpr.eqns))


@pytest.mark.parametrize("target, layout, header", HEADERS.values(), ids=[*HEADERS])
def test_object_code_for_another_processor(target, layout, header, programs, monkeypatch):
    monkeypatch.setattr(jit, "register_bytes", lambda: target.register_bytes)
    for closed, batch_size in programs[:-1]:  # the longest one is without loops, and takes a second
        text = lowering_text(closed, batch_size, target)
        code, needed = processor.object_code(text, target)
        assert struct.unpack_from(layout, code) == header and b"games" in code and jit.SEEN.encode() in code
        assert not needed


def lowering_text(closed, batch_size, target):
    function, write = lowering.write_function(closed, batch_size, lowering.tile_width(closed.jaxpr, batch_size))
    text = jit.written(function.module, len(closed.jaxpr.invars), len(closed.jaxpr.outvars), write, target)
    flushes = {"x86_64": "llvm.x86.sse.ldmxcsr", "aarch64": "llvm.aarch64.set.fpcr"}[target.architecture]
    assert text.count(f'@"{flushes}"') == 3  # declared, set, and set back
    return text
