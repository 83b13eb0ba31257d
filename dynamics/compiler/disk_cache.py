"""Machine code kept on disk, so that another process need not compile it again.

Whoever can write into the folder can run code as the user who reads it. So the folder is one that only its user can
write: it belongs to the user of the process, has the mode 0700, is no symbolic link, and lies in folders that nobody
else can exchange; the same is asked of every file. In any other place nothing is written, and nothing is read: programs
are compiled as if there were nothing. There is no such thing on Windows, where the rights of files are others.

The environment variable `DYNAMICS_CACHE` is `off`, or the path of the folder; without it the folder is `dynamics` in
`$XDG_CACHE_HOME` or `~/.cache`, on macOS in `~/Library/Caches`. It may be deleted at any time. It holds at most
`MOST_BYTES`: what has not been used for longest goes first.

A file is written aside and renamed, so that it is there as a whole or not at all, whoever else writes; its name is the
hash of all that the code depends on, and it begins with the hash of its content.
"""

import contextlib
import hashlib
import logging
import os
import pathlib
import secrets
import stat
import sys
import time
from collections.abc import Iterator

VARIABLE = "DYNAMICS_CACHE"
MOST_BYTES = 2**28
MOST_FILES = 2**12
KEPT = 3 / 4  # of what is allowed, after something had to go
ABANDONED = 3600  # seconds after which a file that is being written belongs to a process that has ended
SUFFIX, PARTIAL = ".object", ".partial"
DIGEST = hashlib.sha256().digest_size

logger = logging.getLogger(__name__)


class Untrusted(Exception):
    """Somebody else could write there; the text says who."""


def wanted() -> pathlib.Path | None:
    """The folder that is asked for, or by default; `None` where nothing is to be kept.

    Raises:
        ValueError: the environment variable `DYNAMICS_CACHE` is no absolute path, and not "off".
    """
    value = os.environ.get(VARIABLE)
    if value == "off" or os.name != "posix":
        return None
    if value is not None:
        folder = pathlib.Path(value).expanduser()
        if not folder.is_absolute():
            raise ValueError(f'the environment variable {VARIABLE} is {value!r}; expected an absolute path, or "off"')
        return folder
    home = pathlib.Path(os.path.expanduser("~"))
    given = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    caches = home / "Library/Caches" if sys.platform == "darwin" else given if given.is_absolute() else home / ".cache"
    return caches / "dynamics" if caches.is_absolute() else None


def private_folder(path: pathlib.Path) -> pathlib.Path:
    """Make a folder that only the user can write, if it is not there, and see that it is such a one.

    Raises:
        Untrusted: somebody else could write there, or put another folder in its place.
        OSError: it cannot be made or read.
    """
    for folder in (*reversed(path.parents), path):
        with contextlib.suppress(FileExistsError):
            if not folder.exists():
                folder.mkdir(mode=0o700)
    with _opened(path):
        return path


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[int]:
    """A file descriptor of a folder that has been checked: what is opened relative to it is in that folder."""
    for parent in path.resolve().parents:
        status = parent.stat()
        others_write = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
        if status.st_uid not in (0, os.geteuid()) or others_write:
            raise Untrusted(f"{parent} can be changed by others than the user (mode {stat.filemode(status.st_mode)})")
    try:
        number = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except NotADirectoryError as error:  # so Linux says that it is a link
        raise Untrusted(f"{path} is no folder, or a symbolic link") from error
    try:
        _check(os.fstat(number), path, 0o077)
        yield number
    finally:
        os.close(number)


def _check(status: os.stat_result, path: object, others: int) -> None:
    if status.st_uid != os.geteuid():
        raise Untrusted(f"{path} belongs to user {status.st_uid}, not to {os.geteuid()}")
    if status.st_mode & others:
        raise Untrusted(f"{path} is open to others (mode {stat.filemode(status.st_mode)})")


def name_of(*parts: str) -> str:
    """The name of a file that depends on these texts."""
    digest = hashlib.sha256()
    for part in parts:  # with their lengths, so that no two lists of texts are the same
        digest.update(f"{len(part)}:".encode() + part.encode())
    return digest.hexdigest()


def read(name: str) -> bytes | None:
    """What is kept under a name (`name_of`), or `None`; never what is broken, or anybody else may have written."""
    try:
        folder = wanted()
        if folder is None or not folder.exists():
            return None
        with _opened(folder) as parent:
            number = os.open(name + SUFFIX, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            with open(number, "rb") as file:
                status = os.fstat(number)
                if not stat.S_ISREG(status.st_mode):
                    raise Untrusted(f"{name}{SUFFIX} is no file")
                _check(status, folder / (name + SUFFIX), 0o077)
                content = file.read()
            if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
                logger.info("kept on disk, but broken: %s", name)
                os.unlink(name + SUFFIX, dir_fd=parent)
                return None
            with contextlib.suppress(OSError):
                os.utime(name + SUFFIX, dir_fd=parent)  # used just now
            return content[DIGEST:]
    except FileNotFoundError:
        return None
    except (OSError, Untrusted) as error:
        logger.info("nothing is read from disk: %s", error)
        return None


def write(name: str, content: bytes) -> None:
    """Keep something under a name; where that is not possible, nothing happens."""
    try:
        folder = wanted()
        if folder is None or len(content) > MOST_BYTES / 16:
            return
        with _opened(private_folder(folder)) as parent:
            partial = f"{name}.{secrets.token_hex(8)}{PARTIAL}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                with open(os.open(partial, flags, 0o600, dir_fd=parent), "wb") as file:
                    file.write(hashlib.sha256(content).digest() + content)
                os.replace(partial, name + SUFFIX, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(partial, dir_fd=parent)
                raise
            bound(parent)
    except (OSError, Untrusted) as error:
        logger.info("nothing is kept on disk: %s", error)


def bound(folder: int | pathlib.Path, most_bytes: int | None = None, most_files: int | None = None) -> None:
    """Delete what has not been used for longest, until so much is left, and what was never written to its end.

    Args:
        folder: its files, but not those in folders therein.
        most_bytes, most_files: `MOST_BYTES`, `MOST_FILES` unless given.
    """
    most_bytes = MOST_BYTES if most_bytes is None else most_bytes
    most_files = MOST_FILES if most_files is None else most_files
    files, now = [], time.time()
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # another process has deleted it
                continue
            if stat.S_ISDIR(status.st_mode):
                continue
            abandoned = entry.name.endswith(PARTIAL) and now - status.st_mtime > ABANDONED
            files.append((not abandoned, status.st_mtime, status.st_size, entry.name))
    files.sort()
    bytes_, count = sum(size for _, _, size, _ in files), len(files)
    full = bytes_ > most_bytes or count > most_files
    for whole, _, size, name in files:
        if whole and not (full and (bytes_ > KEPT * most_bytes or count > KEPT * most_files)):
            break
        with contextlib.suppress(FileNotFoundError):
            if isinstance(folder, int):
                os.unlink(name, dir_fd=folder)
            else:
                (folder / name).unlink()
        bytes_, count = bytes_ - size, count - 1
