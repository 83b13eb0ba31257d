"""What a claim is: a statement, its source, a domain to draw examples from, and a check with a signed margin."""

import dataclasses
import enum
import re
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis.strategies import SearchStrategy

from dynamics._names import nearest
from dynamics._printing import Described
from dynamics._text import readable


class Kind(enum.StrEnum):
    """What is known of a claim."""

    theorem = "theorem"  # proved in its source
    closed_form = "closed form"  # a formula, to be met to rounding
    conjecture = "conjecture"  # not proved, no counterexample known
    folklore = "folklore"  # said often, of unclear origin
    refuted = "refuted"  # there are counterexamples


PROVED = (Kind.theorem, Kind.closed_form)


@dataclasses.dataclass(frozen=True, eq=False)
class Claim(Described):
    """A statement that can be searched for counterexamples.

    Attributes:
        identifier: "topic/name", in small letters with hyphens.
        statement: the claim in one or two sentences with its formula.
        source: paper, year, theorem number where known.
        kind: theorem, closed form, conjecture, folklore or refuted.
        domain: a hypothesis strategy for every argument of the check. Floats and arrays of floats are numbers of one
            compiled program; everything else (sizes, names, whole numbers) makes a program of its own, so that it
            should come from a small set.
        check: function of one example that returns the signed margin, positive where the claim holds; for an example
            that does not fulfil the hypotheses, infinity. See `dynamics.checks.measures`.
        because: why the verdict is what it is, in a sentence or two.
        holds: the verdict that is expected.
        hypotheses: what is assumed, in a few words; empty for a statement without conditions.
        unshown: hypotheses that no counterexample shows to be needed, with the reason.
        parent: of a twin, the identifier of the theorem of which it drops a hypothesis.
        compiled: whether many examples are checked at once in a compiled program. Otherwise the check is called with
            plain numbers and NumPy arrays.
    """

    identifier: str
    statement: str
    source: str
    kind: Kind
    domain: Mapping[str, SearchStrategy]
    check: Callable[..., Any]
    because: str
    holds: bool
    hypotheses: str = ""
    unshown: str = ""
    parent: str | None = None
    compiled: bool = True

    def __post_init__(self):
        name = f"claim {self.identifier!r}"
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*(/[a-z0-9]+(-[a-z0-9]+)*){1,2}", self.identifier):
            raise ValueError(f"{name}: expected an identifier such as 'bilinear/extragradient'")
        for field in ("statement", "source", "because"):
            if not getattr(self, field).strip():
                raise ValueError(f"{name} has no {field}; expected a sentence")
        if not self.domain:
            raise ValueError(f"{name} has an empty domain; expected a strategy for every argument of the check")
        for argument, strategy in self.domain.items():
            if not isinstance(strategy, SearchStrategy):
                raise TypeError(f"{name}: the domain of {argument} is {strategy!r}; expected a hypothesis strategy")
        if self.kind in PROVED and not self.holds or self.kind is Kind.refuted and self.holds:
            raise ValueError(f"{name}: a claim of kind {self.kind} cannot be expected to be {self.verdict}")

    @property
    def verdict(self) -> str:
        """The verdict that is expected, "holds" or "refuted"."""
        return "holds" if self.holds else "refuted"

    def describe(self) -> str:
        """Statement, hypotheses, reason and source, with formulas as plain text."""
        facts = {"Hypotheses": self.hypotheses, "Source": self.source}
        lines = [f"{self.identifier} ({self.kind}; expected: {self.verdict})", self.statement, self.because]
        lines += [f"{name}: {text}" for name, text in facts.items() if text]
        return "\n".join(readable(" ".join(line.split())) for line in lines)

    def __call__(self, **example: Any) -> Any:
        """The margin of one example."""
        return self.check(**example)

    def without(
        self, name: str, hypothesis: str, *, because: str, check: Callable[..., Any] | None = None, **domain: Any
    ) -> "Claim":
        """Register the twin that drops one hypothesis, for which a counterexample must be found.

        Args:
            name: last part of the twin's identifier.
            hypothesis: what is dropped.
            because: why it is needed.
            check: the twin's check, by default this claim's.
            domain: the strategies that change; those that are not named stay.
        """
        return register(
            Claim(
                identifier=f"{self.identifier}/{name}",
                statement=f"{self.statement} (Without: {hypothesis}.)",
                source=self.source,
                kind=Kind.refuted,
                domain={**self.domain, **domain},
                check=self.check if check is None else check,
                because=because,
                holds=False,
                hypotheses=hypothesis,
                parent=self.identifier,
                compiled=self.compiled,
            )
        )


_CLAIMS: dict[str, Claim] = {}


def claim(
    identifier: str,
    statement: str,
    *,
    source: str,
    kind: str,
    because: str,
    domain: Mapping[str, SearchStrategy],
    holds: bool | None = None,
    hypotheses: str = "",
    unshown: str = "",
    compiled: bool = True,
) -> Callable[[Callable[..., Any]], Claim]:
    """Decorator: make a check a claim, and register it.

    Args:
        identifier, statement, source, kind, because, domain, hypotheses, unshown, compiled: those of `Claim`.
        holds: the verdict that is expected; by default `True` but for a refuted claim.

    Returns:
        a decorator of the check, a function of the names in `domain` that returns a margin, and in whose place the
        claim stands afterwards.

    Raises:
        ValueError: the identifier is taken or malformed, a text is missing, or the kind is unknown.
    """
    if kind not in [str(member) for member in Kind]:
        raise ValueError(f"claim {identifier!r} has the kind {kind!r}{nearest(kind, [str(k) for k in Kind])}")

    def decorate(check: Callable[..., Any]) -> Claim:
        expected = kind != Kind.refuted if holds is None else holds
        return register(
            Claim(
                identifier=identifier,
                statement=statement,
                source=source,
                kind=Kind(kind),
                domain=dict(domain),
                check=check,
                because=because,
                holds=expected,
                hypotheses=hypotheses,
                unshown=unshown,
                compiled=compiled,
            )
        )

    return decorate


def register(new: Claim) -> Claim:
    """Add a claim to the catalogue.

    Raises:
        ValueError: there is another one of this identifier.
    """
    known = _CLAIMS.get(new.identifier)
    if known is not None and known.check.__module__ != new.check.__module__:
        raise ValueError(f"two claims are called {new.identifier!r}; expected a name of its own for each")
    _CLAIMS[new.identifier] = new
    return new


def registered() -> dict[str, Claim]:
    """All claims by identifier, in the order in which they were registered."""
    return dict(_CLAIMS)
