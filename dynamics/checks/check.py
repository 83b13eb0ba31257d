"""One call that holds somebody's own method, or game, against what the library promises and knows.

`check_update` and `check_game` answer; `test_of_update` and `test_of_game` make a pytest test of it in one line:

    test_my_method = dynamics.checks.test_of_update(lambda rate: MyUpdate(rate))
"""

from collections.abc import Callable, Iterable
from typing import Any

from dynamics._names import nearest
from dynamics.checks.comparison import Comparison
from dynamics.checks.of_games import GAME_CHECKS, OfGame
from dynamics.checks.of_updates import UPDATE_CHECKS, OfUpdate
from dynamics.checks.results import Checks, Subject
from dynamics.game import Game
from dynamics.updates import Update


def check_update(
    method: Callable[[Any], Update] | Update, only: Iterable[str] | None = None, *, like: Any = None
) -> Checks:
    """Hold a method for two players against the catalogue: what it does to games, and what it promises as a program.

    Only broken contracts fail: it cannot be traced, moves a fixed point of the game, gives NaN or another result each
    time, compiles again for another number, changes the dtype, does not take pytrees. All else is information; also
    that the numbers of bare optax transformations, such as `optax.sgd(rate)`, are constants of the compiled program.

    Args:
        method: a function of the rate that returns the update, `lambda rate: MyUpdate(rate)`; or an update, whose steps
            are then scaled through the losses: a "rate" r is the update itself on the game with r times its losses.
        only: names of checks; default all of them, some seconds together, most of which is compiling.
        like: what the method claims to be: a class of `dynamics.updates` that is made from a rate (gradient descent
            with that rate for each player, and for the look-ahead), a function of the rate that returns an update, or,
            if the method is an update, another update. Both run from the same starts of random games, bilinear,
            quadratic and smooth, with players of 3 and 2 numbers; the check "like" fails where a step differs, and
            tells where.

    Raises:
        TypeError: the method is no update and returns none; `like` does not fit it.
        ValueError: an unknown name.

    >>> from dynamics.optimisers import sgd
    >>> from dynamics.updates import Extragradient
    >>> results = check_update(lambda rate: Extragradient(sgd(rate), sgd(rate), extrapolation=rate), only=["cost"])
    >>> results["cost"].value["fields"], results.failed
    (2.0, ())
    """
    return _all(*_with_like(method, like), only)


def _with_like(method: Any, like: Any) -> tuple[OfUpdate, dict[str, Callable]]:
    subject = OfUpdate(method)
    if like is None:
        return subject, UPDATE_CHECKS
    comparison = Comparison(like)
    comparison.check_kinds(subject)
    return subject, {"like": comparison, **UPDATE_CHECKS}


def check_game(game: Game, players: Any = None, only: Iterable[str] | None = None) -> Checks:
    """Check that a game is one the library can work with, and tell what kind of game it is.

    Args:
        game: the game.
        players: where to look at it, besides its known equilibria; default near the first of these, or else the
            example of its class.
        only: names of checks; default all.

    Raises:
        TypeError: no game.
        ValueError: no players are known, or an unknown name.

    >>> from dynamics.games import Bilinear
    >>> check_game(Bilinear([[1.0, 2.0]]), only=["zero-sum"])["zero-sum"].value
    True
    """
    return _all(OfGame(game, players), GAME_CHECKS, only)


def test_of_update(
    method: Callable[[Any], Update] | Update, only: Iterable[str] | None = None, *, like: Any = None
) -> Callable:
    """A pytest test of a method, one item per check; arguments as for `check_update`.

    In a test file one line is enough: `test_my_method = dynamics.checks.test_of_update(lambda rate: MyUpdate(rate))`.
    What is shared by several checks is computed by the first one that runs.

    Args:
        method: a function of the rate that returns the update, or an update.
        only: names of checks; default all of them.
        like: what the method claims to be.

    Returns:
        a function for pytest, parametrised by the names of the checks.
    """
    return _test(*_with_like(method, like), only)


def test_of_game(game: Game, players: Any = None, only: Iterable[str] | None = None) -> Callable:
    """A pytest test of a game, one item per check; arguments as for `check_game`.

    Args:
        game: the game.
        players: where to look at it, besides its known equilibria.
        only: names of checks; default all of them.

    Returns:
        a function for pytest, parametrised by the names of the checks.
    """
    return _test(OfGame(game, players), GAME_CHECKS, only)


# pytest collects functions of these names wherever they are imported: they make tests, they are none.
test_of_update.__test__ = False
test_of_game.__test__ = False


def _test(subject: Subject, known: dict[str, Callable], only: Iterable[str] | None) -> Callable:
    import pytest

    @pytest.mark.parametrize("check", _chosen(known, only))
    def test(check):
        result = subject.check(check, known[check])
        print(result.describe())
        if result.outcome == "fail":
            pytest.fail(f"{subject.name}: {result.describe()}", pytrace=False)
        if result.outcome == "skipped":
            pytest.skip(result.text)

    return test


def _chosen(known: dict[str, Callable], only: Iterable[str] | None) -> list[str]:
    names = list(known) if only is None else [only] if isinstance(only, str) else list(only)
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is not one of the checks{nearest(name, known)}")
    return names


def _all(subject: Subject, known: dict[str, Callable], only: Iterable[str] | None) -> Checks:
    names = _chosen(known, only)
    return Checks(subject.name, tuple(subject.check(name, known[name]) for name in names))
