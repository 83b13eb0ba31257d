"""Chunks of a sweep in other processes, on this machine and on others: any `concurrent.futures.Executor` serves.

A worker gets the recipe as cloudpickle makes it, once, and the values of the axes at a chunk's cells; it gives back the
variables. It computes in the precision of the process that asks, and changes none of its own settings.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import io
import multiprocessing
import os
import platform
import signal
import threading
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

import equinox as eqx
import jax

from dynamics._checks import as_whole
from dynamics._extras import optional
from dynamics.ensembles.tables import package_versions
from dynamics.ensembles.work import Chunk, Values, Work

REPEATED_BYTES = 2**16  # a recipe that is larger travels once per worker, and not with every chunk
FEWEST_UNDER_WAY = 16
RECIPES_KEPT = 8
# Settings of JAX on which numbers depend, and which a context sets for the thread that asks.
SETTINGS = (
    "enable_x64",
    "default_prng_impl",
    "threefry_partitionable",
    "default_matmul_precision",
    "numpy_dtype_promotion",
    "numpy_rank_promotion",
)


class WorkerError(RuntimeError):
    """Raised when the workers of a sweep are gone, or cannot be reached; what is done is not lost.

    Attributes:
        what: happened to the workers.
        partial: the dataset, with outcome -1 (`not_done`) and NaN in the cells that are not done.
        done, total: numbers of cells.
    """

    def __init__(self, what: str, partial: Any = None, done: int = 0, total: int = 0, store: Any = None):
        text = what
        if partial is not None:
            text += f"; {done} of {total} cells are done; they are in the attribute `partial` of this exception"
        if store is not None:
            text += f", and in {os.fspath(store)!r}, from where the same call goes on"
        super().__init__(text)
        self.what, self.partial, self.done, self.total = what, partial, done, total


def local_workers(count: int) -> concurrent.futures.ProcessPoolExecutor:
    """Processes on this machine that compute chunks of sweeps.

    Each starts with the first chunk it gets, imports JAX and compiles for itself, which takes some seconds. They leave
    the interrupt key to this process, and end when it has ended, however that was. What uses them in a script stands
    below `if __name__ == "__main__":`, since every worker imports the script.

    Args:
        count: number of processes.

    Raises:
        ValueError: not a positive whole number.

    >>> with local_workers(2) as executor:
    ...     executor
    <concurrent.futures.process.ProcessPoolExecutor object at 0x...>
    """
    # A forked process would share JAX's threads, which it has not got.
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(as_whole("workers", count), context, _begin)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch():
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, daemon=True).start()


def end_workers(executor: concurrent.futures.ProcessPoolExecutor) -> None:
    """End local workers at once; what they are at is lost."""
    processes = list((executor._processes or {}).values())
    executor.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()


def check_executor(executor: Any) -> None:
    """Check that chunks can be sent to it.

    Raises:
        TypeError: it is no executor.
        ValueError: its processes are forks of this one.
        ImportError: it is no pool of threads, and cloudpickle is not installed.
    """
    if not isinstance(executor, concurrent.futures.Executor):
        fix = "; take its get_executor()" if hasattr(executor, "get_executor") else ""
        raise TypeError(
            f"executor is {executor!r}; expected a concurrent.futures.Executor, e.g. "
            f"dynamics.ensembles.local_workers(2){fix}"
        )
    context = getattr(executor, "_mp_context", None)
    if context is not None and context.get_start_method() == "fork":
        raise ValueError(
            "executor forks this process, and JAX does not work in a fork; use dynamics.ensembles.local_workers(n), or "
            'ProcessPoolExecutor(n, mp_context=multiprocessing.get_context("spawn"))'
        )
    if not isinstance(executor, concurrent.futures.ThreadPoolExecutor):
        _cloudpickle()


def _cloudpickle() -> Any:
    return optional("cloudpickle", "workers", "executor=")


def workers_of(executor: Any) -> int | None:
    """How many workers an executor has, if it tells."""
    count = getattr(executor, "_max_workers", None)
    if isinstance(count, int):
        return count
    client = getattr(executor, "_client", None)
    try:
        return sum(client.nthreads().values()) or None
    except (AttributeError, TypeError):
        return None


# On this side


class Remote:
    """Chunks that workers compute, a bounded number at a time.

    Iterating gives every chunk with its variables, in the order in which they are done.

    Args:
        executor: the workers.
        work: what all chunks have in common.
        chunks: what is to be done.
        devices: of this process, for workers that are threads of it.

    Raises:
        TypeError: the recipe cannot be sent.
    """

    def __init__(
        self,
        executor: concurrent.futures.Executor,
        work: Work,
        chunks: Iterable[Chunk],
        devices: tuple[jax.Device, ...],
    ):
        self.executor, self.chunks, self.devices = executor, iter(chunks), devices
        shares = isinstance(executor, concurrent.futures.ThreadPoolExecutor)
        self.sent = None if shares else Sent.of(work, devices[0].platform)
        self.work = work
        self.most = max(FEWEST_UNDER_WAY, 2 * (workers_of(executor) or 0))
        self.settings = current_settings()
        self.under_way: dict[concurrent.futures.Future, tuple[Chunk, int]] = {}
        self.known = False

    def __iter__(self) -> Iterator[tuple[Chunk, Values]]:
        while True:
            while len(self.under_way) < self.most and (chunk := next(self.chunks, None)) is not None:
                self._submit(chunk, 0)
            if not self.under_way:
                return
            done, _ = concurrent.futures.wait(self.under_way, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in sorted(done, key=lambda future: self.under_way[future][0].number):
                chunk, trial = self.under_way.pop(future)
                try:
                    rows = future.result()
                except BaseException as error:
                    if not _is_loss(error):
                        raise
                    if trial or isinstance(error, concurrent.futures.BrokenExecutor):
                        raise self._lost(error) from error
                    self._submit(chunk, trial + 1)
                    continue
                if isinstance(rows, Failure):
                    rows.throw()
                if rows is None:
                    self._submit(chunk, trial, whole=True)
                    continue
                self.known = True
                yield chunk, rows

    def stop(self) -> Iterator[tuple[Chunk, Values]]:
        """Cancel what is not begun; those that are done all the same."""
        for future in self.under_way:
            future.cancel()
        for future, (chunk, _) in self.under_way.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                rows = future.result()
                if isinstance(rows, dict):
                    yield chunk, rows
        self.under_way = {}

    def _submit(self, chunk: Chunk, trial: int, whole: bool = False) -> None:
        try:
            if self.sent is None:
                future = self.executor.submit(_beside, self.work, chunk, self.devices, self.settings)
            else:
                sent = self.sent if whole or not self.known else self.sent.briefly()
                # The number of the trial makes it another task for executors that know tasks by what they are given.
                future = self.executor.submit(_there, sent, chunk, self.settings, trial)
        except Exception as error:
            if isinstance(error, RuntimeError) or _is_loss(error):  # it is broken, or was shut down
                raise self._lost(error) from error
            raise
        self.under_way[future] = chunk, trial

    def _lost(self, error: BaseException) -> WorkerError:
        text = str(error) or "cancelled"
        return WorkerError(f"the workers are gone or cannot be reached ({type(error).__name__}: {text})")


def _is_loss(error: BaseException) -> bool:
    """Whether an error is one of the executor's, and not of what it computed."""
    losses = (concurrent.futures.BrokenExecutor, concurrent.futures.CancelledError)
    return isinstance(error, losses) or type(error).__module__.split(".")[0] == "distributed"


