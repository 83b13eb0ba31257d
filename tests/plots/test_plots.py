"""Pictures: each has a title, axis labels and a legend, draws anything that results may hold, and touches nothing."""

import dataclasses
import itertools
import subprocess
import sys

import jax
import matplotlib.colors
import numpy as np
import optax
import pytest
import study_samples
from matplotlib.figure import Figure

import dynamics as dy
from dynamics import plots
from dynamics.plots import _style as style

PER_STUDY = (plots.outcome_chart, plots.phase_portraits, plots.spectra, plots.rates)


def check_complete(figure):
    """A title, a legend, and labels on every panel that shows axes."""
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    assert figure.get_suptitle()
    assert figure.legends or any(axes.get_legend() for axes in figure.axes)
    for axes in figure.axes:
        if axes.axison and axes.get_label() != "<colorbar>":
            assert axes.get_ylabel()
            assert axes.get_xlabel() or axes.get_shared_x_axes().get_siblings(axes) != [axes]


@pytest.mark.slow_cases("flagship-phase_portraits", "flagship-spectra")
@pytest.mark.parametrize("draw", PER_STUDY, ids=lambda f: f.__name__)
@pytest.mark.parametrize("sample", [study_samples.small, study_samples.flagship])
def test_pictures_of_a_study_are_complete(draw, sample):
    check_complete(draw(sample()))


@pytest.mark.parametrize("sample", [study_samples.plane, study_samples.line])
def test_outcomes_over_axes(sample):
    figure = plots.outcome_chart(sample())
    check_complete(figure)
    assert any("weight" in axes.get_xlabel() + axes.get_ylabel() for axes in figure.axes)


def test_predicted_boundary_is_drawn_where_it_was_predicted():
    results = study_samples.plane()
    figure = plots.outcome_chart(results)
    curves = [c for c in figure.axes[0].collections if type(c).__name__ == "QuadContourSet"]
    points = np.concatenate([path.vertices for curve in curves for path in curve.get_paths()])
    # The sample's maps change stability at weight = 1.25 rate.
    np.testing.assert_allclose(points[:, 1], 1.25 * points[:, 0], rtol=0.1, atol=0.02)


def test_axes_beyond_the_second_give_panels():
    cells = [
        study_samples.cell(axes={"a": a, "b": b, "c": c}, damping=a - b)
        for a in (0.0, 1.0)
        for b in (0.0, 1.0)
        for c in (1.0, 2.0)
    ]
    figure = plots.outcome_chart(study_samples.results(cells))
    titles = [axes.get_title() for axes in figure.axes]
    assert any("c = 1" in title for title in titles) and any("c = 2" in title for title in titles)


def test_table_of_outcomes_holds_every_cell_once():
    results = study_samples.flagship()
    figure = plots.outcome_chart(results)
    shades = figure.axes[0].collections[0].get_array()
    assert shades.count() == len(results.cells)
    marks = [c for c in figure.axes[0].collections if type(c).__name__ == "PathCollection"]
    assert sum(len(c.get_offsets()) for c in marks) == len(results.cells)
    frames = [c for c in figure.axes[0].collections if type(c).__name__ == "PatchCollection"]
    assert sum(len(c.get_paths()) for c in frames) == results.counts()["unexplained"]


def test_table_of_outcomes_says_when_rows_are_left_out():
    cells = [study_samples.cell(game=f"game {i}") for i in range(400)]
    figure = plots.outcome_chart(study_samples.results(cells))
    assert any("left out" in text.get_text() for text in figure.findobj() if hasattr(text, "get_text"))


@pytest.mark.parametrize("draw", PER_STUDY, ids=lambda f: f.__name__)
def test_nothing_finite_is_still_drawn(draw):
    nothing = float("nan")
    cell = dataclasses.replace(
        study_samples.cell(),
        predicted_rate=-np.inf,
        rate=nothing,
        eigenvalues=np.full(3, complex(nothing, nothing)),
        extent=nothing,
    )
    portrait = study_samples.portrait()
    runaway = np.array([[1.0, 1.0], [1e200, -1e200], [np.nan, np.inf]])
    portrait = dataclasses.replace(portrait, trajectories=(("runaway", runaway), ("nothing", runaway[2:])))
    check_complete(draw(study_samples.results([cell], [portrait])))


