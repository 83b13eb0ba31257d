"""Pictures of sweeps: what is drawn where, in which colour, and what is refused."""

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgb
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.tri import TriContourSet

import dynamics as dy
from dynamics import optimisers, plots
from dynamics.ensembles import tables, uniform
from dynamics.plots import _style as style


def made_up(x, y=None, kind="map", more=None, design="grid"):
    """A sweep that is stable where x + y^2 < 2, as simulated: it converges up to a tenth further."""
    sides = {"rate": np.asarray(x, float)} | ({} if y is None else {"weight": np.asarray(y, float)}) | (more or {})
    dims = ("cell",) if design == "zip" else tuple(sides)
    grids = list(sides.values()) if design == "zip" else np.meshgrid(*sides.values(), indexing="ij")
    field = grids[0] + (grids[1] ** 2 if y is not None else 0) - 2
    outcome = np.where(field < 0.1, 0, 2).astype(np.int8)
    columns = {
        "outcome": outcome,
        "simulated_rate": np.where(outcome == 2, np.nan, field),
        "residual": np.exp(10 * field),
        "period": np.full(field.shape, np.nan),
        "predicted_rate": field,
        "predicted_verdict": np.where(field < 0, 0, 1).astype(np.int8),
        "predicted_radius" if kind == "map" else "predicted_abscissa": np.exp(field) if kind == "map" else field,
    }
    described = tables.described(kind)
    variables = {name: (dims, values, described[name]) for name, values in columns.items()}
    variables["energy"] = ((*dims, "energy_axis_0"), np.stack([field, -(field**2)], axis=-1))
    coordinates = {name: (("cell",) if design == "zip" else (name,), values) for name, values in sides.items()}
    dataset = xr.Dataset(variables, coordinates, {"kind": kind, "settings": '{"steps": 1000}'})
    dataset["rate"].attrs.update(long_name="learning rate", units="1/step")
    return dataset


EVEN = made_up(np.linspace(0.1, 3, 30), np.linspace(-1, 1.5, 21))


def texts(figure: Figure) -> str:
    figure.canvas.draw()
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def image(figure: Figure, panel: int = 0) -> np.ndarray:
    return figure.axes[panel].images[0].get_array()


def boundary(figure: Figure, panel: int = 0) -> np.ndarray:
    """The points of the boundary drawn in a panel."""
    kinds = (QuadContourSet, TriContourSet)
    found = [one for one in figure.axes[panel].collections if isinstance(one, kinds)]
    return np.concatenate([path.vertices for one in found for path in one.get_paths()]) if found else np.zeros((0, 2))


@pytest.mark.parametrize("kind", ["map", "flow"])
def test_outcomes_in_their_places_and_colours(kind):
    dataset = made_up(np.linspace(0.1, 3, 30), np.linspace(-1, 1.5, 21), kind)
    figure = plots.chart(dataset)
    assert isinstance(figure, Figure)
    colours = image(figure)
    assert colours.shape == (21, 30, 4) and (colours[..., 3] == 255).all()
    expected = np.where((dataset.outcome.values.T == 0)[..., None], to_rgb(style.BLUE), to_rgb(style.VERMILLION))
    np.testing.assert_allclose(colours[..., :3] / 255, expected, atol=1 / 255)
    axes = figure.axes[0]
    assert axes.get_xlabel() == "learning rate (1/step)" and axes.get_ylabel() == "weight"
    np.testing.assert_allclose(axes.get_xlim(), [0.05, 3.05])
    line = boundary(figure)
    assert len(line) > 20 and np.max(np.abs(line[:, 0] + line[:, 1] ** 2 - 2)) < 0.02
    written = texts(figure)
    assert "converged, " in written and "30 x 21 cells, 1,000 steps each" in written
    assert len(boundary(plots.chart(dataset, boundary=False))) == 0


def test_axes_in_any_order_and_of_any_spacing():
    x, y = np.geomspace(0.01, 10, 31)[::-1], np.array([-1.0, -0.9, -0.5, 0.7, 1.2, 1.25])
    dataset = made_up(x, y)
    figure = plots.chart(dataset, x="weight", y="rate")
    axes = figure.axes[0]
    assert axes.get_yscale() == "log" and axes.get_xscale() == "linear"
    low, high = axes.get_ylim()
    np.testing.assert_allclose([low, high], [0.01 / 10**0.05, 10 * 10**0.05], rtol=1e-9)
    colours = image(figure)
    blue = np.round(255 * np.array(to_rgb(style.BLUE)))
    # Every pixel shows the cell in which it lies.
    for weight in (-0.98, -0.6, 0.0, 1.0, 1.24):
        column = int((weight - axes.get_xlim()[0]) / np.ptp(axes.get_xlim()) * colours.shape[1])
        for rate in (0.02, 0.9, 1.3, 1.9, 5.0):
            row = int(np.log(rate / low) / np.log(high / low) * colours.shape[0])
            cell = dataset.isel(rate=np.argmin(np.abs(np.log(x / rate))), weight=np.argmin(np.abs(y - weight)))
            assert np.allclose(colours[row, column, :3], blue, atol=1) == (cell.outcome == 0)


