"""The players of many cells as variables of a dataset, and back."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from dynamics.game import Players, as_players

if TYPE_CHECKING:
    import xarray as xr

FEW_LEAVES = 2  # of a player, each of which is a variable; the arrays of a larger one are laid end to end
ARRAYS = "arrays"  # attribute of such a player: names and shapes
FLAT = "_parameter"  # what the dimension of such a player is called, after the name of its variable


@dataclasses.dataclass(frozen=True)
class Variable:
    """One variable of the players.

    Attributes:
        name: of the variable, such as `player_0` or `player_1_bias`.
        label: its description.
        arrays: names and shapes of the leaves that are laid end to end along one dimension; empty: it is one leaf.
    """

    name: str
    label: str
    arrays: tuple[str, ...] = ()

    @property
    def attributes(self) -> dict[str, str]:
        """Attributes of the variable."""
        return {"long_name": self.label} | ({ARRAYS: "; ".join(self.arrays)} if self.arrays else {})

    @property
    def of_equilibrium(self) -> str:
        """The name of the same numbers at the equilibrium."""
        return "equilibrium_" + self.name.removeprefix("player_")


def dimensions(name: str, axes: int, attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the dimensions that a variable with these attributes has beside those of the cells."""
    return (name + FLAT,) if ARRAYS in attributes else tuple(f"{name}_axis_{axis}" for axis in range(axes))


def variables_of(players: PyTree) -> tuple[Variable, ...]:
    """The variables of the players: one per leaf, or one per player where there are more than two leaves with axes."""
    variables = []
    for number, player in enumerate(players):
        leaves = jax.tree_util.tree_leaves_with_path(player)
        if len(leaves) > FEW_LEAVES and any(np.ndim(leaf) for _, leaf in leaves):
            arrays = tuple(f"{jax.tree_util.keystr(path).lstrip('.')} {np.shape(leaf)}" for path, leaf in leaves)
            variables.append(Variable(f"player_{number}", f"player {number} at the end, its arrays end to end", arrays))
            continue
        for path, _ in leaves:
            text = "_".join([str(number), *filter(None, [jax.tree_util.keystr(path, simple=True, separator="_")])])
            name = "player_" + "".join(letter if letter.isalnum() else "_" for letter in text)
            label = f"player {number}{jax.tree_util.keystr(path)} at the end"
            variables.append(Variable(name, label))
    return _distinct(variables)


def _distinct(variables: list[Variable]) -> tuple[Variable, ...]:
    taken: set[str] = set()
    distinct = []
    for variable in variables:
        unique, number = variable.name, 2
        while unique in taken:
            unique, number = f"{variable.name}_{number}", number + 1
        taken.add(unique)
        distinct.append(dataclasses.replace(variable, name=unique))
    return tuple(distinct)


def columns_of(variables: tuple[Variable, ...], players: PyTree, axes: int) -> list[Any]:
    """The values of the variables, from players whose arrays have so many leading axes of cells.

    Args:
        variables: those of `variables_of`.
        players: arrays, or their types and shapes.
        axes: number of leading axes.
    """
    leaves, columns = iter(jax.tree.leaves(players)), []
    for variable in variables:
        if not variable.arrays:
            columns.append(next(leaves))
            continue
        taken = [next(leaves) for _ in variable.arrays]
        lead = taken[0].shape[:axes]
        if isinstance(taken[0], jax.ShapeDtypeStruct):
            size = sum(int(np.prod(leaf.shape[axes:])) for leaf in taken)
            dtype = np.result_type(*(leaf.dtype for leaf in taken))
            columns.append(jax.ShapeDtypeStruct((*lead, size), dtype))
        else:
            columns.append(np.concatenate([np.reshape(leaf, (*lead, -1)) for leaf in taken], axis=-1))
    return columns


def players_of(dataset: "xr.Dataset", like: Players, **cell: Any) -> Players:
    """The players of one cell of a sweep, of the structure and shapes of others.

    Args:
        dataset: what `dynamics.sweep` returned.
        like: players as `build` starts from, of which only structure, shapes and types matter.
        **cell: which cell: the place along each dimension of the cells, as for `xarray.Dataset.isel`; those with a
            single entry may be left out.

    Raises:
        ValueError: the numbers select no single cell, or the dataset holds no such players.

    >>> import dynamics as dy
    >>> def build(rate):
    ...     sgd = dy.optimisers.sgd(rate)
    ...     return dy.games.Bilinear(1.0), dy.updates.Alternating(sgd, sgd), (1.0, 1.0)
    >>> chart = dy.sweep(build, {"rate": [0.1, 0.2]}, steps=100, predict=False)
    >>> [player.shape for player in players_of(chart, (1.0, 1.0), rate=1)]
    [(), ()]
    """
    like = as_players(like, "like")
    selected = dataset.isel(cell).squeeze()
    left = [name for name in dataset["outcome"].dims if name in selected.dims]
    if left:
        raise ValueError(f"{cell} selects no single cell; give a place along {', '.join(map(str, left))} as well")
    variables = variables_of(like)
    columns: Mapping[Any, Any] = selected.variables
    if missing := [variable.name for variable in variables if variable.name not in columns]:
        raise ValueError(f"the dataset has no variables {', '.join(missing)}; expected players like those of the sweep")
    flat = np.concatenate([np.ravel(columns[variable.name].values) for variable in variables])
    expected, unravel = ravel_pytree(like)
    if flat.size != expected.size:
        raise ValueError(f"the players of the dataset have {flat.size} numbers, those like them {expected.size}")
    return unravel(jnp.asarray(flat, expected.dtype))
