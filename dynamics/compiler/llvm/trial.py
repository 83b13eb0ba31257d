"""With a jaxlib that the library has not been tested with, machine code is tried in another process first.

What XLA gives to a function, and how it calls it, is written in its header; but a header does not say everything, and a
mistake there would end the process. So a child process compiles a small program and runs it. If it crashes, or does not
end, or its numbers are wrong, this process leaves everything to XLA, and one warning says so.
"""

import functools
import os
import subprocess
import sys

from dynamics.compiler import disk_cache
from dynamics.compiler._jax import is_tested_jaxlib, jaxlib_version
from dynamics.compiler.errors import Unavailable
from dynamics.compiler.llvm import processor

PROGRAM = "from dynamics.compiler.llvm import trial_program; trial_program.run()"
PASSED = "the numbers of machine code are right"
SECONDS = 120

is_trial = False  # in the child


def demand() -> None:
    """Return if machine code may be run in this process; that is decided once.

    Raises:
        Unavailable: the trial went wrong; the text says how.
    """
    if is_tested_jaxlib() or is_trial:
        return
    failure = _failure(jaxlib_version(), PROGRAM)
    if failure is not None:
        raise Unavailable(f"jaxlib {jaxlib_version()} is not among the tested ones, and {failure}")


@functools.cache
def _failure(version: str, program: str) -> str | None:
    """What went wrong in a child process; a trial that went well is not repeated by other processes."""
    name = disk_cache.name_of("trial", version, sys.version, *map(str, processor.host()), processor.translator())
    if disk_cache.read(name) is not None:
        return None
    if getattr(sys, "frozen", False) or not sys.executable:
        return "there is no Python to try it in another process"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "JAX_PLATFORMS": "cpu"}
    try:
        ended = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"a trial in another process failed: {error}"
    if ended.returncode != 0 or PASSED not in ended.stdout:
        lines = ended.stderr.strip().splitlines()[-1:]
        return " ".join([f"a trial in another process ended with status {ended.returncode}", *lines])
    disk_cache.write(name, PASSED.encode())
    return None
