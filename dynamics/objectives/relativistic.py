r"""Relativistic GANs: the discriminator is paid for how much more real a real sample looks than a fake one.

All three compare scores by one decreasing convex function $\varphi$ (softplus(-y), the square $(1-y)^2$, or the hinge
$\max(0, 1-y)$), and change nothing when all scores are shifted alike. The divergence is concave in
$f(y) = \varphi(0) - \varphi(y)$ (with f(0) = 0, $f'(0) \ne 0$, a finite supremum attained at a positive argument), and
depends on the distributions as a whole: no weight of the generator's gradient is a function of the density ratio alone.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from dynamics._names import nearest
from dynamics.distributions import Sample, as_sample
from dynamics.game import as_callable
from dynamics.objectives import _comparisons
from dynamics.objectives.base import Objective, Properties, log_ratio, masses
from dynamics.scalars import relu, softplus


def _logistic(difference: Array) -> Array:
    return softplus(-difference)


def _squares(difference: Array) -> Array:
    return jnp.square(1 - difference)


def _hinge(difference: Array) -> Array:
    return relu(1 - difference)


FUNCTIONS = {"softplus": _logistic, "squares": _squares, "hinge": _hinge}


class Relativistic(Objective):
    """What the three ways of comparing have in common.

    Attributes:
        function: what is paid for a difference of scores, real less fake.
        name: of the function, empty for one's own.
        saturating: the generator is paid the opposite of the discriminator's loss; otherwise the same with the roles of
            real and fake exchanged.
    """

    function: eqx.AbstractVar[Callable[[Array], Array]]
    name: eqx.AbstractVar[str]
    saturating: eqx.AbstractVar[bool]

    @abstractmethod
    def compared(self, real: Sample, fake: Sample) -> Array:
        """The discriminator's loss for these scores."""

    @property
    @abstractmethod
    def scale(self) -> float:
        """What the published divergence is of the discriminator's gain."""

    @abstractmethod
    def best_for_squares(self, separation: Array) -> Array:
        r"""The factor of $(p-q)/(p+q)$ in the best score for squares, where the triangular discrimination is this."""

    def discriminator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return self.compared(as_sample(real), as_sample(fake))

    def generator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        if self.saturating:
            return -self.discriminator(real, fake)
        return self.compared(as_sample(fake), as_sample(real))

    @property
    def ideal_discriminator_loss(self) -> Array:
        nothing = Sample(jnp.asarray(0.0)[None])
        return self.compared(nothing, nothing)

    @property
    def ideal_score(self) -> Array:
        return jnp.asarray(0.0)

    @property
    def properties(self) -> Properties:
        return Properties(symmetric=True, bounded=True if self.name else None)

    @abstractmethod
    def expected(self, real: Sample, fake: Sample) -> Array:
        """The discriminator's loss where these are whole distributions."""

    @property
    @abstractmethod
    def solvers(self) -> dict[str, Callable[[Array, Array], _comparisons.Best]]:
        """Of the named functions: the best scores and the loss with them, from probabilities."""

    def _best(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None) -> _comparisons.Best:
        real, fake = masses(p, q, weights)
        real, fake = jnp.broadcast_arrays(*(jnp.atleast_1d(mass) for mass in (real, fake)))

        def loss(scores: Array) -> Array:
            return self.expected(Sample(scores, real), Sample(scores, fake))

        if self.name == "squares":
            total = jnp.where((real > 0) | (fake > 0), real + fake, 1)
            share = (real - fake) / total
            scores = self.best_for_squares(jnp.sum((real - fake) * share)) * share
            return scores, loss(scores)
        if self.name in self.solvers:
            scores, least = self.solvers[self.name](real, fake)
            return scores, jnp.where(jnp.isnan(jnp.sum(real + fake)), jnp.nan, least)
        return _comparisons.newton(loss, log_ratio(real, fake), real, fake)

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        """The best scores, of all that differ by a constant one set; they depend on all densities together.

        Closed forms for squares and for pairs with softplus; a corner of a linear programme for the hinge; an equation
        in one unknown (centred) or in three (average) for softplus. Infinite where no scores are best: the loss falls
        for ever as they part. For a function of one's own Newton's method, which needs positive densities that are not
        too far apart, and returns NaN otherwise.
        """
        return jnp.reshape(self._best(p, q, weights)[0], jnp.broadcast_shapes(jnp.shape(p), jnp.shape(q)))

    def divergence_value(
        self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None, points: ArrayLike | None = None
    ) -> Array:
        return self.scale * (self.ideal_discriminator_loss - self._best(p, q, weights)[1])


