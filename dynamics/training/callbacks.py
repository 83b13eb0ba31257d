"""What happens at every evaluation of a training."""

import csv
import importlib
import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import equinox as eqx

from dynamics._extras import optional
from dynamics._files import write_files
from dynamics.updates.base import State


class Callback(Protocol):
    """Called at every evaluation of a training, before its checkpoint is written.

    A training that was killed in between goes on from the checkpoint before, and calls again with the same step: what a
    callback writes should replace what it has written for that step and later ones, as `CSVLog` does.
    """

    def __call__(self, step: int, state: State, values: Mapping[str, float], /) -> Any:
        """Called with the number of steps taken, the state, and the losses `loss_0`, ... and metrics by name."""


class CSVLog(eqx.Module):
    """A table of losses and metrics as comma-separated values, one row per evaluation, with the columns' names first.

    A training that begins (at step 0) replaces the file; one that resumes replaces the rows from its step on. Numbers
    are written such that they are read back to the bit.

    Args:
        path: the file; its folder is made where needed.

    Raises:
        ValueError: when called, if the file has other columns.
    """

    path: Path = eqx.field(static=True, converter=Path)

    def __call__(self, step: int, state: State, values: Mapping[str, float]) -> None:
        header, row = ["step", *values], [str(step), *(repr(float(value)) for value in values.values())]
        kept, whole = self._rows_before(step, header)
        if kept and whole:
            with self.path.open("a", newline="", encoding="utf-8") as stream:
                stream.write(_text([row]))
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_files([(self.path, _text([*(kept or [header]), row]).encode())])

    def _rows_before(self, step: int, header: list[str]) -> tuple[list[list[str]], bool]:
        """The header and the rows before a step, and whether the file has nothing else."""
        if step == 0 or not self.path.exists():
            return [], False
        text = self.path.read_text(encoding="utf-8")
        rows = list(csv.reader(io.StringIO(text)))
        if rows and rows[0] != header:
            raise ValueError(
                f"{self.path} has the columns {', '.join(rows[0])}; expected {', '.join(header)}. Give another name, "
                "or delete the file."
            )
        whole = text.endswith("\n")
        complete = rows if whole else rows[:-1]  # a row that was being written when the process ended
        kept = [row for i, row in enumerate(complete) if i == 0 or int(row[0]) < step]
        return kept, whole and len(kept) == len(rows)


class TensorBoardLog:
    """Losses and metrics as scalars for TensorBoard, written by tensorboardX. Needs the extra `tensorboard`.

    Every evaluation is on the disk when the call returns. TensorBoard hides what the folder has of the step at which a
    training begins or resumes, and of later ones; files of earlier runs are left where they are.

    Args:
        path: the folder of one training; it is made where needed.
        prefix: before every name, such as "ring/".

    Raises:
        ImportError: tensorboardX is not installed.
    """

    def __init__(self, path: str | Path, prefix: str = ""):
        self.path, self.prefix = Path(path), prefix
        self._package = optional("tensorboardX", "tensorboard", "TensorBoardLog")
        self._writer: Any = None
        self._last = -1

    def __call__(self, step: int, state: State, values: Mapping[str, float]) -> None:
        del state
        if self._writer is None or step <= self._last:
            self._begin(step)
        make = self._package.summary.scalar
        summaries = [make(self.prefix + name, float(value)) for name, value in values.items()]
        self._write(step, *({"summary": summary} for summary in summaries))
        self._last = step

    def close(self) -> None:
        """Close the file; the next call opens another one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _begin(self, step: int) -> None:
        """Open a file that hides what there is from this step on."""
        self.close()
        self.path.mkdir(parents=True, exist_ok=True)
        # Names hold the second alone: files of one second need something more, in their order.
        there = len(list(self.path.glob("events.out.tfevents.*")))
        writer = importlib.import_module("tensorboardX.event_file_writer").EventsWriter
        # `SummaryWriter` writes in a thread of its own, and its `flush` does not wait for it.
        self._writer = writer(str(self.path / "events"), f".{there}")
        start = importlib.import_module("tensorboardX.proto.event_pb2").SessionLog.START
        self._write(step, {"session_log": {"status": start}})

    def _write(self, step: int, *contents: Mapping[str, Any]) -> None:
        event = importlib.import_module("tensorboardX.proto.event_pb2").Event
        for content in contents:
            self._writer.write_event(event(step=step, wall_time=time.time(), **content))
        self._writer.flush()

    def __repr__(self) -> str:
        return f"TensorBoardLog({str(self.path)!r})"


def _text(rows: list[list[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
