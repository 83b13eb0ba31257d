"""The search for counterexamples: hypothesis draws and shrinks, compiled programs check many examples at once."""

import contextlib
import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import hypothesis
import jax
import numpy as np
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from dynamics._checks import as_whole
from dynamics._compiling import quick_jit
from dynamics._plain import plain
from dynamics._printing import Described
from dynamics._text import readable
from dynamics.claims.base import Claim

Example = dict[str, Any]
BATCH = 125  # examples per call of a compiled program
DRAWN = 7  # one in so many examples after the first batch is drawn, the others are put together from those drawn
SHRINKING = 60  # draws of one argument in the search for a simpler one
SLICE = 2 * BATCH  # points of a slice through a counterexample


class Slice(NamedTuple):
    """The margin over one number of a counterexample, the others kept.

    Attributes:
        values: what the number was set to, over the range of the examples drawn.
        margins: the margins there.
        value: the number of the counterexample.
    """

    values: np.ndarray
    margins: np.ndarray
    value: float


@dataclasses.dataclass(frozen=True)
class Result(Described):
    """What a search has found.

    Attributes:
        claim: the claim.
        examples: examples tried that fulfil the hypotheses.
        margin: the smallest margin of an example tried; NaN when none fulfilled the hypotheses.
        verdict: "holds" (no counterexample found), "refuted", "undecided" (nothing to check, or a margin was NaN), or
            "broken" (the check raised an error).
        counterexample: the smallest one found, by argument; or `None`.
        counterexample_margin: its margin; NaN without one.
        seed: of the draws.
        slices: around a counterexample, how the margin depends on each of its numbers, by name, e.g. "matrix[0, 1]".
        error: why the check failed to give a margin; then the verdict is "broken".
    """

    claim: Claim
    examples: int
    margin: float
    verdict: str
    counterexample: Example | None
    counterexample_margin: float
    seed: int
    slices: dict[str, Slice] = dataclasses.field(default_factory=dict)
    error: str = ""

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the one that the claim announces."""
        return self.verdict == self.claim.verdict

    @property
    def counterexample_text(self) -> str:
        """The counterexample as a sentence; empty without one."""
        if self.counterexample is None:
            return ""
        shown = ", ".join(f"{name} = {shown_value(value)}" for name, value in self.counterexample.items())
        return f"Counterexample: {shown}; margin {self.counterexample_margin:.3g}."

    def describe(self) -> str:
        """The verdict, the smallest counterexample and the reason, as text."""
        claim = self.claim
        expected = "hold" if claim.holds else "be refuted"
        surprise = "" if self.as_expected else f", but was expected to {expected}"
        lines = [
            f"{claim.identifier} ({claim.kind}): {self.verdict}{surprise}; "
            f"{self.examples} examples, smallest margin {self.margin:.3g}",
            readable(claim.statement),
        ]
        if self.counterexample is not None:
            lines.append(self.counterexample_text)
        if self.error:
            lines.append(f"The check failed: {self.error}")
        return "\n".join([*lines, readable(claim.because), f"Source: {readable(claim.source)}"])

    def to_dict(self) -> dict[str, Any]:
        """Plain Python data, ready for JSON; what is not finite is `None`."""
        claim = self.claim
        return {
            "id": claim.identifier,
            "statement": claim.statement,
            "source": claim.source,
            "kind": str(claim.kind),
            "parent": claim.parent,
            "examples": self.examples,
            "margin": plain(self.margin),
            "verdict": self.verdict,
            "expected": claim.verdict,
            "as_expected": self.as_expected,
            "counterexample": None
            if self.counterexample is None
            else {name: plain_value(value) for name, value in self.counterexample.items()},
            "counterexample_margin": plain(self.counterexample_margin),
            "because": claim.because,
            "error": self.error,
            "seed": self.seed,
        }


def search(claim: Claim, examples: int = 100, *, seed: int = 0, shrink: bool = True, slices: bool = False) -> Result:
    """Look for a counterexample to a claim, in double precision.

    Examples are drawn by hypothesis, which likes the corners of the domain, and checked in batches of one shape. Of
    many examples only a part is drawn; the others put together anew what the arguments have got, as every argument has
    a strategy of its own. The first counterexample ends the search; it is then made as small and simple as possible.

    Args:
        claim: the claim.
        examples: how many examples to try; those that do not fulfil the hypotheses do not count, but no more than five
            times as many are drawn.
        seed: the same seed draws the same examples.
        shrink: make the counterexample small.
        slices: find out how the margin depends on each number of the counterexample, for a picture.

    Raises:
        ValueError: `examples` is no whole number >= 1.

    >>> from dynamics import claims
    >>> result = search(claims.find("bilinear/simultaneous"), examples=50)
    >>> result.verdict, result.as_expected
    ('holds', True)
    """
    examples = as_whole("examples", examples)
    strategy = st.fixed_dictionaries(dict(claim.domain))
    checker = _Checker(claim)
    tried, smallest, broken, failing, margin = 0, np.inf, False, None, np.nan
    around: dict[str, Slice] = {}
    # Tolerances are those of double precision, whatever the caller's is; eigenvalues of general matrices are for CPUs.
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        pool: list[Example] = []
        run, left = 0, 5 * examples
        while tried < examples and left > 0:
            # A first look; then what is missing, and somewhat more, as some will not fulfil the hypotheses.
            size = min(BATCH, examples) if run == 0 else min(max(examples - tried, BATCH), left)
            share = size if run == 0 or len(claim.domain) == 1 else -(-size // DRAWN)
            drawn = _draw(strategy, share, f"{seed}/{run}")
            pool += drawn
            batch = drawn + _recombined(pool, size - share, np.random.default_rng([seed, run]))
            margins = checker(batch)
            tried += int(np.sum(~np.isposinf(margins)))
            broken |= bool(np.isnan(margins).any())
            smallest = np.min(margins, initial=smallest, where=~np.isnan(margins))
            if (margins < 0).any():
                first = int(np.argmax(margins < 0))
                failing = batch[first]
                if shrink and first < len(drawn):
                    known = {_key(example): bool(margin < 0) for example, margin in zip(batch, margins)}
                    failing = _simplest(strategy, share, f"{seed}/{run}", checker, known, failing)
                elif shrink:
                    failing = _simpler_arguments(claim, checker, failing, seed)
                margin = float(checker([failing])[0])
                if slices:
                    around = _slices(checker, failing, batch)
                break
            if len(drawn) < share:  # hypothesis stops early when it has seen the whole domain
                break
            run, left = run + 1, left - size
    verdict = "refuted" if failing is not None else "undecided" if broken or not tried else "holds"
    return Result(
        claim=claim,
        examples=tried,
        margin=float(min(smallest, margin) if failing is not None else smallest) if tried else np.nan,
        verdict=verdict,
        counterexample=failing,
        counterexample_margin=margin,
        seed=seed,
        slices=around,
    )


class _Checker:
    """The margins of examples, batch by batch; one compiled program per shape."""

    def __init__(self, claim: Claim):
        self.claim = claim
        self.programs: dict[tuple, Callable] = {}

    def __call__(self, batch: Sequence[Example]) -> np.ndarray:
        margins = np.empty(len(batch))
        if not self.claim.compiled:
            for index, example in enumerate(batch):
                margins[index] = np.min(self.claim.check(**example))
            return margins
        groups: dict[tuple, list[int]] = {}
        for index, example in enumerate(batch):
            groups.setdefault(_structure(example), []).append(index)
        for structure, members in groups.items():
            for start in range(0, len(members), BATCH):
                chosen = members[start : start + BATCH]
                margins[chosen] = self._compiled(structure, [batch[index] for index in chosen])
        return margins

    def _compiled(self, structure: tuple, batch: Sequence[Example]) -> np.ndarray:
        definition, kinds = structure
        leaves = [jax.tree.leaves(example, is_leaf=_is_none) for example in batch]
        moving = [place for place, kind in enumerate(kinds) if isinstance(kind, _Shape)]
        if structure not in self.programs:
            constants = list(leaves[0])

            def check(values):
                all_leaves = list(constants)
                for place, value in zip(moving, values):
                    all_leaves[place] = value
                example = jax.tree.unflatten(definition, all_leaves)
                return jax.numpy.min(jax.numpy.asarray(self.claim.check(**example)))

            self.programs[structure] = quick_jit(jax.vmap(check))
        padded = [*leaves, *(leaves[-1:] * (BATCH - len(batch)))]  # one length, one program
        values = [np.stack([np.asarray(example[place], float) for example in padded]) for place in moving]
        if not values:  # nothing varies
            return np.full(len(batch), np.min(self.claim.check(**batch[0])))
        return np.asarray(self.programs[structure](values))[: len(batch)]


@dataclasses.dataclass(frozen=True)
class _Shape:
    shape: tuple[int, ...]


def _structure(example: Example) -> tuple:
    """What the compiled program depends on: shapes of the numbers, and everything that is no number."""
    leaves, definition = jax.tree.flatten(example, is_leaf=_is_none)
    return definition, tuple(map(_kind, leaves))


def _is_none(value: Any) -> bool:
    return value is None  # which JAX takes for a tree without leaves


def _kind(value: Any) -> Any:
    """The shape of a number or an array of numbers; anything else itself."""
    if isinstance(value, float) or (isinstance(value, np.ndarray) and value.dtype.kind == "f"):
        return _Shape(np.shape(value))
    return value


def _settings(examples: int) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )


def _draw(strategy: st.SearchStrategy, size: int, stream: str) -> list[Example]:
    """So many examples as hypothesis draws them; fewer when there are no more."""
    drawn: list[Example] = []

    def collect(example: Example) -> bool:
        drawn.append(example)
        return False

    with contextlib.suppress(NoSuchExample):
        hypothesis.find(strategy, collect, settings=_settings(size), random=random.Random(stream))
    return drawn


def _recombined(pool: Sequence[Example], count: int, random: np.random.Generator) -> list[Example]:
    """Examples made of the arguments of others, each argument from another one."""
    choices = {name: random.integers(len(pool), size=count) for name in pool[0]} if count else {}
    return [{name: pool[chosen[index]][name] for name, chosen in choices.items()} for index in range(count)]


def _simplest(
    strategy: st.SearchStrategy,
    size: int,
    stream: str,
    checker: Callable[[Sequence[Example]], np.ndarray],
    known: dict[tuple, bool],
    failing: Example,
) -> Example:
    """The simplest counterexample that hypothesis finds: the same draws once more, then it shrinks the first one."""

    def fails(example: Example) -> bool:
        key = _key(example)
        if key not in known:
            known[key] = bool(checker([example])[0] < 0)
        return known[key]

    try:
        return hypothesis.find(strategy, fails, settings=_settings(size), random=random.Random(stream))
    except NoSuchExample:
        return failing


def _simpler_arguments(claim: Claim, checker: _Checker, failing: Example, seed: int) -> Example:
    """A counterexample simplified one argument at a time, where hypothesis finds a simpler one."""
    for name, strategy in claim.domain.items():
        known = {_key({name: failing[name]}): True}

        def whole(changed: Example, others: Example = failing) -> Example:
            return {**others, **changed}

        simplest = _simplest(
            st.fixed_dictionaries({name: strategy}),
            SHRINKING,
            f"{seed}/{name}",
            lambda batch, whole=whole: checker([whole(changed) for changed in batch]),
            known,
            {name: failing[name]},
        )
        failing = whole(simplest)
    return failing


def _slices(checker: _Checker, failing: Example, batch: Sequence[Example]) -> dict[str, Slice]:
    """The margin over each number of a counterexample, the others kept."""
    alike = [example for example in batch if _structure(example) == _structure(failing)] + [failing]
    paths, definition = jax.tree_util.tree_flatten_with_path(failing, is_leaf=_is_none)
    leaves = [leaf for _, leaf in paths]
    slices = {}
    for index, (path, value) in enumerate(paths):
        if not isinstance(_kind(value), _Shape):
            continue
        drawn = np.stack([np.asarray(jax.tree.leaves(e, is_leaf=_is_none)[index], float) for e in alike])
        low, high = drawn.min(axis=0), drawn.max(axis=0)
        for place in np.ndindex(np.shape(value)):
            if not low[place] < high[place]:
                continue
            values = np.linspace(low[place], high[place], SLICE)
            others = []
            for number in values:
                moved = np.array(value, float)
                moved[place] = number
                changed = moved if np.ndim(value) else float(number)
                others.append(jax.tree.unflatten(definition, [*leaves[:index], changed, *leaves[index + 1 :]]))
            slices[_label(path, place)] = Slice(values, checker(others), float(np.asarray(value)[place]))
    return slices


def _label(path: tuple, place: tuple[int, ...]) -> str:
    name, *inner = (str(getattr(key, "key", getattr(key, "idx", key))) for key in path)
    return name + "".join(f"[{key}]" for key in inner) + (f"[{', '.join(map(str, place))}]" if place else "")


def _key(example: Example) -> tuple:
    leaves, definition = jax.tree.flatten(example, is_leaf=_is_none)
    return definition, *((v.shape, v.tobytes()) if isinstance(v, np.ndarray) else repr(v) for v in leaves)


def plain_value(value: Any) -> Any:
    """An argument of an example as plain Python data."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)


def shown_value(value: Any) -> str:
    """An argument of an example as text, in full: arrays as nested lists.

    Args:
        value: a number, an array, or nested lists and tuples of these.

    >>> shown_value(np.array([[1.0, 0.5]]))
    '[[1, 0.5]]'
    """
    value = plain_value(value)

    def shown(item: Any) -> str:
        if isinstance(item, list):
            return "[" + ", ".join(map(shown, item)) + "]"
        return repr(int(item)) if isinstance(item, float) and item == int(item) else repr(item)

    return shown(value)
