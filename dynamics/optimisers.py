"""How a direction becomes a step: optax transformations, with their numbers as array leaves.

A bare optax object such as `optax.sgd(0.1)` works wherever an optimiser is expected; its numbers are constants of the
compiled program. `Optimiser(optax.sgd, 0.1)` builds the same object inside the program from array leaves, so that
changing a number compiles nothing and numbers can be swept with `jax.vmap`.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from dynamics._checks import as_leaf, is_concrete
from dynamics._printing import Printed


class Optimiser(Printed):
    """An optax transformation with its real-valued arguments as array leaves.

    Args:
        factory: a function that returns an optax transformation, e.g. `optax.adam`; `optax.chain` takes optimisers.
        arguments: its positional and keyword arguments. Real numbers become leaves; booleans, integers, strings and
            functions (schedules) stay constants.

    Raises:
        ValueError: a learning rate is negative or not finite.
        TypeError: the arguments do not fit the factory.

    >>> Optimiser(optax.adam, learning_rate=1e-3, b1=0.5).keywords["b1"].shape
    ()
    """

    factory: Callable[..., optax.GradientTransformation] = eqx.field(static=True)
    positional: tuple[Any, ...]
    keywords: dict[str, Any]

    def __init__(self, factory: Callable[..., optax.GradientTransformation], *positional: Any, **keywords: Any):
        self.factory = factory
        self.positional = tuple(_argument(value) for value in positional)
        self.keywords = {name: _argument(value) for name, value in keywords.items()}

    def __check_init__(self):
        rate: Any = self.keywords.get("learning_rate", self.positional[0] if self.positional else None)
        if isinstance(rate, int) or (eqx.is_inexact_array(rate) and is_concrete(rate)):
            numbers = np.asarray(rate)  # an operation of JAX for one number takes longer than all else here
            if not (numbers >= 0).all() or not (numbers < np.inf).all():
                raise ValueError(f"{self._label}: the learning rate is {rate}; expected a finite number >= 0")
        transformation = Optimiser.build(self)  # a bound method of a component is a component, and made at every look
        if not isinstance(transformation, optax.GradientTransformation):
            raise TypeError(
                f"{self._label} returned {transformation!r}; expected an optax transformation, e.g. from optax.sgd"
            )

    @property
    def _label(self) -> str:
        return f"Optimiser({getattr(self.factory, '__name__', self.factory)!s})"

    @property
    def printed_name(self) -> str:
        """The factory's name: `sgd(0.1)`."""
        return getattr(self.factory, "__name__", str(self.factory))

    def printed_arguments(self) -> list[tuple[str | None, Any]]:
        """Those of the factory."""
        return [*((None, value) for value in self.positional), *self.keywords.items()]

    def build(self) -> optax.GradientTransformation:
        """The optax transformation, made from the leaves where it is used."""
        positional = [as_transformation(value) for value in self.positional]
        return self.factory(*positional, **{name: as_transformation(value) for name, value in self.keywords.items()})


AnyOptimiser = Optimiser | optax.GradientTransformation


def as_transformation(optimiser: Any) -> Any:
    """Build an `Optimiser`; everything else stays as it is.

    Args:
        optimiser: anything.

    >>> isinstance(as_transformation(sgd(0.5)), optax.GradientTransformation), as_transformation(0.5)
    (True, 0.5)
    """
    return type(optimiser).build(optimiser) if isinstance(optimiser, Optimiser) else optimiser


def check_optimiser(optimiser: Any) -> None:
    """Raise `TypeError` unless this is an `Optimiser` or an optax transformation.

    Args:
        optimiser: anything.

    Raises:
        TypeError: it is something else; the message says what would do.
    """
    if not isinstance(optimiser, (Optimiser, optax.GradientTransformation)):
        raise TypeError(
            f"got {optimiser!r} as an optimiser; expected an optax transformation such as optax.sgd(0.1), "
            "or dynamics.Optimiser(optax.sgd, 0.1)"
        )