def test_rates_that_spread_widely_get_a_logarithmic_scale():
    cells = [study_samples.cell(damping=damping, rate=damping) for damping in (-1e-4, -1e-2, -3.0, 0.1)]
    figure = plots.rates(study_samples.results(cells))
    assert figure.axes[0].get_xscale() == "symlog"
    check_complete(figure)


def test_far_eigenvalues_are_counted_rather_than_shown():
    cells = [study_samples.cell(seed=i) for i in range(30)]
    cells.append(dataclasses.replace(study_samples.cell(), eigenvalues=np.array([300.0 + 0j])))
    figure = plots.spectra(study_samples.results(cells))
    assert "1 outside" in " ".join(text.get_text() for text in figure.axes[0].texts)
    assert figure.axes[0].get_xlim()[1] < 10


def test_labels_are_text_and_never_formulas():
    cells = [study_samples.cell(game="$a_", objective="$x^$", penalty="50 $", method="$\\bad$", kind="map")]
    portrait = dataclasses.replace(study_samples.portrait("$\\frac$"), names=("$x", "y$$"))
    results = study_samples.results(cells, [portrait], title="$ and $\\nope$")
    for draw in PER_STUDY:
        draw(results).canvas.draw()


def test_portraits_of_a_study_without_any():
    with pytest.raises(ValueError, match="no portraits"):
        plots.phase_portraits(study_samples.results([study_samples.cell()]))


def test_portrait_on_an_uneven_grid():
    portrait = study_samples.portrait()
    uneven = np.sign(portrait.x) * np.abs(portrait.x) ** 1.5
    check_complete(plots.phase_portrait(dataclasses.replace(portrait, x=uneven, y=uneven)))


@pytest.mark.slow
def test_single_runs_and_reports():
    game = dy.games.DiracGAN(penalty=dy.penalties.R1(0.3))
    update = dy.updates.Alternating(optax.sgd(0.1), optax.sgd(0.2))
    run = dy.simulate(game, update, (1.0, 1.0), steps=40)
    figure = plots.trajectory(run)
    check_complete(figure)
    assert "undecided" in figure.get_suptitle() or "converged" in figure.get_suptitle()
    for method in (update, dy.flows.Flow(dy.directions.Gradient())):
        check_complete(plots.spectrum(dy.stability(game, method)))


@pytest.mark.slow
def test_trajectory_of_many_coordinates_and_of_a_flow():
    matrix = np.arange(40.0).reshape(8, 5) % 7 - 3
    run = dy.simulate(
        dy.games.Bilinear(matrix), dy.flows.Flow(dy.directions.Gradient()), (np.ones(8), np.ones(5)), until=1.0
    )
    figure = plots.trajectory(run)
    check_complete(figure)
    assert "12 of 13" in " ".join(text.get_text() for text in figure.axes[0].texts)


@pytest.mark.slow
def test_trajectory_needs_one_run_saved_along_the_way():
    game = dy.games.Bilinear(1.0)
    update = dy.updates.Simultaneous(optax.sgd(0.1), optax.sgd(0.1))
    with pytest.raises(ValueError, match="save_every"):
        plots.trajectory(dy.simulate(game, update, (1.0, 1.0), steps=8, save_every="last"))
    batch = jax.vmap(lambda x: dy.simulate(game, update, (x, x), steps=8))(np.ones(2))
    with pytest.raises(ValueError, match="batch"):
        plots.trajectory(batch)


