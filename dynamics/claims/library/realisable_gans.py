"""GANs whose model can be the data: the Jacobian at the equilibrium, and what makes it stable."""

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

import dynamics.objectives as objectives
import dynamics.penalties as penalties
from dynamics.checks.measures import (
    abscissa,
    agree,
    eigenvalues,
    every,
    field_jacobian,
    jacobian,
    path,
    same_spectrum,
)
from dynamics.claims.base import claim
from dynamics.flows import Flow
from dynamics.games import Covariance, LinearWasserstein, Quadratic
from dynamics.gan import GAN
from dynamics.penalties import R1, R2, DiscriminatorGradientNorm, Sum
from dynamics.strategies import arrays, definite_matrices, numbers, several, signed
from dynamics.updates import RungeKutta

NAGARAJAN = "Nagarajan and Kolter, Gradient Descent GAN Optimization is Locally Stable, 2017"
MESCHEDER = "Mescheder, Geiger, Nowozin, Which Training Methods for GANs do actually Converge?, 2018"
FIEZ = "Fiez and Ratliff, Local Convergence Analysis of Gradient Descent Ascent with Finite Timescale Separation, 2021"
# Two points that span the plane, or lie on a line.
POINTS = st.builds(lambda a, b, c: np.asarray([[a, c], [0.0, b]]), *[numbers(0.5, 2)] * 2, numbers(-2, 2))
ON_A_LINE = several(signed(0.5, 2), 2).map(lambda points: np.outer(points, [1.0, 0.0]))
# What the generator's parameters, one or three, do to a point of the plane.
MAPS = st.builds(lambda a, b: np.asarray([[a], [b]]), numbers(0.25, 2), numbers(-2, 2))
ACROSS = numbers(0.25, 2).map(lambda a: np.asarray([[0.0], [a]]))
WIDE = st.builds(
    lambda a, b, c, d: np.asarray([[a, 0.0, c], [0.0, b, d]]), *[numbers(0.5, 2)] * 2, *[numbers(-2, 2)] * 2
)
DEFINITE = definite_matrices(0.25, 2, 2)
RATIO = numbers(0.05, 20)
SLACK = 1e-6  # how far from marginal an eigenvalue must be to count as stable


def translating(points, shift, objective="Minimax", penalty=None):
    """A linear discriminator <psi, x> and a generator x + M theta of the data's own points, in another order."""

    def generator(theta, point):
        return point + shift @ theta

    def discriminator(psi, point):
        return jnp.sum(psi * point)

    zeros = jnp.zeros(shift.shape[1]), jnp.zeros(shift.shape[0])
    payment = getattr(objectives, objective)()
    return GAN(generator, discriminator, points, points[::-1], payment, penalty, equilibria=[zeros])


def moments(points):
    """K_DD, the mean of x x^T."""
    return points.T @ points / len(points)


def blocks(damping, shift, coupling):
    """[[0, f' M^T], [-f' M, -Q]], the generator first."""
    n = shift.shape[1]
    return jnp.block([[jnp.zeros((n, n)), coupling * shift.T], [-coupling * shift, -damping]])


# The equilibrium of a GAN that can be realised


@claim(
    "realisable-gans/jacobian",
    r"At a realisable equilibrium the flow has the Jacobian $[[2f''(0)K_{DD}, f'(0)K_{DG}], [-f'(0)K_{DG}^\top, 0]]$"
    r" (discriminator first), with $K_{DD} = E\nabla D\nabla D^\top$ and $K_{DG} = \nabla_\theta$ of what the"
    r" discriminator's gradients differ by on data and model; $f'(0) = 1/2$, $f''(0) = -1/4$ for the minimax and the"
    r" non-saturating objective.",
    source=f"{NAGARAJAN}",
    kind="closed form",
    domain=dict(
        points=arrays((2, 2), size=2),
        shift=arrays((2, 1), size=2),
        objective=st.just("NonSaturating"),
    ),
    because="At D = 0 data and model cancel in the discriminator's gradient, and add up in its curvature.",
)
def at_equilibrium(points, shift, objective):
    # Discriminator psi: the mean gradient on data less that on the model is -M theta, so that K_DG is -M.
    expected = blocks(moments(points) / 2, shift, 1 / 2)
    return agree(jacobian(translating(points, shift, objective), Flow()), expected)


