"""Leading eigenvalues of training steps: time, products and errors, beside dense LAPACK and ARPACK.

    python benchmarks/spectra.py --out benchmarks/results/spectra.json   # --quick: small sizes, few matrices

Two parts. The steps of GANs of multilayer perceptrons with Adam, after some training, at several sizes: what
`dynamics.stability(..., leading=6)` takes, what LAPACK takes for the dense Jacobian (where it fits), and what ARPACK
(`scipy.sparse.linalg.eigs`) takes with the very same products, unscaled as a user would call it and in the scales of
the memory. And random matrices of known spectrum: how often an eigenvalue has a larger error than is admitted, and how
often one of larger modulus than the bound exists.
"""

import argparse
import json
import pathlib
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg
import scipy.sparse.linalg

import dynamics as dy
from dynamics import _trees
from dynamics.analysis import Leading, StateOperator
from dynamics.analysis.spectra.bounds import radius_bound
from dynamics.analysis.spectra.krylov import krylov_schur
from dynamics.analysis.spectra.operators import Matrix, Scaled
from dynamics.analysis.stability.leading import _prepared
from dynamics.analysis.stability.rest import above_zero
from dynamics.updates import State

WIDTHS = {"small": 20, "60,000 numbers": 97, "600,000 numbers": 313}
DENSE = 4000  # numbers up to which the Jacobian is written down


def trained(width, steps=300):
    """A GAN of two perceptrons with two hidden layers on a ring, after training with Adam in float32."""
    keys = jax.random.split(jax.random.key(0), 3)
    generator, start = dy.split_module(eqx.nn.MLP(2, 2, width, 2, key=keys[0]))
    discriminator, other = dy.split_module(eqx.nn.MLP(2, "scalar", width, 2, jax.nn.softplus, key=keys[1]))
    latent = jax.random.normal(keys[2], (128, 2))
    game = dy.GAN(generator, discriminator, dy.distributions.ring(8, nodes=1), latent, penalty=dy.penalties.R1(0.1))
    update = dy.updates.Alternating(optax.adam(1e-3, 0.5), optax.adam(1e-3, 0.5))
    run = dy.simulate(game, update, (start, other), steps=steps, save_every="last", classify=False)
    # Numbers whose gradient was 0 all along have no mean square yet: the Jacobian is taken in the limit from above.
    return game, update, State(run.state.players, jax.tree.map(above_zero, run.state.memory))