def test_save(tmp_path):
    path = plots.save(plots.phase_portrait(study_samples.portrait()), tmp_path / "new" / "portrait.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"portrait\.nope.*\.png"):
        plots.save(plots.phase_portrait(study_samples.portrait()), tmp_path / "portrait.nope")


def test_a_notebook_shows_the_picture_itself():
    assert plots.phase_portrait(study_samples.portrait())._repr_png_().startswith(b"\x89PNG")


@pytest.mark.slow
def test_drawing_touches_nothing_global():
    code = """
import sys, matplotlib
before = dict(dict.items(matplotlib.rcParams))  # asking for the entries one by one imports pyplot
sys.path.insert(0, "tests")
import study_samples
from dynamics import plots
plots.outcome_chart(study_samples.small()).canvas.draw()
assert dict(dict.items(matplotlib.rcParams)) == before
assert "matplotlib.pyplot" not in sys.modules
"""
    root = plots.__file__.rsplit("/dynamics/", 1)[0]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


# What three kinds of colour-blind people see of linear red, green and blue: Machado, Oliveira, Fernandes, A
# Physiologically-based Model for Simulation of Color Vision Deficiency, 2009, severity 1.
SEEN = {
    "everybody": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopes": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopes": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopes": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def in_lab(linear):
    """CIE 1976 L*a*b* of linear sRGB, white point D65."""
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    x = np.array(to_xyz) @ np.clip(linear, 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("who", SEEN)
@pytest.mark.parametrize(
    "colours, least",
    [(style.OUTCOMES.values(), 15), (style.VERDICTS.values(), 15), (style.SERIES, 13)],
    ids=["outcomes", "verdicts", "series"],
)
def test_colours_are_told_apart_by_the_colour_blind(colours, least, who):
    rgb = np.array([matplotlib.colors.to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    points = [in_lab(np.array(SEEN[who]) @ colour) for colour in linear]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(points, 2)) >= least


def test_spectra_tell_methods_apart_and_name_verdicts_that_occur():
    results = study_samples.flagship()
    figure = plots.spectra(results)
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    methods = list(dict.fromkeys(cell.method for cell in results.cells))
    assert entries[: len(methods)] == methods and {"stable", "unstable", "marginal"} <= set(entries)
    assert "neutral" not in entries
    assert figure.get_figheight() * style.DPI < 1500
    stable = [cell for cell in results.cells if cell.predicted == "stable"]
    entries = plots.spectra(dataclasses.replace(results, cells=tuple(stable))).legends[0].get_texts()
    assert not {"unstable", "marginal", "neutral"} & {text.get_text() for text in entries}


def test_an_inset_shows_the_eigenvalues_around_one():
    results = study_samples.small()
    kept = [cell for cell in results.cells if cell.kind == "map"]
    many = 1 + 0.01 * np.exp(2j * np.pi * np.arange(20) / 20)
    cells = [dataclasses.replace(kept[0], eigenvalues=np.array([*many, 0.0, -0.5 + 1j, -0.5 - 1j]))]
    (axes,) = [axes for axes in plots.spectra(dataclasses.replace(results, cells=tuple(cells))).axes if axes.axison]
    (inset,) = axes.child_axes
    assert inset.get_xlim()[0] < 0.99 < 1.01 < inset.get_xlim()[1]
    few = [dataclasses.replace(kept[0], eigenvalues=np.array([0.9, 0.5]))]
    (axes,) = [axes for axes in plots.spectra(dataclasses.replace(results, cells=tuple(few))).axes if axes.axison]
    assert not axes.child_axes


def test_a_method_has_one_colour_and_flows_are_dashed():
    results = study_samples.small()
    (portrait,) = results.portraits[:1]
    path = portrait.trajectories[0][1]
    labels = ("alternating (map)", "alternating (flow)", "consensus (flow)")
    portrait = dataclasses.replace(portrait, trajectories=tuple((label, path) for label in labels))
    looks = [
        (line.get_color(), line.get_linestyle())
        for line in plots.phase_portrait(portrait).axes[0].lines
        if len(line.get_xdata()) > 1
    ]
    assert looks == [(style.SERIES[0], "-"), (style.SERIES[0], "--"), (style.SERIES[1], "--")]


def test_many_turns_are_faint():
    (portrait,) = study_samples.small().portraits[:1]
    angles = np.linspace(0, 40 * np.pi, 4000)  # twenty turns
    spiral = portrait.equilibrium + np.exp(-angles / 50)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    portrait = dataclasses.replace(portrait, trajectories=(("slow (map)", spiral),))
    first, middle, last = [line for line in plots.phase_portrait(portrait).axes[0].lines if len(line.get_xdata()) > 1]
    assert first.get_alpha() is None and last.get_alpha() is None and middle.get_alpha() < 0.3
    assert len(first.get_xdata()) == pytest.approx(6 / 20 * 4000, abs=5)
    assert len(last.get_xdata()) == pytest.approx(1 / 20 * 4000, abs=5)
