"""Claims: published statements on training dynamics, as checks that a search tries to refute.

See `README.md` of this folder for how to write one.
"""

from dynamics.claims import adaptive as adaptive
from dynamics.claims import adjustment as adjustment
from dynamics.claims import bilinear as bilinear
from dynamics.claims import competitive as competitive
from dynamics.claims import concepts as concepts
from dynamics.claims import consensus as consensus
from dynamics.claims import cycles as cycles
from dynamics.claims import dirac_gan as dirac_gan
from dynamics.claims import drift as drift
from dynamics.claims import folklore as folklore
from dynamics.claims import gap_aware as gap_aware
from dynamics.claims import landscape as landscape
from dynamics.claims import opponent_shaping as opponent_shaping
from dynamics.claims import play as play
from dynamics.claims import realisable_gans as realisable_gans
from dynamics.claims import timescale as timescale
from dynamics.claims import zhang_yu as zhang_yu
from dynamics.claims.base import Claim as Claim
from dynamics.claims.base import Kind as Kind
from dynamics.claims.base import claim as claim
from dynamics.claims.base import registered
from dynamics.claims.check_results import Check as Check
from dynamics.claims.check_results import Checks as Checks
from dynamics.claims.checks import check_game as check_game
from dynamics.claims.checks import check_update as check_update
from dynamics.claims.checks import test_of_game as test_of_game
from dynamics.claims.checks import test_of_update as test_of_update
from dynamics.claims.search import Result as Result
from dynamics.claims.search import search as search
from dynamics.claims.search import shown_value as shown_value
from dynamics.claims.session import hint
from dynamics.claims.session import matching as matching
from dynamics.claims.session import search_all as search_all


def catalogue() -> dict[str, Claim]:
    """All claims by identifier, twins after the theorem whose hypothesis they drop."""
    return registered()


def find(identifier: str) -> Claim:
    """The claim of this identifier.

    Raises:
        ValueError: there is none; the message gives the nearest identifier.
    """
    known = registered()
    if identifier not in known:
        raise ValueError(f"{identifier!r} is not one of the claims{hint(identifier)}")
    return known[identifier]