def first_memory(transformation: optax.GradientTransformation, player: PyTree) -> PyTree:
    """The memory of an optimiser before its first step.

    Args:
        transformation: the optimiser.
        player: the parameters that it will move.

    Returns:
        a pytree of its kind; adam's has two moments of the player's shape and a counter.

    Raises:
        TypeError: it needs more than the parameters.
    """
    try:
        return transformation.init(player)
    except (AttributeError, TypeError, ValueError) as error:
        raise _explained(error) from error


def optimiser_step(
    transformation: optax.GradientTransformation, gradient: PyTree, memory: PyTree, player: PyTree, loss: Callable
) -> tuple[PyTree, PyTree]:
    """The change of a player's parameters, and the memory afterwards.

    Args:
        transformation: the optimiser.
        gradient, memory, player: what every optimiser gets.
        loss: gives the player's loss, which an optimiser gets that takes an argument `value`.

    Returns:
        the change, a tree like the parameters, and the memory.

    Raises:
        TypeError: it needs more than these.
    """
    extra = {"value": loss()} if _takes_value(transformation) else {}
    try:
        return transformation.update(gradient, memory, player, **extra)
    except (AttributeError, TypeError, ValueError) as error:
        raise _explained(error) from error


def _takes_value(transformation: optax.GradientTransformation) -> bool:
    if not isinstance(transformation, optax.GradientTransformationExtraArgs):
        return False
    try:
        parameters = inspect.signature(transformation.update).parameters.values()
    except (TypeError, ValueError):  # of no function that is written in Python
        return True
    return any(parameter.name == "value" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _explained(error: Exception) -> Exception:
    """What an optimiser needs that failed for want of something; any other error as it is."""
    text = str(error)
    for pattern, needed in _NEEDED.items():
        if re.search(pattern, text):
            return TypeError(
                "the optimiser needs more than a gradient and the loss, which is all that a player's optimiser gets: "
                f"{needed} (optax says: {text})"
            )
    return error


# By what optimisers of optax miss: what that is for, and what to do.
_NEEDED = {
    r"attribute '?fast'?\b": "optax.lookahead keeps two copies of the parameters (optax.LookaheadParams). Use "
    "dynamics.updates.Lookahead(update, steps, weight) around the update of all players, which go back together",
    r"\bvalue_fn\b": "a line search calls the loss at other points. Give optax.lbfgs a rate and linesearch=None, or "
    "take an optimiser without a line search, such as optax.sgd",
    r"\bobj_fn\b": "an estimate of the Hessian (optax.contrib.sophia) calls the loss. Use an optimiser that estimates "
    "scales from gradients, such as optax.adam, or a direction that knows second derivatives, such as "
    "dynamics.directions.CompetitiveGradient",
    r"\bgrad_fn\b": "optax.contrib.sam with opaque_mode=True calls the gradient at other points. Use "
    "opaque_mode=False, where every other step is the adversary's, or dynamics.updates.Extragradient, which looks "
    "ahead for all players",
}


def sgd(learning_rate: Any) -> Optimiser:
    r"""Gradient descent, $x \leftarrow x + h d$ along the direction d with rate h.

    Args:
        learning_rate: h, >= 0; a number, an array in a batch of optimisers, or a schedule, a function of the step.

    Raises:
        ValueError: the learning rate is negative or not finite.

    >>> sgd(0.1)
    sgd(0.1)
    """
    return Optimiser(optax.sgd, learning_rate)


def momentum(learning_rate: Any, momentum: Any) -> Optimiser:
    r"""Heavy ball, $x_{t+1} = x_t + h d_t + \beta(x_t - x_{t-1})$; the coefficient may be negative.

    The first step has no momentum. Negative momentum is this with a coefficient below 0: in turns on bilinear games it
    converges, e.g. with -1/2. Source: Polyak 1964; negative momentum: Gidel et al. 2019.

    Args:
        learning_rate: h, >= 0; a number, an array in a batch of optimisers, or a schedule, a function of the step.
        momentum: beta, of any sign.

    Raises:
        ValueError: the learning rate is negative or not finite.

    >>> momentum(0.1, -0.5)
    sgd(0.1, momentum=-0.5)
    """
    return Optimiser(optax.sgd, learning_rate, momentum=momentum)


def nesterov(learning_rate: Any, momentum: Any = 0.9) -> Optimiser:
    r"""Nesterov's momentum, $m \leftarrow \beta m + d$, $x \leftarrow x + h(d + \beta m)$; m starts at 0.

    The first step is $(1 + \beta)h d$. This form holds the point at which the direction is taken; the other published
    one holds the point before the look-ahead.
    Source: Nesterov 1983; Sutskever et al., On the importance of initialization and momentum in deep learning, 2013.

    Args:
        learning_rate: h, >= 0; a number, an array in a batch of optimisers, or a schedule, a function of the step.
        momentum: beta.

    Raises:
        ValueError: the learning rate is negative or not finite.

    >>> transformation = nesterov(0.1, 0.5).build()
    >>> step, _ = transformation.update(jnp.asarray(-1.0), transformation.init(jnp.asarray(0.0)))
    >>> round(float(step), 6)  # (1 + 0.5) 0.1
    0.15
    """
    return Optimiser(optax.sgd, learning_rate, momentum=momentum, nesterov=True)


def complex_momentum(learning_rate: Any, modulus: Any = 0.9, argument: Any = np.pi / 8) -> Optimiser:
    r"""Momentum with a complex coefficient, $\mu \leftarrow \beta\mu + d$, $x \leftarrow x + h\,\mathrm{Re}\,\mu$.

    $\beta = |\beta|\,e^{i\phi}$ has the given modulus and argument: argument 0 is heavy ball, pi negative momentum.
    $\mu$ starts at 0, so that the first step has no momentum; it is kept as two real arrays. Unlike real momentum it
    can converge on bilinear games with simultaneous moves.
    Source: Lorraine, Acuna, Vicol, Duvenaud, Complex Momentum for Optimization in Games, 2022.

    Args:
        learning_rate: h, >= 0; a number, an array in a batch of optimisers, or a schedule, a function of the step.
        modulus: of beta, >= 0.
        argument: phi, in radians.

    Raises:
        ValueError: the modulus is negative.

    >>> from dynamics.analysis import stability
    >>> from dynamics.games import Bilinear
    >>> from dynamics.updates import Simultaneous
    >>> optimiser = complex_momentum(0.1, 0.9, np.pi / 4)
    >>> str(stability(Bilinear(1.0), Simultaneous(optimiser, optimiser)).verdict)
    'stable'
    """
    if is_concrete(modulus) and not np.all(np.asarray(modulus) >= 0):
        raise ValueError(f"complex_momentum: the modulus is {modulus}; expected a number >= 0, e.g. 0.9")
    return Optimiser(_complex_momentum, learning_rate, modulus=modulus, argument=argument)


def optimistic(
    learning_rate: Any, first: Literal["current", "zero"] = "current", strength: Any | None = None
) -> Optimiser:
    r"""Optimistic gradient descent, $x_{t+1} = x_t + h d_t + b\,(d_t - d_{t-1})$; by default $b = h$.

    In the notation of Zhang and Yu, $x_{t+1} = x_t + \alpha d_t - \beta d_{t-1}$, it has $\alpha = h + b$ and
    $\beta = b$. In turns (`Alternating`) it is their Gauss-Seidel version.

    Published versions differ in the first step: with `first="current"` the missing previous direction is the current
    one (a plain first step; two equal starting rows), with `first="zero"` it is 0 (a first step of twice the length).
    Source: Daskalakis et al., Training GANs with Optimism, 2018, equation 2; with two coefficients: Zhang and Yu,
    Convergence of Gradient Methods on Bilinear Zero-Sum Games, 2020.

    Args:
        learning_rate: h, >= 0.
        first: "current" or "zero".
        strength: b, how far the change of the direction is believed to go on; `None`: as the learning rate.

    Raises:
        ValueError: `first` is neither.

    >>> from dynamics.analysis import stability
    >>> from dynamics.games import Bilinear
    >>> from dynamics.updates import Simultaneous
    >>> update = Simultaneous(optimistic(0.3), optimistic(0.3))
    >>> str(stability(Bilinear(1.0), update).verdict)  # plain steps: unstable
    'stable'
    """
    _check_first("optimistic", first)
    if strength is not None:
        factory = _optimistic if first == "current" else _optimistic_from_zero
        return Optimiser(factory, learning_rate, strength=strength)
    if first == "current":
        return Optimiser(optax.optimistic_gradient_descent, learning_rate)
    return Optimiser(_optimistic_from_zero, learning_rate)


def adam(
    learning_rate: Any,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
    correct_mean: bool = True,
    correct_square: bool = True,
    nesterov: bool = False,
) -> Optimiser:
    r"""Adam with bias correction, $x \leftarrow x - h\,\hat m/(\sqrt{\hat v + \epsilon_{root}} + \epsilon)$.

    $m \leftarrow \beta_1 m + (1-\beta_1) g$ and $v \leftarrow \beta_2 v + (1-\beta_2) g^2$ start at 0;
    $\hat m = m/(1-\beta_1^t)$, $\hat v = v/(1-\beta_2^t)$. Published codes differ: without `correct_mean` or
    `correct_square` m or v itself takes the place of its corrected value (a first step of another length); with
    `nesterov` $\hat m$ is $\beta_1 m/(1-\beta_1^{t+1}) + (1-\beta_1) g/(1-\beta_1^t)$, likewise without corrections.
    Source: Kingma and Ba, Adam, 2015, algorithm 1; Dozat, Incorporating Nesterov Momentum into Adam, 2016.

    Args:
        learning_rate: h, >= 0; a number, an array in a batch of optimisers, or a schedule, a function of the step.
        b1, b2: beta_1 and beta_2, in [0, 1).
        eps, eps_root: epsilon outside and inside of the root. At an equilibrium v is 0, and a step is h / eps long in
            units of the direction: the spectrum there is that of large steps.
        correct_mean, correct_square: whether m, and v, are divided by what they lack in the first steps.
        nesterov: Nadam's mean.

    Raises:
        ValueError: the learning rate is negative or not finite.

    >>> transformation = adam(0.1).build()
    >>> step, _ = transformation.update(jnp.asarray(-7.0), transformation.init(jnp.asarray(0.0)))
    >>> round(float(step), 6)  # the first one is as long as the rate
    0.1
    """
    numbers = dict(b1=b1, b2=b2, eps=eps, eps_root=eps_root)
    if correct_mean and correct_square:
        return Optimiser(optax.adam, learning_rate, **numbers, **({"nesterov": True} if nesterov else {}))
    flags = dict(correct_mean=correct_mean, correct_square=correct_square, nesterov=nesterov)
    return Optimiser(_adam, learning_rate, **numbers, **flags)


def amsgrad(
    learning_rate: Any,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
    correct_mean: bool = True,
    correct_square: bool = True,
) -> Optimiser:
    r"""AMSGrad, Adam with the largest mean square so far, $x \leftarrow x - h\,\hat m/(\sqrt{\max \hat v} + \epsilon)$.

    The paper has no bias correction: `correct_mean=False, correct_square=False`. With `correct_square` the maximum is
    that of the corrected mean squares, which are largest early on.
    Source: Reddi, Kale, Kumar, On the Convergence of Adam and Beyond, 2018, algorithm 2.

    Args:
        learning_rate: h, >= 0; a number, an array in a batch of optimisers, or a schedule, a function of the step.
        b1, b2: beta_1 and beta_2, in [0, 1).
        eps, eps_root: epsilon outside and inside of the root. At an equilibrium v is 0, and a step is the direction
            times h / eps.
        correct_mean, correct_square: whether m, and v, are divided by what they lack in the first steps.

    Raises:
        ValueError: the learning rate is negative or not finite.

    >>> transformation = amsgrad(0.1).build()
    >>> step, _ = transformation.update(jnp.asarray(-7.0), transformation.init(jnp.asarray(0.0)))
    >>> round(float(step), 6)
    0.1
    """
    numbers = dict(b1=b1, b2=b2, eps=eps, eps_root=eps_root)
    return Optimiser(
        optax.amsgrad, learning_rate, **numbers, bias_correction_mu=correct_mean, bias_correction_nu=correct_square
    )


def optimistic_adam(
    learning_rate: Any,
    first: Literal["current", "zero"] = "current",
    strength: Any | None = None,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
    correct_mean: bool = True,
    correct_square: bool = True,
    nesterov: bool = False,
) -> Optimiser:
    r"""Optimistic Adam, $x_{t+1} = x_t + h a_t + b\,(a_t - a_{t-1})$ with Adam's steps a of rate 1; by default $b = h$.

    The first step and `strength`, b, are as in `optimistic`, the other choices as in `adam`. optax's
    `optimistic_adam_v2` is this with `nesterov=True`, and Daskalakis et al. print `first="zero"`.
    Source: Daskalakis et al., Training GANs with Optimism, 2018, algorithm 1.

    Args:
        learning_rate: h, >= 0; a number, an array in a batch of optimisers, or a schedule, a function of the step.
        first: "current" or "zero": the direction before the first one.
        strength: b; `None`: as the learning rate.
        b1, b2, eps, eps_root, correct_mean, correct_square, nesterov: as in `adam`.

    Raises:
        ValueError: `first` is neither.

    >>> transformation = optimistic_adam(0.1, first="zero").build()
    >>> step, _ = transformation.update(jnp.asarray(-7.0), transformation.init(jnp.asarray(0.0)))
    >>> round(float(step), 6)  # twice the rate
    0.2
    """
    _check_first("optimistic_adam", first)
    numbers = dict(b1=b1, b2=b2, eps=eps, eps_root=eps_root)
    flags = dict(correct_mean=correct_mean, correct_square=correct_square, nesterov=nesterov)
    strengths = {} if strength is None else {"strength": strength}
    factory = _optimistic_adam if first == "current" else _optimistic_adam_from_zero
    return Optimiser(factory, learning_rate, **strengths, **numbers, **flags)


def rmsprop(learning_rate: Any, decay: Any = 0.9, eps: Any = 1e-8) -> Optimiser:
    r"""RMSProp, $v \leftarrow \rho v + (1-\rho) g^2$, $x \leftarrow x - h\,g/\sqrt{v + \epsilon}$; v starts at 0.

    Source: Tieleman and Hinton, lecture 6.5, 2012.

    Args:
        learning_rate: h, >= 0; a number, an array in a batch of optimisers, or a schedule, a function of the step.
        decay: rho, in [0, 1).
        eps: epsilon, inside of the root.

    Raises:
        ValueError: the learning rate is negative or not finite.

    >>> transformation = rmsprop(0.1, decay=0.75).build()
    >>> step, _ = transformation.update(jnp.asarray(-7.0), transformation.init(jnp.asarray(0.0)))
    >>> round(float(step), 6)  # the rate over the root of 1 - rho
    0.2
    """
    return Optimiser(optax.rmsprop, learning_rate, decay=decay, eps=eps)


def gap_aware_sgd(learning_rate: Any, ideal_loss: Any, **keywords: Any) -> Optimiser:
    """Gradient descent with the rate of `dynamics.schedules.gap_aware`; keywords are passed to it.

    Args:
        learning_rate: h, >= 0; a number, an array in a batch of optimisers, or a schedule, a function of the step.
        ideal_loss: of the discriminator, at which its rate is the plain one.
        keywords: as in `dynamics.schedules.gap_aware`.

    Raises:
        ValueError: the learning rate, or a number of the schedule, is out of bounds.

    >>> gap_aware_sgd(0.1, 2 * np.log(2)).printed_name
    'chain'
    """
    from dynamics.schedules import gap_aware

    return Optimiser(optax.chain, sgd(learning_rate), Optimiser(gap_aware, ideal_loss=ideal_loss, **keywords))


# What the command line and the conformance tests know by name.
CATALOGUE: dict[str, Callable[..., Optimiser]] = {
    function.__name__: function
    for function in (
        sgd,
        momentum,
        nesterov,
        complex_momentum,
        optimistic,
        adam,
        amsgrad,
        optimistic_adam,
        rmsprop,
        gap_aware_sgd,
    )
}


def _argument(value: Any) -> Any:
    if isinstance(value, (float, np.floating)) or (isinstance(value, np.ndarray) and value.dtype.kind == "f"):
        return as_leaf(value)
    return value


def _check_first(name: str, first: str) -> None:
    if first not in ("current", "zero"):
        raise ValueError(f"{name}: first is {first!r}; expected 'current' or 'zero'")


def _optimistic(learning_rate: Any, strength: Any) -> optax.GradientTransformation:
    looking = optax.scale_by_optimistic_gradient(alpha=learning_rate, beta=strength)
    return optax.chain(looking, optax.scale(-1.0))


def _optimistic_from_zero(learning_rate: Any, strength: Any | None = None) -> optax.GradientTransformation:
    strength = learning_rate if strength is None else strength

    def init(params: PyTree) -> PyTree:
        return jax.tree.map(jnp.zeros_like, params)

    def update(updates: PyTree, state: PyTree, params: PyTree = None):
        del params
        return jax.tree.map(lambda new, old: -learning_rate * new - strength * (new - old), updates, state), updates

    return optax.GradientTransformation(init, update)


def _complex_momentum(learning_rate: Any, modulus: Any, argument: Any) -> optax.GradientTransformation:
    real, imaginary = modulus * jnp.cos(argument), modulus * jnp.sin(argument)

    def init(params: PyTree) -> PyTree:
        return jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params)

    def update(updates: PyTree, state: PyTree, params: PyTree = None):
        del params
        new = jax.tree.map(lambda g, a, b: g + real * a - imaginary * b, updates, *state)
        rotated = jax.tree.map(lambda a, b: imaginary * a + real * b, *state)
        return jax.tree.map(lambda a: -learning_rate * a, new), (new, rotated)

    return optax.GradientTransformation(init, update)