class RelativisticPaired(Relativistic):
    r"""Relativistic GAN in pairs of a real and a fake sample, RpGAN; with R1 and R2 it is R3GAN.

    Losses: $L_D = E\,\varphi(C(x) - C(y))$, $L_G = E\,\varphi(C(y) - C(x))$ for independent x (real) and y (fake);
    saturating: $L_G = -L_D$. The default is softplus: $\varphi(t) = \log(1+\exp(-t))$. Ideal discriminator loss:
    $\varphi(0)$, log 2 for softplus and 1 for squares or the hinge, at any constant score. The published divergence is
    twice the gain: $2 \sup E\,f(C(x)-C(y))$; 2 JSD of data x model and model x data, both orders of a pair, for
    softplus, with the best score $\log(p/q)$; $4\Delta/(2+\Delta)$ for squares, where $\Delta = \int (p-q)^2/(p+q)$.
    R3GAN: the paper's game is the saturating one, and its code trains the other, with the scores' sign of here:
    `GAN(..., RelativisticPaired(), Sum(R1(w), R2(w)))`. A constant added to the score is a neutral direction.
    Source: Jolicoeur-Martineau, The Relativistic Discriminator, 2019, and On Relativistic f-Divergences, 2020, theorem
    3.1; Huang, Gokaslan, Kuleshov, Tompkin, The GAN is Dead; Long Live the GAN!, 2024. The closed forms are ours.

    Args:
        function: `"softplus"`, `"squares"`, `"hinge"`, or a decreasing convex function of the difference of two scores.
        saturating: the zero-sum game.
        all_pairs: compare every real with every fake sample, the exact expectation over the two samples; otherwise the
            i-th with the i-th, as in the authors' code, of which this is the mean over all orders.

    Raises:
        ValueError: no function has this name.

    >>> round(float(RelativisticPaired().discriminator(jnp.asarray([1.0, 3.0]), jnp.asarray([1.0]))), 6)
    0.410038
    """

    function: Callable[[Array], Array]
    name: str = eqx.field(static=True)
    saturating: bool = eqx.field(static=True)
    all_pairs: bool = eqx.field(static=True)

    def __init__(self, function: Any = "softplus", saturating: bool = False, all_pairs: bool = True):
        self.function, self.name = _function(function, "RelativisticPaired")
        self.saturating = saturating
        self.all_pairs = all_pairs

    def compared(self, real: Sample, fake: Sample) -> Array:
        if self.all_pairs:
            return self.expected(real, fake)
        if real.count != fake.count or not (real.weights is None and fake.weights is None):
            raise ValueError(
                f"RelativisticPaired with all_pairs=False needs as many real as fake samples, without weights; got "
                f"{real.count} and {fake.count}; expected the same, or all_pairs=True"
            )
        return Sample(real.values - fake.values).mean(self.function)

    def expected(self, real: Sample, fake: Sample) -> Array:
        return real.product(fake, lambda x, y: self.function(x - y)).mean()

    @property
    def solvers(self) -> dict[str, Callable[[Array, Array], _comparisons.Best]]:
        return {"softplus": _comparisons.paired_softplus, "hinge": _comparisons.paired_hinge}

    @property
    def scale(self) -> float:
        return 2.0

    def best_for_squares(self, separation: Array) -> Array:
        return 2 / (2 + separation)

    @property
    def divergence(self) -> str:
        known = {"softplus": "2 JSD(data x model, model x data)", "squares": "4 Δ / (2 + Δ)"}
        return _words(self, known)


class AgainstMeans(Relativistic):
    """Every score is compared with means over the samples, of which the whole is the expectation."""

    @property
    def scale(self) -> float:
        return 1.0

    def expected(self, real: Sample, fake: Sample) -> Array:
        return self.compared(real, fake)