def test_what_is_not_done_is_hatched():
    dataset = EVEN.copy(deep=True)
    for name in dataset.data_vars:
        dataset[name].values[20:] = -1 if dataset[name].dtype.kind == "i" else np.nan
    for variable in (None, "simulated_rate"):
        figure = plots.chart(dataset, variable=variable)
        assert "not done yet" in texts(figure)
        colours = image(figure)
        assert (colours[:, 20:, 3] == 0).all() and (colours[:, :20, 3] == 255).all()
        assert boundary(figure)[:, 0].max() <= dataset.rate[19]
        assert any(patch.get_hatch() for patch in figure.axes[0].patches)
    with pytest.raises(ValueError, match="no axis has several values"):
        plots.chart(dataset.isel(rate=0, weight=0))


def test_scales():
    rates = plots.chart(EVEN, variable="simulated_rate")
    assert "no value" in texts(rates) and "Simulated rate" in texts(rates)
    colours = image(rates)
    red, blue = colours[..., 0].astype(int), colours[..., 2].astype(int)
    falls, rises = EVEN.simulated_rate.values.T < -0.5, EVEN.simulated_rate.values.T > 0.05
    assert (blue > red)[falls].all() and (red >= blue)[rises].all()
    radius = plots.chart(EVEN, variable="predicted_radius")
    assert "1" in [tick.get_text() for tick in radius.axes[-1].get_yticklabels()]
    assert radius.axes[-1].get_ylabel() == "predicted radius"
    residual = plots.chart(EVEN, variable="residual")
    assert residual.axes[-1].get_yscale() == "log"
    assert len(plots.chart(EVEN, variable="period").axes) == 1  # no scale where there is no number
    energy = plots.chart(EVEN, variable="energy", energy_axis_0=1)
    assert "energy_axis_0 = 1" in texts(energy)
    assert len(plots.chart(EVEN, variable="energy").axes) == 3
    verdicts = plots.chart(EVEN, variable="predicted_verdict", title="What to $expect$")
    assert "stable, " in texts(verdicts) and r"What to \$expect\$" in texts(verdicts)


def test_further_axes():
    dataset = made_up([0.5, 1.5, 2.5, 3.5], [0.0, 0.5, 1.0], more={"memory": np.linspace(-0.5, 0.5, 5)})
    panels = plots.chart(dataset)
    assert [axes.get_title() for axes in panels.axes if axes.get_title()][1] == "memory = -0.25"
    one = plots.chart(dataset, memory=0.3)
    assert "memory = 0.25" in texts(one) and len(one.axes) == 1
    other = plots.chart(dataset, x="memory", weight=1.0)
    assert other.axes[0].get_xlabel() == "memory" and other.axes[0].get_ylabel() == "learning rate (1/step)"
    many = made_up([0.5, 1.5], [0.0, 0.5], more={"memory": np.linspace(-0.5, 0.5, 40)})
    with pytest.raises(ValueError, match="more than 12 panels; select a value, e.g. memory=-0.5"):
        plots.chart(many)


@pytest.mark.slow
def test_shares_of_starts():
    dataset = made_up(np.linspace(0.5, 3, 8), np.linspace(0, 1, 6), more={"start": np.arange(4)})
    dataset["outcome"].values[:4, :, 0] = 1
    figure = plots.chart(dataset)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["converged", "cycling", "diverged"] and "shares of 4 starts" in texts(figure)
    assert len(boundary(figure)) > 2
    one = plots.chart(dataset, start=0)
    assert "start = 0" in texts(one) and len(one.axes) == 1
    seeds = dataset.rename(start="noise")
    seeds["noise"].attrs["long_name"] = "noise (seed of a random key)"
    assert "shares of 4 seeds" in texts(plots.chart(seeds))
    assert len(plots.chart(dataset, variable="predicted_radius").axes) == 2
    assert len([a for a in plots.chart(dataset, variable="residual").axes if a.get_title()]) == 4
    line = plots.chart(dataset, weight=0.2)
    assert "4 starts each" in texts(line)