def timed(function, repeats=3):
    """The first call, the median of the others, and the result."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - begin)
    return times[0], float(np.median(times[1:])), result


def counted(operator):
    """A SciPy operator, and a list that grows with every product."""
    products = []

    def multiply(vector):
        products.append(1)
        return np.asarray(operator @ vector.ravel())

    shape = (operator.size, operator.size)
    return scipy.sparse.linalg.LinearOperator(shape, matvec=multiply, dtype=np.float32), products


def worst_error(values, truth):
    """The largest distance of a value from the nearest eigenvalue, and how many of the leading ones are missed."""
    order = truth[np.argsort(-np.abs(truth))]
    errors = [np.min(np.abs(truth - value)) for value in values]
    missed = sum(np.min(np.abs(values - value)) > 1e-3 * max(abs(value), 1e-3) for value in order[: len(values)])
    return float(max(errors)), int(missed)


def step(width):
    """One row: a GAN of this width."""
    game, update, state = trained(width)
    operator = StateOperator(game, update, state)
    direction = jnp.ones(operator.size)
    stepping = eqx.filter_jit(lambda state: update.step(game, state))
    _, one_step, _ = timed(lambda: jax.block_until_ready(stepping(state)), 20)
    _, one_product, _ = timed(lambda: jax.block_until_ready(operator @ direction), 20)
    first, again, report = timed(lambda: dy.stability(game, update, state, leading=Leading(bound=0, conditions=False)))
    row = dict(
        size=operator.size,
        step_ms=1e3 * one_step,
        product_in_steps=one_product / one_step,
        ours=dict(
            first_s=first,
            seconds=again,
            products=report.products,
            residual=float(np.max(report.residuals)),
            converged=bool(np.all(report.converged)),
            leading=[[value.real, value.imag] for value in report.eigenvalues],
        ),
    )
    truth = None
    if operator.size <= DENSE:
        begin = time.perf_counter()
        with jax.enable_x64(True):
            matrix = np.asarray(_trees.cast(operator, jnp.float64).as_matrix())
        begin_values = time.perf_counter()
        truth = scipy.linalg.eigvals(matrix)
        row["dense"] = dict(seconds=time.perf_counter() - begin, eigenvalues_s=time.perf_counter() - begin_values)
        row["ours"]["error"], row["ours"]["missed"] = worst_error(report.eigenvalues, truth)
    for name, scaled in (("ARPACK, as it is", False), ("ARPACK, scaled", True)):
        scales = _prepared(operator, scaled, jax.random.key(0))[0]
        linear, products = counted(Scaled(operator, scales))
        np.asarray(Scaled(operator, scales) @ direction)
        begin = time.perf_counter()
        try:
            values = scipy.sparse.linalg.eigs(linear, 6, which="LM", tol=1e-6, maxiter=50, return_eigenvectors=False)
            row[name] = dict(seconds=time.perf_counter() - begin, products=len(products))
            if truth is not None:
                row[name]["error"], row[name]["missed"] = worst_error(values, truth)
        except scipy.sparse.linalg.ArpackNoConvergence as error:
            row[name] = dict(seconds=time.perf_counter() - begin, products=len(products), failed=str(error))
    return row


def planted(random, size):
    """A matrix of known spectrum under a similarity: slow pairs and values near the circle, scales of any size."""
    pairs, angles = random.integers(1, 5), random.uniform(0, np.pi, 4)
    moduli = 1 + random.choice([-1, 1]) * 10.0 ** random.uniform(-4, -1, 4)
    blocks = [m * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for m, a in zip(moduli, angles)]
    matrix = scipy.linalg.block_diag(*blocks[:pairs], np.diag(random.uniform(-0.9, 0.95, size - 2 * pairs)))
    values = scipy.linalg.eigvals(matrix)
    left, right = (np.linalg.qr(random.standard_normal((size, size)))[0] for _ in range(2))
    change = left * np.geomspace(1, 10.0 ** random.uniform(0, 3), size) @ right
    return change @ matrix @ np.linalg.inv(change), values


def failures(count, seed):
    """Undetected failures over random matrices: errors that are not admitted, bounds that are none."""
    random = np.random.default_rng(seed)
    wrong = above = missed = 0
    for number in range(count):
        matrix, truth = planted(random, int(random.choice([40, 120])))
        dtype = [np.float32, np.float64][number % 2]
        # What rounds the matrix moves its eigenvalues: the truth is that of the matrix as it is given.
        matrix = matrix.astype(dtype)
        truth = scipy.linalg.eigvals(matrix.astype(float)) if dtype == np.float32 else truth
        operator, key = Matrix(matrix), jax.random.key(number)
        pairs = krylov_schur(operator, int(random.integers(2, 7)), np.abs, key=key)
        left = krylov_schur(operator.transposed(), len(pairs.values), np.abs, key=key)
        rounding = 16 * float(np.finfo(dtype).eps) * pairs.norm
        order = truth[np.argsort(-np.abs(truth))]
        for place, value in enumerate(pairs.values):
            nearest = int(np.argmin(np.abs(left.values - value)))
            overlap = abs(np.sum(left.vectors[nearest] * pairs.vectors[place]))
            error = (pairs.residuals[place] + rounding) / max(overlap, 1e-300)
            wrong += bool(np.min(np.abs(truth - value)) > error) and bool(pairs.converged[place])
        others = order[len(pairs.values) :]
        bound = radius_bound(operator, key=jax.random.key(1000 + number), without=pairs.basis, products=200)
        complete = np.allclose(np.abs(pairs.values), np.abs(order[: len(pairs.values)]), rtol=1e-2)
        missed += not complete
        if complete:
            above += bool(np.max(np.abs(others)) > bound.value + rounding)
        else:  # then the bound has to show that something is missing
            above += bool(bound.value < np.max(np.abs(order[: len(pairs.values)])) * 0.99)
    return dict(
        matrices=count, seed=seed, errors_not_admitted=wrong, bounds_that_are_none=above, incomplete_sets=missed
    )


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--matrices", type=int, default=1000)
    options = parser.parse_args()
    result = dict(steps={}, device=str(jax.devices()[0]))
    for name, width in WIDTHS.items():
        if options.quick and width > 50:
            continue
        result["steps"][name] = step(width)
        print(name, json.dumps(result["steps"][name]), flush=True)
    with jax.enable_x64(True):
        result["failures"] = failures(20 if options.quick else options.matrices, 0)
    print(json.dumps(result["failures"]))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
