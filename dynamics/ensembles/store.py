"""Sweeps on disk: folders in zarr format to which finished chunks are committed, and that are gone on with.

    run.zarr/zarr.json            the attributes, among them what the sweep is, and all arrays' metadata
    run.zarr/outcome/c.3.0        the cells of a chunk, as plain numbers and their CRC-32C; a folder for every variable
    run.zarr/commits/sweep.json   the attributes again, and the checksums of all files of metadata and coordinates
    run.zarr/commits/3.json       the record of a chunk: of which sweep it is, and the checksums of its files
    run.zarr/commits/lock         process and machine that write

A chunk's files are written aside, brought to the disk and renamed, its outcomes last, its record after them. Renaming
is atomic: at every moment a chunk is there or is not.

No file is believed without its checksum. Chunks and coordinates that are missing or damaged are written again, and so
are missing metadata; metadata that somebody has changed are reported and left alone. Nothing is ever deleted.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import math
import os
import re
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from dynamics._extras import optional
from dynamics._files import write_files
from dynamics.compiler.fingerprints import hash_of
from dynamics.ensembles import tables
from dynamics.ensembles.designs import Cells
from dynamics.outcomes import Outcome

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

if TYPE_CHECKING:
    import xarray as xr

FULL = "make room on the disk"
FIXES = {errno.ENOSPC: FULL, errno.EDQUOT: FULL, errno.EFBIG: "allow larger files"}
FORMAT = 2  # of the folder; what has none is of the first
HEADER, RECORD = "zarr.json", "commits/sweep.json"
BEGUN = {"lock", ".sweep.json.part"}  # what there is in `commits` before a store says what it is
FREE = ("chunk", "devices")  # settings on which no number depends
VERSIONS = ("dynamics", "jax", "numpy")
Shapes = dict[str, jax.ShapeDtypeStruct]


def check_installed() -> None:
    """Raise `ImportError` where a package that stores need is missing."""
    for module in ("google_crc32c", "zarr"):
        optional(module, "stores", "store=")


def can_store() -> bool:
    """Whether the packages that stores need are installed, those of the extra `stores`."""
    try:
        check_installed()
    except ImportError:
        return False
    return True


class StoreError(OSError):
    """Raised when a store cannot be made, read, written or locked; what was committed to it is kept."""


# How a sweep is cut


@dataclasses.dataclass(frozen=True)
class Layout:
    """Chunks that are boxes of the result and ranges of cells at once, so that every chunk has files of its own.

    Attributes:
        shape: of the sweep.
        axis: the one that is cut; those after it are whole, and those before it have length one.
        length: of a chunk along that axis.
        lanes: number of cells in a block.
    """

    shape: tuple[int, ...]
    axis: int
    length: int
    lanes: int

    @property
    def box(self) -> tuple[int, ...]:
        """Shape of a chunk."""
        return (*(1 for _ in self.shape[: self.axis]), *[self.length][: len(self.shape)], *self.shape[self.axis + 1 :])

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks along every axis."""
        return tuple(-(-whole // part) for whole, part in zip(self.shape, self.box, strict=True))

    @property
    def count(self) -> int:
        """Number of chunks."""
        return math.prod(self.grid)

    def cells(self, numbers: Any) -> tuple[Any, Any]:
        """First cell of chunks, and the one after the last."""
        if not self.shape:
            return numbers * 0, numbers * 0 + 1
        inner = math.prod(self.shape[self.axis + 1 :])
        before, part = np.divmod(numbers, self.grid[self.axis])
        first = before * self.shape[self.axis] + part * self.length
        last = before * self.shape[self.axis] + np.minimum((part + 1) * self.length, self.shape[self.axis])
        return first * inner, last * inner

    @property
    def blocks(self) -> int:
        """Number of blocks, counted from the sweep's first cell, in which the cells of any chunk lie."""
        begin, end = self.cells(np.arange(self.count))
        return int(np.max(-(-end // self.lanes) - begin // self.lanes))

    def file(self, number: int, more: int) -> str:
        """Name of the file of a chunk; variables with more axes have these whole."""
        places = np.unravel_index(number, self.grid) if self.shape else ()
        return ".".join(["c", *(str(place) for place in places), *["0"] * more])


def layout_of(shape: tuple[int, ...], lanes: int, wanted: int) -> Layout:
    """Chunks of about so many cells. The blocks are those of a sweep without a store, so that the bits are the same.

    Chunks whose borders lie within blocks compute these twice; of three lengths the one that computes least is taken.
    """
    if not shape:
        return Layout((), 0, 1, lanes)
    axis = next(axis for axis in range(len(shape)) if math.prod(shape[axis + 1 :]) <= wanted)
    inner = math.prod(shape[axis + 1 :])
    most = min(shape[axis], wanted // inner)
    whole_blocks = lanes // math.gcd(inner, lanes)
    lengths = {most, -(-shape[axis] // -(-shape[axis] // most)), max(1, most // whole_blocks * whole_blocks)}
    layouts = [Layout(shape, axis, length, lanes) for length in sorted(lengths, reverse=True)]
    return min(layouts, key=lambda layout: layout.count * layout.blocks)


# What a sweep computes


def _differences(there: dict[str, Any], here: dict[str, Any], path: Path, cells: Cells) -> list[str]:
    """What distinguishes the sweep that a store belongs to from the one that is asked for, one line each."""
    old, new = (_flat(attributes) for attributes in (there, here))
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    differences = [f"{name}: {old.get(name)} there, {new.get(name)} here" for name in names]
    stored, asked = (json.loads(attributes["sweep"])["axes"] for attributes in (there, here))
    for name in dict.fromkeys([*stored, *asked]):
        if stored.get(name) == asked.get(name):
            continue
        if name not in stored or name not in asked:
            differences.append(f"axis {name!r}: only {'here' if name in asked else 'there'}")
        elif stored[name]["seeds"] != asked[name]["seeds"]:
            kinds = ["random keys" if axes[name]["seeds"] else "numbers" for axes in (stored, asked)]
            differences.append(f"axis {name!r}: {kinds[0]} there, {kinds[1]} here")
        else:
            differences.append(f"axis {name!r}: {_compared(_stored_values(path, name), cells.axes[name].values)}")
    if not differences and list(stored) != list(asked):
        differences.append(f"order of the axes: {', '.join(stored)} there, {', '.join(asked)} here")
    return differences


def _flat(attributes: dict[str, Any]) -> dict[str, str]:
    """All that has to be equal, as text."""
    texts = {name: value for name, value in attributes.items() if name not in ("settings", "sweep")}
    settings = {name: value for name, value in json.loads(attributes["settings"]).items() if name not in FREE}
    texts |= settings | {"measures": ", ".join(json.loads(attributes["sweep"])["measures"]) or "none"}
    return {name: re.sub(r" at 0x[0-9a-f]+", "", str(value)) for name, value in texts.items()}


def _stored_values(path: Path, name: str) -> np.ndarray | None:
    """A coordinate of a store; `None` if it is missing or damaged."""
    try:
        if not any((path / name / file).exists() for file in ("c", "c.0")):
            return None
        with _open(path) as dataset:
            return dataset[name].values
    except Exception:  # whatever zarr says of damaged files
        return None


def _compared(there: np.ndarray | None, here: np.ndarray) -> str:
    if there is None:
        return f"other numbers there (which are damaged) than {_summary(here)} here"
    if there.shape != here.shape:
        return f"{_summary(there)} there, {_summary(here)} here"
    if there.dtype != here.dtype:
        return f"{there.dtype} there, {here.dtype} here"
    places = np.flatnonzero((there != here).ravel() | (np.signbit(there) != np.signbit(here)).ravel())
    if not len(places):
        return "its numbers have been changed there"
    first = places[0]
    pair = f"{there.ravel()[first]!s} there, {here.ravel()[first]!s} here"
    return pair if there.ndim == 0 else f"value {first} is {pair} ({len(places)} of {there.size} values differ)"


def _summary(values: np.ndarray) -> str:
    if values.ndim == 0:
        return f"the number {values!s}"
    return f"{values.size} value{'s' * (values.size > 1)} from {values[0]!s} to {values[-1]!s}"


# The folder


class Store:
    """The results of a sweep in a folder. Use it in a `with` statement: it is locked from the beginning to the end.

    Args:
        path: of the folder; it is made if there is none.
        cells: of the sweep.
        lanes, size: numbers of cells in a block and, at most, in a chunk; a store that is there keeps its chunks.
        attributes: of the dataset: what is the same in equal sweeps.
        described: attributes of the variables.
        about: further things that belong to the sweep: name of `build` and names of measures.
        trace: returns a fingerprint, and types and shapes of all variables, with blocks and lanes in front.

    Raises:
        StoreError: the folder cannot be made or read, or another process writes to it.
        ValueError: it belongs to another sweep, or is no store of a sweep.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        cells: Cells,
        lanes: int,
        size: int,
        attributes: dict[str, Any],
        described: dict[str, dict[str, Any]],
        about: dict[str, Any],
        trace: Callable[[], tuple[str, Shapes]],
    ):
        if not isinstance(path, (str, os.PathLike)) or "://" in str(path):
            raise ValueError(f'store is {path!r}; expected the path of a folder on this machine, e.g. "run.zarr"')
        self.name, self.path = str(path), Path(path).absolute()
        self.commits = self.path / "commits"
        self.done_chunks: dict[int, list[int]] = {}
        self._lock: Lock | None = None
        self.cells = cells
        axes = {name: {"values": hash_of(axis.values), "seeds": axis.is_seed} for name, axis in cells.axes.items()}
        about = about | {"format": FORMAT, "axes": axes}
        with self._told("could not be read"):
            there = self._read()
        self.layout = layout_of(cells.shape, lanes, size)
        if there is not None:
            stored = self._compare(there, attributes | {"sweep": json.dumps(about)})
        digest, shapes = trace()
        if there is not None and stored["fingerprint"] != digest:
            raise self._refused([f"build: {stored['build']} computed something else there than {about['build']} here"])
        if there is None:
            chunks = {"axis": self.layout.axis, "length": self.layout.length}
            about = about | {"fingerprint": digest, "chunks": chunks}
            settings = json.loads(attributes["settings"]) | {"chunk": math.prod(self.layout.box)}
            attributes = attributes | {"settings": json.dumps(settings), "sweep": json.dumps(about)}
        else:
            attributes = there.attributes
        self.digest = _checksum(_plain(attributes))
        blank = {
            name: np.broadcast_to(np.asarray(tables._blank(spec.dtype), spec.dtype), (cells.count, *spec.shape[2:]))
            for name, spec in shapes.items()
        }
        self.template = tables.Table(cells, blank, described).dataset(attributes)
        with self._told("could not be read"):
            self._unwritten = self._missing(there)
            self._scan()

    def __enter__(self) -> "Store":
        if self.is_whole:
            return self
        with self._told("could not be written"):
            self.commits.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(self.commits / "lock", self.name)
            try:
                there = self._read()
                if there is not None and _checksum(there.attributes) != self.digest:
                    raise StoreError(f"store={self.name!r} was begun by another process just now; call again")
                self._unwritten = self._missing(there)
                self._make(there)
                self._scan()
            except BaseException:
                self._lock.release()
                raise
        return self

    def __exit__(self, *_: Any) -> None:
        if self._lock is not None:
            self._lock.release()

    @property
    def blocks(self) -> int:
        """Number of blocks, counted from the sweep's first cell, in which the cells of any chunk lie."""
        return self.layout.blocks

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing to compute, and nothing to write again."""
        return self.done == self.cells.count and not self._unwritten

    @property
    def done(self) -> int:
        """Number of cells that are done."""
        return sum(sum(counts) for counts in self.done_chunks.values())

    def counts(self) -> str:
        """How many of the cells that are done have which outcome."""
        counts = np.sum([*self.done_chunks.values()], axis=0) if self.done_chunks else np.zeros(len(Outcome), int)
        return ", ".join(f"{count} {outcome.name}" for outcome, count in zip(Outcome, counts, strict=True) if count)

    def parts(self) -> Iterator[tuple[int, int, int]]:
        """Number, first cell and the one after the last of all chunks that are not done."""
        for number in range(self.layout.count):
            if number not in self.done_chunks:
                begin, end = self.layout.cells(number)
                yield number, int(begin), int(end)

    def add(self, number: int, rows: dict[str, np.ndarray]) -> None:
        """Commit the results of a chunk: all of it, or nothing."""
        with self._told("could not be written"):
            contents = {name: self._content(name, rows[name]) for name in self.template.data_vars}
            files = {name: (self._file(name, number), content) for name, content in contents.items()}
            # A cell that has an outcome has everything else as well, also for somebody who looks in between.
            write_files([files[name] for name in files if name != "outcome"])
            write_files([files["outcome"]])
            counts = np.bincount(rows["outcome"], minlength=len(Outcome)).tolist()
            sums = {name: zlib.crc32(content) for name, content in contents.items()}
            cells = [int(cell) for cell in self.layout.cells(number)]
            record = {"sweep": self.digest, "cells": cells, "outcomes": counts, "checksums": sums}
            write_files([(self.commits / f"{number}.json", record_of(record))])
        self.done_chunks[number] = counts

    def dataset(self, _: Any = None) -> "xr.Dataset":
        """All of it; numbers are read from the disk when they are looked at, coordinates are those of the sweep."""
        try:
            stored = _open(self.path).assign_coords(self.template.coords)
            for name, expected in self.template.variables.items():
                if (stored[name].dims, stored[name].dtype) != (expected.dims, expected.dtype):
                    raise ValueError(f"{name} is {stored[name].dtype}{stored[name].dims}")
        except Exception as error:  # whatever zarr says of files that have been damaged in the meantime
            raise StoreError(
                f"store={self.name!r} was changed while it was used ({type(error).__name__}: {error}); "
                "the same call looks at it again"
            ) from error
        for name in stored.variables:
            stored[name].attrs = dict(self.template[name].attrs)
        return stored

    # What it says of itself

    def _read(self) -> "_Stored | None":
        """What a store that is there says of itself."""
        if not self.path.exists():
            return None
        if not self.path.is_dir():
            raise StoreError(f'store={self.name!r} is a file; a store is a folder: give another name, e.g. "run.zarr"')
        record, header = read_record(self.path / RECORD), self.path / HEADER
        if record is not None:
            self._check_format(record["format"])
            if header.exists() and zlib.crc32(header.read_bytes()) != record["files"][HEADER]:
                raise self._changed(HEADER)
            return _Stored(record["attributes"], record["files"])
        is_ours = (self.commits / "lock").exists() or (self.path / RECORD).exists()
        if not header.exists():
            inside = {file.name for file in self.commits.iterdir()} if self.commits.is_dir() else {""}
            if not any(self.path.iterdir()) or (inside <= BEGUN and not any(self._others())):
                return None  # or killed while it was made
            if is_ours:
                raise self._lost()
            raise ValueError(f"store={self.name!r} is a folder that holds something else; give another name")
        try:
            attributes = json.loads(header.read_bytes())["attributes"]
            stored, _ = json.loads(attributes["sweep"]), json.loads(attributes["settings"])
            _, number = stored["fingerprint"], stored.get("format", 1)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if is_ours:
                raise self._lost() from error
            raise ValueError(
                f"store={self.name!r} is a zarr folder, but not of a sweep; give another name, or delete it"
            ) from error
        self._check_format(number)
        return _Stored(attributes, None)

    def _others(self) -> list[Path]:
        return [child for child in self.path.iterdir() if child != self.commits]

    def _check_format(self, number: Any) -> None:
        if number != FORMAT:
            raise ValueError(
                f"store={self.name!r} was written by another version of dynamics, in format {number}, and this one "
                f"knows format {FORMAT}; xarray.open_zarr({self.name!r}) shows what it holds, and the version that "
                "wrote it goes on with it. Give this sweep another name"
            )

    def _compare(self, there: "_Stored", attributes: dict[str, Any]) -> dict[str, Any]:
        """Compare a store that is there with what is asked for, take its chunks, and return what it says it is.

        Raises:
            ValueError: it belongs to another sweep.
            StoreError: it is damaged.
        """
        try:
            differences = _differences(there.attributes, attributes, self.path, self.cells)
            stored = json.loads(there.attributes["sweep"])
            axis, length = (stored["chunks"][name] for name in ("axis", "length"))
            shape = self.cells.shape or (1,)
            if not differences and (axis not in range(len(shape)) or length not in range(1, shape[axis] + 1)):
                raise ValueError(f"chunks of {length} along axis {axis}")
            stored = {"build": str(stored["build"]), "fingerprint": str(stored["fingerprint"])}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if there.files is not None:
                raise
            raise self._lost() from error
        if differences:
            unsure = f"({HEADER} may be damaged: {RECORD}, which would tell, is missing or damaged)"
            raise self._refused(differences + [unsure] * (there.files is None))
        self.layout = dataclasses.replace(self.layout, axis=axis, length=length)
        return stored

    def _missing(self, there: "_Stored | None") -> set[str]:
        """Files of metadata and coordinates that are to be written: those that are missing, and damaged coordinates.

        Raises:
            StoreError: metadata are not as they were written.
        """
        if there is None:
            return {RECORD, *self._metadata()}
        expected = self._metadata() if there.files is None else there.files
        missing = {RECORD} if there.files is None else set()
        for name, wanted in expected.items():
            try:
                content = (self.path / name).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                missing.add(name)
                continue
            if there.files is not None:
                is_right = zlib.crc32(content) == wanted
            else:  # their checksums are gone; they must be what would be written
                is_right = content == wanted or name.endswith(HEADER) and _parsed(content) == _parsed(wanted)
            if not is_right and name.endswith(HEADER):
                raise self._lost() if name == HEADER and there.files is None else self._changed(name)
            if not is_right:
                missing.add(name)
        return missing

    def _changed(self, name: str) -> StoreError:
        return StoreError(
            f"store={self.name!r}: {name} is damaged, or somebody has changed it. Put it back as it was, or delete "
            f"{self.path / name}: it is then written again by the call that began this store, and nothing else is lost"
        )

    def _lost(self) -> StoreError:
        return StoreError(
            f"store={self.name!r}: {HEADER} and {RECORD} are missing or damaged, both of which tell to what sweep the "
            "numbers in it belong; put one of them back from a copy, or give another name"
        )

    def _metadata(self) -> dict[str, bytes]:
        """All metadata and coordinates: contents of files by name, those of the whole last."""
        import zarr

        files: dict[str, Any] = {}
        memory = zarr.storage.MemoryStore(files)
        group = zarr.create_group(memory, attributes=_plain(self.template.attrs))
        beside = [str(name) for name in self.template.coords if name not in self.template.dims]
        for name, variable in self.template.variables.items():
            is_data = name in self.template.data_vars
            shape = variable.shape[len(self.cells.shape) :]
            array = group.create_array(
                str(name),
                shape=variable.shape,
                chunks=(*self.layout.box, *shape) if is_data else variable.shape,
                dtype=variable.dtype,
                fill_value=_fill(variable.dtype, is_data),
                dimension_names=[str(dim) for dim in variable.dims],
                attributes=_plain(variable.attrs) | ({"coordinates": " ".join(beside)} if is_data and beside else {}),
                compressors=zarr.codecs.Crc32cCodec(),
                filters=None,
                config={"write_empty_chunks": True},
                chunk_key_encoding={"name": "default", "separator": "."},
            )
            if not is_data:
                array[...] = variable.values
        group.create_group("commits")  # a group, so that nobody wonders about it
        contents = {key: content.to_bytes() for key, content in files.items()}
        header = json.loads(contents.pop(HEADER))
        # All metadata in one file, as zarr.consolidate_metadata has it, which warns that this is no standard yet.
        parts = {key.removesuffix(f"/{HEADER}"): json.loads(contents[key]) for key in contents if key.endswith(HEADER)}
        header["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": parts}
        return contents | {HEADER: json.dumps(header, indent=1).encode()}

    def _make(self, there: "_Stored | None") -> None:
        """Write what is missing of metadata and coordinates: first what they will be, those of the whole last."""
        if not self._unwritten:
            return
        contents = self._metadata()
        known = (there.files if there is not None else None) or {}
        sums = {
            name: zlib.crc32(content) if name in self._unwritten or name not in known else known[name]
            for name, content in contents.items()
        }
        if not known:  # metadata that are there may be written differently, and mean the same
            there_now = set(contents) - self._unwritten
            sums |= {name: zlib.crc32((self.path / name).read_bytes()) for name in there_now}
        record = {"format": FORMAT, "attributes": _plain(self.template.attrs), "files": sums}
        write_files([(self.path / RECORD, record_of(record))])
        for name in contents:
            (self.path / name).parent.mkdir(exist_ok=True)
        last = [HEADER] if HEADER in self._unwritten else []
        for names in ([name for name in contents if name in self._unwritten and name != HEADER], last):
            write_files([(self.path / name, contents[name]) for name in names])
        self._unwritten = set()

    def _scan(self) -> None:
        """Look which chunks are there."""
        for number, *_ in [*self.parts()]:
            record = read_record(self.commits / f"{number}.json")
            if record is None or record["sweep"] != self.digest:
                continue  # it is computed again
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                if record["cells"] == [int(cell) for cell in self.layout.cells(number)] and all(
                    zlib.crc32(self._file(name, number).read_bytes()) == record["checksums"][name]
                    for name in self.template.data_vars
                ):
                    # An earlier version may have told fewer outcomes apart.
                    counts = record["outcomes"]
                    self.done_chunks[number] = [*counts, *[0] * (len(Outcome) - len(counts))]

    def _file(self, name: Any, number: int) -> Path:
        return self.path / name / self.layout.file(number, self.template[name].ndim - len(self.cells.shape))

    def _content(self, name: str, values: np.ndarray) -> bytes:
        """The file of a chunk: at the end of an axis it is filled up."""
        expected = self.template[name]
        shape = expected.shape[len(self.cells.shape) :]
        if values.dtype != expected.dtype or values.shape[1:] != shape:
            raise TypeError(f"{name} is {values.dtype}{values.shape[1:]}; announced was {expected.dtype}{shape}")
        full = np.full((math.prod(self.layout.box), *shape), tables._blank(values.dtype), values.dtype)
        full[: len(values)] = values
        content = full.astype(full.dtype.newbyteorder("<")).tobytes()
        return content + optional("google_crc32c", "stores", "store=").value(content).to_bytes(4, "little")

    def _refused(self, differences: list[str]) -> ValueError:
        lines = "".join(f"\n  {line}" for line in differences)
        fix = (
            "give this one another name, or delete the folder if it is no longer needed; "
            f"xarray.open_zarr({self.name!r}) opens what it holds"
        )
        if all(line.split(":")[0] in VERSIONS for line in differences):
            fix = f"to go on with it, install the versions it was begun with; else {fix}"
        return ValueError(f"store={self.name!r} belongs to another sweep:{lines}\n{fix[0].upper()}{fix[1:]}")

    def _told(self, what: str) -> "_ExplainedErrors":
        return _ExplainedErrors(self, what)


class _Stored(NamedTuple):
    """What a store says of itself.

    Attributes:
        attributes: of the dataset.
        files: checksums of the files of metadata and coordinates; `None` if the record of them is missing or damaged.
    """

    attributes: dict[str, Any]
    files: dict[str, int] | None


class _ExplainedErrors:
    """Says of errors of the disk what is kept, and how to go on."""

    def __init__(self, store: Store, what: str):
        self.store, self.what = store, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        if not isinstance(error, OSError) or isinstance(error, StoreError):
            return
        store = self.store
        text = f"store={store.name!r} {self.what}: {error.strerror or error}"
        text += f" ({error.filename})" * bool(error.filename)
        if store.done_chunks:
            text += f"; {store.done:,} of {store.cells.count:,} cells are in it and are kept"
        fix = FIXES.get(error.errno, "see to it that this process may read and write there, or give another name")
        explained = StoreError(f"{text}; {fix}; the same call goes on from there")
        explained.errno = error.errno
        raise explained from error


class Lock:
    """A file that says who writes to a store; the system gives it free when that process is gone, however it ended."""

    def __init__(self, file: Path, name: str):
        self.stream = open(file, "a+")
        try:
            held = self._hold()
            this_process = {"process": os.getpid(), "machine": socket.gethostname()}
            holder = self._holder()
            gone = (
                holder is None
                or holder["machine"] == this_process["machine"]
                and (held or not _runs(holder["process"]))
            )
            if held is False or not gone:
                who = f"process {holder['process']} on {holder['machine']}" if holder else "another process"
                raise StoreError(
                    f"store={name!r} is being written by {who}; wait for it, give another name, or, if that process is "
                    f"gone, delete {file}"
                )
            self.stream.truncate(0)
            self.stream.write(json.dumps(this_process))
            self.stream.flush()
            os.fsync(self.stream.fileno())
            if self._holder() != this_process:  # where the system knows no locks, two may come here at once
                raise StoreError(f"store={name!r} is being written by another process that began just now; wait for it")
        except BaseException:
            self.stream.close()
            raise

    def _holder(self) -> dict[str, Any] | None:
        """Who wrote last and did not say that it was done."""
        self.stream.seek(0)
        try:
            record = json.loads(self.stream.read())
            return {"process": int(record["process"]), "machine": str(record["machine"])}
        except (ValueError, KeyError, TypeError):
            return None

    def _hold(self) -> bool | None:
        """Whether the file is ours now; `None` if the file system knows no locks."""
        if fcntl is None:
            return None
        try:
            fcntl.flock(self.stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True

    def release(self) -> None:
        """Say that nobody writes."""
        if not self.stream.closed:
            self.stream.truncate(0)
            self.stream.close()


def _runs(process: int) -> bool:
    if fcntl is None:
        return True  # there is no harmless way to ask
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _fill(dtype: np.dtype, is_data: bool) -> Any:
    """What zarr reads where there is no file: of coordinates a number that is none of theirs."""
    if not is_data and dtype.kind == "u":
        return np.iinfo(dtype).max
    return np.asarray(tables._blank(dtype), dtype)[()]


def record_of(content: Any) -> bytes:
    """A file of JSON that can be checked."""
    return json.dumps({"content": content, "checksum": _checksum(content)}).encode()


def read_record(file: Path) -> Any:
    """What `record_of` was given; `None` if the file is missing or damaged."""
    try:
        record = json.loads(file.read_bytes())
        return record["content"] if record["checksum"] == _checksum(record["content"]) else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _checksum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _parsed(content: bytes) -> Any:
    """What a file of JSON says; `None` if it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _open(path: Path) -> "xr.Dataset":
    import xarray as xr

    return xr.open_zarr(path, chunks=None, decode_times=False).drop_encoding()


def _plain(attributes: dict[Any, Any]) -> dict[str, Any]:
    """Attributes without arrays."""
    return {str(name): value.tolist() if hasattr(value, "tolist") else value for name, value in attributes.items()}
