"""Every claim of the catalogue gets the verdict that it announces, and the catalogue is complete."""

import collections
import pathlib

import pytest

from dynamics import claims
from dynamics.claims.base import Kind

CLAIMS = claims.catalogue()
FOLDER = pathlib.Path(claims.__file__).parent
EXAMPLES = {True: 20, False: 500}  # a refuted claim needs them only until the first counterexample


# Twins show what happens without a hypothesis; these claims compile most.
SLOW = {claim.identifier for claim in CLAIMS.values() if claim.parent is not None} | {
    "adaptive/adam-spectrum",
    "adaptive/adam-wherever-sgd",
    "adaptive/adam-with-equal-steps",
    "adaptive/amsgrad-spectrum",
    "adaptive/momentum-is-faster",
    "adaptive/momentum-spectra",
    "bilinear/competitive-gradient",
    "bilinear/heavy-ball",
    "bilinear/heavy-ball-in-turns",
    "bilinear/heavy-ball-of-one",
    "bilinear/heavy-ball-symmetry",
    "bilinear/optimistic",
    "bilinear/optimistic-in-turns",
    "bilinear/optimistic-radius",
    "bilinear/optimistic-up-to-one-at-half",
    "bilinear/proximal-point",
    "competitive/decrease-remembered",
    "competitive/decrease-two-thirds",
    "competitive/local-convergence",
    "competitive/local-game",
    "concepts/local-symplectic-surgery",
    "concepts/optimistic-sharp",
    "dirac-gan/gradient-penalty",
    "dirac-gan/lazy-is-as-stable",
    "dirac-gan/lazy-penalty",
    "dirac-gan/lazy-windows",
    "drift/alternating",
    "drift/bilinear-simultaneous",
    "drift/extragradient-and-optimism",
    "drift/heavy-ball",
    "drift/limit-flow",
    "drift/linear-games",
    "drift/ode-gan",
    "drift/rk4",
    "empirical-gans/bad-minima",
    "empirical-gans/no-bad-minima-in-pairs",
    "empirical-gans/paired-loss-counts-cycles",
    "folklore/order-of-many",
    "folklore/order-of-two",
    "gap-aware/local-spectrum",
    "opponent-shaping/lola",
    "realisable-gans/either-penalty",
    "realisable-gans/jacobian",
    "realisable-gans/r3gan",
    "realisable-gans/regularised-jacobian",
    "zhang-yu/momentum-gauss-seidel",
    "zhang-yu/optimistic",
    "zhang-yu/optimistic-gauss-seidel",
    "zhang-yu/optimistic-gauss-seidel-same-sign",
}


OF_A_TOPIC = 6  # claims in the default suite


def _slow() -> set[str]:
    """All but the first few of every topic: what they see of claims and of the library the others see as well."""
    topics = collections.Counter()
    slow = set(SLOW)
    for identifier in CLAIMS:
        if identifier not in SLOW:
            topic = identifier.split("/")[0]
            topics[topic] += 1
            if topics[topic] > OF_A_TOPIC:
                slow.add(identifier)
    return slow


@pytest.mark.slow_cases(*_slow())
@pytest.mark.parametrize("identifier", CLAIMS)
def test_a_claim_gets_the_verdict_it_announces(identifier):
    claim = CLAIMS[identifier]
    result = claims.search(claim, examples=EXAMPLES[claim.holds], shrink=False)
    assert result.as_expected, result.describe()


def test_there_are_many():
    assert sum(claim.parent is None for claim in CLAIMS.values()) >= 60
    assert {claim.kind for claim in CLAIMS.values()} == set(Kind)


def test_every_file_of_claims_is_in_the_catalogue():
    known = {claim.check.__module__ for claim in CLAIMS.values()}
    for path in FOLDER.glob("*.py"):
        if "\n@claim(\n" in path.read_text():
            assert f"dynamics.claims.{path.stem}" in known


def test_every_theorem_with_hypotheses_has_a_twin_or_says_why_not():
    parents = {claim.parent for claim in CLAIMS.values()}
    for claim in CLAIMS.values():
        if claim.kind is Kind.theorem and claim.hypotheses:
            assert claim.identifier in parents or claim.unshown, claim.identifier


def test_twins_are_refuted_and_belong_to_a_claim_that_holds():
    for claim in CLAIMS.values():
        if claim.parent is not None:
            assert CLAIMS[claim.parent].holds and not claim.holds


def test_texts_are_sentences():
    for claim in CLAIMS.values():
        for text in (claim.statement, claim.because):
            assert len(text) > 20, claim.identifier
            assert text.rstrip().endswith((".", ".)", "?")), (claim.identifier, text)
        assert claim.source == claim.source.strip() and not claim.source.endswith("."), claim.identifier


# Well-known statements that are false.
FALSE = (
    "bilinear/negative-momentum/both-players",
    "zhang-yu/optimistic-gauss-seidel-as-remembered",
    "dirac-gan/published-consensus",
    "consensus/turning-bound-as-printed",
    "bilinear/frozen-runge-kutta",
    "cycles/optimism-is-trapped",
    "drift/own-time",
    "folklore/alternating-is-faster",
    "concepts/stable-is-nash",
    "adaptive/adam-wherever-sgd",
    "timescale/faster-is-better",
    "cycles/attracting-point-attracts",
)


@pytest.mark.parametrize("identifier", FALSE)
def test_a_known_error_is_in_the_catalogue(identifier):
    assert not claims.find(identifier).holds
