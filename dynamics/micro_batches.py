"""A batch in pieces: losses, gradients and Jacobians as of the whole batch, in the memory of one piece."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import as_whole
from dynamics.distributions import Distribution, Points, Sample
from dynamics.game import Game, Losses, Players, as_callable, as_losses, as_players, check_takes, has_variables
from dynamics.gan import GAN


def in_pieces(batch: PyTree, count: int) -> PyTree:
    """A batch with its leading axis cut into so many pieces of one size, arrays of shape (count, n / count, ...).

    Args:
        batch: arrays with a common leading axis of n points.
        count: number of pieces; it divides n.

    Raises:
        ValueError: it does not, or the arrays do not fit.

    >>> in_pieces(jnp.arange(6.0), 3).tolist()
    [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    """
    count = as_whole("count", count)
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(batch)}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(
            f"the arrays of the batch have leading axes {sorted(sizes)}; expected one common axis of points"
        )
    ((points,),) = sizes
    if points % count:
        raise ValueError(
            f"{points} points do not make {count} pieces of one size; expected a number that divides {points}, for the "
            "mean over unequal pieces is not that of the batch"
        )
    return jax.tree.map(lambda leaf: jnp.reshape(leaf, (count, points // count, *jnp.shape(leaf)[1:])), batch)


def mean_over_pieces(function: Callable[[PyTree], PyTree], pieces: PyTree) -> PyTree:
    r"""The mean $\frac1k\sum_i f(b_i)$ over pieces, one by one, and its derivatives in the memory of one piece.

    What a piece needs in between is not kept for derivatives but computed again (`jax.checkpoint`), in gradients, in
    products with Jacobians of gradients, and in their transposes: every product evaluates all pieces anew, and memory
    no longer grows with their number. In a training step that you write, the loss is
    `mean_over_pieces(lambda piece: loss(parameters, piece), in_pieces(batch, 8))`.

    Args:
        function: of one piece, to a pytree of floating arrays; what it is differentiated by it closes over.
        pieces: a pytree of arrays with a leading axis of k pieces, see `in_pieces`.

    >>> pieces = in_pieces(jnp.arange(4.0), 2)
    >>> float(jax.grad(lambda w: mean_over_pieces(lambda x: jnp.mean((w * x) ** 2), pieces))(1.0))
    7.0
    """
    count = jax.tree.leaves(pieces)[0].shape[0]
    again = jax.checkpoint(function, prevent_cse=False)
    shapes = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], pieces))
    nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def add(total: PyTree, piece: PyTree) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, again(piece)), None

    total, _ = jax.lax.scan(add, nothing, pieces)
    return jax.tree.map(lambda leaf: leaf / count, total)


class GameInPieces(Game):
    r"""A game whose losses are means over the pieces of a batch, $L_j = \frac1k\sum_i L_j(x; b_i)$.

    It is the game of the whole batch wherever its losses are means over points. Every update, flow and operator
    (`StateOperator`, `FieldOperator`, its blocks and parts) asks the game for its field, and so needs the memory of one
    piece. What mixes the points of a batch (batch statistics, scores compared in pairs, discrepancies of whole samples)
    sees one piece at a time, as in training with accumulated gradients.

    Args:
        losses: function `(players, piece, key) -> (loss_0, loss_1, ...)`; the key of piece i is `fold_in(key, i)`.
        pieces: a pytree of arrays with a leading axis of pieces, see `in_pieces`.
        equilibria: known equilibria, a sequence of tuples of players.

    Raises:
        TypeError: no function of players, a piece and a key.

    >>> data = jnp.asarray([1.0, 2.0, 4.0, 5.0])
    >>> def losses(players, piece, key):
    ...     x, y = players
    ...     return jnp.mean(piece) * x * y, -jnp.mean(piece) * x * y + y**2
    >>> game = GameInPieces(losses, in_pieces(data, 2))
    >>> [float(v) for v in game.field((jnp.asarray(1.0), jnp.asarray(2.0)))]
    [-6.0, -1.0]
    """

    function: Callable[..., Any]
    pieces: PyTree
    known: tuple[Players, ...]

    def __init__(self, losses: Callable[..., Any], pieces: PyTree, equilibria: Sequence[Players] = ()):
        self.function = as_callable(losses, "losses")
        check_takes(losses, "losses", "(players, piece, key)", 3)
        self.pieces = jax.tree.map(jnp.asarray, pieces)
        self.known = tuple(as_players(point, "equilibria") for point in equilibria)

    def __check_init__(self):
        sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(self.pieces)}
        if len(sizes) != 1 or () in sizes or (0,) in sizes:
            raise ValueError(
                f"the pieces have leading axes {sorted(sizes)}; expected one common axis of pieces, see "
                "dynamics.micro_batches.in_pieces"
            )

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        pieces = _trees.cast(self.pieces, _trees.float_dtype(players))

        def of_piece(numbered: tuple[Any, PyTree]) -> Losses:
            number, piece = numbered
            mine = None if key is None else jax.random.fold_in(key, number)
            return as_losses(self.function(players, piece, mine), len(players), "losses")

        return mean_over_pieces(of_piece, (jnp.arange(jax.tree.leaves(pieces)[0].shape[0]), pieces))

    def equilibria(self) -> tuple[Players, ...]:
        return self.known

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        def losses(players: Players, piece: Any, key: PRNGKeyArray | None) -> Losses:
            x, y = players
            value = jnp.mean(piece) * x * y
            return value + x**2 / 2, y**2 - value

        return cls(losses, in_pieces(jnp.asarray([1.0, 2.0, 4.0, 5.0]), 2), [(0.0, 0.0)]), as_players((1.0, 0.5))


class GANInPieces(Game):
    r"""A `GAN` whose data and latents are taken in pieces, its losses the mean over them.

    Piece i has the i-th part of the data set and of the latents, all of which a GAN takes for `key=None`; with a key it
    is the GAN with the key `fold_in(key, i)`, k batches of the size that the data draw. Equal to the whole GAN where
    losses and penalties are means over points, or over pairs of the i-th real and the i-th fake one; what mixes the
    points of a batch is refused, and so are networks that keep its statistics.

    Args:
        gan: a GAN whose data and latents are sets of points, `Points` or arrays.
        count: number of pieces k; it divides the number of points of both.

    Raises:
        TypeError: the networks keep something from step to step.
        ValueError: the points do not make so many pieces, or the objective mixes them.

    >>> gan = GAN(lambda t, z: t + z, lambda w, x: w * x, jnp.asarray([2.0, 3.0]), jnp.asarray([0.0, 1.0]))
    >>> players = jnp.asarray(1.0), jnp.asarray(1.0)
    >>> [[round(float(v), 3) for v in game.field(players)] for game in (gan, GANInPieces(gan, 2))]
    [[0.194, -1.056], [0.194, -1.056]]
    """

    gan: GAN
    count: int = eqx.field(static=True)

    def __init__(self, gan: GAN, count: int):
        self.gan = gan
        self.count = as_whole("count", count)

    def __check_init__(self):
        if not isinstance(self.gan, GAN):
            raise TypeError(f"GANInPieces.gan is {self.gan!r}; expected a dynamics.GAN")
        if has_variables(self.gan):
            raise TypeError(
                "GANInPieces.gan keeps something from step to step (batch statistics, averages), which is not that of "
                "the batch where the batch comes in pieces; use dynamics.from_step with a step that says what it is"
            )
        for name in ("data", "latent"):
            points = getattr(self.gan, name)
            if not isinstance(points, Points):
                raise ValueError(
                    f"GANInPieces.gan.{name} is {type(points).__name__}; expected a set of points without weights, an "
                    "array or dynamics.distributions.Points"
                )
            in_pieces(points.points, self.count)
        if mixing := _mixing(self.gan, [self.gan.data.sample().count, self.gan.latent.sample().count]):
            raise ValueError(
                f"{mixing} compares the points of a whole batch: its mean over pieces is another loss. Expected an "
                "objective and a penalty that are means over points"
            )

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        if key is not None:
            numbers = jnp.arange(self.count)
            return mean_over_pieces(lambda i: self.gan.losses(players, jax.random.fold_in(key, i)), numbers)
        sets: tuple[Distribution, ...] = self.gan.data, self.gan.latent
        pieces = tuple(in_pieces(points.sample().values, self.count) for points in sets)

        def of_piece(piece: tuple[PyTree, PyTree]) -> Losses:
            parts = tuple(map(Points, piece))
            return eqx.tree_at(lambda gan: (gan.data, gan.latent), self.gan, parts).losses(players)

        return mean_over_pieces(of_piece, pieces)

    def equilibria(self) -> tuple[Players, ...]:
        return self.gan.equilibria()

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        points = jnp.asarray([[0.0, 1.0], [1.0, 2.0], [2.0, 0.5], [1.5, 1.0]])
        gan = GAN(lambda t, z: t + z, lambda w, x: jnp.dot(w, x), points, points / 2)
        return cls(gan, 2), as_players((np.array([1.0, 0.5]), np.array([0.3, -0.2])))


def _mixing(gan: GAN, counts: Sequence[int]) -> str | None:
    """The name of the part whose loss of a few points is not the mean of those of two halves, if there is one.

    Seen at numbers for the scores, and for a penalty with a function for the discriminator.
    """
    gan = jax.tree.map(lambda leaf: 0.5 * jnp.ones(leaf.shape, leaf.dtype) if isinstance(leaf, Tracer) else leaf, gan)
    sizes = (4, 4) if counts[0] == counts[1] else (4, 8)
    points = [np.sin(3.0 * number + np.arange(2.0 * size)).reshape(size, 2) for number, size in enumerate(sizes)]
    players = jnp.asarray(0.3), jnp.asarray([0.7, -0.4])

    def score(weights: Any, point: Any) -> Any:
        return jnp.tanh(jnp.dot(weights, point)) + jnp.dot(weights, point) ** 2

    def of_objective(real: Sample, fake: Sample) -> Losses:
        scores = [sample.each(lambda point: score(players[1], point)) for sample in (real, fake)]
        return gan.objective.generator(*scores), gan.objective.discriminator(*scores)

    def of_penalty(real: Sample, fake: Sample) -> Losses:
        assert gan.penalty is not None
        return gan.penalty(score, gan.objective, players, real, fake, None)

    with jax.ensure_compile_time_eval():
        for part, losses in ((gan.objective, of_objective), (gan.penalty, of_penalty)):
            if part is None:
                continue
            samples = [Sample(jnp.asarray(array)) for array in points]
            halves = [[Sample(half) for half in in_pieces(sample.values, 2)] for sample in samples]
            try:
                whole = losses(*samples)
            except (TypeError, ValueError):  # it needs a key: then every piece draws a batch
                continue
            mean = np.mean([np.asarray(losses(*pair), float) for pair in zip(*halves, strict=True)], axis=0)
            if not np.allclose(mean, np.asarray(whole, float), rtol=1e-4, atol=1e-5):
                return type(part).__name__
    return None
