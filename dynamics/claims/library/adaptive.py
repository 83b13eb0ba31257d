"""Momentum and Adam at an equilibrium: spectra with the memory included, and what is said of them."""

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from dynamics.checks.measures import (
    agree,
    below,
    eigenvalues,
    field_jacobian,
    path,
    radius,
    same_sign,
    same_spectrum,
    when,
)
from dynamics.claims.base import claim
from dynamics.claims.library.drift import split
from dynamics.games import Quadratic
from dynamics.optimisers import adam, amsgrad, momentum, nesterov, rmsprop, sgd
from dynamics.strategies import arrays, numbers, several
from dynamics.updates import Simultaneous

KINGMA = "Kingma and Ba, Adam, 2015"
POLYAK = "Polyak, Some Methods of Speeding up the Convergence of Iteration Methods, 1964"
BLOCKS = arrays((2, 2), size=2)
RATES = several(numbers(0.25, 2), 2).map(np.asarray)
# Powers of two, so that rounding is the same: a gradient that is 0 but for rounding is no small one for Adam.
SCALES = several(st.integers(-3, 3).map(lambda power: 2.0**power), 2).map(np.asarray)
DAMPING = numbers(0.25, 4)
TURNING = numbers(0, 4)
RATE = numbers(0.0625, 2)


def quadratic(matrix, coupling, scales=(1.0, 1.0)):
    """A general-sum game of a player of two numbers and one of one; the scales multiply their losses."""
    own, other = matrix[0, 0] * jnp.asarray([[1.0, 0.5], [0.5, 2.0]]), matrix[0, 1:][:, None]
    return Quadratic([[scales[0] * own, scales[0] * coupling], [scales[1] * matrix[1:], scales[1] * other]])


def damped(damping, turning):
    """The strongly monotone game of the eigenvalues -a +- ib."""
    return Quadratic([[damping, turning], [-turning, damping]])


def one_rate(optimiser, *arguments, **keywords):
    """Simultaneous moves with the same optimiser for two players."""
    return Simultaneous(optimiser(*arguments, **keywords), optimiser(*arguments, **keywords))


def scaled_jacobian(game, first, second):
    """The Jacobian of the field with a rate for each player, of two numbers and one."""
    return jnp.stack([first, first, second])[:, None] * field_jacobian(game)


@claim(
    "adaptive/adam-spectrum",
    r"At an equilibrium Adam is a heavy ball of the rates $h_i/\epsilon_i$: with the Jacobian J of the field and "
    r"$K = \mathrm{diag}(h_i/\epsilon_i)$ the eigenvalues of the map are $\beta_2$ and those of "
    r" $\begin{pmatrix}I + (1-\beta_1)KJ & \beta_1 I\\ (1-\beta_1)KJ & \beta_1 I\end{pmatrix}$.",
    source=f"{KINGMA}, algorithm 1; linearised by hand",
    kind="closed form",
    domain=dict(
        matrix=BLOCKS,
        coupling=arrays((2, 1), size=2),
        rates=RATES,
        eps=RATES,
        b1=numbers(0.125, 0.875),
        b2=numbers(0.125, 0.875),
    ),
    because="The memory of squared gradients vanishes there to second order, and only epsilon is left to divide by.",
)
def adam_spectrum(matrix, coupling, rates, eps, b1, b2):
    game = quadratic(matrix, coupling)
    update = Simultaneous(*(adam(rate, b1=b1, b2=b2, eps=small) for rate, small in zip(rates, eps, strict=True)))
    push, one = (1 - b1) * scaled_jacobian(game, *(rates / eps)), jnp.eye(3)
    block = jnp.block([[one + push, b1 * one], [push, b1 * one]])
    expected = jnp.concatenate([jnp.linalg.eigvals(block), b2[None]])
    return same_spectrum(eigenvalues(game, update), expected, 1e-4)


