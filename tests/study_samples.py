"""A small study as TOML, and made-up results of studies, for the tests of stores, pictures and reports."""

import numpy as np

from dynamics.studies.results import Cell, Portrait, Results

METHODS = {
    "simultaneous": 0.0,
    "alternating": -0.02,
    "two-timescale": 0.01,
    "consensus": -0.12,
    "gap-aware": -0.015,
    "extragradient": -0.05,
    "optimistic": -0.04,
}
GAMES = {
    "Dirac-GAN": (("minimax", "non-saturating", "least squares", "Wasserstein", "hinge"), True),
    "linear Wasserstein": (("Wasserstein",), True),
    "covariance": (("Wasserstein",), True),
    "bilinear": (("",), False),
    "random quadratic": (("",), False),
}
PENALTIES = {"none": 0.0, "R1": -0.08, "R2": -0.08, "WGAN-GP": 0.015, "instance noise": -0.05}


def small_toml(steps=20, flow=False, portrait=True):
    """A study of two cells, or of four with a flow, and a portrait."""
    lines = f"""
title = "Small"
steps = {steps}
until = {steps / 10}
draw = {["outcomes", "portraits"] if portrait else ["outcomes"]}
[axes]
"game.0.penalty.weight" = [0.1, 0.3]
[[game]]
label = "Dirac-GAN"
name = "DiracGAN"
start = [1.0, 0.5]
penalty = {{ name = "R1", weight = 0.3 }}
[[method]]
label = "simultaneous"
update = {{ name = "Simultaneous", optimisers = [
  {{ name = "sgd", learning_rate = 0.1 }}, {{ name = "sgd", learning_rate = 0.2 }},
] }}
"""
    if flow:
        lines += 'flow = { name = "Flow" }\n'
    if portrait:
        lines += '[[portrait]]\ngame = "Dirac-GAN"\nmethods = ["simultaneous"]\nkind = "map"\n'
    return lines


def cell(
    game="Dirac-GAN",
    objective="minimax",
    penalty="none",
    method="simultaneous",
    kind="map",
    axes=None,
    damping=-0.05,
    turn=0.4,
    outcome=None,
    agreement=None,
    rate=None,
    seed=0,
):
    """A cell whose leading pair of eigenvalues has the real part `damping` in continuous time."""
    noise = np.random.default_rng(seed)
    flow = np.array(
        [damping + 1j * turn, damping - 1j * turn, damping - 0.3, damping - 0.5 + 0.2j, damping - 0.5 - 0.2j]
    )
    values = flow if kind == "flow" else np.exp(flow)
    predicted = "marginal" if abs(damping) < 1e-3 else "stable" if damping < 0 else "unstable"
    natural = {"stable": "converged", "unstable": "diverged", "marginal": "cycling"}[predicted]
    outcome = outcome or natural
    agreement = agreement or (
        "untested" if predicted == "marginal" else "agrees" if outcome == natural else "explained"
    )
    explanation = {
        "agrees": "The linear part decides and the simulation follows it.",
        "untested": "The outermost eigenvalue lies on the stability boundary: nonlinear terms decide.",
        "explained": "Far from linear.",
        "unexplained": "",
    }[agreement]
    return Cell(
        game=game,
        objective=objective,
        penalty=penalty,
        method=method,
        kind=kind,
        axes=axes or {},
        predicted=predicted,
        predicted_rate=damping,
        rotation=turn,
        extent=float(abs(values[0]) if kind == "map" else values[0].real),
        eigenvalues=values,
        smoothness="smooth",
        manifold_dimension=0,
        outcome=outcome,
        rate=damping * (1 + 0.02 * noise.standard_normal()) if rate is None else rate,
        period=2 * np.pi / turn if outcome == "cycling" else float("nan"),
        exponent=0.5 if outcome == "power_law" else float("nan"),
        residual=1e-12 if outcome == "converged" else 0.3,
        distance=1e-12 if outcome == "converged" else 0.5,
        steps=2000.0,
        agreement=agreement,
        explanation=explanation,
    )


