"""Leading eigenvalues of steps and flows: time, products and errors, beside dense LAPACK, ARPACK and matfree.

    python benchmarks/spectra.py --out benchmarks/results/spectra.json --write   # --quick: small sizes, few matrices

Four parts, of which `--parts steps,flows,failures,monitor` takes some; others of an existing file are kept. The steps
of GANs of multilayer perceptrons with Adam, after some training, at several sizes: what `dynamics.stability(...,
leading=6)` takes, what LAPACK takes for the dense Jacobian (where it fits), and what ARPACK
(`scipy.sparse.linalg.eigs`) and matfree (Arnoldi's method, without restarts; where it is installed) take with the
very same products, unscaled as a user would call them and in the scales of the memory. Eigenvalues are held against
LAPACK's, and beyond 4,000 numbers against those of ARPACK in float64 with a large basis. Flows of known spectrum in
which rotation dominates. And random matrices of known spectrum: how often an eigenvalue has a larger error than is
admitted, and how often one lies beyond the bound. And what a reading of `dynamics.training.Monitor` costs beside a
step of the ring GAN of `dynamics run ring`. `--write` puts the tables into README.md.
"""

import argparse
import datetime
import json
import os

# Threads of LAPACK spin while they wait, and CPU time counts that: many times what its work takes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pathlib
import resource
import subprocess
import sys
import time
from importlib import metadata

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg
import scipy.sparse.linalg
from cpu import machine
from table import README, grid

import dynamics as dy
from dynamics import _trees
from dynamics.analysis import Leading, StateOperator
from dynamics.analysis.spectra.bounds import abscissa_bound, radius_bound
from dynamics.analysis.spectra.exponential import Box, rightmost
from dynamics.analysis.spectra.krylov import krylov_schur
from dynamics.analysis.spectra.operators import Matrix, Scaled
from dynamics.analysis.stability.leading import _prepared
from dynamics.analysis.stability.rest import above_zero
from dynamics.updates import State

WIDTHS = {"3,069": 20, "59,664": 97, "600,000": 313, "10,000,000": 1288}
LARGE_BASIS = 47  # vectors of the largest step, with the start: three pieces of 0.64 GB
FEW = 500_000  # numbers beyond which training takes fewer steps, and nothing is repeated
BEGIN, END = "<!-- spectra -->", "<!-- end of spectra -->"
PARTS = ("steps", "flows", "failures", "monitor")
RIVALS = ("ARPACK, as it is", "ARPACK, scaled", "matfree, as it is", "matfree, scaled")
NAMES = {"jax": "JAX", "scipy": "SciPy", "matfree": "matfree"}
DENSE = 4000  # numbers up to which the Jacobian is written down


def trained(width, steps=None):
    """A GAN of two perceptrons with two hidden layers on a ring, after training with Adam in float32."""
    keys = jax.random.split(jax.random.key(0), 3)
    generator, start = dy.split_module(eqx.nn.MLP(2, 2, width, 2, key=keys[0]))
    discriminator, other = dy.split_module(eqx.nn.MLP(2, "scalar", width, 2, jax.nn.softplus, key=keys[1]))
    latent = jax.random.normal(keys[2], (128, 2))
    game = dy.GAN(generator, discriminator, dy.distributions.ring(8, nodes=1), latent, penalty=dy.penalties.R1(0.1))
    update = dy.updates.Alternating(optax.adam(1e-3, 0.5), optax.adam(1e-3, 0.5))
    if steps is None:
        steps = 300 if _trees.size((start, other)) < FEW else 20
    run = dy.simulate(game, update, (start, other), steps=steps, save_every="last", classify=False)
    # Numbers whose gradient was 0 all along have no mean square yet: the Jacobian is taken in the limit from above.
    return game, update, State(run.state.players, jax.tree.map(above_zero, run.state.memory))


def timed(function, repeats=3):
    """CPU seconds, of all threads, of the first call, their median of the others, and the result."""
    times = []
    for _ in range(repeats + 1):
        begin = time.process_time()
        result = function()
        times.append(time.process_time() - begin)
    return times[0], float(np.median(times[1:] or times)), result


def counted(operator, dtype=np.float32):
    """A SciPy operator, and a list that grows with every product."""
    products = []

    def multiply(vector):
        products.append(1)
        return np.asarray(operator @ vector.ravel())

    shape = (operator.size, operator.size)
    return scipy.sparse.linalg.LinearOperator(shape, matvec=multiply, dtype=dtype), products