@claim(
    "adaptive/amsgrad-spectrum",
    r"At an equilibrium AMSGrad is the same heavy ball as Adam: for the eigenvalues $\lambda$ of the Jacobian it has "
    r"the roots of $\mu^2 - (1 + \beta_1 + (1-\beta_1)h\lambda/\epsilon)\mu + \beta_1$, besides $\beta_2$ and 1.",
    source="Reddi, Kale, Kumar, On the Convergence of Adam and Beyond, 2018, algorithm 2; linearised by hand",
    kind="closed form",
    domain=dict(damping=DAMPING, turning=TURNING, rate=RATE, eps=numbers(0.25, 2), b1=numbers(0.125, 0.875)),
    because="The largest mean square so far stays where it is put, and is 0 at the equilibrium as well.",
)
def amsgrad_spectrum(damping, turning, rate, eps, b1):
    middle = 1 + b1 + (1 - b1) * rate / eps * (-damping + 1j * turning)
    root = jnp.sqrt(middle**2 - 4 * b1)
    roots = jnp.concatenate([middle[None] + root, middle[None] - root]) / 2
    computed = eigenvalues(damped(damping, turning), one_rate(amsgrad, rate, b1=b1, b2=0.75, eps=eps))
    return same_spectrum(computed, jnp.concatenate([roots, roots.conj(), jnp.asarray([0.75, 1.0])]), 1e-4)


@claim(
    "adaptive/rmsprop-spectrum",
    r"At an equilibrium RMSProp is gradient descent of the rates $h_i/\sqrt{\epsilon_i}$: the eigenvalues of the map "
    r"are $\rho$ and those of $I + \mathrm{diag}(h_i/\sqrt{\epsilon_i})J$.",
    source="Tieleman and Hinton, lecture 6.5, 2012; linearised by hand",
    kind="closed form",
    domain=dict(matrix=BLOCKS, coupling=arrays((2, 1), size=2), rates=RATES, eps=RATES, decay=numbers(0.125, 0.875)),
    because="Its epsilon stands under the root.",
)
def rmsprop_spectrum(matrix, coupling, rates, eps, decay):
    game = quadratic(matrix, coupling)
    update = Simultaneous(*(rmsprop(rate, decay=decay, eps=small) for rate, small in zip(rates, eps, strict=True)))
    step = jnp.eye(3) + scaled_jacobian(game, *(rates / jnp.sqrt(eps)))
    expected = jnp.concatenate([jnp.linalg.eigvals(step), decay[None]])
    return same_spectrum(eigenvalues(game, update), expected, 1e-4)


@claim(
    "adaptive/adam-wherever-sgd",
    "Where gradient descent converges locally, Adam with the same rate and the usual epsilon of 1e-8 does.",
    source="folklore",
    kind="folklore",
    holds=False,
    domain=dict(damping=DAMPING, turning=TURNING, rate=RATE),
    because="At the equilibrium its step is h / epsilon, far too long for anything: it keeps hovering around the point "
    "unless its rate falls.",
)
def adam_wherever_sgd(damping, turning, rate):
    game = damped(damping, turning)
    return when(radius(game, one_rate(sgd, rate)) < 0.999, 1 - radius(game, one_rate(adam, rate, eps=1e-8)))


@claim(
    "adaptive/adam-with-equal-steps",
    "Where gradient descent converges locally, Adam does whose step at the equilibrium is as long.",
    source="folklore",
    kind="folklore",
    holds=False,
    domain=dict(damping=DAMPING, turning=TURNING, rate=RATE, b1=numbers(0.25, 0.875)),
    because="Its moving average of gradients lags behind, and on a game that turns a late push is one outwards.",
)
def adam_with_equal_steps(damping, turning, rate, b1):
    game = damped(damping, turning)
    computed = radius(game, one_rate(adam, rate, b1=b1, b2=0.5, eps=1.0))
    return when(radius(game, one_rate(sgd, rate)) < 0.999, 1.001 - computed)


