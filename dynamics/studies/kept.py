"""A study's results on disk, batch by batch, so that a run that was killed is gone on with.

folder/study.json    what the run is: the study, versions, precision
folder/12.json       the cells of a batch, or what a picture shows, of which run and which one; arrays as their bytes
folder/lock          process and machine that write

No file is believed without its checksum: a batch that is missing or damaged is computed again, and a `study.json` that
somebody has changed is reported and left alone.
"""

import base64
import dataclasses
import hashlib
import importlib
import inspect
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dynamics
from dynamics._files import write_files
from dynamics.analysis import Basins, SpectrumPath
from dynamics.ensembles.store import Lock, StoreError, read_record, record_of
from dynamics.studies.results import BasinsOfCell, Cell, EigenvaluesOfCell, Portrait, Series
from dynamics.studies.schema import Study, StudyError

WHAT = "study.json"
FORMAT = 2  # of the folder; what has none is of the first


class Kept:
    """Finished batches in a folder; a context in which nobody else writes to it.

    Args:
        path: of the folder.
        study: whose results.
        batches: the numbers of the cells of every batch.
        figures: number of pictures that are computed, besides the cells.
        plugins: modules that the study needs.
        resume: whether unfinished work may be gone on with.

    Raises:
        StudyError: the folder holds something else, another study, or unfinished work that is not to be gone on with.
        StoreError: it cannot be read, written or locked.
    """

    def __init__(
        self,
        path: str | pathlib.Path,
        study: Study,
        batches: Sequence[Sequence[int]],
        figures: int,
        plugins: Sequence[str],
        resume: bool,
    ):
        self.path, self.batches, self.total = pathlib.Path(path), batches, len(batches) + figures
        self.records: dict[int, Any] = {}
        self.identity = json.loads(json.dumps(_identity(study, plugins), default=_plain))
        self.digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()
        self.lock: Lock | None = None
        try:
            self._scan()
            there = self._read()
            if there is not None:
                self._compare(there)
        except OSError as error:
            raise self._cannot("read", error) from error
        if there is not None and not resume and len(self.records) < self.total:
            cells = sum(len(batches[number]) for number in self.records if number < len(batches))
            raise StudyError(
                f"--store {str(path)!r} holds unfinished work of this study, {cells} of "
                f"{sum(map(len, batches))} cells; add --resume to go on with it, or give another name"
            )

    def __enter__(self) -> "Kept":
        if len(self.records) < self.total or not (self.path / WHAT).exists():
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                self.lock = Lock(self.path / "lock", str(self.path))
                there = self._read()  # what another process has made of it meanwhile
                if there is not None:
                    self._compare(there)
                self._scan()
                if not (self.path / WHAT).exists():
                    write_files([(self.path / WHAT, record_of(self.identity))])
            except StudyError:
                self.__exit__()
                raise
            except OSError as error:
                self.__exit__()
                raise self._cannot("written", error) from error
        return self

    def __exit__(self, *_: Any) -> None:
        if self.lock is not None:
            self.lock.release()

    def cells(self, number: int) -> list[Cell] | None:
        """The cells of a batch, if they are there."""
        record = self.records.get(number)
        return None if record is None else [Cell(**_decoded(cell)) for cell in record]

    def figure(self, number: int) -> Any:
        """What a picture shows, if it is there."""
        record = self.records.get(len(self.batches) + number)
        if record is None:
            return None
        decoded = _tuples(_decoded(record))
        return _FIGURES[decoded["kind"]](**decoded["fields"])

    def add_cells(self, number: int, cells: Sequence[Cell]) -> list[Cell]:
        """Keep the cells of a batch; the same as they will be read."""
        self._add(number, [vars(cell) for cell in cells])
        return self.cells(number)

    def add_figure(self, number: int, figure: Any) -> Any:
        """Keep what a picture shows; the same as it will be read."""
        self._add(len(self.batches) + number, {"kind": type(figure).__name__, "fields": _fields(figure)})
        return self.figure(number)

    def _add(self, number: int, content: Any) -> None:
        content = json.loads(json.dumps(content, default=_plain))
        record = record_of({"run": self.digest, "number": number, "found": content})
        try:
            write_files([(self.path / f"{number}.json", record)])
        except OSError as error:
            raise self._cannot("written", error) from error
        self.records[number] = content

    def _read(self) -> dict[str, Any] | None:
        """What the folder says it is of; without its `study.json` the batches tell."""
        if not self.path.exists():
            return None
        what, name = self.path / WHAT, f"--store {str(self.path)!r}"
        other = StudyError(f"{name} holds something else; give another name")
        if not self.path.is_dir():
            raise other
        if not what.exists():
            names = {file.name for file in self.path.iterdir()}
            if not all(re.fullmatch(rf"lock|\d+\.json|\.(\d+|{WHAT[:-5]})\.json\.part", file) for file in names):
                raise other
            if self.records or not any(file[0].isdigit() for file in names):
                return self.identity if self.records else None
            raise StudyError(
                f"{name}: {WHAT} is missing, and the batches that are there are of another run, or damaged; put it "
                "back from a copy, or give another name"
            )
        there = read_record(what)
        if there is not None:
            return there
        try:
            old = json.loads(what.read_bytes())
        except (ValueError, RecursionError):
            old = None
        if isinstance(old, dict) and {"study", "dynamics", "platform"} <= set(old):
            raise StudyError(
                f"{name} was written by another version of dynamics, in format 1, and this one knows format {FORMAT}; "
                "that version goes on with it. Give another name"
            )
        if not (self.path / "lock").exists():
            raise other
        raise StudyError(
            f"{name}: {WHAT} is damaged, or somebody has changed it. Put it back as it was, or delete {what}: it is "
            "then written again by the command that began it, and nothing else is lost"
        )

    def _compare(self, there: dict[str, Any]) -> None:
        old, new = _flat(there), _flat(self.identity)
        lines = [
            f"\n  {name}: {_short(old.get(name))} there, {_short(new.get(name))} here"
            for name in dict.fromkeys([*old, *new])
            if old.get(name) != new.get(name)
        ]
        if lines:
            raise StudyError(
                f"--store {str(self.path)!r} belongs to another run:{''.join(lines)}\n"
                "Give another name, or delete the folder if it is no longer needed"
            )

    def _scan(self) -> None:
        for number in range(self.total):
            record = read_record(self.path / f"{number}.json")
            # One that is damaged, or of another run, is computed again.
            if record is not None and (record["run"], record["number"]) == (self.digest, number):
                self.records[number] = record["found"]

    def _cannot(self, what: str, error: OSError) -> StudyError:
        if isinstance(error, StoreError):
            return StudyError(str(error).replace("store=", "--store ", 1))
        return StudyError(f"--store {str(self.path)!r} could not be {what}: {error.strerror or error}")