def _scale_by_adam(
    b1: Any, b2: Any, eps: Any, eps_root: Any, correct_mean: bool, correct_square: bool, nesterov: bool
) -> optax.GradientTransformation:
    if correct_mean and correct_square:
        return optax.scale_by_adam(b1, b2, eps, eps_root, nesterov=nesterov)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, optax.ScaleByAdamState]:
        del params
        count = optax.safe_increment(state.count)
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        mean, square, gradient = mu, nu, updates
        if correct_mean:
            mean = optax.tree.bias_correction(mu, b1, optax.safe_increment(count) if nesterov else count)
            gradient = optax.tree.bias_correction(updates, b1, count)
        if correct_square:
            square = optax.tree.bias_correction(nu, b2, count)
        if nesterov:
            mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, mean, gradient)
        scaled = jax.tree.map(lambda m, v: m / (jnp.sqrt(v + eps_root) + eps), mean, square)
        return scaled, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


def _adam(learning_rate: Any, **choices: Any) -> optax.GradientTransformation:
    return optax.chain(_scale_by_adam(**choices), optax.scale_by_learning_rate(learning_rate))


def _optimistic_adam(learning_rate: Any, strength: Any | None = None, **choices: Any) -> optax.GradientTransformation:
    strength = learning_rate if strength is None else strength
    return optax.chain(_scale_by_adam(**choices), _optimistic(learning_rate, strength))


def _optimistic_adam_from_zero(
    learning_rate: Any, strength: Any | None = None, **choices: Any
) -> optax.GradientTransformation:
    return optax.chain(_scale_by_adam(**choices), _optimistic_from_zero(learning_rate, strength))