@claim(
    "adaptive/rescaling",
    "Adam does not change when the loss of a player is multiplied by a positive number: every player has its own.",
    source=f"{KINGMA}, section 2.1",
    kind="theorem",
    hypotheses="epsilon is negligible",
    domain=dict(matrix=BLOCKS, coupling=arrays((2, 1), size=2), start=arrays((3,)), scales=SCALES, eps=st.just(1e-30)),
    because="Both moments are divided out, the root of the second one with the first.",
)
def rescaling(matrix, coupling, start, scales, eps):
    first, second = quadratic(matrix, coupling), quadratic(matrix, coupling, scales)
    runs = [path(game, one_rate(adam, 0.25, b1=0.5, b2=0.75, eps=eps), split(start), 10) for game in (first, second)]
    one, other = (jnp.concatenate(run, axis=1) for run in runs)
    return agree(one, other, 1e-6)


rescaling.without(
    "large-epsilon",
    "epsilon is negligible",
    because="Beside an epsilon of the size of the gradients their size matters.",
    eps=numbers(0.5, 1),
)


def step_lengths(growth, b1, b2, steps=40):
    """How far Adam of rate 1 moves on the slope y, which grows by a constant factor a step."""
    game = Quadratic([[0.0, 1.0], [0.0, 1.0 - growth]])
    x, _ = path(game, Simultaneous(adam(1.0, b1=b1, b2=b2, eps=1e-12), sgd(1.0)), (0.0, 1.0), steps)
    return jnp.abs(x[1:] - x[:-1])


@claim(
    "adaptive/adam-step",
    r"Adam moves a parameter in a step by at most its rate times "
    r"$\frac{1-\beta_1}{\sqrt{(1-\beta_2)(1-\beta_1^2/\beta_2)}}\frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}$, "
    r"if $\beta_1^2 < \beta_2$.",
    source=f"after {KINGMA}, section 2.1, corrected by hand",
    kind="theorem",
    hypotheses="the memory of squared gradients is longer, in this sense",
    unshown="otherwise the formula has no meaning; steps can then be of any length",
    domain=dict(growth=numbers(0.25, 4), b1=numbers(0, 0.875), share=numbers(0.125, 0.875)),
    because="By the inequality of Cauchy and Schwarz for the two sums of gradients.",
)
def adam_step(growth, b1, share):
    b2 = b1**2 + share * (1 - b1**2)
    computed = step_lengths(growth, b1, b2)
    t = 1.0 + jnp.arange(len(computed))
    correction = jnp.sqrt(1 - b2**t) / (1 - b1**t)
    return below(computed / correction, (1 - b1) / jnp.sqrt((1 - b2) * (1 - b1**2 / b2)))


@claim(
    "adaptive/adam-step-as-printed",
    r"Adam moves a parameter in a step by at most its rate, or $\frac{1-\beta_1}{\sqrt{1-\beta_2}}$ times its rate "
    "where that is more.",
    source=f"{KINGMA}, section 2.1",
    kind="refuted",
    domain=dict(growth=numbers(1, 4), b1=numbers(0, 0.9375), b2=numbers(0.5, 0.9375)),
    because="Gradients that grow for several steps fill the mean sooner than the root of the mean square.",
)
def adam_step_as_printed(growth, b1, b2):
    return below(step_lengths(growth, b1, b2), jnp.maximum(1, (1 - b1) / jnp.sqrt(1 - b2)), 0.01)


@claim(
    "adaptive/heavy-ball",
    r"On a game whose Jacobian has the eigenvalues $-a \pm ib$ heavy ball with $|\beta| < 1$ converges if and only if "
    r"$h((1-\beta)^2a^2 + (1+\beta)^2b^2) < 2(1-\beta)^2(1+\beta)a$.",
    source=f"{POLYAK}; for complex eigenvalues by the criterion of Schur and Cohn",
    kind="closed form",
    domain=dict(damping=DAMPING, turning=TURNING, rate=RATE, coefficient=numbers(-0.875, 0.875)),
    because="Both roots of mu^2 - (1 + beta - h(a + ib)) mu + beta must lie in the unit disk. With rotation positive "
    "momentum shrinks the stable rates, with beta = 0.9 by 361 for large b / a.",
)
def heavy_ball(damping, turning, rate, coefficient):
    less, more = 1 - coefficient, 1 + coefficient
    margin = 2 * less**2 * more * damping - rate * (less**2 * damping**2 + more**2 * turning**2)
    return same_sign(margin, 1 - radius(damped(damping, turning), one_rate(momentum, rate, coefficient)))


