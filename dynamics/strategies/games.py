"""Hypothesis strategies for games with a known property, for updates and for starting points.

They draw objects of the library, ready for a test of one's own method:

    @hypothesis.given(strategies.strongly_monotone_games(modulus=0.5), st.data())
    def test_it_converges(game, data): ...

Everything is drawn as small matrices, from which the objects are built outside of tracing (about a millisecond each).
What fails shrinks to small whole numbers, halves and quarters; `shown` writes an object out with its numbers.
"""

import copy
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from hypothesis.vendor import pretty
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray

import dynamics.catalogue as catalogue
import dynamics.directions as directions
import dynamics.objectives as objectives
import dynamics.optimisers as optimisers
import dynamics.penalties as penalties
import dynamics.updates as schemes
from dynamics._checks import as_leaf, is_concrete
from dynamics._names import nearest
from dynamics._printing import line
from dynamics.game import Game, Losses, Players, as_players
from dynamics.games import Bilinear, DiracGAN, Quadratic
from dynamics.gan import GAN
from dynamics.strategies.matrices import (
    arrays,
    matrices_with_singular_values,
    numbers,
    rotations,
    several,
    signed,
)
from dynamics.updates import Update

Sizes = Sequence[tuple[int, ...]]
PLANAR_OR_UNEQUAL = ((1, 1), (2, 1))
THREE_TOO = ((1, 1), (2, 1), (1, 2, 1))