class RelativisticAverage(AgainstMeans):
    r"""Relativistic average GAN: each score is compared with the mean score of the other kind.

    Losses: $L_D = E_{real}\,\varphi(C(x) - E_{fake} C) + E_{fake}\,\varphi(E_{real} C - C(y))$, $L_G$ the same with
    real and fake exchanged; saturating: $L_G = -L_D$. Gradients go through the means too. The default is softplus:
    $\varphi(t) = \log(1+\exp(-t))$. Ideal discriminator loss: $2\varphi(0)$, log 4 for softplus and 2 for squares or
    the hinge, at any constant score (a common code averages the two terms: half). Divergence for squares:
    $8\Delta/(2+3\Delta)$, where $\Delta = \int (p-q)^2/(p+q)$. On a batch the mean is that of the batch: a biased
    estimate.
    Source: Jolicoeur-Martineau, The Relativistic Discriminator, 2019, and On Relativistic f-Divergences,
    2020. The closed form is ours.

    Args:
        function: `"softplus"`, `"squares"`, `"hinge"`, or a decreasing convex function of the difference of two scores.
        saturating: the zero-sum game.

    Raises:
        ValueError: no function has this name.

    >>> round(float(RelativisticAverage("squares").divergence_value([0.75, 0.25], [0.25, 0.75])), 6)  # 8/2 / (2 + 3/2)
    1.142857
    """

    function: Callable[[Array], Array]
    name: str = eqx.field(static=True)
    saturating: bool = eqx.field(static=True)

    def __init__(self, function: Any = "softplus", saturating: bool = False):
        self.function, self.name = _function(function, "RelativisticAverage")
        self.saturating = saturating

    def compared(self, real: Sample, fake: Sample) -> Array:
        of_real, of_fake = real.mean(), fake.mean()
        on_real = real.mean(lambda score: self.function(score - of_fake))
        return on_real + fake.mean(lambda score: self.function(of_real - score))

    @property
    def solvers(self) -> dict[str, Callable[[Array, Array], _comparisons.Best]]:
        return {"softplus": _comparisons.average_softplus, "hinge": _comparisons.average_hinge}

    def best_for_squares(self, separation: Array) -> Array:
        return 4 / (2 + 3 * separation)

    @property
    def divergence(self) -> str:
        return _words(self, {"squares": "8 Δ / (2 + 3 Δ)"})


class RelativisticCentred(AgainstMeans):
    r"""Relativistic centred GAN: every score is compared with the middle of the two mean scores.

    Losses: $L_D = E_{real}\,\varphi(C(x) - m) + E_{fake}\,\varphi(m - C(y))$ with $m = (E_{real} C + E_{fake} C)/2$,
    $L_G$ the same with real and fake exchanged; saturating: $L_G = -L_D$. Gradients go through m too. The default is
    softplus: $\varphi(t) = \log(1+\exp(-t))$. Ideal discriminator loss: $2\varphi(0)$, log 4 for softplus and 2 for
    squares or the hinge, at any constant score. Divergence for squares: $\Delta = \int (p-q)^2/(p+q)$, since the best
    score of `LeastSquares` has its middle at 0.
    Source: Jolicoeur-Martineau, On Relativistic f-Divergences, 2020. The closed form is ours.

    Args:
        function: `"softplus"`, `"squares"`, `"hinge"`, or a decreasing convex function of the difference of two scores.
        saturating: the zero-sum game.

    Raises:
        ValueError: no function has this name.

    >>> round(float(RelativisticCentred("squares").divergence_value([0.75, 0.25], [0.25, 0.75])), 6)
    0.5
    """

    function: Callable[[Array], Array]
    name: str = eqx.field(static=True)
    saturating: bool = eqx.field(static=True)

    def __init__(self, function: Any = "softplus", saturating: bool = False):
        self.function, self.name = _function(function, "RelativisticCentred")
        self.saturating = saturating

    def compared(self, real: Sample, fake: Sample) -> Array:
        middle = (real.mean() + fake.mean()) / 2
        on_real = real.mean(lambda score: self.function(score - middle))
        return on_real + fake.mean(lambda score: self.function(middle - score))

    @property
    def solvers(self) -> dict[str, Callable[[Array, Array], _comparisons.Best]]:
        return {"softplus": _comparisons.centred_softplus, "hinge": _comparisons.centred_hinge}

    def best_for_squares(self, separation: Array) -> Array:
        return jnp.ones_like(separation)

    @property
    def divergence(self) -> str:
        return _words(self, {"squares": "Δ, triangular discrimination"})


def _function(function: Any, owner: str) -> tuple[Callable[[Array], Array], str]:
    if not isinstance(function, str):
        return as_callable(function, f"{owner}.function"), ""
    if function not in FUNCTIONS:
        raise ValueError(f"{owner}.function is {function!r}{nearest(function, FUNCTIONS)}, or a function of one number")
    return as_callable(FUNCTIONS[function], f"{owner}.function"), function


def _words(objective: Relativistic, known: dict[str, str]) -> str:
    text = known.get(objective.name, "relativistic, no closed form known")
    return text if objective.saturating else f"the discriminator's: {text}"
