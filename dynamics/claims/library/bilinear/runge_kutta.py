"""Bilinear games: Runge-Kutta steps, and those of ODE-GAN."""

import jax
import jax.numpy as jnp
from hypothesis import strategies as st

from dynamics.checks.measures import agree, eigenvalues, epsilon, every, jacobian, radius, same_sign, same_spectrum
from dynamics.claims.base import claim
from dynamics.claims.library.bilinear.common import QIN, RATES, SQUARE, WIDE, both, couplings, decides, largest, root
from dynamics.game import Game
from dynamics.games import Bilinear
from dynamics.optimisers import sgd
from dynamics.strategies import numbers
from dynamics.updates import ODEGAN, RungeKutta, Simultaneous
from dynamics.updates.base import State, replace


@claim(
    "bilinear/runge-kutta",
    r"A Runge-Kutta step of all players together with stages as many as its order p has the eigenvalues "
    r"$\sum_{k \le p} (\pm i s)^k/k!$, $s = \sqrt{r_1 r_2}\,\sigma$; their moduli are $\sqrt{1 + s^4/4}$ for p = 2 and "
    r"$\sqrt{1 - s^6/72 + s^8/576}$ for p = 4.",
    source="Butcher, Numerical Methods for Ordinary Differential Equations, 2016",
    kind="closed form",
    domain=dict(matrix=WIDE, **RATES, method=st.sampled_from(["heun", "midpoint", "rk4"])),
    because="With as many stages as its order the stability function is the truncated exponential.",
)
def runge_kutta(matrix, first, second, method):
    s = jnp.sqrt(first * second) * couplings(matrix)
    computed = eigenvalues(Bilinear(matrix), RungeKutta((first, second), method=method))
    if method == "rk4":
        expected, modulus = both(1 - s**2 / 2 + s**4 / 24, 1j * (s - s**3 / 6)), 1 - s**6 / 72 + s**8 / 576
    else:
        expected, modulus = both(1 - s**2 / 2, 1j * s), 1 + s**4 / 4
    computed_radius = jnp.max(jnp.abs(computed))
    return every(same_spectrum(computed, expected), agree(computed_radius, jnp.sqrt(jnp.max(modulus))))


@claim(
    "bilinear/runge-kutta-4",
    r"The classical Runge-Kutta step of order 4 converges on a bilinear game of full rank if and only if "
    r"$\sqrt{r_1 r_2}\,\sigma_{max} < 2\sqrt2$.",
    source="Butcher, Numerical Methods for Ordinary Differential Equations, 2016",
    kind="theorem",
    hypotheses="the method is of order 4",
    domain=dict(matrix=SQUARE, first=numbers(0.25, 2), second=numbers(0.25, 2), method=st.just("rk4")),
    because="1 - s^6/72 + s^8/576 < 1 iff s^2 < 8.",
)
def runge_kutta_4(matrix, first, second, method):
    s = jnp.sqrt(first * second) * jnp.linalg.svd(matrix, compute_uv=False)
    computed = radius(Bilinear(matrix), RungeKutta((first, second), method=method))
    return same_sign(2 * jnp.sqrt(2.0) - jnp.max(s), 1 - computed, 1e4 * epsilon())


runge_kutta_4.without(
    "order-2",
    "the method is of order 4",
    because="Steps of order 2 have the modulus sqrt(1 + s^4/4) and diverge however small they are.",
    method=st.sampled_from(["heun", "midpoint"]),
)


def frozen_step(game, rates, players, method="rk4"):
    """Every player after a Runge-Kutta step of its own, with the opponents held at their old values."""

    def own(player):
        def losses(point, key=None):
            return game.losses(replace(players, player, point[player]), key)

        return RungeKutta(rates, method).step(Game.from_losses(losses), State(players, ())).players[player]

    return tuple(own(player) for player in range(len(players)))


def frozen_jacobian(game, rates, weight=0.0):
    """The Jacobian of `frozen_step` at 0, with the penalty of `ODEGAN` in the step of the second player."""
    (x, y) = game.equilibria()[0]

    def step(flat):
        players = flat[: x.size].reshape(x.shape), flat[x.size :].reshape(y.shape)
        one, two = frozen_step(game, rates, players)
        penalty = jax.grad(lambda own: jnp.sum(game.field((players[0], own))[0] ** 2))(players[1])
        return jnp.concatenate([jnp.ravel(one), jnp.ravel(two - rates[1] * weight * penalty)])

    return jax.jacfwd(step)(jnp.zeros(x.size + y.size, x.dtype))