class PerturbedQuadratic(Game):
    r"""A quadratic game plus terms of single coordinates that are smooth, and flat at its equilibrium to first order.

    $L_i(z) = Q_i(z) + \sum_k a_{ik} \frac{(z_k - c_k)^4}{4} + b_{ik} \log\cosh(z_k - c_k)$, where the last is a
    softplus made even, $\mathrm{softplus}(2u) - u$ up to a constant. Second derivatives: $3a u^2$ and $b/\cosh^2 u$.

    Args:
        quadratic: Q, a game whose equilibrium is c.
        quartic: a, shape (players, N); row i is what player i's loss gets.
        softplus: b, likewise.
        centre: c, N numbers.
    """

    quadratic: Quadratic
    quartic: Array = eqx.field(converter=as_leaf)
    softplus: Array = eqx.field(converter=as_leaf)
    centre: Array = eqx.field(converter=as_leaf)

    def __check_init__(self):
        for name in ("quartic", "softplus"):
            given, expected = jnp.shape(getattr(self, name)), jnp.shape(self.quadratic.offsets)
            if given != expected:
                raise ValueError(f"PerturbedQuadratic.{name} has shape {given}; expected {expected}, (players, N)")

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        shift = ravel_pytree(players)[0]
        shift = shift - self.centre.astype(shift.dtype)
        quartic, even = shift**4 / 4, jnp.logaddexp(2 * shift, 0) - shift - jnp.log(2.0).astype(shift.dtype)
        rows = self.quartic.astype(shift.dtype) @ quartic + self.softplus.astype(shift.dtype) @ even
        return tuple(loss + row for loss, row in zip(self.quadratic.losses(players, key), rows))

    def equilibria(self) -> tuple[Players, ...]:
        # In NumPy where it is known: within a traced function slices of JAX arrays would be tracers.
        centre = np.asarray(self.centre) if is_concrete(self.centre) else self.centre
        ends = np.cumsum([int(np.prod(shape)) for shape in self.quadratic.shapes])[:-1]
        xp = np if is_concrete(self.centre) else jnp
        parts = zip(xp.split(centre, ends), self.quadratic.shapes)
        return (as_players([part.reshape(shape) for part, shape in parts]),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        quadratic = Quadratic([[1.0, 2.0], [-2.0, 1.0]])
        return cls(quadratic, [[1.0, 0.0], [0.0, 0.5]], [[0.5, 0.0], [0.0, 1.0]], [0.0, 0.0]), as_players((1.0, -0.5))


# Games


def bilinear_games(
    low: float = 0.25, high: float = 4.0, shapes: Sequence[tuple[int, int]] = ((1, 1), (2, 3))
) -> st.SearchStrategy[Bilinear]:
    r"""Bilinear games $x^\top M y$ all of whose singular values lie between two bounds.

    Drawn: the singular values and a rotation on either side. Shrinks to the first shape and to a diagonal matrix of
    small whole numbers (or halves, or whatever is simplest between the bounds).

    Args:
        low, high: bounds of the singular values, low > 0 for games of full rank.
        shapes: of the matrix, the simplest first; every shape compiles a program of its own.

    Raises:
        ValueError: bounds that are negative or in the wrong order, a shape that is none.

    >>> import hypothesis
    >>> shown(hypothesis.find(bilinear_games(1, 4), lambda game: True))
    'Bilinear(matrix=[[1]])'
    """
    _check_bounds("low", low, "high", high, minimum=0)
    _check_sizes(shapes, "shapes", players=2)
    return _plainly(st.builds(_bilinear, matrices_with_singular_values(low, high, shapes)))


def quadratic_games(
    real: tuple[float, float] = (-2.0, -0.25),
    imaginary: tuple[float, float] = (0.0, 4.0),
    sizes: Sizes = PLANAR_OR_UNEQUAL,
) -> st.SearchStrategy[Quadratic]:
    r"""Two-player quadratic games by the spectrum of the Jacobian of their field.

    Drawn: for as many pairs as possible $a \pm i b$ with a within `real` and b within `imaginary`, a real eigenvalue
    within `real` for each parameter left; a factor between the players (so that the Jacobian is not normal, unless
    it is 1), a rotation of each player's parameters, an equilibrium. The eigenvalues are those drawn whatever the rest
    is, up to 1e-12 (entries are rounded so that they can be read). By default the flow is stable; `real=(-2, 2)` mixes.

    Shrinks to two scalar players without rotation, with the equilibrium at 0.

    Args:
        real: bounds of the real parts.
        imaginary: bounds of the imaginary parts, >= 0.
        sizes: parameters of the two players, the simplest first.

    Raises:
        ValueError: bounds in the wrong order, negative imaginary bounds, other than two players.

    >>> import hypothesis
    >>> game = hypothesis.find(quadratic_games(real=(-2.0, -1.0)), lambda game: True)
    >>> shown(game)
    'Quadratic([[[1, 0], [0, 0]], [[0, 0], [0, 1]]], [[0, 0], [0, 0]], shapes=((1,), (1,)))'
    """
    _check_bounds("real[0]", real[0], "real[1]", real[1])
    _check_bounds("imaginary[0]", imaginary[0], "imaginary[1]", imaginary[1], minimum=0)
    _check_sizes(sizes, "sizes", players=2)

    def of_sizes(player_sizes: tuple[int, int]) -> st.SearchStrategy[Quadratic]:
        pairs, total = min(player_sizes), sum(player_sizes)

        def build(reals, imaginaries, factor, blocks, centre):
            matrix = np.zeros((total, total))
            for index in range(pairs):
                p, q = index, player_sizes[0] + index
                matrix[p, p] = matrix[q, q] = reals[index]
                matrix[p, q], matrix[q, p] = imaginaries[index] * factor, -imaginaries[index] / factor
            rest = [
                k for k in range(total) if k not in (*range(pairs), *range(player_sizes[0], player_sizes[0] + pairs))
            ]
            matrix[rest, rest] = reals[pairs:]
            rotation = np.zeros((total, total))
            rotation[: player_sizes[0], : player_sizes[0]], rotation[player_sizes[0] :, player_sizes[0] :] = blocks
            return _quadratic(-rotation @ matrix @ rotation.T, player_sizes, centre)

        return st.builds(
            build,
            several(numbers(*real), total - pairs),
            several(numbers(*imaginary), pairs),
            st.sampled_from([1.0, 2.0, 0.5]),
            st.tuples(*[rotations(size) for size in player_sizes]),
            arrays((total,), size=2.0),
        )

    return _plainly(st.one_of([of_sizes(tuple(player_sizes)) for player_sizes in sizes]))


def monotone_games(sizes: Sizes = THREE_TOO, smooth: bool = False) -> st.SearchStrategy[Game]:
    r"""Monotone games: $\langle v(z) - v(w), z - w\rangle \le 0$ everywhere, v the field.

    Quadratic, with the game's matrix $H = L L^\top + K$: a triangular L, K skew between the players. L may have
    zero rows: bilinear games are among them. With `smooth` every player's loss also gets quartic and softplus terms of
    its own coordinates with weights >= 0, which are convex.
    Shrinks to H = 0 with two scalar players, equilibrium 0.

    Args:
        sizes: parameters of every player, the simplest first.
        smooth: add non-quadratic terms.

    Raises:
        ValueError: sizes that are no whole numbers >= 1.

    >>> import hypothesis
    >>> shown(hypothesis.find(monotone_games(), lambda game: True))
    'Quadratic([[[0, 0], [0, 0]], [[0, 0], [0, 0]]], [[0, 0], [0, 0]], shapes=((1,), (1,)))'
    """
    return strongly_monotone_games(0.0, sizes, smooth)


def strongly_monotone_games(
    modulus: float = 1.0, sizes: Sizes = THREE_TOO, smooth: bool = False
) -> st.SearchStrategy[Game]:
    r"""Strongly monotone games: $\langle v(z) - v(w), z - w\rangle \le -\mu |z - w|^2$ everywhere.

    As `monotone_games`, with $H = \mu I + L L^\top + K$. Shrinks to $H = \mu I$.

    Args:
        modulus: mu, >= 0.
        sizes: parameters of every player, the simplest first.
        smooth: add non-quadratic terms.

    Raises:
        ValueError: a negative modulus.

    >>> import hypothesis
    >>> game = hypothesis.find(strongly_monotone_games(0.5), lambda game: True)
    >>> game.matrices[0].tolist()
    [[0.5, 0.0], [0.0, 0.0]]
    """
    if not (np.isfinite(modulus) and modulus >= 0):
        raise ValueError(f"modulus is {modulus}; expected a finite number >= 0, e.g. 0.5")

    def matrix(player_sizes: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
        total, inside = sum(player_sizes), _inside(player_sizes)
        lower = np.tril_indices(total)
        upper = np.nonzero(np.triu(~inside))

        def build(roots, couplings):
            root, skew = np.zeros((total, total)), np.zeros((total, total))
            root[lower], skew[upper] = roots, couplings
            return modulus * np.eye(total) + root @ root.T + skew - skew.T

        return st.builds(build, several(numbers(-2, 2), len(lower[0])), several(numbers(-4, 4), len(upper[0])))

    return _games(matrix, sizes, smooth)


def cocoercive_games(constant: float = 1.0, sizes: Sizes = THREE_TOO, smooth: bool = False) -> st.SearchStrategy[Game]:
    r"""Co-coercive games: $-\langle v(z) - v(w), z - w\rangle \ge c |v(z) - v(w)|^2$ everywhere.

    Quadratic, with $H = (I - N) / (2c)$ and a matrix N that lengthens nothing: a drawn one, symmetric within each
    player, divided by the next power of two above its norm. Steps below 2c of simultaneous gradient descent are stable.
    With `smooth` both parts have twice the constant, and there are softplus terms but no quartic ones, whose
    derivatives are not bounded. Shrinks to $H = I / (2c)$; reaches the constant exactly for N such as a quarter turn.

    Args:
        constant: c, > 0.
        sizes: parameters of every player, the simplest first.
        smooth: add softplus terms.

    Raises:
        ValueError: the constant is not positive.

    >>> import hypothesis
    >>> game = hypothesis.find(cocoercive_games(1.0), lambda game: True)
    >>> shown(game)
    'Quadratic([[[0.5, 0], [0, 0]], [[0, 0], [0, 0.5]]], [[0, 0], [0, 0]], shapes=((1,), (1,)))'
    """
    if not (np.isfinite(constant) and constant > 0):
        raise ValueError(f"constant is {constant}; expected a finite number > 0, e.g. 1.0")
    own_constant = 2 * constant if smooth else constant

    def matrix(player_sizes: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
        total, inside = sum(player_sizes), _inside(player_sizes)

        def build(entries):
            nonexpansive = np.where(inside, np.tril(entries) + np.tril(entries, -1).T, entries)
            norm = np.linalg.norm(nonexpansive, 2)
            if norm > 0:
                nonexpansive = nonexpansive / 2.0 ** np.ceil(np.log2(norm) - 1e-12)
            return (np.eye(total) - nonexpansive) / (2 * own_constant)

        return arrays((total, total), size=4.0).map(build)

    return _games(matrix, sizes, smooth, quartic=0.0, softplus=1 / own_constant)


def zero_sum_games(sizes: Sizes = PLANAR_OR_UNEQUAL, smooth: bool = False) -> st.SearchStrategy[Game]:
    r"""Two-player zero-sum games, $f = \frac12 x^\top A x + x^\top B y - \frac12 y^\top C y$ around an equilibrium.

    A, B, C are any matrices, the first and last symmetric: the equilibrium may be Nash, minimax or neither, stable or
    not. With `smooth` f gets quartic and softplus terms of single coordinates, of either sign. The two losses always
    add up to 0. Shrinks to A = B = C = 0.

    Args:
        sizes: parameters of the two players, the simplest first.
        smooth: add non-quadratic terms.

    Raises:
        ValueError: sizes that are no whole numbers >= 1, or not two of them.

    >>> import hypothesis
    >>> game = hypothesis.find(zero_sum_games([(2, 1)]), lambda game: True)
    >>> game.shapes
    ((2,), (1,))
    """
    _check_sizes(sizes, "sizes", players=2)

    def of_sizes(player_sizes: tuple[int, int]) -> st.SearchStrategy[Game]:
        total = sum(player_sizes)

        def build(whole, centre, terms):
            whole = np.tril(whole) + np.tril(whole, -1).T
            first = whole @ centre
            quadratic = Quadratic([whole, -whole], [-first, first], [(size,) for size in player_sizes])
            if terms is None:
                return quadratic
            return PerturbedQuadratic(quadratic, *[np.stack([row, -row]) for row in terms], centre)

        terms = st.tuples(arrays((total,), size=1.0), arrays((total,), size=2.0)) if smooth else st.none()
        return st.builds(build, arrays((total, total)), arrays((total,), size=2.0), terms)

    return _plainly(st.one_of([of_sizes(tuple(player_sizes)) for player_sizes in sizes]))


def potential_games(sizes: Sizes = THREE_TOO, smooth: bool = False) -> st.SearchStrategy[Game]:
    r"""Potential games: the field is minus the gradient of one function, its Jacobian symmetric everywhere.

    Quadratic, with any symmetric H; the losses differ by what no player can change about its own. With `smooth` every
    player's loss also gets terms of its own coordinates, of either sign. Shrinks to H = 0.

    Args:
        sizes: parameters of every player, the simplest first.
        smooth: add non-quadratic terms.

    Raises:
        ValueError: sizes that are no whole numbers >= 1.

    >>> import hypothesis
    >>> game = hypothesis.find(potential_games(), lambda game: True)
    >>> bool((game.matrices[0] == game.matrices[1]).all())
    True
    """

    def matrix(player_sizes: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
        return arrays((sum(player_sizes),) * 2).map(lambda entries: np.tril(entries) + np.tril(entries, -1).T)

    return _games(matrix, sizes, smooth, lowest=-1.0)


def hamiltonian_games(sizes: Sizes = THREE_TOO) -> st.SearchStrategy[Quadratic]:
    """Hamiltonian games: the Jacobian of the field is antisymmetric, so that the flow keeps its distance to a point.

    Quadratic; there are no others of two players whose losses have all derivatives, as such a Jacobian is constant.
    For two players these are the bilinear games, of any rank. Shrinks to H = 0.

    Args:
        sizes: parameters of every player, the simplest first.

    Raises:
        ValueError: sizes that are no whole numbers >= 1.

    >>> import hypothesis
    >>> game = hypothesis.find(hamiltonian_games(), lambda game: True)
    >>> bool((game.matrices[0] == -game.matrices[1]).all())
    True
    """

    def matrix(player_sizes: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
        upper = np.nonzero(np.triu(~_inside(player_sizes)))

        def build(couplings):
            skew = np.zeros((sum(player_sizes),) * 2)
            skew[upper] = couplings
            return skew - skew.T

        return several(numbers(-4, 4), len(upper[0])).map(build)

    return _games(matrix, sizes, smooth=False)


def general_sum_games(sizes: Sizes = THREE_TOO, smooth: bool = False) -> st.SearchStrategy[Game]:
    r"""General-sum games with quadratic losses: any H that is symmetric within each player.

    The equilibrium may be anything, stable or not; it is known. With `smooth` every player's loss also gets quartic and
    softplus terms of its own coordinates, of either sign. Shrinks to H = 0.

    Args:
        sizes: parameters of every player, the simplest first.
        smooth: add non-quadratic terms.

    Raises:
        ValueError: sizes that are no whole numbers >= 1.

    >>> import hypothesis
    >>> hypothesis.find(general_sum_games(), lambda game: True).equilibria()[0][0].shape
    (1,)
    """

    def matrix(player_sizes: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
        inside = _inside(player_sizes)
        return arrays((sum(player_sizes),) * 2).map(
            lambda entries: np.where(inside, np.tril(entries) + np.tril(entries, -1).T, entries)
        )

    return _games(matrix, sizes, smooth, lowest=-1.0)


def dirac_gans(objectives: Any = None, penalties: Any = None) -> st.SearchStrategy[DiracGAN]:
    """Dirac-GANs: data a point mass at 0, the model another at theta, the score of x is -psi x.

    Drawn: what the players are paid, and a regulariser. The equilibrium is (0, 0). Shrinks to the first objective
    and the first penalty; by default the minimax objective without one, and weights shrink to whole numbers.

    Args:
        objectives: a sequence of objectives, or a strategy; default one of each kind.
        penalties: a sequence of penalties and `None`, or a strategy; default none, R1, R2 and both together, with
            weights from 0.25 to 4. At the kink of `WGANGP` there is no Jacobian; it has to be asked for.

    Raises:
        ValueError: an empty sequence, or something else in it.

    >>> import hypothesis
    >>> shown(hypothesis.find(dirac_gans(), lambda game: True))
    'DiracGAN(objective=Minimax(), penalty=None, noise=None, nodes=32, batch_size=256)'
    """
    return _plainly(st.builds(_dirac, _objectives(objectives), _penalties(penalties)))


def realisable_gans(
    objectives: Any = None, penalties: Any = None, dimensions: Sequence[int] = (1, 2)
) -> st.SearchStrategy[GAN]:
    r"""GANs whose generator can make the data: $G(z) = z + \theta$, $C(x) = \langle w, x\rangle$, points of full rank.

    Drawn: as many data points as dimensions, the rows of a triangular matrix without zeros on its diagonal, and the
    shift $\theta^*$ by which the latents differ from them. At the equilibrium $(\theta^*, 0)$ fake and real points
    are the same and the score is 0; the discriminator's second moments $E[x x^\top]$ are positive definite there.
    Shrinks to one point at 1 and no shift.

    Args:
        objectives, penalties: as for `dirac_gans`.
        dimensions: of the points, the simplest first.

    Raises:
        ValueError: a dimension that is no whole number >= 1.

    >>> import hypothesis
    >>> gan = hypothesis.find(realisable_gans(), lambda gan: True)
    >>> [player.tolist() for player in gan.equilibria()[0]]
    [[0.0], [0.0]]
    """
    _check_sizes([(dimension,) for dimension in dimensions], "dimensions")

    def of_dimension(size: int) -> st.SearchStrategy[tuple]:
        below = np.tril_indices(size, -1)

        def build(diagonal, others):
            points = np.diag(np.asarray(diagonal, float))
            points[below] = others
            return points

        points = st.builds(build, several(signed(0.5, 4), size), several(numbers(-2, 2), len(below[0])))
        return st.tuples(points, arrays((size,), size=2.0))

    drawn = st.one_of([of_dimension(size) for size in dimensions])
    return _plainly(st.builds(_realisable, drawn, _objectives(objectives), _penalties(penalties)))


# Updates and starts


def rates(low: float = 1 / 64, high: float = 2.0) -> st.SearchStrategy[float]:
    """Rates between two bounds; they shrink to 1/2 where it lies between them, else to the simplest number that does.

    Args:
        low, high: the bounds, both included.

    Raises:
        ValueError: bounds that are not positive or in the wrong order.

    >>> import hypothesis
    >>> hypothesis.find(rates(), lambda rate: rate > 0.5)
    1.0
    """
    _check_bounds("low", low, "high", high, minimum=0)
    return st.one_of(st.just(0.5), numbers(low, high)) if low <= 0.5 <= high else numbers(low, high)


def updates(
    names: Iterable[str] | None = None, players: int = 2, low: float = 1 / 64, high: float = 2.0
) -> st.SearchStrategy[Update]:
    """Any update of the catalogue with hyper-parameters in and around the stable region.

    Drawn: which update; one rate per player (half of the time the same), an optimiser (gradient descent, momentum of
    either sign, Nesterov, optimism, RMSProp, Adam, ...), the order of the players, inner steps, look-ahead, and for the
    explicit ones a direction. Updates without a strategy of their own here (those of a user) are drawn as their
    `example`. Shrinks to simultaneous gradient descent with rates 1/2.

    Args:
        names: of updates in the catalogue; default all but `FictitiousPlay`, which is for mixed strategies only.
        players: how many.
        low, high: bounds of the rates.

    Raises:
        ValueError: an unknown name (the message gives the nearest one), or one that has no version for so many players.

    >>> import hypothesis
    >>> update = hypothesis.find(updates(["Extragradient"]), lambda update: True)
    >>> [float(rate) for rate in update.extrapolation]
    [0.5, 0.5]
    """
    known = catalogue.members("updates")
    if not isinstance(players, int) or isinstance(players, bool) or players < 1:
        raise ValueError(f"players is {players!r}; expected a whole number >= 1")
    chosen = [name for name in known if name != "FictitiousPlay"] if names is None else list(names)
    for name in chosen:
        if name not in known:
            raise ValueError(f"{name!r} is not one of the updates{nearest(name, known)}")
        if name == "ODEGAN" and players != 2 and names is not None:
            raise ValueError(f"ODEGAN is for two players, not {players}; leave it out, or draw for players=2")
    if not chosen:
        raise ValueError("names is empty; expected names of updates, e.g. ['Simultaneous', 'Alternating']")
    rate = rates(low, high)
    makers = _update_makers(players, rate)
    drawn = [
        makers[name] if name in makers else st.builds(known[name].example, st.just(players))
        for name in chosen
        if name != "ODEGAN" or players == 2
    ]
    if "Simultaneous" in chosen:  # what is drawn with the fewest choices is what the others shrink to
        drawn = [rate.map(lambda h: schemes.Simultaneous(*[optimisers.sgd(h)] * players)), *drawn]
    return _plainly(st.one_of(drawn))


def starts(game: Game, size: float = 4.0) -> st.SearchStrategy[Players]:
    """Starting points for a game: players of its shapes, all numbers between -size and size.

    The shapes are those of its first known equilibrium, else of its class' example. Shrinks to all zeros. Within a test
    draw them from the game drawn before: `data.draw(starts(game))`.

    Args:
        game: the game.
        size: the largest modulus of a number.

    Raises:
        TypeError: no game.
        ValueError: a size that is not positive.

    >>> import hypothesis
    >>> start = hypothesis.find(starts(Bilinear([[1.0, 2.0]])), lambda players: abs(players[1]).min() > 1)
    >>> [player.tolist() for player in start]
    [[0.0], [2.0, 2.0]]
    """
    if not isinstance(game, Game):
        raise TypeError(f"game is {game!r}; expected a game, e.g. dynamics.games.Bilinear([[1.0]])")
    if not (np.isfinite(size) and size > 0):
        raise ValueError(f"size is {size}; expected a finite number > 0")
    known = game.equilibria() or (type(game).example()[1],)
    leaves, structure = jax.tree.flatten(as_players(known[0]))
    return _starts(structure, tuple(leaf.shape for leaf in leaves), float(size))


@functools.lru_cache(maxsize=256)
def _starts(structure, shapes: tuple[tuple[int, ...], ...], size: float) -> st.SearchStrategy[Players]:
    leaves = st.tuples(*[arrays(shape, size=size) for shape in shapes])
    return leaves.map(lambda values: as_players(jax.tree.unflatten(structure, values)))


def shown(value: Any) -> str:
    """An object of the library as a line of text with all its numbers, default arguments and large arrays too.

    Args:
        value: a component, a pytree, an array or a number.

    >>> shown(Bilinear([[1.0, -0.5]]))
    'Bilinear(matrix=[[1, -0.5]])'
    """
    return line(value)


def _printed(value: Any, printer: Any, cycle: bool) -> None:
    printer.text(shown(value))


# What hypothesis prints of a falsifying example. It asks for the class itself, not for what it is derived from.
for _kind in (*catalogue.members("games").values(), *catalogue.members("updates").values(), GAN, PerturbedQuadratic):
    pretty.for_type_by_name(_kind.__module__, _kind.__name__, _printed)


# Parts


def _plainly(strategy: st.SearchStrategy) -> st.SearchStrategy:
    """The same values, of which hypothesis shows what they are rather than the calls that have made them."""

    @st.composite
    def drawn(draw):
        return copy.copy(draw(strategy))  # hypothesis knows by identity what was made by a call

    return drawn()


def _bilinear(matrix: np.ndarray) -> Bilinear:
    return Bilinear(_readable(matrix))


def _dirac(objective, penalty) -> DiracGAN:
    return DiracGAN(objective, penalty)


def _translate(shift: Array, latent: Array) -> Array:
    return latent + shift


def _linear_score(weights: Array, sample: Array) -> Array:
    return jnp.sum(weights * sample)


def _realisable(drawn, objective, penalty) -> GAN:
    points, shift = drawn
    known = [(shift, np.zeros_like(shift))]
    return GAN(_translate, _linear_score, points, points - shift, objective, penalty, equilibria=known)


def _readable(values: np.ndarray) -> np.ndarray:
    """Rounded to twelve digits after the point, without negative zeros: a rotation by 3/5 and 4/5 looks like one."""
    return np.round(values, 12) + 0.0


def _inside(sizes: Sequence[int]) -> np.ndarray:
    """Which entries of a matrix of all players belong to one player's own block."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return owner[:, None] == owner[None, :]


def _quadratic(matrix: np.ndarray, sizes: Sequence[int], centre: np.ndarray) -> Quadratic:
    """The quadratic game of a matrix H, with the equilibrium at the centre."""
    matrix = _readable(matrix)
    parts = np.split(np.arange(len(matrix)), np.cumsum(sizes)[:-1])
    offset = _readable(-matrix @ centre)
    blocks = []
    for part in parts:
        whole = np.zeros_like(matrix)
        whole[part], whole[:, part] = matrix[part], matrix[part].T
        square = matrix[np.ix_(part, part)]
        whole[np.ix_(part, part)] = (square + square.T) / 2
        blocks.append(whole)
    return Quadratic(blocks, [offset[part] for part in parts], [(size,) for size in sizes])


def _games(
    matrix: Callable[[tuple[int, ...]], st.SearchStrategy[np.ndarray]],
    sizes: Sizes,
    smooth: bool,
    lowest: float = 0.0,
    quartic: float = 1.0,
    softplus: float = 2.0,
) -> st.SearchStrategy[Game]:
    """Quadratic games of matrices drawn for every sizes, and terms with weights between `lowest` and 1 times these."""
    _check_sizes(sizes, "sizes")

    def of_sizes(player_sizes: tuple[int, ...]) -> st.SearchStrategy[Game]:
        total = sum(player_sizes)
        owner = np.repeat(np.arange(len(player_sizes)), player_sizes) == np.arange(len(player_sizes))[:, None]

        def weights(largest: float) -> st.SearchStrategy[np.ndarray]:
            drawn = several(numbers(lowest * largest, largest), total) if largest else st.just((0.0,) * total)
            return drawn.map(lambda values: np.where(owner, np.asarray(values), 0.0))

        def build(drawn, centre, terms):
            quadratic = _quadratic(drawn, player_sizes, centre)
            return quadratic if terms is None else PerturbedQuadratic(quadratic, *terms, centre)

        terms = st.tuples(weights(quartic), weights(softplus)) if smooth else st.none()
        return st.builds(build, matrix(player_sizes), arrays((total,), size=2.0), terms)

    return _plainly(st.one_of([of_sizes(tuple(player_sizes)) for player_sizes in sizes]))


def _objectives(given: Any) -> st.SearchStrategy:
    if given is None:
        given = [cls() for cls in catalogue.members("objectives").values()]
    return _choice(given, "objectives", objectives.Objective, "[dynamics.objectives.Minimax()]")


def _penalties(given: Any) -> st.SearchStrategy:
    if given is not None:
        return _choice(given, "penalties", (penalties.Penalty, type(None)), "[None, dynamics.penalties.R1(1.0)]")
    weights = numbers(0.25, 4)
    return st.one_of(
        st.none(),
        st.builds(penalties.R1, weights),
        st.builds(penalties.R2, weights),
        st.builds(lambda first, second: penalties.Sum(penalties.R1(first), penalties.R2(second)), weights, weights),
    )


def _choice(given: Any, name: str, kind: Any, example: str) -> st.SearchStrategy:
    if isinstance(given, st.SearchStrategy):
        return given
    given = list(given) if isinstance(given, (list, tuple)) else [given]
    if not given or not all(isinstance(entry, kind) for entry in given):
        raise ValueError(f"{name} is {given!r}; expected a strategy or a sequence such as {example}")
    return st.sampled_from(given)


def _check_bounds(low_name: str, low: float, high_name: str, high: float, minimum: float = -np.inf) -> None:
    if not (np.isfinite(low) and np.isfinite(high) and minimum <= low <= high):
        more = "" if minimum == -np.inf else f" that are >= {minimum:g}"
        raise ValueError(
            f"{low_name} is {low} and {high_name} is {high}; expected two finite numbers{more}, the smaller one first"
        )


def _check_sizes(sizes: Any, name: str, players: int | None = None) -> None:
    def fits(entry: Any) -> bool:
        whole = isinstance(entry, tuple) and all(isinstance(size, int) and size >= 1 for size in entry)
        return whole and len(entry) >= 1 and (players is None or len(entry) == players)

    if not isinstance(sizes, (list, tuple)) or not sizes or not all(map(fits, sizes)):
        count = "every player" if players is None else f"{players} players"
        raise ValueError(
            f"{name} is {sizes!r}; expected a sequence of tuples with the whole number of parameters >= 1 of {count}, "
            "e.g. ((1, 1), (2, 3))"
        )


def _update_makers(players: int, rate: st.SearchStrategy[float]) -> dict[str, st.SearchStrategy[Update]]:
    """A strategy for every update of the library, by name."""
    # One rate for all players (which shrinks first), or one each.
    all_rates = st.one_of(rate.map(lambda common: (common,) * players), several(rate, players))
    share = numbers(0, 1)
    factories = st.one_of(
        st.just(optimisers.sgd),
        numbers(-0.9, 0.9).map(lambda b: lambda h: optimisers.momentum(h, b)),
        numbers(0, 0.9).map(lambda b: lambda h: optimisers.nesterov(h, b)),
        st.just(optimisers.optimistic),
        st.builds(lambda b: lambda h: optimisers.optimistic(h, strength=b), numbers(0, 1)),
        st.builds(lambda m, a: lambda h: optimisers.complex_momentum(h, m, a), share, numbers(0, 3)),
        numbers(0, 0.9).map(lambda decay: lambda h: optimisers.rmsprop(h, decay, 0.1)),
        st.builds(lambda b1, b2: lambda h: optimisers.adam(h, b1, b2, 0.1), numbers(-0.5, 0.9), numbers(0, 0.999)),
    )
    steppers = st.builds(lambda factory, drawn: tuple(factory(h) for h in drawn), factories, all_rates)
    orders = st.one_of(st.just(tuple(range(players))), st.permutations(range(players)).map(tuple))
    repeats = several(st.integers(1, 2), players)
    ways = st.one_of(
        st.just(None),
        st.builds(directions.Consensus, numbers(0, 1)),
        st.builds(lambda weight: directions.SymplecticAdjustment(weight, align=False), numbers(0, 1)),
        st.builds(directions.JacobianRegularisation, numbers(0, 1)),
    )
    methods = st.sampled_from(list(schemes.runge_kutta.TABLEAUS))

    def simultaneous(optimisers_drawn, direction):
        return schemes.Simultaneous(*optimisers_drawn, direction=direction)

    def alternating(optimisers_drawn, order, inner, direction):
        return schemes.Alternating(*optimisers_drawn, order=order, repeats=inner, direction=direction)

    def extragradient(optimisers_drawn, ahead, order):
        return schemes.Extragradient(*optimisers_drawn, extrapolation=ahead, order=order)

    def past(optimisers_drawn, ahead, first):
        return schemes.PastExtrapolation(*optimisers_drawn, extrapolation=ahead, first=first)

    inner = st.one_of(
        st.builds(simultaneous, steppers, st.none()),
        st.builds(alternating, steppers, orders, st.just((1,) * players), st.none()),
    )
    return {
        "Simultaneous": st.builds(simultaneous, steppers, ways),
        "Alternating": st.builds(alternating, steppers, orders, repeats, ways),
        "AdaptiveCompetitive": st.builds(
            lambda drawn, decay: schemes.AdaptiveCompetitive(drawn, decay, 0.1), all_rates, numbers(0, 0.9)
        ),
        "Averaged": st.builds(schemes.Averaged, inner, st.one_of(st.none(), numbers(0, 0.9))),
        "Extragradient": st.builds(extragradient, steppers, all_rates, st.one_of(st.none(), orders)),
        "Lookahead": st.builds(schemes.Lookahead, inner, st.integers(1, 5), share),
        "ODEGAN": st.builds(schemes.ODEGAN, all_rates, numbers(0, 0.5), methods),
        "PastExtrapolation": st.builds(past, steppers, all_rates, st.sampled_from(["zero", "current"])),
        "ProximalPoint": st.builds(schemes.ProximalPoint, all_rates),
        "RungeKutta": st.builds(schemes.RungeKutta, all_rates, methods),
    }