@claim(
    "adaptive/momentum-spectra",
    r"For every eigenvalue $\lambda$ of the Jacobian and $w = 1 + h\lambda$ heavy ball has the roots of "
    r"$\mu^2 - (w + \beta)\mu + \beta$ and Nesterov's momentum those of $\mu^2 - (1 + \beta)w\mu + \beta w$.",
    source=f"{POLYAK}; Nesterov 1983; for games by hand",
    kind="closed form",
    domain=dict(
        matrix=BLOCKS,
        coupling=arrays((2, 1), size=2),
        rate=RATE,
        coefficient=numbers(-0.875, 0.875),
        look_ahead=st.booleans(),
    ),
    because="Eliminating the momentum leaves a recursion of second order.",
)
def momentum_spectra(matrix, coupling, rate, coefficient, look_ahead):
    game = quadratic(matrix, coupling)
    w = 1 + rate * jnp.linalg.eigvals(field_jacobian(game))
    middle = (1 + coefficient) * w if look_ahead else w + coefficient
    root = jnp.sqrt(middle**2 - 4 * coefficient * (w if look_ahead else 1) + 0j)
    computed = eigenvalues(game, one_rate(nesterov if look_ahead else momentum, rate, coefficient))
    return same_spectrum(computed, jnp.concatenate([middle + root, middle - root]) / 2, 1e-4)


def heavier(game, rate, coefficient):
    """How much smaller the radius is with momentum than without."""
    return radius(game, one_rate(sgd, rate)) - radius(game, one_rate(momentum, rate, coefficient))


def heavier_rotation(low, high, coefficient):
    """The same on the damped rotation -low +- i high at its best rate."""
    best, slow = low / (low**2 + high**2), high**2 / (low**2 + high**2)
    return same_sign(slow - coefficient, heavier(damped(low, high), best, coefficient))


@claim(
    "adaptive/momentum-is-faster",
    r"At the rate at which gradient descent is fastest, with radius r, heavy ball with $0 < \beta$ is faster still if "
    r"and only if $\beta < r^2$.",
    source=f"{POLYAK}; the threshold by hand",
    kind="theorem",
    hypotheses="real eigenvalues, as in a potential game",
    domain=dict(low=numbers(0.25, 1), high=numbers(1.5, 8), coefficient=numbers(0.0625, 0.9375)),
    because="With w = +- r at both ends of the spectrum the roots shrink until they meet, and then have the modulus of "
    "the root of beta.",
)
def momentum_is_faster(low, high, coefficient):
    game = Quadratic([[low, 0.0], [0.0, high]])
    slow = ((high - low) / (high + low)) ** 2
    return same_sign(slow - coefficient, heavier(game, 2 / (low + high), coefficient))


momentum_is_faster.without(
    "complex-eigenvalues",
    "real eigenvalues, as in a potential game",
    because="On a rotation -a +- ib, with a = low and b = high, at the best rate a / (a^2 + b^2), momentum is slower.",
    check=heavier_rotation,
)


@claim(
    "adaptive/momentum-on-rotations",
    "On a damped rotation, at the rate at which gradient descent is fastest, a little positive momentum slows it down "
    r"and a little negative momentum speeds it up: $\frac{d\rho^2}{d\beta} = \frac{2a^2}{a^2 + b^2}$ at $\beta = 0$.",
    source="by hand; compare Gidel et al., Negative Momentum for Improved Game Dynamics, 2019",
    kind="closed form",
    domain=dict(damping=DAMPING, turning=numbers(0.5, 4)),
    because="The root w, of modulus r and angle t with r = cos t, moves by beta (1 - 1/w), its squared modulus by "
    "2 beta (r cos t - cos 2t).",
)
def momentum_on_rotations(damping, turning):
    game, square = damped(damping, turning), damping**2 + turning**2
    ahead, back = (radius(game, one_rate(momentum, damping / square, b)) ** 2 for b in (1e-5, -1e-5))
    return agree((ahead - back) / 2e-5, 2 * damping**2 / square, 1e-4)
