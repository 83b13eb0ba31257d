"""Every claim of the catalogue gets the verdict that it announces, and the catalogue is complete."""

import pathlib

import pytest

from dynamics import claims
from dynamics.claims.base import PROVED, Kind

CLAIMS = claims.catalogue()
FOLDER = pathlib.Path(claims.__file__).parent
EXAMPLES = 50


@pytest.mark.parametrize("identifier", CLAIMS)
def test_a_claim_gets_the_verdict_it_announces(identifier):
    result = claims.search(CLAIMS[identifier], examples=EXAMPLES)
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


def test_twins_are_refuted_and_belong_to_a_proved_claim():
    for claim in CLAIMS.values():
        if claim.parent is not None:
            assert CLAIMS[claim.parent].kind in PROVED and not claim.holds


def test_texts_are_sentences():
    for claim in CLAIMS.values():
        for text in (claim.statement, claim.because):
            assert text[0].isupper() or text[0] in "$|0123456789" or text.startswith("v'"), claim.identifier
            assert text.rstrip().endswith((".", ".)", "?")), (claim.identifier, text)
        assert claim.source == claim.source.strip() and not claim.source.endswith("."), claim.identifier


# What the issue of the room names: well-known statements that are false.
FALSE = (
    "negative momentum",
    "Gauss-Seidel",
    "consensus",
    "frozen",
    "spurious cycle",
    "alternating",
    "Nash",
    "Adam",
    "faster",
    "training converges",
)


@pytest.mark.parametrize("word", FALSE)
def test_a_known_error_is_among_the_refuted(word):
    refuted = [claim for claim in CLAIMS.values() if not claim.holds and claim.parent is None]
    assert any(word.lower() in claim.statement.lower() for claim in refuted), word