@claim(
    "realisable-gans/stable",
    r"A realisable GAN with $f'(0) \ne 0$, $f''(0) < 0$, $K_{DD} \succ 0$ and $K_{DG}$ of full column rank is locally"
    r" exponentially stable under simultaneous gradient flow.",
    source=f"{NAGARAJAN}, with the assumptions of the authors' poster",
    kind="theorem",
    hypotheses="f''(0) < 0; K_DD has full rank; K_DG has full column rank",
    domain=dict(points=POINTS, shift=MAPS, objective=st.just("Minimax")),
    because="The Jacobian is [[-Q, B], [-B^T, 0]] with Q positive definite: Q damps what B couples.",
)
def stable(points, shift, objective):
    return -SLACK - abscissa(translating(points, shift, objective), Flow())


stable.without(
    "wasserstein",
    "f''(0) < 0",
    because="The Wasserstein objective is linear: nothing damps, the eigenvalues are imaginary.",
    objective=st.just("Wasserstein"),
    shift=POINTS,
)
stable.without(
    "points-on-a-line",
    "K_DD has full rank",
    because="The discriminator is damped along the line only, and turns for ever with what moves across it.",
    points=ON_A_LINE,
    shift=ACROSS,
)
stable.without(
    "too-many-generators",
    "K_DG has full column rank",
    because="With three parameters to move points of the plane there are equilibria along a line.",
    shift=WIDE,
)


@claim(
    "realisable-gans/key-lemma",
    r"$[[0, -B^\top], [B, -Q]]$ with $Q \succ 0$ and B of full column rank has all eigenvalues to the left, also when"
    r" the second block of rows is sped up by any $\tau > 0$.",
    source=f"{MESCHEDER}, lemma A.7; {NAGARAJAN}; for every ratio {FIEZ}",
    kind="theorem",
    hypotheses="Q is definite; B has full column rank",
    domain=dict(matrix=MAPS, damping=DEFINITE, ratio=RATIO),
    because="The real part of an eigenvalue is -q*Qq of its part q, and q = 0 would need Bp = 0.",
)
def key_lemma(matrix, damping, ratio):
    players = matrix.shape[1]
    game = Quadratic.zero_sum(jnp.zeros((players, players)), matrix.T, damping)
    return -SLACK - abscissa(game, Flow(rates=(1.0, ratio)))


key_lemma.without(
    "semidefinite",
    "Q is definite",
    because="With Q = 0 the game is bilinear and turns for ever.",
    damping=definite_matrices(0, 2, 2),
)
key_lemma.without(
    "rank",
    "B has full column rank",
    because="What B does not see does not move: more columns than rows always leave such directions.",
    matrix=WIDE,
)


# Gradient penalties on real data


@claim(
    "realisable-gans/gradient-penalty",
    r"With R1 of weight $\gamma$ a realisable GAN is stable for every ratio $\tau$ of the rates, also with the"
    r" Wasserstein objective and with data of deficient rank.",
    source=f"{MESCHEDER}, theorem 4.1; for every ratio {FIEZ}",
    kind="theorem",
    hypotheses="a penalty; K_DG has full column rank",
    domain=dict(
        points=arrays((2, 2), size=2),
        shift=MAPS,
        weight=numbers(0.25, 4),
        ratio=RATIO,
        objective=st.sampled_from(["Wasserstein", "NonSaturating"]),
    ),
    because="The penalty adds gamma I to Q = -2 f''(0) K_DD; the key lemma does the rest.",
)
def gradient_penalty(points, shift, weight, ratio, objective):
    return -SLACK - abscissa(translating(points, shift, objective, R1(weight)), Flow(rates=(1.0, ratio)))


gradient_penalty.without(
    "no-penalty",
    "a penalty",
    because="Without it the Wasserstein GAN turns for ever: the data damp nothing.",
    points=POINTS,
    weight=st.just(0.0),
)
gradient_penalty.without(
    "too-many-generators",
    "K_DG has full column rank",
    because="With three parameters to move points of the plane there are equilibria along a line.",
    shift=WIDE,
)


# Polynomial discriminators on the line, with a bias: R1 and R2 of a curved score

GRID = np.asarray([-1.5, -0.5, 0.5, 1.5])
SPREAD = arrays((4,), size=0.25).map(lambda jitter: GRID + jitter)
POLYNOMIAL = dict(
    points=SPREAD, weight=numbers(0.25, 4), ratio=RATIO, penalty=st.sampled_from(["R1", "R2"]), degree=st.just(3)
)


def polynomial(points, degree, objective, penalty, weight):
    """Score psi_0 + psi_1 x + ... of a degree; the generator shifts and stretches the data's own points."""

    def generator(theta, point):
        return theta[0] + (1 + theta[1]) * point

    def discriminator(psi, point):
        return jnp.polyval(psi[::-1], point)

    payment = getattr(objectives, objective)()
    zeros = jnp.zeros(2), jnp.zeros(degree + 1)
    regulariser = getattr(penalties, penalty)(weight)
    return GAN(generator, discriminator, points, points, payment, regulariser, equilibria=[zeros])