def portrait(title="Dirac-GAN, minimax", damping=0.1):
    """The field of a spiral with three trajectories."""
    grid = np.linspace(-1.5, 1.5, 21)
    x, y = np.meshgrid(grid, grid)
    time = np.linspace(0, 25, 400)
    trajectories = []
    for i, name in enumerate(["simultaneous", "alternating", "consensus"]):
        size = np.exp((0.02 - 0.05 * i) * time)
        trajectories.append((name, np.stack([size * np.cos(time), size * np.sin(time)], axis=-1)))
    return Portrait(
        title=title,
        x=grid,
        y=grid,
        u=-damping * x - y,
        v=x - damping * y,
        trajectories=tuple(trajectories),
        equilibrium=np.zeros(2),
        names=("theta", "psi"),
    )


def results(
    cells, portraits=(), draw=("outcomes", "portraits", "spectra", "rates"), name="sample", title="A sample study"
):
    """Results with these cells."""
    return Results(
        name=name,
        title=title,
        cells=tuple(cells),
        portraits=tuple(portraits),
        settings={"name": name, "title": title, "steps": 2000, "seed": 0, "draw": list(draw)},
        provenance={"version": "0.1.0", "dtype": "float64", "seed": 0, "platform": "cpu", "seconds": 12.5},
        draw=tuple(draw),
    )


def small():
    """Five cells: one that agrees, one explained, one unexplained, two untested, one of them without a rate."""
    return results(
        [
            cell(),
            cell(kind="flow", damping=0.0, outcome="undecided"),
            cell(method="alternating", outcome="cycling"),
            cell(method="consensus", damping=0.2, outcome="converged", agreement="unexplained"),
            cell("bilinear", "", "", "alternating", damping=0.0, rate=float("nan")),
        ],
        [portrait()],
    )


def flagship():
    """About as many cells as the default study has."""
    cells = []
    for game, (objectives, penalised) in GAMES.items():
        for i, objective in enumerate(objectives):
            for penalty, help_ in PENALTIES.items() if penalised else [("", 0.0)]:
                for method, effect in METHODS.items():
                    for kind in ("map", "flow"):
                        if kind == "flow" and method in ("extragradient", "optimistic"):
                            continue
                        damping = effect + help_ + (0.005 if kind == "map" and effect == 0 else 0.0)
                        number = len(cells)
                        kwargs = {}
                        if number % 17 == 3:
                            kwargs = {"outcome": "cycling"}
                        if number % 113 == 50:
                            kwargs = {"outcome": "undecided", "agreement": "unexplained"}
                        turn = 0.25 + 0.1 * i
                        cells.append(
                            cell(
                                game,
                                objective,
                                penalty,
                                method,
                                kind,
                                damping=damping,
                                turn=turn,
                                seed=number,
                                **kwargs,
                            )
                        )
    portraits = [portrait(f"Dirac-GAN, {name}", 0.08 * i) for i, name in enumerate(GAMES["Dirac-GAN"][0])]
    return results(cells, portraits, title="Which GAN training methods converge on which games", name="flagship")


def plane():
    """A study over two axes."""
    cells = []
    for kind in ("map", "flow"):
        for rate in np.geomspace(0.01, 1, 17):
            for weight in np.linspace(0, 1, 13):
                damping = 0.5 * rate**2 - 0.4 * rate * weight + (0 if kind == "map" else -0.3 * rate**2)
                cells.append(
                    cell(kind=kind, axes={"update.rate": float(rate), "penalty.weight": float(weight)}, damping=damping)
                )
    return results(cells, draw=("outcomes",), name="plane", title="Rate against weight of the penalty")


def line():
    """A study over one axis, for two methods."""
    cells = []
    for method, shift in (("simultaneous", 0.0), ("alternating", -0.03)):
        for kind in ("map", "flow"):
            for weight in np.linspace(0, 1, 15):
                damping = 0.05 + shift - 0.2 * weight * (1 - 0.4 * weight)
                cells.append(
                    cell(
                        method=method,
                        kind=kind,
                        axes={"penalty.weight": float(weight)},
                        damping=damping,
                        seed=len(cells),
                    )
                )
    return results(cells, draw=("outcomes",), name="line", title="What the weight of the penalty does")
