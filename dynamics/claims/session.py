"""Many claims at once: which ones, in how many processes, and what is told while they run."""

import concurrent.futures
import dataclasses
import fnmatch
import importlib
import math
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import dynamics.catalogue as catalogue
from dynamics._checks import as_whole
from dynamics._names import nearest
from dynamics._text import printable, shown
from dynamics.claims.base import Claim, registered
from dynamics.claims.search import Result, search


def matching(pattern: str = "*") -> list[str]:
    """The identifiers that match a shell pattern, or begin with it up to a slash: "bilinear" is "bilinear/*".

    Args:
        pattern: such as "bilinear" or "*/optimistic*"; upper and lower case differ.

    Returns:
        identifiers, in the order of the catalogue.

    Raises:
        ValueError: there are none; the message gives the nearest one.

    >>> import dynamics.claims  # whose import registers them
    >>> matching("bilinear/optimistic-up-to*")
    ['bilinear/optimistic-up-to-one', 'bilinear/optimistic-up-to-one-at-half']
    """
    known = registered()
    names = [name for name in known if fnmatch.fnmatchcase(name, pattern) or name.startswith(pattern.rstrip("/") + "/")]
    if not names:
        raise ValueError(f"no claim matches {shown(pattern)}{hint(pattern)}")
    return names


def hint(name: str) -> str:
    """What may have been meant, for a message: the nearest claim or topic, or the list of topics."""
    topics = {known.split("/")[0] for known in registered()}
    close = nearest(name, [*registered(), *topics])
    return close if "did you mean" in close else nearest("", topics)  # all of the names would be too many


def search_all(
    identifiers: Sequence[str],
    examples: int = 100,
    *,
    seed: int = 0,
    workers: int | None = None,
    plugins: Sequence[str] = (),
) -> Iterator[Result]:
    """The results of many searches, one by one as they are done; in any order when there are several workers.

    The result of a claim does not depend on the number of workers or on the other claims.

    Args:
        identifiers: which claims.
        examples, seed: as in `search`.
        workers: processes; by default one for each core that may be used, and never more than claims.
        plugins: modules with claims of the caller's own, which every process imports.

    Returns:
        an iterator of results, each with its claim.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores if workers is None else as_whole("workers", workers), len(identifiers))
    if workers <= 1:
        known = registered()
        for identifier in identifiers:
            yield _result(known[identifier], examples, seed)
        return
    context = multiprocessing.get_context("spawn")  # a forked process would share JAX's threads, which it has not got
    with concurrent.futures.ProcessPoolExecutor(workers, context, _start_worker, (tuple(plugins),)) as pool:
        jobs = [pool.submit(_search_there, identifier, examples, seed) for identifier in identifiers]
        try:
            for job in concurrent.futures.as_completed(jobs):
                identifier, fields = job.result()
                yield Result(claim=registered()[identifier], **fields)
        except BaseException:
            _stop(pool)
            raise


def _result(claim: Claim, examples: int, seed: int) -> Result:
    """The result of a search; a check that fails ends its own search and no other."""
    try:
        return search(claim, examples, seed=seed, slices=True)
    except (Exception, SystemExit) as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return Result(claim, 0, math.nan, "broken", None, math.nan, seed, error=printable(text))


def _start_worker(plugins: Sequence[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends the workers
    importlib.import_module("dynamics.claims")
    catalogue.plug_in(plugins)


def _search_there(identifier: str, examples: int, seed: int) -> tuple[str, dict[str, Any]]:
    result = _result(registered()[identifier], examples, seed)
    # A claim holds functions, which do not travel between processes.
    return identifier, {
        field.name: getattr(result, field.name) for field in dataclasses.fields(result) if field.name != "claim"
    }


def _stop(pool: concurrent.futures.ProcessPoolExecutor) -> None:
    """End the workers at once; what they are at is lost."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
