"""Reports: text, terminal table, plain data, and the folder of files."""

import dataclasses
import json
import re

import numpy as np
import pytest
import study_samples
import xarray
from rich.console import Console

from dynamics.reports import studies as report


def shown(table, width=160):
    console = Console(width=width, no_color=True)
    with console.capture() as text:
        console.print(table)
    return text.get()


def rows_of(text, heading):
    """The rows of the Markdown table under a heading, without its two header lines."""
    part = text.split(heading + "\n", 1)[1].split("\n#", 1)[0]
    return [line for line in part.splitlines() if line.startswith("|")][2:]


def test_report_tells_what_differs_and_why():
    results = study_samples.small()
    text = report.markdown(results)
    assert text.startswith("# A sample study\n")
    assert "5 cells: 1 as predicted, 2 untested, 1 differs and is explained, 1 DIFFERS WITHOUT EXPLANATION." in text
    explained, unexplained = (c for c in results.cells if c.agreement.endswith("explained"))
    untested = [c for c in results.cells if c.agreement == "untested"]
    rows = rows_of(text, "### Explanation 1")
    assert [c.label in row for c, row in zip(untested, rows, strict=True)] == [True, True]
    assert text.index("## Untested") < text.index("### Explanation 1") < text.index("## Disagreements that are")
    [row] = rows_of(text, "### Explanation 2")
    assert explained.label in row and explained.explanation in text
    [row] = rows_of(text, "## Disagreements without explanation")
    assert unexplained.label in row
    assert "**unstable → converged !**" in text
    assert "marginal → undecided untested (1)" in text and "stable → cycling (2)" in text
    assert "stable → converged ✓" in text


def test_report_without_disagreements_says_so():
    text = report.markdown(study_samples.results([study_samples.cell()]))
    assert "none differs without explanation" in text
    assert "There are none: every cell came out as predicted" in text


def test_report_has_a_table_per_game_with_every_cell():
    results = study_samples.flagship()
    text = report.markdown(results)
    entries = 0
    for game in study_samples.GAMES:
        rows = rows_of(text, f"### {game}")
        entries += sum(
            cell.strip(" *").startswith(("stable", "unstable", "marginal")) for r in rows for cell in r.split("|")
        )
    assert entries == len(results.cells)
    widths = {
        line.count("|") for line in text.split("### Dirac-GAN", 1)[1].split("###")[0].splitlines() if line[:1] == "|"
    }
    assert len(widths) == 1


def test_explanations_are_grouped_largest_first():
    base = study_samples.cell(outcome="cycling")
    rare = dataclasses.replace(base, explanation="A rare one.")
    text = report.markdown(study_samples.results([rare, base, base]))
    assert text.index(base.explanation) < text.index("A rare one.")


def test_long_lists_are_cut_and_say_so():
    cells = [study_samples.cell(game=f"game {i}", outcome="cycling") for i in range(report.MOST_LISTED + 7)]
    text = report.markdown(study_samples.results(cells))
    assert len(rows_of(text, "### Explanation 1")) == report.MOST_LISTED
    assert "and 7 more" in text


def test_cells_over_axes_are_counted():
    text = report.markdown(study_samples.plane())
    assert re.search(r"\d+ × stable → converged ✓", text)
    assert "update.rate: 17 values from 0.01 to 1" in text


def test_report_links_only_pictures_that_are_drawn():
    results = study_samples.results([study_samples.cell()], draw=("outcomes", "portraits"))
    text = report.markdown(results)
    assert "(outcomes.png)" in text
    assert "portraits.png" not in text and "rates.png" not in text


def test_report_says_how_to_do_it_again():
    results = study_samples.small()
    assert "dynamics run study.toml --precision 64" in report.markdown(results)
    assert "dynamics run flagship --set steps=3" in report.markdown(results, "dynamics run flagship --set steps=3")
    single = dataclasses.replace(results, provenance={"dtype": "float32", "version": "9.9"})
    assert "--precision 32" in report.markdown(single)
    assert "version: 9.9" in report.markdown(single)


def test_labels_cannot_break_a_table():
    cell = study_samples.cell(game="a|b", objective="*c*\n#d", penalty="<e>")
    text = report.markdown(study_samples.results([cell]))
    assert "### a\\|b\n" in text and "\\*c\\* #d" in text and "\\<e\\>" in text


