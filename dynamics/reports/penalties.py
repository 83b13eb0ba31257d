"""What each penalty does to the eigenvalues of two GANs that turn for ever without: computed, beside closed forms.

The Dirac-GAN with the non-saturating objective, whose coupling is f'(0) = 1/2, and the linear-quadratic Wasserstein GAN
with G(z) = a z, C(x) = w x^2 and data of standard deviation s = 1.2, whose coupling is 2 s. A penalty that damps the
discriminator alone, by d, makes of the eigenvalues +- ik the roots of l^2 + d l + k^2. `dynamics list penalties
--effects` prints the table.
"""

import cmath
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

import dynamics.catalogue as catalogue
import dynamics.penalties as penalties
from dynamics.analysis import stability
from dynamics.directions import Direction, DriftRegularisation
from dynamics.distributions import normal
from dynamics.flows import Flow
from dynamics.game import Game, Players
from dynamics.games import Covariance, DiracGAN
from dynamics.penalties import Penalty

STD = 1.2  # s, of the data of the linear-quadratic GAN
COUPLINGS = {"dirac": 0.5, "quadratic": 2 * STD}
Pair = tuple[complex, complex]
NOTES = """\
d: eigenvalues -d/2 +- sqrt(d^2/4 - k^2) of the flow at the equilibrium, with k = 1/2 in the Dirac-GAN, 2 s = 2.4 in
the other. step: simultaneous gradient descent is stable with shorter ones. A lazy penalty, n times as strong at every
n-th step alone (dynamics.updates.Scheduled), allows about 2/(n d) where n d is large; dynamics.stability judges it.\
"""


@dataclasses.dataclass(frozen=True)
class Closed:
    """What eigenvalues ought to be.

    Attributes:
        text: the formula; of a damping d alone, that of d.
        values: both of them.
        point: the equilibrium, where the penalty moves it.
    """

    text: str
    values: Pair
    point: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """A penalty with numbers, and what is known of it.

    Attributes:
        label: how it is written.
        penalty: it, or `None`.
        dirac, quadratic: closed forms for the two GANs; `None`: none is known, or there is no linearisation.
        noise: standard deviation of instance noise.
        direction: what the players follow, where it is not the gradient.
    """

    label: str
    penalty: Penalty | None
    dirac: Closed | None = None
    quadratic: Closed | None = None
    noise: float | None = None
    direction: Direction | None = None


@dataclasses.dataclass(frozen=True)
class Effect:
    """A row of the table.

    Attributes:
        label: the penalty.
        game: `"Dirac-GAN"` or `"linear-quadratic GAN"`.
        eigenvalues: of the flow at the equilibrium; `None` where there is no linearisation.
        verdict: of `dynamics.stability`, or that the penalty does not apply to such a game.
        closed: formula, or a dash.
        error: largest distance from its values; NaN without.
        step: up to which steps of simultaneous gradient descent are stable; 0: none are.
    """

    label: str
    game: str
    eigenvalues: tuple[complex, ...] | None
    verdict: str
    closed: str
    error: float
    step: float


def _eigenvalues(a: float, b: float, c: float, d: float) -> tuple[complex, complex]:
    """Those of [[a, b], [c, d]]."""
    root = cmath.sqrt((a - d) ** 2 / 4 + b * c)
    return (a + d) / 2 + root, (a + d) / 2 - root


def damped(damping: float, coupling: float) -> Pair:
    """Eigenvalues of [[0, -k], [k, -d]].

    >>> damped(5.0, 2.0)
    ((-1+0j), (-4+0j))
    """
    return _eigenvalues(0.0, -coupling, coupling, -damping)


def _damping(game: str, formula: str, damping: float) -> Closed:
    return Closed(f"d = {formula}" if formula != "0" else "+- ik", damped(damping, COUPLINGS[game]))


def _shifted(point: Any, key: Any) -> Any:
    """An augmentation that moves every point by 1/2."""
    del key
    return point + 0.5


def _times(scale: Any, latent: Any) -> Any:
    """What the linear generator makes of a latent."""
    return scale * latent


def _log_density(scale: Any, point: Any) -> Any:
    """That of the linear generator, N(0, a^2)."""
    return -jnp.square(point / scale) / 2 - jnp.log(jnp.abs(scale) * jnp.sqrt(2 * jnp.pi))