@dataclasses.dataclass(frozen=True)
class Sent:
    """A recipe on its way: which versions it needs, its name, and itself or, for workers that know it, nothing."""

    versions: dict[str, str]
    platform: str
    digest: str
    content: bytes | None

    @classmethod
    def of(cls, work: Work, platform: str) -> "Sent":
        stream, pickler = io.BytesIO(), _pickler()
        try:
            pickler(stream).dump(work)
        except Exception as error:  # whatever the parts of a game raise
            raise TypeError(
                f"build or a measure cannot be sent to workers: {type(error).__name__}: {error}\n"
                "Let it refer to numbers, arrays and functions only, or define what it refers to in a module"
            ) from error
        content = stream.getvalue()
        return cls(versions(), platform, hashlib.sha256(content).hexdigest(), content)

    def briefly(self) -> "Sent":
        return self if len(self.content) <= REPEATED_BYTES else dataclasses.replace(self, content=None)


@functools.cache
def _pickler() -> Any:
    class Pickler(_cloudpickle().Pickler):
        """Takes along classes of games that no module holds; cloudpickle makes them before they have their fields."""

        def reducer_override(self, obj: Any) -> Any:
            reduced = super().reducer_override(obj)
            if not isinstance(obj, type(eqx.Module)) or not isinstance(reduced, tuple):
                return reduced
            make, (kind, name, bases, given, *more), *state = reduced
            annotations = obj.__dict__.get("__annotations__", {})
            fields = {key: field for key, field in obj.__dataclass_fields__.items() if key in annotations}
            given = given | {"__annotations__": annotations} | fields
            init = obj.__dict__.get("__init__")
            if init is not None and init.__code__.co_filename != "<string>":  # which is that of dataclasses
                given = given | {"__init__": _later}
            return make, (kind, name, bases, given, *more), *state

    return Pickler


