"""Files that are there or are not, whenever the process ends."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def aside(path: Path) -> Path:
    """Where a file is until it is whole; the ending stays, for it says which kind of file."""
    return path.with_name(f".{os.getpid()}.partial.{path.name}")


def put_in_place(path: Path, make: Callable[[Path], Any]) -> None:
    """Let a function write a file aside, and give it its name when it is whole."""
    partial = aside(path)
    try:
        make(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_files(files: list[tuple[Path, bytes]]) -> None:
    """Write files aside, bring them to the disk, and then give them their names, in this order."""
    asides = [file.with_name(f".{file.name}.part") for file, _ in files]
    try:
        for aside, (_, content) in zip(asides, files, strict=True):
            with open(aside, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        for aside, (file, _) in zip(asides, files, strict=True):
            os.replace(aside, file)
    except BaseException:
        for aside in asides:
            with contextlib.suppress(OSError):
                aside.unlink()
        raise
    if fcntl is not None:  # elsewhere folders cannot be opened
        for folder in {file.parent for file, _ in files}:
            number = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)