def cases() -> tuple[Case, ...]:
    """All penalties of the catalogue, with closed forms where there are some; and noise and drift regularisers."""
    gamma, s = 0.3, STD

    def both(label: str, penalty: Penalty | None, dirac: tuple[str, float], quadratic: tuple[str, float]) -> Case:
        return Case(label, penalty, _damping("dirac", *dirac), _damping("quadratic", *quadratic))

    def drift(label: str, direction: Direction, dirac: Closed, quadratic: Closed) -> Case:
        return Case(label, None, dirac, quadratic, direction=direction)

    def around(text: str, middle: float, game: str) -> Closed:
        return Closed(text, (middle + 1j * COUPLINGS[game], middle - 1j * COUPLINGS[game]))

    none = ("0", 0.0)
    on_generator = 2 * 0.5**2 * gamma, 8 * s**2 * gamma
    known = [
        both("none", None, none, none),
        both("R1(0.3)", penalties.R1(gamma), ("gamma", gamma), ("4 gamma s^2", 4 * gamma * s**2)),
        both("R2(0.3)", penalties.R2(gamma), ("gamma", gamma), ("4 gamma s^2", 4 * gamma * s**2)),
        both(
            "ApproximateR1(0.3, std=0.5)",
            penalties.ApproximateR1(gamma, 0.5),
            ("gamma", gamma),
            ("gamma (4 s^2 + 3 std^2)", gamma * (4 * s**2 + 0.75)),
        ),
        both(
            "ApproximateR2(0.3, std=0.5)",
            penalties.ApproximateR2(gamma, 0.5),
            ("gamma", gamma),
            ("gamma (4 s^2 + 3 std^2)", gamma * (4 * s**2 + 0.75)),
        ),
        Case("WGANGP(0.3)", penalties.WGANGP(gamma)),
        both("WGANGP(0.3, one_sided=True)", penalties.WGANGP(gamma, one_sided=True), none, none),
        Case("DRAGAN(0.3)", penalties.DRAGAN(gamma)),
        both(
            "DiscriminatorGradientNorm(0.3)",
            penalties.DiscriminatorGradientNorm(gamma),
            ("2 f'(0)^2 eta", on_generator[0]),
            ("8 eta s^2", on_generator[1]),
        ),
        both("LeCam(0.3)", penalties.LeCam(gamma), none, ("8 lambda s^4", 8 * gamma * s**4)),
        both("ScoreDrift(0.3)", penalties.ScoreDrift(gamma), none, ("6 epsilon s^4", 6 * gamma * s**4)),
        both("Consistency(x -> -x)", penalties.Consistency(), none, none),
        both(
            "Consistency(x -> x + 1/2, 0.3)",
            penalties.Consistency(_shifted, gamma),
            ("lambda / 2", gamma / 2),
            ("2 lambda (s^2 + 1/16)", 2 * gamma * (s**2 + 1 / 16)),
        ),
        Case(
            "Entropy(N(0, a^2), 0.3)",
            penalties.Entropy(_log_density, gamma),
            None,  # a point mass has no density
            Closed(
                "d = 2 lambda / s^2, w moves to -lambda / (2 s^2)",
                damped(2 * gamma / s**2, 2 * s),
                (s, -gamma / (2 * s**2)),
            ),
        ),
        Case(
            "PrescribedEntropy(a z + e, 0.3)",
            penalties.PrescribedEntropy(_times, normal(nodes=60), 1.0, gamma),
            Closed("[[lambda, -1/2], [1/2, -1/2]]", _eigenvalues(gamma, -0.5, 0.5, -0.5)),
            Closed(
                "d = 2 lambda s^2 / (s^2 + 1)^2, w moves to -lambda / (2 (s^2 + 1))",
                damped(2 * gamma * s**2 / (s**2 + 1) ** 2, 2 * s),
                (s, -gamma / (2 * (s**2 + 1))),
            ),
            noise=1.0,
        ),
        both(
            "WeightDecay(discriminator=0.3)",
            penalties.WeightDecay(0.0, gamma),
            ("mu_D", gamma),
            ("mu_D", gamma),
        ),
        both(
            "Scaled(R1(0.3), 2)",
            penalties.Scaled(penalties.R1(gamma), 2.0),
            ("2 gamma", 2 * gamma),
            ("8 gamma s^2", 8 * gamma * s**2),
        ),
        both(
            "Sum(R1(0.3), R2(0.3))",
            penalties.Sum(penalties.R1(gamma), penalties.R2(gamma)),
            ("2 gamma", 2 * gamma),
            ("8 gamma s^2", 8 * gamma * s**2),
        ),
        Case(
            "instance noise of std 0.8",
            None,
            _damping("dirac", "-2 f''(0) std^2 = std^2 / 2", 0.8**2 / 2),
            _damping("quadratic", "0", 0.0),
            noise=0.8,
        ),
        drift(
            "self norm in both losses, 0.3",
            DriftRegularisation(gamma),
            around("+- ik", 0.0, "dirac"),
            around("+- ik", 0.0, "quadratic"),
        ),
        drift(
            "other norm in both losses, 0.3",
            DriftRegularisation(0.0, gamma),
            around("-b k^2 +- ik", -gamma * 0.25, "dirac"),
            around("-b k^2 +- ik", -gamma * 4 * s**2, "quadratic"),
        ),
        drift(
            "other dot product in both losses, 0.3",
            DriftRegularisation(0.0, 0.0, gamma),
            around("c k^2 +- ik", gamma * 0.25, "dirac"),
            around("c k^2 +- ik", gamma * 4 * s**2, "quadratic"),
        ),
    ]
    covered = {type(case.penalty).__name__ for case in known}
    others = [Case(f"{name}()", cls()) for name, cls in catalogue.members("penalties").items() if name not in covered]
    return (*known, *others)