@claim(
    "bilinear/frozen-runge-kutta",
    r"Steps of order 4 of each player with the opponent frozen, as in the published ODE-GAN demonstration, have the "
    r"stability of a method of order 4: the modulus $\sqrt{1 - s^6/72 + s^8/576}$.",
    source=f"published demonstration of {QIN}",
    kind="refuted",
    domain=dict(coupling=numbers(0.25, 4), **RATES),
    because="With the opponent frozen a player's gradient is constant along its step, which is then a step of Euler.",
)
def frozen_runge_kutta(coupling, first, second):
    s = jnp.sqrt(first * second) * coupling
    computed = jnp.max(jnp.abs(jnp.linalg.eigvals(frozen_jacobian(Bilinear(coupling), (first, second)))))
    return agree(computed, jnp.sqrt(1 - s**6 / 72 + s**8 / 576), 1e-6)


@claim(
    "bilinear/frozen-runge-kutta-is-euler",
    r"Runge-Kutta steps of each player with the opponent frozen are simultaneous gradient descent on a bilinear game.",
    source="by hand",
    kind="closed form",
    domain=dict(matrix=WIDE, **RATES),
    because="With the opponent frozen a player's gradient is constant along its step; all weights add up to 1.",
)
def frozen_runge_kutta_is_euler(matrix, first, second):
    game = Bilinear(matrix)
    return agree(frozen_jacobian(game, (first, second)), jacobian(game, Simultaneous(sgd(first), sgd(second))))


@claim(
    "bilinear/ode-gan",
    r"ODE-GAN with weight $\lambda$ has, with $c = 1 - s^2/2 + s^4/24$ and $d = s - s^3/6$, the eigenvalues of "
    r"$[[c, -d], [d, c - 2 h_2\lambda\sigma^2]]$ for $s = \sqrt{h_1 h_2}\,\sigma$.",
    source=QIN,
    kind="closed form",
    domain=dict(matrix=WIDE, **RATES, weight=numbers(0, 2)),
    because="The penalty is taken at the old point, without the factor 1/2, and only the discriminator pays it.",
)
def ode_gan(matrix, first, second, weight):
    sigma = couplings(matrix)
    s, pull = jnp.sqrt(first * second) * sigma, second * weight * sigma**2
    computed = eigenvalues(Bilinear(matrix), ODEGAN((first, second), weight))
    expected = both(1 - s**2 / 2 + s**4 / 24 - pull, root(pull**2 - (s - s**3 / 6) ** 2))
    return same_spectrum(computed, expected)


@claim(
    "bilinear/ode-gan-frozen",
    r"The published ODE-GAN demonstration (opponent frozen, penalty of weight $\lambda$ for the discriminator) "
    r"converges on a bilinear game of full rank if and only if $\lambda > h_1/2$ and, for every $\sigma$, "
    r"$4 - 4 h_2\lambda\sigma^2 + h_1 h_2\sigma^2 > 0$.",
    source=f"published demonstration of {QIN}; threshold by hand",
    kind="theorem",
    hypotheses="the opponent is frozen during a step",
    domain=dict(matrix=SQUARE, **RATES, weight=numbers(0, 2), frozen=st.just(True)),
    because="The map is [[1, -h_1 sigma], [h_2 sigma, 1 - 2 h_2 lambda sigma^2]]: Euler with the penalty.",
)
def ode_gan_frozen(matrix, first, second, weight, frozen):
    game, rates = Bilinear(matrix), (first, second)
    step = frozen_jacobian(game, rates, weight) if frozen else jacobian(game, ODEGAN(rates, weight))
    bound = 4 - second * (4 * weight - first) * largest(matrix) ** 2
    computed = jnp.max(jnp.abs(jnp.linalg.eigvals(step)))
    return decides(jnp.minimum(2 * weight - first, bound), computed)


ode_gan_frozen.without(
    "joint-step",
    "the opponent is frozen during a step",
    because="The joint step of the paper is stable with much smaller weights, as Runge-Kutta alone contracts.",
    frozen=st.just(False),
)
