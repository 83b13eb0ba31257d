"""The C program games.c: compiled on the spot, called through ctypes."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
GAMES = (
    "non_saturating", "minimax", "wasserstein", "least_squares", "hinge", "bilinear", "torus", "lorenz", "quadratic",
)  # fmt: skip
METHODS = ("simultaneous", "alternating", "extragradient", "consensus", "optimistic", "rk4", "tsit5")
CONSENSUS_WEIGHT = 0.1
MOST_SEGMENTS = 128
IN_DOUBT = -2  # an outcome that the library decides by a second look, and the C program leaves open
SAMPLES = 1024  # of a flow, from which its outcome is decided


class Result(NamedTuple):
    """What the C program found: the final state of shape (numbers, games), and the rest where it was asked for."""

    final: np.ndarray
    outcome: np.ndarray | None = None
    rate: np.ndarray | None = None
    period: np.ndarray | None = None
    settled: np.ndarray | None = None


class _Found(ctypes.Structure):
    """`Found` of watch.h."""

    @classmethod
    def of(cls, kind: type) -> type:
        real = ctypes.c_float if kind == np.float32 else ctypes.c_double
        pointers = [(name, ctypes.c_void_p) for name in ("outcome", "rate", "period", "settled")]
        whole = [("segments", ctypes.c_long), ("length", ctypes.c_long)]
        reals = [(name, real) for name in ("tick", "tolerance", "limit")]
        fields = [*pointers, *whole, *reals, ("flow", ctypes.c_int)]
        return type("Found", (ctypes.Structure,), {"_fields_": fields})


def compile_c(folder: str, few: bool = False) -> tuple[str, str]:
    """Build games.c as a shared library, with few of its games on request; returns its path and the compiler."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        sys.exit("no C compiler found; install gcc or set CC")
    options = [
        *(["-O2", "-DFEW"] if few else ["-O3"]),
        "-march=native",
        "-fno-math-errno",
        "-shared",
        "-fPIC",
        "-pthread",
    ]
    library = os.path.join(folder, "games.so")
    subprocess.run([compiler, *options, str(HERE / "games.c"), "-o", library, "-lm"], check=True)
    name = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    return library, f"{name}, {' '.join(options)}"


def segments_of(steps: int) -> int:
    """Number of stretches of equal length, as `dynamics.simulate` has them in a sweep.

    Raises:
        ValueError: there is none from 64 to 128 that divides the number of steps.
    """
    found = [count for count in range(64, MOST_SEGMENTS + 1) if steps % count == 0]
    if not found:
        raise ValueError(f"{steps} steps have no divisor from 64 to 128")
    return found[0]


class Native:
    """The compiled program, for one precision."""

    def __init__(self, path: str, kind: type):
        self.code, self.kind = ctypes.CDLL(path), np.dtype(kind).type
        suffix = {np.float32: "f32", np.float64: "f64"}[self.kind]
        self._small, self._quadratic = (getattr(self.code, f"{name}_{suffix}") for name in ("small", "quadratic"))
        self.code.reference.restype = None
        self._found = _Found.of(self.kind)

    def small(
        self, game: str, method: str, starts: np.ndarray, numbers: np.ndarray, steps: int,
        judge: bool = False, threads: int = 1, limit: float = 1e6,
    ) -> Result:  # fmt: skip
        """Games of two or three numbers.

        Args:
            game, method: of `GAMES` and `METHODS`; not every pair is compiled.
            starts: shape (numbers, games).
            numbers: shape (2, games): the rate (for flows: the length of a step) and the game's number.
            steps: for flows that are judged, a multiple of 1024.
            judge: decide the outcome.

        Raises:
            ValueError: there is no such pair.
        """
        states = np.array(starts, self.kind, order="C")
        numbers = np.ascontiguousarray(numbers, self.kind)
        flow = METHODS.index(method) >= METHODS.index("rk4")
        samples = SAMPLES if flow else steps
        every = steps // samples if judge else 1
        tick = float(numbers[0, 0]) * every if flow else 1.0
        arrays, found = self._room(states.shape[1], samples, tick, judge, flow, limit)
        longs = (ctypes.c_long(n) for n in (states.shape[1], steps, max(1, every)))
        where = (ctypes.c_int(names.index(name)) for names, name in ((GAMES, game), (METHODS, method)))
        if self._small(*where, at(states), at(numbers), *longs, ctypes.byref(found), ctypes.c_int(threads)):
            raise ValueError(f"the C program has no {method} method for the game {game}")
        return Result(states, *arrays)

    def quadratic(
        self, matrices: np.ndarray, starts: np.ndarray, rate: float, steps: int, judge: bool = False, threads: int = 1
    ) -> Result:
        """Games of 20 numbers with a matrix each: matrices of shape (games, 20, 20), starts of shape (20, games)."""
        states = np.array(np.transpose(starts), self.kind, order="C")
        arrays, found = self._room(len(states), steps, 1.0, judge, False, 1e6)
        longs = (ctypes.c_long(n) for n in (len(states), steps))
        rate = ctypes.c_double(float(self.kind(rate)))
        self._quadratic(at(matrices), at(states), *longs, rate, ctypes.byref(found), ctypes.c_int(threads))
        return Result(states.T, *arrays)

    def reference(self, game: str, method: str, starts: np.ndarray, numbers: np.ndarray, steps: int) -> np.ndarray:
        """The end in long double; starts of shape (numbers, games), numbers of shape (count, games), rates first.

        Flows are solved by the classical Runge-Kutta method.
        """
        states = np.array(np.transpose(starts), np.float64, order="C")
        numbers = np.ascontiguousarray(np.transpose(numbers), np.float64)
        longs = (ctypes.c_long(n) for n in (*states.shape, steps, numbers.shape[1]))
        where = (ctypes.c_int(names.index(name)) for names, name in ((GAMES, game), (METHODS, method)))
        self.code.reference(*where, *longs, at(numbers), at(states))
        return states.T

    def _room(self, games, samples, tick, judge, flow, limit):
        if not judge:
            return (), self._found(tick=1.0)
        segments = 64 if flow else segments_of(samples)
        arrays = [np.empty(games, np.int8), *(np.empty(games, self.kind) for _ in range(3))]
        places = [array.ctypes.data for array in arrays]
        return arrays, self._found(*places, segments, samples // segments, tick, 1e-3, limit, flow)


def at(array: np.ndarray) -> ctypes.c_void_p:
    """Where an array begins."""
    return array.ctypes.data_as(ctypes.c_void_p)
