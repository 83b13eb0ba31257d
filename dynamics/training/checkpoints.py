"""A training on disk, to be gone on with.

One file, `checkpoint`, replaced as a whole: a line of JSON that says what the training is, how far it is, and the
checksum of the rest; then the leaves of state, average and history as `equinox.tree_serialise_leaves` writes them.
"""

import dataclasses
import hashlib
import importlib.metadata
import io
import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

import dynamics
from dynamics._files import write_files
from dynamics.compiler.fingerprints import hash_of

NAME = "checkpoint"
FORMAT = 1


@dataclasses.dataclass
class Progress:
    """How far a training is: what a checkpoint holds."""

    carry: PyTree  # state and average
    step: int
    finite: bool
    names: list[str]  # columns of the history
    history: np.ndarray  # shape (rows, 1 + columns): steps, losses and metrics, float64


def numbers_of(tree: PyTree) -> str:
    """Hash of the arrays of a pytree."""
    leaves = [hash_of(leaf) for leaf in jax.tree.leaves(tree) if eqx.is_array_like(leaf)]
    return hashlib.sha256("\n".join(leaves).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Of what computes the numbers."""
    return {"dynamics": dynamics.__version__, "jax": jax.__version__, "jaxlib": importlib.metadata.version("jaxlib")}


class Checkpoints:
    """The folder of a training.

    Args:
        directory: the folder, which is made where needed.
        identity: what the training is, plain data by name, all of which decides its numbers.
    """

    def __init__(self, directory: str | Path, identity: dict[str, Any]):
        self.path = Path(directory)
        self.identity = json.loads(json.dumps(identity))
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"directory is {str(self.path)!r}, which is a file; expected a folder, or a new name")
        self.path.mkdir(parents=True, exist_ok=True)

    @property
    def file(self) -> Path:
        """Where the checkpoint is."""
        return self.path / NAME

    def write(self, progress: Progress) -> None:
        """Replace the checkpoint."""
        body = io.BytesIO()
        eqx.tree_serialise_leaves(body, (progress.carry, progress.history))
        content = body.getvalue()
        header = {
            "format": FORMAT,
            "identity": self.identity,
            "step": progress.step,
            "finite": progress.finite,
            "names": progress.names,
            "rows": len(progress.history),
            "checksum": hashlib.sha256(content).hexdigest(),
        }
        write_files([(self.file, json.dumps(header).encode() + b"\n" + content)])

    def read(self, like: PyTree) -> Progress | None:
        """What the checkpoint holds, or `None` where there is none.

        Args:
            like: a carry of the same structure, shapes and dtypes.

        Raises:
            ValueError: it is of another training, or damaged.
        """
        try:
            content = self.file.read_bytes()
        except FileNotFoundError:
            return None
        first, _, body = content.partition(b"\n")
        try:
            header = json.loads(first)
            intact = hashlib.sha256(body).hexdigest() == header["checksum"]
            identity = dict(header["identity"])
        except (ValueError, KeyError, TypeError):
            intact, header, identity = False, {}, {}
        if not intact or header["format"] != FORMAT:
            raise ValueError(
                f"{self.file} is damaged, or no checkpoint of this version; delete it to begin anew, or give another "
                "directory"
            )
        names = dict.fromkeys([*self.identity, *identity])
        differing = [name for name in names if self.identity.get(name) != identity.get(name)]
        if differing:
            raise ValueError(
                f"directory {str(self.path)!r} holds another training; what differs: "
                f"{', '.join(_difference(name, identity.get(name), self.identity.get(name)) for name in differing)}. "
                "Give another directory, or the arguments with which it was begun"
            )
        history = np.zeros((header["rows"], 1 + len(header["names"])))
        carry, history = eqx.tree_deserialise_leaves(io.BytesIO(body), (like, history))
        return Progress(carry, header["step"], header["finite"], header["names"], history)


def forget(directory: str | Path) -> None:
    """Delete the checkpoint in a folder, if there is one, so that a training there begins anew.

    Args:
        directory: the folder that was given to `dynamics.train`.

    >>> forget("no-such-folder")
    """
    (Path(directory) / NAME).unlink(missing_ok=True)


def _difference(name: str, there: Any, here: Any) -> str:
    """A name, and the values where they are short."""
    shown = [json.dumps(value) for value in (there, here)]
    return f"{name} ({shown[0]} there, {shown[1]} here)" if max(map(len, shown)) < 60 else name