def test_one_axis_gives_lines():
    dataset = made_up(np.geomspace(0.1, 5, 40))
    figure = plots.chart(dataset)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and axes.get_ylabel() == "rate per step"
    predicted = next(line for line in axes.lines if len(line.get_xdata()) == 40)
    np.testing.assert_allclose(predicted.get_ydata(), dataset.predicted_rate)
    assert {"predicted rate", "simulated, converged"} <= set(texts(figure).split("\n"))
    for variable in ("residual", "predicted_radius", "period"):
        assert plots.chart(dataset, variable=variable).axes[0].get_xlabel() == "learning rate (1/step)"
    assert "unstable" in texts(plots.chart(dataset.drop_vars(["outcome", "simulated_rate"])))
    dataset["outcome"].values[30:] = -1
    dataset["predicted_rate"].values[30:] = np.nan
    assert "not done yet" in texts(plots.chart(dataset))


def test_axes_side_by_side_give_points():
    rng = np.random.default_rng(0)
    dataset = made_up(rng.uniform(0.1, 3, 300), rng.uniform(-1, 1.4, 300), design="zip")
    figure = plots.chart(dataset)
    assert "300 cells" in texts(figure)
    line = boundary(figure)
    assert len(line) > 10 and np.max(np.abs(line[:, 0] + line[:, 1] ** 2 - 2)) < 0.1
    dataset["outcome"].values[:20] = -1
    assert "not done yet" in texts(plots.chart(dataset, variable="simulated_rate"))
    straight = made_up(np.linspace(0.1, 3, 30), np.linspace(0.1, 1, 30), design="zip")
    assert len(boundary(plots.chart(straight))) == 0
    assert plots.chart(straight.drop_vars("weight")).axes[0].get_ylabel() == "rate per step"


def test_a_million_cells_are_one_image():
    dataset = made_up(np.linspace(0.1, 3, 1000), np.geomspace(0.01, 1.5, 1000))
    axes = plots.chart(dataset).axes[0]
    assert len(axes.images) == 1 and len(axes.collections) == 1  # the image and the boundary, no cell by itself


def test_what_is_refused():
    for arguments, message in {
        ("variable", "outcom"): "no variable 'outcom'; did you mean 'outcome'",
        ("x", "rat"): "x is 'rat'; there is no such axis; did you mean 'rate'",
        ("y", "learning"): "y is 'learning'; there is no such axis",
        ("x", 0.3): "expected the name of an axis.*dataset.sel",
        ("wieght", 0.3): "no axis 'wieght'; did you mean 'weight'",
        ("weight", "low"): "weight='low'; expected one number",
        ("weight", np.nan): "expected one number",
    }.items():
        with pytest.raises(ValueError, match=message):
            plots.chart(EVEN, **dict([arguments]))
    with pytest.raises(ValueError, match="x and y are both 'rate'"):
        plots.chart(EVEN, x="rate", y="rate")
    with pytest.raises(ValueError, match="'weight' is no axis of what is drawn: it was selected"):
        plots.chart(EVEN, x="weight", weight=0.3)
    with pytest.raises(ValueError, match="'memory', which is constant"):
        plots.chart(EVEN.assign_coords(memory=0.5), x="memory")
    with pytest.raises(ValueError, match="the axis 'memory' is constant"):
        plots.chart(EVEN.assign_coords(memory=0.5), memory=0.5)
    with pytest.raises(TypeError, match="the dataset is a dict"):
        plots.chart({})


@pytest.mark.slow
def test_a_store_that_is_not_finished_can_be_drawn(tmp_path):
    def build(rate, weight):
        return dy.games.Quadratic([[1.0]]), dy.updates.Simultaneous(optimisers.sgd(rate)), (weight,)

    def interrupt(done, total, text):
        if done > 600:
            raise KeyboardInterrupt

    axes = {"rate": np.linspace(0.1, 3, 60), "weight": np.linspace(0.1, 1, 40)}
    store = tmp_path / "run.zarr"
    with pytest.raises(dy.ensembles.SweepInterrupted):
        dy.sweep(build, axes, steps=64, chunk=512, store=store, progress=interrupt)
    with xr.open_zarr(store, chunks=None) as dataset:
        written = texts(plots.chart(dataset))
    assert "not done yet" in written and "converged, " in written
    chart = dy.stability_chart(build, {"rate": uniform(0.1, 3), "weight": uniform(0.1, 1)}, design=("sobol", 32))
    assert "stable, " in texts(plots.chart(chart))