def _later(self) -> None:
    """Stands in for an `__init__` that is set later."""


def versions() -> dict[str, str]:
    """On which the bits depend, or whether a recipe can be read at all."""
    return package_versions() | {"python": ".".join(platform.python_version_tuple()[:2])}


def current_settings() -> dict[str, Any]:
    """The settings that decide about numbers, as they are on this thread."""
    return {name: getattr(jax.config, f"jax_{name}") for name in SETTINGS}


# On the other side


@contextlib.contextmanager
def same_settings(settings: dict[str, Any]) -> Iterator[None]:
    """Compute as another process or thread does; nothing is changed for others."""
    with contextlib.ExitStack() as stack:
        for name, value in settings.items():
            if getattr(jax.config, f"jax_{name}") != value:
                stack.enter_context(getattr(jax, name)(value))
        yield


def _beside(work: Work, chunk: Chunk, devices: tuple[jax.Device, ...], settings: dict[str, Any]) -> Values:
    """A chunk in a thread of the same process."""
    with same_settings(settings):
        return work.rows(chunk, devices)


_works: collections.OrderedDict[str, Work] = collections.OrderedDict()
_loading = threading.Lock()


def _there(sent: Sent, chunk: Chunk, settings: dict[str, Any], _: int) -> "Values | Failure | None":
    """A chunk in a worker; `None`: the worker does not know the recipe."""
    try:
        _check_worker(sent)
        with same_settings(settings):
            work = _loaded(sent)
            return None if work is None else work.rows(chunk, tuple(jax.local_devices()))
    except Exception as error:
        return Failure.of(error)


def _check_worker(sent: Sent) -> None:
    here = versions()
    differing = [
        f"{name} {sent.versions[name]} here, {here[name]} there" for name in here if here[name] != sent.versions[name]
    ]
    where = f"worker {os.getpid()} on {platform.node()}"
    if differing:
        raise ValueError(f"{where} has other versions: {'; '.join(differing)}; install the same ones")
    platform_here = jax.local_devices()[0].platform
    if platform_here != sent.platform:
        raise ValueError(
            f"{where} computes on {platform_here}, and the process that asks on {sent.platform}; "
            "set the environment variable JAX_PLATFORMS to the same for both"
        )


def _loaded(sent: Sent) -> Work | None:
    with _loading:
        if sent.digest in _works:
            _works.move_to_end(sent.digest)
        elif sent.content is None:
            return None
        else:
            try:
                _works[sent.digest] = _cloudpickle().loads(sent.content)
            except ImportError as error:
                raise ImportError(
                    f"a worker on {platform.node()} cannot load build: {error}; let the module be found there, or "
                    "define build in the script or notebook that calls"
                ) from error
            while len(_works) > RECIPES_KEPT:
                _works.popitem(last=False)
        return _works[sent.digest]


@dataclasses.dataclass(frozen=True)
class Failure:
    """An error of a worker on its way back."""

    content: bytes | None
    text: str
    trace: str

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        text, trace = f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error))
        try:
            content = _cloudpickle().dumps(error)
            _cloudpickle().loads(content)
        except Exception:  # errors may hold anything
            content = None
        return cls(content, text, trace)

    def throw(self) -> None:
        """Raise it here."""
        try:
            error = _cloudpickle().loads(self.content) if self.content is not None else RuntimeError(self.text)
        except Exception:
            error = RuntimeError(self.text)
        error.add_note(f"in a worker:\n{self.trace}")
        raise error