@claim(
    "realisable-gans/either-penalty",
    r"Under $f'(0) \ne 0$, $f''(0) < 0$, $p_{\theta^*} = p_D$ and $D_{\psi^*} = 0$ the dynamics with R1 and those with"
    r" R2 converge locally, where no direction of $\psi$ keeps both the score and its slope 0 on the data, and none of"
    r" $\theta$ keeps the mean of $\nabla_\psi D$; for every ratio of the rates.",
    source=f"{MESCHEDER}, theorem 4.1, with isolated equilibria; for every ratio {FIEZ}",
    kind="theorem",
    hypotheses="f''(0) < 0; no more parameters of the score than the data see; the generator moves its moments",
    unshown="That the generator moves its moments: see `realisable-gans/gradient-penalty/too-many-generators`.",
    domain=dict(**POLYNOMIAL, objective=st.sampled_from(["Minimax", "NonSaturating"])),
    because="Q = -2 f''(0) E[D_psi D_psi^T] + gamma E[slope slope^T] is definite; the key lemma does the rest.",
)
def either_penalty(points, weight, ratio, penalty, degree, objective):
    game = polynomial(points, degree, objective, penalty, weight)
    return -1e-9 - abscissa(game, Flow(rates=(1.0, ratio)))


either_penalty.without(
    "wasserstein",
    "f''(0) < 0",
    because="Nothing damps the bias, and no generator feels it: an eigenvalue is 0.",
    objective=st.just("Wasserstein"),
)
either_penalty.without(
    "more-parameters-than-data",
    "no more parameters of the score than the data see",
    because="A polynomial of degree 8 can vanish with its slope on all four points: directions that nothing damps.",
    degree=st.just(9),
)


# The relativistic loss in pairs of a real and a fake sample: R3GAN

R3GAN = "Huang, Gokaslan, Kuleshov, Tompkin, The GAN is Dead; Long Live the GAN!, 2024"


def pairs(points, shift, on_real, on_fake, saturating=False):
    """As `translating`, by the relativistic loss in pairs, with R1, R2 and a bias, the discriminator's last number."""

    def discriminator(psi, point):
        return jnp.sum(psi[:-1] * point) + psi[-1]

    zeros = jnp.zeros(shift.shape[1]), jnp.zeros(shift.shape[0] + 1)
    penalty = Sum(R1(on_real), R2(on_fake))
    translated = translating(points, shift)
    payment = objectives.RelativisticPaired(saturating=saturating)
    return GAN(translated.generator, discriminator, points, points[::-1], payment, penalty, equilibria=[zeros])


@claim(
    "realisable-gans/r3gan",
    r"The relativistic GAN in pairs with R1 or R2 converges locally at a realisable equilibrium, for every ratio of the"
    r" rates: $[[-Q, -M/2], [M^\top/2, 0]]$ (discriminator first), $Q = \mathrm{Cov}/2 + (\gamma_1+\gamma_2) I$, for a"
    r" linear discriminator; and a constant added to the score is neutral, with the eigenvalue 0 exactly. So for the"
    r" saturating pair of the paper and the non-saturating one of its code.",
    source=f"{R3GAN}, appendix C.2, whose theorem allows a constant score; the blocks by hand (for the Dirac-GAN the"
    " paper prints f'(0) for the coupling, which is f'(0)^2)",
    kind="theorem",
    hypotheses="a penalty",
    domain=dict(
        points=arrays((2, 2), size=2),
        shift=MAPS,
        on_real=numbers(0, 4),
        on_fake=numbers(0.25, 4),
        ratio=RATIO,
        saturating=st.sampled_from([False, True]),
    ),
    because="The second derivative of the loss sees the differences of gradients in a pair, whose mean square is twice"
    " the covariance: the bias has none. The penalties add their weights.",
)
def r3gan(points, shift, on_real, on_fake, ratio, saturating):
    game = pairs(points, shift, on_real, on_fake, saturating)
    derivative = field_jacobian(game)
    centred = points - jnp.mean(points, axis=0)
    size = shift.shape[0]
    damping = moments(centred) / 2 + (on_real + on_fake) * jnp.eye(size)
    inner = derivative[:-1, :-1]
    scaled = jnp.concatenate([jnp.ones(shift.shape[1]), jnp.full(size, ratio)])[:, None] * inner
    return every(
        agree(inner, blocks(damping, shift, 0.5)),
        agree(derivative[-1], jnp.zeros_like(derivative[-1])),
        agree(derivative[:, -1], jnp.zeros_like(derivative[-1])),
        -SLACK - jnp.max(jnp.linalg.eigvals(scaled).real),
    )