def _basins_of_cell(title: str, basins: dict[str, Any]) -> BasinsOfCell:
    return BasinsOfCell(title, Basins(**basins))


def _eigenvalues_of_cell(title: str, name: str, path: dict[str, Any]) -> EigenvaluesOfCell:
    return EigenvaluesOfCell(title, name, SpectrumPath(**path))


_FIGURES = {
    "Portrait": Portrait,
    "Series": Series,
    "BasinsOfCell": _basins_of_cell,
    "EigenvaluesOfCell": _eigenvalues_of_cell,
}


def _fields(record: Any) -> dict[str, Any]:
    """The fields of a dataclass, and of those among them, as dictionaries."""
    return {name: _fields(value) if dataclasses.is_dataclass(value) else value for name, value in vars(record).items()}


def _tuples(value: Any) -> Any:
    """Lists as the tuples that they were."""
    if isinstance(value, dict):
        return {key: _tuples(part) for key, part in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _identity(study: Study, plugins: Sequence[str]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "study": study.data,
        "plugins": {name: _source_hash(name) for name in plugins},
        "dynamics": dynamics.__version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "dtype": str(jnp.result_type(float)),
        "platform": jax.default_backend(),
    }


def _source_hash(name: str) -> str:
    module = importlib.import_module(name)
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError):  # compiled, or made at run time
        source = repr(module)
    return hashlib.sha256(source.encode()).hexdigest()


def _flat(value: Any, path: str = "") -> dict[str, str]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if parts is None:
        return {path: repr(value)}
    flat: dict[str, str] = {}
    for key, part in parts:
        flat |= _flat(part, f"{path}.{key}" if path else str(key))
    return flat


def _short(text: str | None) -> str:
    return "nothing" if text is None else text if len(text) < 60 else f"{text[:57]}..."


def _plain(value: Any) -> Any:
    """What JSON does not know: numbers of NumPy, and arrays to the bit."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (np.ndarray, jax.Array)):
        value = np.asarray(value)
        content = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"dtype": value.dtype.str, "shape": list(value.shape), "bytes": content}
    return str(value)


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(part) for part in value]
    if isinstance(value, dict):
        if set(value) == {"dtype", "shape", "bytes"}:
            return np.frombuffer(base64.b64decode(value["bytes"]), value["dtype"]).reshape(value["shape"]).copy()
        return {key: _decoded(part) for key, part in value.items()}
    return value