def effect(case: Case, game: str) -> Effect:
    """One row: `game` is `"dirac"` or `"quadratic"`."""
    played: Game
    if game == "dirac":
        played, closed, name = DiracGAN(penalty=case.penalty, noise=case.noise), case.dirac, "Dirac-GAN"
    else:
        played = Covariance(STD**2, penalty=case.penalty, noise=case.noise, nodes=7)
        closed, name = case.quadratic, "linear-quadratic GAN"
    at: Players | None = None
    if closed is not None and closed.point is not None:
        at = tuple(jnp.asarray(number) for number in closed.point)
    try:
        report = stability(played, Flow(case.direction), at, require_equilibrium=False, order="linear")
    except (TypeError, ValueError):  # a penalty for games of another kind
        return Effect(case.label, name, None, "does not apply", "-", float("nan"), float("nan"))
    smooth = report.smoothness == "smooth"
    values = tuple(complex(value) for value in np.asarray(report.eigenvalues)) if smooth else None
    error = float("nan")
    if closed is not None and values is not None:
        error = min(
            max(abs(a - b) for a, b in zip(values, order, strict=True))
            for order in (closed.values, closed.values[::-1])
        )
    step = float("nan") if values is None else 0.0
    if values is not None and report.verdict == "stable":
        step = min(-2 * value.real / abs(value) ** 2 for value in values)
    return Effect(case.label, name, values, str(report.verdict), closed.text if closed else "-", error, step)


def effects(some: Sequence[Case] | None = None) -> tuple[Effect, ...]:
    """Two rows for each case, default all."""
    return tuple(effect(case, game) for case in (cases() if some is None else some) for game in COUPLINGS)


def to_json(rows: Sequence[Effect]) -> list[dict[str, Any]]:
    """A list of plain objects; eigenvalues as pairs of real and imaginary part, `None` for what there is not."""

    def plain(row: Effect) -> dict[str, Any]:
        values = None if row.eigenvalues is None else [[value.real, value.imag] for value in row.eigenvalues]
        numbers = {
            name: None if np.isnan(value) else value for name, value in (("error", row.error), ("step", row.step))
        }
        return dataclasses.asdict(row) | {"eigenvalues": values} | numbers

    return [plain(row) for row in rows]


def text(rows: Sequence[Effect]) -> str:
    """The table as plain text, a game after the other."""
    lines = []
    for game in dict.fromkeys(row.game for row in rows):
        table = [("penalty", "eigenvalues", "verdict", "step", "closed form", "difference")]
        for row in rows:
            if row.game == game:
                values = "no linearisation" if row.verdict == "marginal" else "-"
                values = values if row.eigenvalues is None else ", ".join(map(_short, row.eigenvalues))
                error = "-" if np.isnan(row.error) else f"{row.error:.0e}"
                step = "-" if np.isnan(row.step) else f"{row.step:.3g}"
                table.append((row.label, values, row.verdict, step, row.closed, error))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines += ["", game] if lines else [game]
        lines += ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip() for row in table]
    return "\n".join([*lines, "", NOTES])


def _short(value: complex) -> str:
    real, imaginary = (0.0 if abs(part) < 1e-12 else part for part in (value.real, value.imag))
    return f"{real:.4g}{imaginary:+.4g}i" if imaginary else f"{real:.4g}"