r3gan.without(
    "no-penalty",
    "a penalty",
    because="With one point of data the covariance is 0, and the GAN turns for ever.",
    points=several(numbers(0.5, 2), 2).map(lambda point: np.asarray([point, point])),
    on_real=st.just(0.0),
    on_fake=st.just(0.0),
)


@claim(
    "realisable-gans/relativistic-is-hyperbolic",
    "The regularised relativistic GAN has all eigenvalues to the left at its equilibrium, as the GAN has.",
    source="The theorem of R3GAN, read without the words that the equilibria form a manifold",
    kind="refuted",
    domain=dict(points=POINTS, shift=MAPS, weight=numbers(0.25, 2)),
    because="The score's bias is neutral. The players converge to the manifold of equilibria, not to one of them.",
)
def relativistic_is_hyperbolic(points, shift, weight):
    return -SLACK - abscissa(pairs(points, shift, weight, weight), Flow())


# The regulariser of the generator


def regularised(points, shift, weight, objective="Minimax"):
    return translating(points, shift, objective, DiscriminatorGradientNorm(weight))


@claim(
    "realisable-gans/regularised-jacobian",
    r"With $\eta\|\nabla_\psi V\|^2$ in the generator's loss the Jacobian is $[[J_{DD}, J_{DG}], [-J_{DG}^\top(I +"
    r" 2\eta J_{DD}), -2\eta J_{DG}^\top J_{DG}]]$ (discriminator first).",
    source=f"{NAGARAJAN}, the regulariser",
    kind="closed form",
    domain=dict(
        points=arrays((2, 2), size=2),
        shift=arrays((2, 1), size=2),
        weight=numbers(0.05, 4),
        objective=st.just("Minimax"),
    ),
    because="The regulariser's own second derivatives at the equilibrium are 2 eta [J_DD, J_DG]^T [J_DD, J_DG].",
)
def regularised_jacobian(points, shift, weight, objective):
    plain = field_jacobian(translating(points, shift, objective))
    n = shift.shape[1]
    across, within = plain[n:, :n], plain[n:, n:]  # J_DG, J_DD
    top = [-2 * weight * across.T @ across, -across.T @ (jnp.eye(len(within)) + 2 * weight * within)]
    expected = jnp.block([top, [across, within]])
    return agree(jacobian(regularised(points, shift, weight, objective), Flow()), expected)


@claim(
    "realisable-gans/regularised",
    r"With $\eta\|\nabla_\psi V\|^2$ in the generator's loss a realisable GAN is stable if"
    r" $\eta < 1/(2\lambda_{max}(-J_{DD}))$.",
    source=f"{NAGARAJAN}, the regulariser",
    kind="theorem",
    hypotheses="K_DG has full column rank; eta is below the bound",
    unshown="The bound on eta: see `realisable-gans/regularised-for-every-weight`.",
    domain=dict(points=POINTS, shift=MAPS, part=numbers(0.05, 1)),
    because="Below the bound the generator still follows J_DG^T, turned by less than a right angle.",
)
def regularised_stable(points, shift, part):
    weight = part / jnp.max(jnp.linalg.eigvalsh(moments(points)))  # J_DD is -K_DD/2
    return -SLACK - abscissa(regularised(points, shift, weight), Flow())


regularised_stable.without(
    "too-many-generators",
    "K_DG has full column rank",
    because="With three parameters to move points of the plane there are equilibria along a line.",
    shift=WIDE,
)


@claim(
    "realisable-gans/regularised-for-every-weight",
    r"With $\eta\|\nabla_\psi V\|^2$ in the generator's loss a realisable GAN with $K_{DD} \succ 0$ and $K_{DG}$ of"
    r" full column rank is stable for every $\eta \ge 0$.",
    source="By hand",
    kind="theorem",
    hypotheses="K_DG has full column rank",
    domain=dict(points=POINTS, shift=MAPS, weight=numbers(0, 100)),
    because="With Q = -J_DD and B = J_DG the eigenvalues that do not vanish are those of the oscillator"
    " z^2 + z (Q + 2 eta B B^T) + B B^T, whose damping is definite for every eta.",
)
def regularised_for_every_weight(points, shift, weight):
    computed = eigenvalues(regularised(points, shift, weight), Flow())
    return -1e-9 - jnp.max(computed.real)


