"""Claims: published statements on training dynamics, as checks that a search tries to refute.

See `README.md` of this folder for how to write one.
"""

from dynamics._deprecations import moved
from dynamics.claims.base import Claim as Claim
from dynamics.claims.base import Kind as Kind
from dynamics.claims.base import claim as claim
from dynamics.claims.base import registered
from dynamics.claims.library import adaptive as adaptive
from dynamics.claims.library import adjustment as adjustment
from dynamics.claims.library import bilinear as bilinear
from dynamics.claims.library import competitive as competitive
from dynamics.claims.library import concepts as concepts
from dynamics.claims.library import consensus as consensus
from dynamics.claims.library import cycles as cycles
from dynamics.claims.library import dirac_gan as dirac_gan
from dynamics.claims.library import divergences as divergences
from dynamics.claims.library import drift as drift
from dynamics.claims.library import empirical_gans as empirical_gans
from dynamics.claims.library import folklore as folklore
from dynamics.claims.library import gap_aware as gap_aware
from dynamics.claims.library import landscape as landscape
from dynamics.claims.library import opponent_shaping as opponent_shaping
from dynamics.claims.library import play as play
from dynamics.claims.library import realisable_gans as realisable_gans
from dynamics.claims.library import timescale as timescale
from dynamics.claims.library import zhang_yu as zhang_yu
from dynamics.claims.search import Result as Result
from dynamics.claims.search import search as search
from dynamics.claims.search import shown_value as shown_value
from dynamics.claims.session import hint
from dynamics.claims.session import matching as matching
from dynamics.claims.session import search_all as search_all

__getattr__ = moved(
    __name__,
    {
        "Check": "dynamics.checks.Check",
        "Checks": "dynamics.checks.Checks",
        "check_game": "dynamics.checks.check_game",
        "check_update": "dynamics.checks.check_update",
        "test_of_game": "dynamics.checks.test_of_game",
        "test_of_update": "dynamics.checks.test_of_update",
    },
)


def catalogue() -> dict[str, Claim]:
    """All claims by identifier, twins after the theorem whose hypothesis they drop."""
    return registered()


def find(identifier: str) -> Claim:
    """The claim of this identifier.

    Args:
        identifier: topic and name, such as "bilinear/simultaneous".

    Raises:
        ValueError: there is none; the message gives the nearest identifier.

    >>> find("bilinear/simultaneous").holds
    True
    """
    known = registered()
    if identifier not in known:
        raise ValueError(f"{identifier!r} is not one of the claims{hint(identifier)}")
    return known[identifier]
