"""What a check answers, and what is common to all that is checked."""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from dynamics._names import nearest
from dynamics._plain import plain, plain_fields
from dynamics._printing import Described

if TYPE_CHECKING:
    import pandas as pd

OUTCOMES = ("pass", "fail", "info", "skipped")
Answer = tuple[str, Any, str]  # outcome, value and text of a check


@dataclasses.dataclass(frozen=True)
class Check(Described):
    """The answer to one question.

    Attributes:
        name: of the question.
        outcome: "pass" or "fail" for what every method (game) has to fulfil; "info" for a property, whatever it is;
            "skipped" where the question makes no sense.
        value: the answer as numbers, strings, tuples and dictionaries of these.
        text: the answer in words.
    """

    name: str
    outcome: str
    value: Any
    text: str

    def __post_init__(self):
        if self.outcome not in OUTCOMES:
            raise ValueError(f"the outcome is {self.outcome!r}{nearest(str(self.outcome), OUTCOMES)}")

    def describe(self) -> str:
        """The check as one line."""
        return f"{self.name} ({self.outcome}): {self.text}"

    def to_dict(self) -> dict[str, Any]:
        """Plain Python data, ready for JSON; what is not finite is `None`."""
        return plain_fields(self)


@dataclasses.dataclass(frozen=True)
class Checks(Described):
    """All answers on one method or game; `checks["cost"]` is one of them."""

    subject: str
    checks: tuple[Check, ...]

    def __getitem__(self, name: str) -> Check:
        known = {check.name: check for check in self.checks}
        if name not in known:
            raise KeyError(f"{name!r} is not one of the checks{nearest(name, known)}")
        return known[name]

    def __iter__(self):
        return iter(self.checks)

    def __len__(self) -> int:
        return len(self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed: contracts that are broken."""
        return tuple(check for check in self.checks if check.outcome == "fail")

    def describe(self) -> str:
        """A table of all answers, and above it how many failed."""
        width = max((len(check.name) for check in self.checks), default=0)
        failed = ", ".join(check.name for check in self.failed)
        head = f"{self.subject}: {len(self.checks)} checks, " + (f"failed: {failed}" if failed else "none failed")
        return "\n".join([head, *(f"  {c.outcome:7}  {c.name:{width}}  {c.text}" for c in self.checks)])

    def to_dataframe(self) -> "pd.DataFrame":
        """The answers as a `pandas.DataFrame`, a row each."""
        import pandas as pd

        return pd.DataFrame([check.to_dict() for check in self.checks])

    def to_dict(self) -> dict[str, Any]:
        """Plain Python data, ready for JSON; what is not finite is `None`."""
        return {
            "subject": self.subject,
            "failed": [check.name for check in self.failed],
            "checks": plain(self.checks),
        }


def question(known: dict[str, Callable], name: str) -> Callable:
    """A decorator that enters the function that answers a question under its name."""

    def decorate(function: Callable) -> Callable:
        known[name] = function
        return function

    return decorate


def in_double_precision(function: Callable) -> Callable:
    """Whatever the user has set: margins and orders of convergence need it."""

    @functools.wraps(function)
    def inside(*arguments):
        with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
            return function(*arguments)

    return inside


class Subject:
    """Something that is checked, with what several checks need."""

    name: str

    @in_double_precision
    def check(self, name: str, question: Callable) -> Check:
        try:
            outcome, value, text = question(self)
        except Exception as error:  # whatever somebody's code does
            first = (str(error).strip().splitlines() or [""])[0]
            outcome, value, text = "fail", type(error).__name__, f"raised {type(error).__name__}: {first}"
        return Check(name, outcome, value, text)
