"""What reports of experiments share: how to repeat them, and a folder with numbers first, then pictures."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from dynamics._files import put_in_place, write_files

if TYPE_CHECKING:
    import xarray as xr

Problems = list[tuple[str, Exception]]


def about(asked: Any) -> dict[str, Any]:
    """The first entries of `results.json`: what was asked, and on which device."""
    settings, device = dict(asked.settings), jax.devices()[0].device_kind
    return {"name": asked.name, "title": asked.title, "settings": settings, "device": device}


def listed(title: str, findings: Sequence[str]) -> str:
    """What the numbers say under the title, a line each."""
    return "\n".join([f"{title}:", *(f"  {line}" for line in findings)])


def how_to_repeat(settings: Mapping[str, Any], command: str) -> list[str]:
    """The last lines of a report: what was asked, and how to have it again."""
    lines = ["", "## What was asked", "", *(f"- {name}: {value}" for name, value in settings.items())]
    lines += ["", "The same numbers come, on the same kind of machine, from", "", "```bash", command, "```"]
    return lines


def write_folder(
    directory: str | Path,
    numbers: Any,
    report: str,
    pictures: Mapping[str, Callable[[Path], Any]],
    problems: Problems | None = None,
) -> None:
    """Write `results.json`, `report.md` and pictures; the first two are on the disk before anything is drawn.

    Args:
        directory: the folder, which is made where needed.
        numbers: plain Python data without NaN.
        report: text of the report.
        pictures: by the name of the file, what writes it to a path.
        problems: gets the names of the pictures that could not be written, with the exceptions; without it the first
            exception is raised when all else is done.

    Raises:
        OSError: the numbers cannot be written.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    texts = {"results.json": json.dumps(numbers, indent=1, allow_nan=False) + "\n", "report.md": report}
    write_files([(directory / name, text.encode()) for name, text in texts.items()])
    failed: Problems = []
    for name, draw in pictures.items():
        try:
            put_in_place(directory / name, draw)
        except Exception as error:
            failed.append((name, error))
    if problems is not None:
        problems += failed
    elif failed:
        raise failed[0][1]


def writer(
    to_json: Callable[[Any, Any], Any],
    markdown: Callable[[Any, Any, str | None], str],
    draw: Callable[[Any, Any, str, Path], None],
    names: Sequence[str] | Callable[[Any], Sequence[str]],
) -> Callable[..., None]:
    """The function that writes a kind of report.

    Args:
        to_json: the numbers, of what was asked and of the dataset that came out.
        markdown: the text, of these and the command.
        draw: draws the picture of a name into a path.
        names: of the pictures' files, or what tells them of what was asked.
    """

    def write(
        asked: Any,
        dataset: "xr.Dataset",
        directory: str | Path,
        command: str | None = None,
        problems: Problems | None = None,
    ) -> None:
        """Write numbers, report and pictures into a folder; the numbers are on the disk before anything is drawn.

        Args:
            asked: what the report is about.
            dataset: what came out.
            directory: the folder, which is made where needed.
            command: what was typed, for the report.
            problems: gets the names of pictures that could not be written, with the exceptions; without it those are
                raised.

        Raises:
            OSError: the numbers cannot be written.
        """
        files = names(asked) if callable(names) else names
        pictures = {name: partial(draw, asked, dataset, name) for name in files}
        write_folder(directory, to_json(asked, dataset), markdown(asked, dataset, command), pictures, problems)

    return write