def judged(values, truth):
    """Of values that a method returns as eigenvalues, without a reservation, against those that are known.

    Returns:
        the largest distance from the nearest eigenvalue; how many are further than a thousandth from any; and how many
        of the leading eigenvalues are not among them.
    """
    order = truth[np.argsort(-np.abs(truth))]
    errors = np.array([np.min(np.abs(truth - value)) for value in values])
    wrong = np.sum(errors > 1e-3 * np.abs(values))
    missed = sum(np.min(np.abs(values - value)) > 1e-3 * max(abs(value), 1e-3) for value in order[: len(values)])
    return dict(error=float(max(errors)), wrong=int(wrong), missed=int(missed))


def reference(operator):
    """Twelve leading eigenvalues by ARPACK in float64 with a large basis, in the scales of the memory."""
    with jax.enable_x64(True):
        precise = _trees.cast(operator, jnp.float64)
        scaled = Scaled(precise, _prepared(precise, True, jax.random.key(0))[0])
        linear, _ = counted(scaled, np.float64)
        return scipy.sparse.linalg.eigs(linear, 12, which="LM", ncv=100, tol=1e-9, return_eigenvectors=False)


def step(width):
    """One row: a GAN of this width."""
    game, update, state = trained(width)
    operator = StateOperator(game, update, state)
    direction = jnp.ones(operator.size)
    stepping = eqx.filter_jit(lambda state: update.step(game, state))
    large = operator.size > 2 * FEW
    _, one_step, _ = timed(lambda: jax.block_until_ready(stepping(state)), 3 if large else 20)
    _, one_product, _ = timed(lambda: jax.block_until_ready(operator @ direction), 3 if large else 20)
    asked = Leading(4 if large else 6, basis=LARGE_BASIS if large else None, bound=0, conditions=False)
    first, again, report = timed(lambda: dy.stability(game, update, state, leading=asked), 1 if large else 3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # of this process, before any other method
    row = dict(
        size=operator.size,
        step_ms=1e3 * one_step,
        product_in_steps=one_product / one_step,
        memory_gb=peak,
        ours=dict(
            first_s=first,
            seconds=again,
            products=report.products,
            residual=float(np.max(report.residuals)),
            relative_residual=float(np.max(report.residuals)) / report.norm,
            converged=bool(np.all(report.converged)),
            leading=[[value.real, value.imag] for value in report.eigenvalues],
        ),
    )
    truth = None
    if operator.size <= DENSE:
        begin = time.process_time()
        with jax.enable_x64(True):
            matrix = np.asarray(_trees.cast(operator, jnp.float64).as_matrix())
        begin_values = time.process_time()
        truth = scipy.linalg.eigvals(matrix)
        row["dense"] = dict(seconds=time.process_time() - begin, eigenvalues_s=time.process_time() - begin_values)
    elif not large:
        truth = reference(operator)
    if truth is not None:
        row["ours"] |= judged(report.eigenvalues[report.converged], truth)
    if large:
        return row
    for name, scaled in (("ARPACK, as it is", False), ("ARPACK, scaled", True)):
        scales = _prepared(operator, scaled, jax.random.key(0))[0]
        linear, products = counted(Scaled(operator, scales))
        np.asarray(Scaled(operator, scales) @ direction)
        begin = time.process_time()
        try:
            values, vectors = scipy.sparse.linalg.eigs(linear, 6, which="LM", tol=1e-6, maxiter=50)
            row[name] = dict(seconds=time.process_time() - begin, products=len(products))
            images = [linear @ part for vector in vectors.T for part in (vector.real, vector.imag)]
            images = np.array(images[::2]) + 1j * np.array(images[1::2])
            residuals = np.linalg.norm(images - values[:, None] * vectors.T, axis=1)
            row[name]["residual"] = float(np.max(residuals / np.linalg.norm(vectors, axis=0)))
            if truth is not None:
                row[name] |= judged(values, truth)
        except scipy.sparse.linalg.ArpackNoConvergence as error:
            row[name] = dict(seconds=time.process_time() - begin, products=len(products), failed=str(error))
    if _version("matfree") != "not installed":
        for name, scaled in (("matfree, as it is", False), ("matfree, scaled", True)):
            row[name] = matfree(Scaled(operator, _prepared(operator, scaled, jax.random.key(0))[0]), truth)
    return row


def matfree(operator, truth, vectors=100):
    """Ritz values of Arnoldi's method as matfree has it, of so many vectors."""
    from matfree.decomp import hessenberg

    @eqx.filter_jit
    def decomposed(operator, vector):
        return hessenberg(vectors, reortho="full")(operator.product(), vector)

    start = jax.random.normal(jax.random.key(1), (operator.size,), operator.dtype)

    def values():
        small = np.asarray(decomposed(operator, start).J_small)
        return np.linalg.eigvals(small)

    first, again, found = timed(values)
    result = dict(first_s=first, seconds=again, products=vectors)
    if truth is not None:
        result |= judged(found[np.argsort(-np.abs(found))][:6], truth)
    return result


READINGS = {
    "no eigenvalues": dict(leading=0),
    "1 eigenvalue": dict(leading=1, advise=False),
    "4 eigenvalues": dict(leading=4, advise=False),
    "4 eigenvalues, and half the rate of each player": dict(leading=4),
}
CHEAP = 100  # steps between two readings without eigenvalues


def monitor(quick):
    """What readings cost beside steps of the ring GAN, and what the cheap ones are of the time of a training."""
    options = dict(width=16, batch_size=32) if quick else {}
    ring = dy.experiments.ring(**options)
    game, update, key = ring.game, ring.update, jax.random.key(0)
    run = dy.simulate(game, update, ring.players, steps=300, key=key, save_every="last", classify=False)
    state = run.state
    stepping = eqx.filter_jit(lambda state, key: update.step(game, state, key))
    _, one_step, _ = timed(lambda: jax.block_until_ready(stepping(state, key)), 100)
    rows, number = {}, iter(range(10**6))
    for name, asked in READINGS.items():
        watch = dy.training.Monitor(game, update, key=key, **asked)
        first, again, reading = timed(lambda watch=watch: watch(next(number), state), 30 if not asked["leading"] else 3)
        rows[name] = dict(
            first_s=first,
            seconds=again,
            steps=again / one_step,
            products=reading.products,
            every=int(np.ceil(20 * again / one_step)),
            warnings=len(reading.warnings),
        )
    # A training loop as people write them, with and without the cheap mode, in turns.
    watch = dy.training.Monitor(game, update, leading=0, every=CHEAP, key=key)
    seconds = {False: [], True: []}
    steps = 100 if quick else 500

    def loop(watched):
        now = state
        for number in range(steps):
            now = stepping(now, jax.random.fold_in(key, number))
            if watched:
                watch(number, now)
        jax.block_until_ready(now)

    for _ in range(4):
        for watched in (False, True):
            seconds[watched].append(timed(lambda watched=watched: loop(watched), 0)[0])
    plain, watched = (float(np.median(seconds[kind][1:])) for kind in (False, True))
    size = _trees.size(state)
    return dict(size=size, step_ms=1e3 * one_step, readings=rows, every=CHEAP, plain=plain, watched=watched)


class Turning(dy.Game):
    """Pairs -d +- iw, hidden by a cosine transform of both players' numbers."""

    decay: jax.Array
    frequency: jax.Array

    def losses(self, players, key=None):
        x, y = (jax.scipy.fft.dct(player, norm="ortho") for player in players)
        cross = self.frequency * x * y
        return jnp.sum(self.decay * x**2 / 2 + cross), jnp.sum(self.decay * y**2 / 2 - cross)

    def equilibria(self):
        return (self.example(),)

    def example(self):
        return (jnp.zeros_like(self.decay),) * 2


class GaussianGAN(dy.Game):
    r"""The Wasserstein GAN with R1 on Gaussians in function space, Hermite polynomials of degrees 1 to K.

    $\mu^2 + \gamma k \mu + k = 0$ for every degree k; here in other coordinates, scales behind a cosine transform.
    """

    gamma: jax.Array
    degrees: jax.Array
    scales: jax.Array

    def losses(self, players, key=None):
        dct, idct = jax.scipy.fft.dct, jax.scipy.fft.idct
        point = jax.lax.stop_gradient(jnp.concatenate(players))  # a field of any form
        x, y = jnp.split(idct(self.scales * dct(point, norm="ortho"), norm="ortho"), 2)
        root = jnp.sqrt(self.degrees)
        field = jnp.concatenate([-root * y, root * x - self.gamma * self.degrees * y])
        field = jnp.split(idct(dct(field, norm="ortho") / self.scales, norm="ortho"), 2)
        return tuple(-jnp.sum(player * part) for player, part in zip(players, field, strict=True))

    def equilibria(self):
        return (self.example(),)

    def example(self):
        return (jnp.zeros_like(self.degrees),) * 2


def flow_cases(quick):
    """Name, game, true eigenvalues (or none, where LAPACK says), how many are wanted, options."""
    random, half = np.random.default_rng(1), 500 if quick else 10_000
    frequency, decay = random.uniform(0, 2, half), random.uniform(0.02, 0.1, half)
    frequency[:10], decay[:10] = np.linspace(0.05, 1.9, 10), np.linspace(0.001, 0.01, 10)
    pairs = np.concatenate([-decay + 1j * frequency, -decay - 1j * frequency])
    yield "(b) slow pairs, cosine transform", Turning(jnp.asarray(decay), jnp.asarray(frequency)), pairs, 20, {}
    degrees = np.arange(1.0, (100 if quick else 2000) + 1)
    root = np.sqrt((0.05 * degrees) ** 2 - degrees + 0j)
    values = np.concatenate([-0.05 * degrees + root, -0.05 * degrees - root])
    for condition in (10, 1000):
        scales = np.random.default_rng(2).permutation(np.geomspace(1, condition, len(values)))
        game = GaussianGAN(jnp.asarray(0.1), jnp.asarray(degrees), jnp.asarray(scales))
        yield f"(d) Gaussian GAN, condition {condition}", game, values, 6, dict(tolerance=1e-8)
    random = np.random.default_rng(0)
    half = 50 if quick else 500
    coupling, factor = (random.standard_normal((half, half)) / np.sqrt(half) for _ in range(2))
    blocks = [[np.zeros((half, half)), coupling], [-coupling.T, 0.05 * factor @ factor.T]]
    yield "(a) [[0, -B], [B', -.05 RR']]", dy.games.Quadratic(blocks), None, 7, {}
    yield "(a), 9 wanted", dy.games.Quadratic(blocks), None, 9, {}


def flow(game, values, count, options):
    """One row: the rightmost eigenvalues of a flow, and a bound on all others."""
    method = dy.flows.Flow()
    row = {}

    def solved(bound):
        return dy.stability(game, method, leading=Leading(count, bound=bound, conditions=False, **options))

    if values is None:
        matrix = np.asarray(StateOperator(game, method, method.init(game, game.equilibria()[0])).as_matrix())
        begin = time.perf_counter(), time.process_time()
        values, _ = np.linalg.eig(matrix)
        row["dense"] = dict(seconds=time.perf_counter() - begin[0], cpu=time.process_time() - begin[1])
    begin = time.perf_counter(), time.process_time()
    report = solved(0)
    seconds, cpu = time.perf_counter() - begin[0], time.process_time() - begin[1]
    expected = values[np.argsort(-values.real)][: len(report.eigenvalues)]
    errors = [float(np.min(np.abs(report.eigenvalues - value))) for value in expected]
    row["ours"] = dict(
        seconds=seconds,
        cpu=cpu,
        products=report.products,
        residual=float(np.max(report.residuals)),
        error=max(errors),
        missed=int(np.sum(np.array(errors) > 1e-4)),
        converged=bool(np.all(report.converged)),
    )
    judged = dy.stability(game, method, leading=Leading(count, **options))
    others = float(np.sort(values.real)[::-1][len(expected)])
    row.update(size=report.size, wanted=count, verdict=str(judged.verdict), others=others, bound=judged.others)
    row["products_in_all"] = judged.products
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


def within(count, minutes):
    """The numbers below `count`, as many as so many minutes of CPU time are enough for."""
    begin = time.process_time()
    for number in range(count):
        if time.process_time() - begin > 60 * minutes:
            return
        yield number


def failures(count, seed, minutes=np.inf):
    """Undetected failures over random matrices: errors that are not admitted, bounds that are none."""
    random = np.random.default_rng(seed)
    wrong = above = missed = done = 0
    for number in within(count, minutes):
        done += 1
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
    return dict(matrices=done, seed=seed, errors_not_admitted=wrong, bounds_that_are_none=above, incomplete_sets=missed)


def strip(random, size):
    """A matrix whose eigenvalues turn, under a similarity; some pairs are slow, or expand, at any frequency."""
    turning, decay = random.uniform(0, 2, size // 2), random.uniform(0.02, 0.1, size // 2)
    for place in range(int(random.integers(0, 4))):
        turning[place] = random.choice([random.uniform(0, 2), random.uniform(2, 4)])
        decay[place] = random.choice([1e-3, -1e-3, 1e-2, random.uniform(-0.1, 0.1)])
    blocks = [np.array([[-d, -w], [w, -d]]) for d, w in zip(decay, turning, strict=True)]
    left, right = (np.linalg.qr(random.standard_normal((size, size)))[0] for _ in range(2))
    change = left * np.geomspace(1, 10.0 ** random.uniform(0, 2), size) @ right
    return change @ scipy.linalg.block_diag(*blocks) @ np.linalg.inv(change)


def failures_of_flows(count, seed, minutes=np.inf):
    """Likewise for flows; the box is that of a short Arnoldi run, or a wrong one."""
    random = np.random.default_rng(seed)
    wrong = above = missed = done = 0
    for number in within(count, minutes):
        done += 1
        dtype = [np.float32, np.float64][number % 2]
        matrix = strip(random, 60).astype(dtype)
        truth = scipy.linalg.eigvals(matrix.astype(float))
        truth = truth[np.argsort(-truth.real)]
        operator, key = Matrix(matrix), jax.random.key(number)
        seen = krylov_schur(operator, 4, np.real, key=key, basis=24, products=24, verify=False)
        box = Box.around(seen.seen)
        bound = abscissa_bound(
            operator,
            Box(-0.1, -0.05, 1.0) if number % 5 == 0 else box,
            key=jax.random.key(1000 + number),
            products=1000,
        )
        above += bool(truth[0].real > bound.value)
        pairs = rightmost(operator, 4, box, seen.norm, key=key)
        left = rightmost(operator.transposed(), len(pairs.values), box, seen.norm, key=key)
        rounding = 16 * float(np.finfo(dtype).eps) * seen.norm
        for place, value in enumerate(pairs.values):
            nearest = int(np.argmin(np.abs(left.values - value)))
            overlap = abs(np.sum(left.vectors[nearest] * pairs.vectors[place]))
            error = (pairs.residuals[place] + rounding) / max(overlap, 1e-300)
            wrong += bool(np.min(np.abs(truth - value)) > error) and bool(pairs.converged[place])
        missed += not np.allclose(pairs.values.real, truth[: len(pairs.values)].real, atol=2e-3)
    return dict(matrices=done, seed=seed, errors_not_admitted=wrong, bounds_that_are_none=above, incomplete_sets=missed)


def tables(result):
    """The tables of a result in Markdown."""
    lines = ["From `results/spectra.json`. Seconds are CPU time of all threads; those of flows include compiling."]

    def heading(part, title):
        about = result["about"][part]
        versions = ", ".join(f"{NAMES[name]} {version}" for name, version in about["versions"].items())
        load = "load " + " to ".join(dict.fromkeys(f"{value:.0f}" for value in about["load"]))
        return ["", f"### {title}", "", f"{about['date'][:10]}, {about['machine']}, {load}; {versions}.", ""]

    if steps := result.get("steps"):
        head = ["numbers", "method", "products", "CPU, s", "first, s", "residual", "largest error", "wrong", "missed"]
        body = []
        for row in steps.values():
            for name in ("ours", "dense", *RIVALS):
                if name in row:
                    body.append(["" if name != "ours" else f"{row['size']:,}", name, *_cells(row[name])])
        lines += [*heading("steps", "Steps of Adam, 6 leading eigenvalues, float32"), *grid(head, body)]
        costs = ", ".join(f"{row['product_in_steps']:.1f} at {row['size']:,}" for row in steps.values())
        memory = ", ".join(f"{row['memory_gb']:.1f} GB at {row['size']:,}" for row in steps.values())
        lines += ["", f"A product takes as long as so many training steps: {costs}. Memory at its peak: {memory}."]
    if flows := result.get("flows"):
        head = ["flow", "numbers", "wanted", "missed", "largest error", "products", "CPU, s", "dense, CPU, s", "bound"]
        head += ["true", "verdict", "products in all"]
        body = []
        for name, row in flows.items():
            ours, dense = row["ours"], row.get("dense")
            cells = [name, f"{row['size']:,}", row["wanted"], ours["missed"], f"{ours['error']:.0e}"]
            cells += [f"{ours['products']:,}", f"{ours['cpu']:.1f}", f"{dense['cpu']:.1f}" if dense else "-"]
            bound = "-" if row["bound"] is None or not np.isfinite(row["bound"]) else f"{row['bound']:.4f}"
            body.append([*cells, bound, f"{row['others']:.4f}", row["verdict"], f"{row['products_in_all']:,}"])
        lines += [*heading("flows", "Rightmost eigenvalues of flows, float64"), *grid(head, body)]
    if cost := result.get("monitor"):
        head = ["a reading has", "CPU, ms", "in steps", "products", "first, s", "steps between readings for 5 %"]
        body = [
            [name, f"{1e3 * row['seconds']:.0f}", f"{row['steps']:.1f}", row["products"], f"{row['first_s']:.1f}"]
            + [f"{row['every']:,}"]
            for name, row in cost["readings"].items()
        ]
        lines += heading("monitor", "Readings of the monitor")
        lines += [
            f"The GAN of `dynamics run ring`, {cost['size']:,} numbers with the memory of Adam, "
            f"{cost['step_ms']:.1f} ms of CPU time a step. In a loop of steps, a reading without eigenvalues "
            f"every {cost['every']} of them took "
            f"{cost['watched'] / cost['plain'] - 1:.1%} of the loop's CPU time.",
            "",
            *grid(head, body),
        ]
    if rows := result.get("failures"):
        head = ["", "matrices", "errors that are not admitted", "bounds that are none", "incomplete sets", "measured"]
        names = ("matrices", "errors_not_admitted", "bounds_that_are_none", "incomplete_sets")
        body = [
            [kind, *(f"{row[name]:,}" for name in names), row.get("measured", "as above")] for kind, row in rows.items()
        ]
        lines += [*heading("failures", "Random matrices of known spectrum"), *grid(head, body)]
    return "\n".join(lines)


def _cells(row):
    """Of a method."""

    def number(name, form):
        return format(row[name], form) if row.get(name) is not None else "-"

    names = (("products", ",d"), ("seconds", ".3g"), ("first_s", ".3g"), ("residual", ".0e"), ("error", ".0e"))
    if "failed" in row:
        return [*(number(name, form) for name, form in names), "says so", "-"]
    return [*(number(name, form) for name, form in names), row.get("wrong", "-"), row.get("missed", "-")]


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--matrices", type=int, default=1000, help="of maps, and of flows")
    parser.add_argument("--minutes", type=float, default=np.inf, help="of CPU time for these matrices at most")
    parser.add_argument("--seed", type=int, default=0, help="of these matrices")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--largest", type=int, default=10_000_000, help="numbers of a step at most")
    parser.add_argument("--write", action="store_true", help="write the tables into README.md")
    parser.add_argument("--width", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.width:
        print(json.dumps(step(options.width)))
        return
    parts = options.parts.split(",")
    result = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    name, cores = machine().get("Model name", "unknown processor"), os.cpu_count()
    about = dict(
        date=datetime.datetime.now(datetime.UTC).isoformat(),
        machine=f"{name}, {cores} cores, no GPU",
        versions=dict(jax=jax.__version__, scipy=scipy.__version__, matfree=_version("matfree")),
        load=[os.getloadavg()[0], os.getloadavg()[0]],
    )
    result["about"] = result.get("about", {}) | dict.fromkeys(parts, about)
    if "steps" in parts:
        result["steps"] = {}
        for name, width in WIDTHS.items():
            wanted = int(name.replace(",", "")) <= options.largest
            if wanted and (not options.quick or width < 50):  # each in a process of its own, for its memory
                command = [sys.executable, __file__, "--width", str(width)]
                run = subprocess.run(command, capture_output=True, text=True, check=True)
                result["steps"][name] = json.loads(run.stdout.splitlines()[-1])
                print(name, run.stdout.splitlines()[-1], flush=True)
                _save(options.out, result)
    if "monitor" in parts:
        result["monitor"] = monitor(options.quick)
        print(json.dumps(result["monitor"]), flush=True)
        _save(options.out, result)
    with jax.enable_x64(True):
        if "flows" in parts:
            result["flows"] = {}
            for name, *case in flow_cases(options.quick):
                result["flows"][name] = flow(*case)
                print(name, json.dumps(result["flows"][name]), flush=True)
                _save(options.out, result)
        if "failures" in parts:
            count = 20 if options.quick else options.matrices
            result["failures"] = {}
            for kind, judge, share in (("maps", failures, 0.4), ("flows", failures_of_flows, 0.6)):
                result["failures"][kind] = judge(count, options.seed, share * options.minutes)
                _save(options.out, result)
            print(json.dumps(result["failures"]))
    about["load"][1] = os.getloadavg()[0]
    _save(options.out, result)
    print(tables(result))
    if options.write:
        before, rest = README.read_text().split(BEGIN)
        README.write_text(f"{before}{BEGIN}\n{tables(result)}\n{END}{rest.split(END)[1]}")


def _save(out, result):
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n")


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