def test_no_emoji():
    text = report.markdown(study_samples.flagship()) + shown(report.table(study_samples.flagship()))
    assert all(ord(character) < 0x2714 for character in text)


def test_table_has_a_row_per_game_objective_and_penalty():
    lines = shown(report.table(study_samples.flagship())).splitlines()
    assert sum("non-saturating, instance noise" in line for line in lines) == 1
    [row] = [line for line in lines if "minimax, instance noise" in line]
    assert row.split()[3:] == ["C/C", "?!/C", "C/C", "O*/C", "C/C", "C/-", "C/-"]


def test_many_methods_are_rows():
    cells = [
        study_samples.cell(game=game, objective="", penalty=penalty, method=f"method {i}", kind=kind)
        for game, penalty in (("A", "none"), ("A", "R1"), ("B", ""))
        for i in range(report.MOST_COLUMNS + 1)
        for kind in ("map", "flow")
        if (game, i, kind) != ("B", 3, "flow")
    ]
    lines = shown(report.table(study_samples.results(cells)), width=100).splitlines()
    assert any(line.split() == ["method", "A,", "none", "A,", "R1", "B"] for line in lines)
    assert [line.split()[2:] for line in lines if line.strip().startswith("method 3")] == [["C/C", "C/C", "C/-"]]
    text = report.markdown(study_samples.results(cells))
    assert "| method | none, map | none, flow | R1, map | R1, flow |" in text and "| method | map | flow |" in text
    assert "| method 3 | stable → converged ✓ |  |" in text.split("### B")[1]


def test_table_fits_a_narrow_terminal():
    text = shown(report.table(study_samples.flagship()), width=80)
    assert "non-saturating, instance noise" in text and "…" not in text


def test_table_counts_over_axes_and_survives_markup():
    assert re.search(r"\d+C \d+O~ \d+D/", shown(report.table(study_samples.plane())))
    cell = study_samples.cell(game="[bold]x[/nope]", objective="[/]")
    assert "[bold]x[/nope]" in shown(report.table(study_samples.results([cell])))


def test_json_is_plain_and_strict():
    results = study_samples.small()
    results = dataclasses.replace(results, settings={"a": np.float64("inf"), "b": np.arange(2), "c": {1: (True, None)}})
    data = json.loads(json.dumps(results.to_dict(), allow_nan=False))
    assert data["counts"] == {"agrees": 1, "untested": 2, "explained": 1, "unexplained": 1}
    assert data["settings"] == {"a": None, "b": [0, 1], "c": {"1": [True, None]}}
    first, *_, last = data["cells"]
    assert first["label"] == results.cells[0].label
    assert last["rate"] is None
    assert first["eigenvalues"] == [[v.real, v.imag] for v in results.cells[0].eigenvalues]


@pytest.mark.slow
def test_folder_holds_everything(tmp_path):
    results = study_samples.small()
    written = report.write(results, tmp_path / "out", study="steps = 1\n", command="dynamics run small")
    assert sorted(path.name for path in written) == sorted(report.FILES)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(report.FILES)
    assert (tmp_path / "out" / "study.toml").read_text() == "steps = 1\n"
    text = (tmp_path / "out" / "report.md").read_text()
    for name in re.findall(r"\]\(([^)#]+)\)", text):
        assert (tmp_path / "out" / name).is_file()
    with xarray.open_dataset(tmp_path / "out" / "results.nc") as data:
        assert list(data["outcome"].values) == [cell.outcome for cell in results.cells]
        np.testing.assert_array_equal(data["rate"], [cell.rate for cell in results.cells])
        assert data.attrs["title"] == results.title
    json.loads((tmp_path / "out" / "results.json").read_text())


@pytest.mark.parametrize("draw", [(), ("rates",)])
def test_folder_holds_only_the_pictures_asked_for(tmp_path, draw):
    report.write(study_samples.results([study_samples.cell()], draw=draw), tmp_path)
    assert {path.stem for path in tmp_path.glob("*.png")} == set(draw)
    assert not (tmp_path / "study.toml").exists()


def test_a_study_without_a_title_goes_by_its_name():
    results = study_samples.results([study_samples.cell()], title="", name="unnamed")
    assert report.markdown(results).startswith("# unnamed\n")
    assert "unnamed" in shown(report.table(results))