regularised_for_every_weight.without(
    "too-many-generators",
    "K_DG has full column rank",
    because="With three parameters to move points of the plane there are equilibria along a line.",
    shift=WIDE,
)


# A quadratic discriminator and a linear generator


@claim(
    "realisable-gans/scalar-variance",
    r"The Wasserstein GAN with $D = wx^2$, $G = az$ and data of variance $\sigma^2$ has the field"
    r" $(2wa, \sigma^2 - a^2)$ and at $(\sigma, 0)$ the eigenvalues $\pm 2i\sigma$.",
    source=f"{NAGARAJAN}, linear-quadratic Wasserstein GAN",
    kind="closed form",
    domain=dict(variance=numbers(0.25, 4), a=numbers(-3, 3), w=numbers(-3, 3)),
    because="The value is w (sigma^2 - a^2).",
)
def scalar_variance(variance, a, w):
    game = Covariance(variance)
    field = jnp.stack(game.field((a, w)))
    turning = 2j * jnp.sqrt(variance)
    spectrum = same_spectrum(eigenvalues(game, Flow()), jnp.stack([turning, -turning]))
    return every(agree(field, jnp.stack([2 * w * a, variance - a**2])), spectrum)


@claim(
    "realisable-gans/scalar-variance-conserved",
    r"The flow of the Wasserstein GAN with $D = wx^2$, $G = az$ conserves $w^2 + a^2/2 - \sigma^2\ln a$.",
    source=f"{NAGARAJAN}, linear-quadratic Wasserstein GAN",
    kind="theorem",
    hypotheses="no regulariser",
    domain=dict(variance=numbers(0.5, 2), a=numbers(0.5, 2), w=numbers(-1, 1), weight=st.just(0.0)),
    because="Its derivative is 2 w (sigma^2 - a^2) + (a - sigma^2/a) 2 w a = 0.",
)
def scalar_variance_conserved(variance, a, w, weight):
    game = Covariance(variance, penalty=DiscriminatorGradientNorm(weight))
    a, w = path(game, RungeKutta(0.02, "rk4"), (a, w), 400)
    along = w**2 + a**2 / 2 - variance * jnp.log(a)
    return agree(along, jnp.full_like(along, along[0]), tolerance=1e-5)


scalar_variance_conserved.without(
    "regularised",
    "no regulariser",
    because="The generator's regulariser makes the flow converge.",
    weight=numbers(0.125, 1),
)


@claim(
    "realisable-gans/scalar-variance-regularised",
    r"With $\eta\|\nabla_w V\|^2$ in the generator's loss the Wasserstein GAN with $D = wx^2$, $G = az$ has the"
    r" eigenvalues $-4\eta\sigma^2 \pm \sqrt{16\eta^2\sigma^4 - 4\sigma^2}$, to the left for every $\eta > 0$.",
    source=f"{NAGARAJAN}, linear-quadratic Wasserstein GAN; eigenvalues by hand",
    kind="closed form",
    domain=dict(variance=numbers(0.25, 4), weight=numbers(0.05, 2)),
    because="The Jacobian is [[-8 eta sigma^2, 2 sigma], [-2 sigma, 0]], the generator first.",
)
def scalar_variance_regularised(variance, weight):
    computed = eigenvalues(Covariance(variance, penalty=DiscriminatorGradientNorm(weight)), Flow())
    root = jnp.sqrt(16 * weight**2 * variance**2 - 4 * variance + 0j)
    expected = -4 * weight * variance + jnp.stack([root, -root])
    return every(same_spectrum(computed, expected), -SLACK - jnp.max(computed.real))


@claim(
    "realisable-gans/mean",
    r"The Wasserstein GAN that learns a mean, $D = \langle w, x\rangle$, $G = z + \theta$, is bilinear: its field is"
    r" $(w, \mu - \theta)$ and its Jacobian everywhere [[0, I], [-I, 0]].",
    source="Daskalakis, Ilyas, Syrgkanis, Zeng, Training GANs with Optimism, 2018",
    kind="closed form",
    domain=dict(mean=arrays((2,)), theta=arrays((2,)), w=arrays((2,)), std=numbers(0, 2)),
    because="The spread of data and latents cancels: the scores are linear.",
)
def mean_gan(mean, theta, w, std):
    game = LinearWasserstein(mean, std=std, nodes=2)
    field = jnp.stack(game.field((theta, w)))
    one = jnp.eye(2)
    expected = jnp.block([[0 * one, one], [-one, 0 * one]])
    return every(agree(field, jnp.stack([w, mean - theta])), agree(field_jacobian(game, (theta, w)), expected))
