"""What happens at every evaluation of a training."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import equinox as eqx

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


def _text(rows: list[list[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
