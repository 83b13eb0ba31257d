"""The command line: what it prints, what it writes, and what it says to bad input."""

import dataclasses
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
import study_samples
import xarray
from processes import INTERRUPTIBLE

import dynamics
from dynamics import catalogue, claims, cli, experiments, optimisers, studies
from dynamics._text import readable
from dynamics.reports import definitions
from dynamics.reports import studies as report

SMALL = dataclasses.replace(study_samples.small(), draw=("outcomes",))


@pytest.fixture(autouse=True)
def same_precision_afterwards():
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """The command line on made-up studies, in an empty folder."""

    class StudyError(ValueError):
        pass

    calls = types.SimpleNamespace(loaded=[], executed=0, results=SMALL, during=lambda: None, folder=tmp_path)

    def load(source, settings=(), plugins=()):
        calls.loaded.append((source, list(settings), list(plugins), jax.config.jax_enable_x64))
        if source != "sample":
            raise StudyError(f"study is {source!r}; did you mean 'sample'?")
        return types.SimpleNamespace(name="sample")

    def execute(study, progress=None):
        calls.executed += 1
        for done in range(41):
            if progress:
                progress(done, 40, f"cell {done}")
            if done == 20:
                calls.during()
        return calls.results

    monkeypatch.setattr(studies, "StudyError", StudyError, raising=False)
    monkeypatch.setattr(studies, "load", load, raising=False)
    monkeypatch.setattr(studies, "execute", execute, raising=False)
    monkeypatch.setattr(studies, "resolved_toml", lambda study: "steps = 40\n", raising=False)
    monkeypatch.setattr(studies, "builtin", lambda: {"sample": "A sample study"}, raising=False)
    monkeypatch.chdir(tmp_path)
    return calls


def failed(capsys, *arguments, code=2):
    """Run, check the exit code, that there is nothing but one message, and return it."""
    assert cli.main(list(arguments)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dynamics: error: ") and err.count("dynamics:") == 1 and "Traceback" not in err
    return err.strip()


def process(*arguments, **keywords):
    return subprocess.run(
        [sys.executable, "-m", "dynamics", *arguments], capture_output=True, text=True, timeout=120, **keywords
    )


# Help, version, list


def test_help_and_version(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in cli.COMMANDS)
    assert cli.main([]) == 0
    assert capsys.readouterr().out == text
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"dynamics {dynamics.__version__}\n"
    for command in cli.COMMANDS:
        assert cli.main([command, "--help"]) == 0
        assert command in capsys.readouterr().out


def test_help_and_version_import_nothing_heavy():
    code = """
import sys
from dynamics.cli import main
assert main(["--help"]) == 0 and main(["run", "--help"]) == 0 and main(["--version"]) == 0
heavy = {"jax", "numpy", "scipy", "matplotlib", "rich", "equinox", "optax", "xarray"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("room", cli.ROOMS)
def test_list_names_every_member_in_one_line(room, capsys, fake):
    if room in ("studies", "claims"):
        names = studies.builtin() if room == "studies" else claims.catalogue()
    else:
        catalogues = {"optimisers": optimisers.CATALOGUE, "experiments": experiments.RUNNABLE}
        names = catalogues[room] if room in catalogues else catalogue.members(room)
    assert cli.main(["list", room]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(names)
    assert all(len(line.split()) > 2 for line in lines), "every member has a summary"
    assert not any(sign in line for line in lines for sign in ("\\", "$", "{", "}"))


def test_list_alone_is_one_screen(capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 25 and max(map(len, lines)) <= 110
    counts = {line.split()[0]: line.split()[1] for line in lines if line and not line.startswith((" ", "dynamics"))}
    assert list(counts) == list(cli.ROOMS) == list(definitions.ABOUT)
    assert counts["games"] == str(len(catalogue.members("games")))
    assert counts["claims"] == str(len(claims.catalogue()))


def test_list_of_everything(capsys, fake):
    assert cli.main(["list", "all"]) == 0
    text = capsys.readouterr().out
    assert cli.main(["list", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert list(data) == list(cli.ROOMS)
    for room, members in data.items():
        assert room in text.splitlines()
        assert members and all(member["name"] in text and member["summary"] for member in members)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (
            "DiracGAN",
            ["dynamics.games.DiracGAN(", "penalty=None", "Mescheder, Geiger, Nowozin", "Its equilibria: (0, 0)"],
        ),
        ("Consensus", ["dynamics.directions.Consensus(weight", "The Numerics of GANs"]),
        ("adam", ["dynamics.optimisers.adam(", "b1="]),
        ("rings", ["rings: How many modes", "--set seeds=10"]),
        ("flagship", ["[[game]]", "[[method]]"]),
        (
            "bilinear/extragradient",
            ["Korpelevich 1976", "Expected: it holds.", "dynamics claims bilinear/extragradient"],
        ),
    ],
)
def test_show_prints_definitions(name, parts, capsys):
    assert cli.main(["show", name]) == 0
    text = capsys.readouterr().out
    assert all(part in text for part in parts)
    assert "$" not in text and "\\" not in text
    assert cli.main(["show", name, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert all(part in "".join(shown["definitions"].values()) for part in parts)


def test_every_game_and_claim_can_be_shown():
    for room in ("games", "claims"):
        for name in definitions.members(room):
            text = definitions.definition(room, name)
            assert name in text and len(text.splitlines()) > 5
            if room == "games":
                assert "Its equilibria" in text, name


def test_a_new_study_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "mine.toml"]) == 0
    assert "dynamics run mine.toml" in capsys.readouterr().out
    assert "dynamics stability mine.toml" in Path("mine.toml").read_text()
    assert cli.main(["stability", "mine.toml", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert len(cells) == 12 and {cell["verdict"] for cell in cells} >= {"stable", "unstable"}
    before = Path("mine.toml").read_bytes()
    assert "exists already" in failed(capsys, "new", "mine.toml")
    assert "'study' is no name for a study; expected one that ends in .toml" in failed(capsys, "new", "study")
    assert "cannot be written" in failed(capsys, "new", "no/such/folder/study.toml")
    assert Path("mine.toml").read_bytes() == before


def test_objectives_are_listed_with_what_is_known_of_them(capsys, fake):
    assert cli.main(["list", "objectives"]) == 0
    text = capsys.readouterr().out
    assert cli.main(["list", "objectives", "--json"]) == 0
    members = json.loads(capsys.readouterr().out)["objectives"]
    of = {member["name"]: member for member in members}
    assert len(of) == len(members) == text.count("ideal loss") == text.count("source")
    for member in members:
        assert member["losses"].startswith("$L_") and "20" in member["source"] and member["divergence"] in text
        assert np.isfinite(member["ideal_discriminator_loss"]) and member["symmetric"] in (True, False, None)
    assert of["Minimax"]["ideal_discriminator_loss"] == pytest.approx(np.log(4)) and of["KL"]["ideal_score"] == 1
    assert "    ideal loss  1.38629 of the discriminator, at score 0\n" in text
    assert "    properties  strictly proper, not symmetric, not bounded\n" in text
    assert "    losses      L_D = E_real max(0, 1-C) + E_fake max(0, 1+C), L_G = -E_fake C.\n" in text


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (r"$\tfrac12 E_{real}\max(0, 1-C)(\exp(-C) - 1)$", "1/2 E_real max(0, 1-C)(exp(-C) - 1)"),
        (r"$\dot x_i = r_i\, d_i(x)$", "dx_i/dt = r_i d_i(x)"),
        (r"a $\frac{\gamma}{2} E\|\nabla_x C\|^2$, b", "a γ/2 E‖∇_x C‖^2, b"),
        (r"$\frac12 z^\top M$", "1/2 zᵀ M"),
        (r"$-a\cos x$ and $E\log\sigma(C)$", "-a cos x and E log σ(C)"),
        (r"$h/(\sqrt{\hat v + \epsilon_{root}})$", "h/(√(v + ε_root))"),
        (r"$-\frac h2\left(\frac1{n_i}(D_iV_i)V_i \pm V_j\right)$", "-h/2 (1/n_i(D_iV_i)V_i ± V_j)"),
        (r"$\frac{1+\beta}{(1-\beta)^3}$", "(1+β)/((1-β)^3)"),
        (r"$\frac{1-b}{\sqrt{1-c}}$, $\frac{y^2}2$", "(1-b)/(√(1-c)), y^2/2"),
        (r"$\begin{pmatrix}1&-b\\c&0\end{pmatrix}$", "[1,-b;c,0]"),
        (r"$A^\top\xi + \theta\bar D$, $e^{i\varphi}$", "Aᵀξ + θD, e^(iφ)"),
        (r"$\sin\omega$, $\max\{1,\ 2\}$, $1/\sqrt2$", "sin ω, max(1, 2), 1/√2"),
        ("costs 5 dollars", "costs 5 dollars"),
    ],
)
def test_formulas_as_plain_text(formula, text):
    assert readable(formula) == text


# What is typed wrongly


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["lits"], ["'lits'", "'list'"]),
        (["list", "gmaes"], ["'gmaes'", "'games'"]),
        (["show", "DiracGANN"], ["'DiracGANN'", "'DiracGAN'"]),
        (["show"], ["NAME"]),
        (["run", "--precision", "16"], ["--precision", "'16'", "32 or 64"]),
        (["run", "--set", "steps"], ["--set", "'steps'", "PATH=VALUE"]),
        (["run", "--set", "=3"], ["--set", "'=3'", "PATH=VALUE"]),
        (["run", "--set"], ["--set", "expected one argument"]),
        (["run", "--otu", "x"], ["'--otu'", "'--out'"]),
        (["run", "--quite"], ["'--quite'", "'--quiet'"]),
        (["run", "--out", ""], ["--out", "''"]),
        (["run", "sample", "more"], ["'more'"]),
        (["stability"], ["STUDY"]),
        (["stability", "nonsense"], ["'nonsense'", "'sample'"]),
        (["run", "nonsense"], ["'nonsense'", "'sample'"]),
        (["--jsn"], ["'--jsn'"]),
    ],
)
def test_bad_arguments(arguments, parts, capsys, fake):
    message = failed(capsys, *arguments)
    assert len(message.splitlines()) == 1
    for part in parts:
        assert part in message
    assert fake.executed == 0
    assert os.listdir() == []


def test_no_traceback_from_the_process():
    ended = process("run", "--precision", "half")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "dynamics: error: --precision: got 'half'; expected 32 or 64\n"


# Where to write


def test_out_that_is_a_file(capsys, fake, tmp_path):
    (tmp_path / "taken").write_text("mine")
    assert "'taken'" in failed(capsys, "run", "sample", "--out", "taken")
    assert "taken/sub" in failed(capsys, "run", "sample", "--out", "taken/sub")
    (tmp_path / "dangling").symlink_to("nowhere")
    failed(capsys, "run", "sample", "--out", "dangling")
    assert (tmp_path / "taken").read_text() == "mine"
    assert sorted(os.listdir()) == ["dangling", "taken"]
    assert fake.loaded == [] and fake.executed == 0, "found out before anything is computed"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that not even root can write to")
def test_out_that_cannot_be_written(capsys, fake):
    message = failed(capsys, "run", "sample", "--out", "/proc/nothing/here")
    assert "--out" in message and "'/proc/nothing/here'" in message and "written" in message
    assert fake.executed == 0


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_out_without_permission(capsys, fake, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "'closed'" in failed(capsys, "run", "sample", "--out", "closed")
    assert "closed/deep" in failed(capsys, "run", "sample", "--out", "closed/deep")
    assert fake.executed == 0


# Runs


def test_run_writes_a_whole_folder(capsys, fake, tmp_path):
    assert cli.main(["run", "sample", "--set", "steps=40", "--plugin", "mine"]) == 0
    out, err = capsys.readouterr()
    assert fake.loaded == [("sample", ["steps=40"], ["mine"], True)]
    assert os.listdir() == ["results"] and os.listdir("results") == ["sample"]
    files = set(os.listdir("results/sample"))
    assert {"report.md", "results.json", "results.nc", "study.toml", "outcomes.png"} <= files
    assert (
        "dynamics run sample --set steps=40 --plugin mine --precision 64"
        in (tmp_path / "results/sample/report.md").read_text()
    )
    assert "1 DIFFERS WITHOUT EXPLANATION" in out and "results/sample" in out and "\x1b" not in out
    lines = err.splitlines()
    assert (
        lines[0] == "dynamics: compiling"
        and 5 < len(lines) < 15
        and all(line.startswith("dynamics: ") for line in lines)
    )
    assert lines[-1] == "dynamics: 40/40 cell 40"


def test_the_folder_has_the_usual_permissions(fake, tmp_path):
    (tmp_path / "usual").mkdir()
    cli.main(["run", "sample", "--quiet", "--out", "new"])
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_json_alone_on_standard_output(capsys, fake):
    assert cli.main(["run", "sample", "--json", "--quiet", "--precision", "32", "--out", "a/b"]) == 0
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert data["output"] == "a/b" and len(data["cells"]) == 5 and err == ""
    assert fake.loaded[0][3] is False
    assert os.path.isfile("a/b/results.nc")


def test_strict_turns_unexplained_disagreements_into_an_exit_code(fake):
    assert cli.main(["run", "sample", "--quiet", "--strict"]) == 1
    assert os.path.isfile("results/sample/report.md")
    fake.results = study_samples.results([study_samples.cell()])
    assert cli.main(["run", "sample", "--quiet", "--strict"]) == 0


@pytest.mark.slow
def test_a_second_run_replaces_the_first_and_nothing_else(fake, tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "rates.png").write_text("mine too")
    fake.results = study_samples.results([study_samples.cell()], draw=("outcomes",))
    assert cli.main(["run", "sample", "--quiet", "--out", "kept"]) == 0
    assert (folder / "rates.png").read_text() == "mine too", "no earlier results, so this file is somebody's own"
    fake.results = study_samples.small()
    assert cli.main(["run", "sample", "--quiet", "--out", "kept"]) == 0
    assert len(json.loads((folder / "results.json").read_text())["cells"]) == 5
    assert (folder / "portraits.png").is_file()
    fake.results = study_samples.results([study_samples.cell()], draw=("outcomes",))
    assert cli.main(["run", "sample", "--quiet", "--out", "kept"]) == 0
    assert not (folder / "portraits.png").exists(), "a picture of the run before"
    assert (folder / "notes.txt").read_text() == "mine"
    assert not [name for name in os.listdir("kept") if name.startswith(".")]


def test_an_odd_name_stays_one_folder(fake, monkeypatch):
    monkeypatch.setattr(studies, "load", lambda *args: types.SimpleNamespace(name="../../a b/.."))
    assert cli.main(["run", "sample", "--quiet"]) == 0
    assert os.listdir() == ["results"] and os.listdir("results") == ["a-b"]


# Trouble in the middle


def raiser(error):
    def function(*args, **kwargs):
        raise error

    return function


def test_interrupted_while_computing(capsys, fake):
    fake.during = raiser(KeyboardInterrupt())
    assert cli.main(["run", "sample", "--quiet"]) == 130
    out, err = capsys.readouterr()
    assert (out, err) == ("", "dynamics: interrupted\n")
    assert os.listdir() == []


NO_ROOM = OSError(28, "No space left on device")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), NO_ROOM])
def test_numbers_that_cannot_be_written_leave_nothing_behind(error, capsys, fake, monkeypatch):
    monkeypatch.setattr(report, "_write_text", raiser(error))
    assert cli.main(["run", "sample", "--quiet", "--out", "new/deep"]) == (2 if error is NO_ROOM else 130)
    assert capsys.readouterr().err.count("\n") == 1
    assert os.listdir() == []


def test_numbers_that_cannot_be_written_leave_the_run_before_as_it_was(fake, monkeypatch):
    assert cli.main(["run", "sample", "--quiet", "--out", "kept"]) == 0
    before = {name: os.stat(f"kept/{name}").st_mtime_ns for name in os.listdir("kept")}
    monkeypatch.setattr(report, "_write_text", raiser(NO_ROOM))
    assert cli.main(["run", "sample", "--quiet", "--out", "kept"]) == 2
    assert {name: os.stat(f"kept/{name}").st_mtime_ns for name in os.listdir("kept")} == before


@pytest.mark.parametrize("error", [NO_ROOM, RuntimeError("an odd label"), MemoryError()])
@pytest.mark.parametrize("what", ["results.nc", "outcomes.png", "report.md"])
def test_the_numbers_are_there_whatever_becomes_of_the_rest(what, error, capsys, fake, monkeypatch):
    from dynamics import plots
    from dynamics.studies.results import Results

    owner, name = {
        "results.nc": (Results, "to_xarray"),
        "outcomes.png": (plots, "outcome_chart"),
        "report.md": (report, "markdown"),
    }[what]
    monkeypatch.setattr(owner, name, raiser(error))
    assert cli.main(["run", "sample", "--quiet", "--out", "new"]) == 2
    out, err = capsys.readouterr()
    assert "5 cells" in out and err.count("\n") == 1 and what in err and "new" in err
    all_files = {"results.json", "study.toml", "results.nc", "outcomes.png", "report.md"}
    assert set(os.listdir("new")) == all_files - {what}
    assert len(json.loads((fake.folder / "new/results.json").read_text())["cells"]) == 5
    if what == "outcomes.png":
        assert "outcomes.png" not in (fake.folder / "new/report.md").read_text()


def test_an_interruption_while_drawing_leaves_the_numbers_and_nothing_stale(fake, monkeypatch):
    from dynamics import plots

    assert cli.main(["run", "sample", "--quiet", "--out", "kept"]) == 0
    monkeypatch.setattr(plots, "outcome_chart", raiser(KeyboardInterrupt()))
    assert cli.main(["run", "sample", "--quiet", "--out", "kept"]) == 130
    assert set(os.listdir("kept")) == {"results.json", "study.toml", "results.nc"}


def test_errors_of_the_study_while_running(capsys, fake):
    fake.during = raiser(studies.StudyError("rate is -1; expected a number >= 0"))
    assert failed(capsys, "run", "sample", "--quiet") == "dynamics: error: rate is -1; expected a number >= 0"
    assert os.listdir() == []


@pytest.mark.slow
def test_a_reader_that_goes_away():
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "dynamics", "list", "objectives"], stdout=writing, stderr=subprocess.PIPE, timeout=120
    )
    os.close(writing)
    assert ended.returncode == 141 and ended.stderr == b""


# Real studies

TINY = """
title = "A tiny study"
steps = 60
until = 5.0
draw = ["outcomes", "portraits", "spectra", "rates"]

[[game]]
label = "Dirac"
name = "DiracGAN"
noise = 0.0
start = [0.5, 0.5]

[game.each]
objective = ["Wasserstein"]
penalty = ["none", { name = "R1", weight = 0.5 }]

[[method]]
label = "plain"
flow = { name = "Flow", rates = [1.0, 1.0] }
[method.update]
name = "Simultaneous"
optimisers = [{ name = "sgd", learning_rate = 0.2 }, { name = "sgd", learning_rate = 0.2 }]

[[portrait]]
game = "Dirac"
penalty = "none"
kind = "map"
methods = ["plain"]
"""


KINDS = ("map", "flow", "map", "flow")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path


@pytest.mark.slow
def test_real_run_and_its_repetition(tiny, capsys):
    assert cli.main(["run", "tiny.toml", "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    first = json.loads(out)
    assert err == "" and first["output"] == os.path.join("results", "tiny")
    folder = tiny / "results" / "tiny"
    assert {path.name for path in folder.iterdir()} == set(report.FILES)
    with xarray.open_dataset(folder / "results.nc") as data:
        assert data.sizes["cell"] == len(first["cells"]) == 4
    unpenalised, *_ = (cell for cell in first["cells"] if cell["kind"] == "map" and cell["penalty"] == "none")
    # Gradient steps of h on the bilinear game expand by sqrt(1 + h^2).
    assert unpenalised["extent"] == pytest.approx(1.04**0.5, rel=1e-12) and unpenalised["predicted"] == "unstable"
    # The resolved study gives the same again, as the report promises.
    assert "dynamics run study.toml --precision 64" in (folder / "report.md").read_text()
    assert cli.main(["run", str(folder / "study.toml"), "--json", "--quiet", "--out", "again"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] == first["cells"]


@pytest.mark.slow
def test_real_stability(tiny, capsys):
    assert cli.main(["stability", "tiny.toml", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [cell["verdict"] for cell in data["cells"]] == ["unstable", "neutral", "stable", "stable"]
    assert data["cells"][0]["label"] == "Dirac / Wasserstein / none / plain / map"
    assert cli.main(["stability", "tiny.toml"]) == 0
    text = capsys.readouterr().out
    assert text.count("unstable") == 1 and "1.0198039" in text and "\x1b" not in text
    headings = [line for line in text.splitlines() if line.startswith("Dirac / ")]
    assert headings == [
        "Dirac / Wasserstein / none: local Nash but flat, neutral for the gradient flow; tau* -",
        "Dirac / Wasserstein / R1: strict local Stackelberg, local Nash but flat; tau* 0",
    ]
    rows = [line.split() for line in text.splitlines() if line.startswith(" plain")]
    assert [row[2:4] for row in rows] == [
        [kind, cell["verdict"]] for kind, cell in zip(KINDS, data["cells"], strict=True)
    ]
    assert [row[-1] for row in rows[:2]] == ["-", "-"] and float(rows[2][-1]) >= 1 and rows[3][-1] == "1"
    assert max(len(line) for line in text.splitlines() if not line.startswith("- ")) <= 120
    ended = process("stability", "tiny.toml", "--set", 'game.0.each.penalty=["none"]', "--precision", "32")
    assert (ended.returncode, ended.stderr) == (0, "") and "radius 1.0198" in ended.stdout


@pytest.mark.slow
def test_stability_in_detail(tiny, capsys):
    assert cli.main(["stability", "tiny.toml", "--detail"]) == 0
    parts = capsys.readouterr().out.strip().split("\n\n")
    assert [part.splitlines()[0] for part in parts] == [
        f"Dirac / Wasserstein / {n} / plain / {k}" for n, k in zip(("none", "none", "R1", "R1"), KINDS, strict=True)
    ]
    assert all("own Hessians" in part and "field" in part for part in parts)
    assert "Kreiss constant" in parts[2] and "Kreiss constant" not in parts[0]
    assert cli.main(["stability", "tiny.toml", "--detail", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert all(
        {"label", "verdict", "radius", "classification", "timescale", "growth", "kreiss"} <= set(c) for c in cells
    )
    assert cells[2]["classification"]["kind"] in parts[2] and cells[2]["timescale"]["value"] == 0
    assert cells[0]["growth"] is None and cells[2]["growth"]["growth"] >= 1
    # Few cells are told in full without being asked to.
    assert cli.main(["stability", "tiny.toml", "--set", 'game.0.each.penalty=["none"]']) == 0
    few = capsys.readouterr().out.strip().split("\n\n")
    assert [part.splitlines()[:1] for part in few] == [part.splitlines()[:1] for part in parts[:2]]
    assert all("own Hessians" in part for part in few)


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("stepss=3", ["stepss", "'steps'"]),
        ("steps=many", ["steps", "'many'", "whole number"]),
        ("steps=-3", ["steps", "-3", "positive"]),
        ("until=nan", ["until", "nan", "positive"]),
        ('draw=["outcome"]', ["draw", "'outcome'", "'outcomes'"]),
        ("game.0.name=DiracGam", ["game.0.name", "'DiracGam'", "'DiracGAN'"]),
        ("game.0.start=[1.0]", ["game.0.start", "shapes"]),
        ("game.0.start=[nan,1.0]", ["game.0.start", "nan", "finite"]),
        ("game.0.noise=-1", ["game.0", "noise", "-1", ">= 0"]),
        ("game.0.noice=1", ["game.0.noice", "'noise'"]),
        ('game.0.each.penalty=["RR1"]', ["game.0.each.penalty.0", "'RR1'", "'R1'"]),
        ('game.0.each.penalty=[{name="R1",weigth=1}]', ["weigth", "'weight'"]),
        ('game.0.each.objective=["Minmax"]', ["'Minmax'", "'Minimax'"]),
        ("method.0.update.name=Simultan", ["method.0.update.name", "'Simultan'", "'Simultaneous'"]),
        ("method.0.update.optimisers.0.learning_rate=-1", ["method.0.update.optimisers.0", "-1", ">= 0"]),
        ("method.0.update.optimisers.0.learning_rate=nan", ["method.0.update.optimisers.0", "nan", "finite"]),
        ("method.0.update.optimisers.0.name=sdg", ["method.0.update.optimisers.0.name", "'sdg'", "'sgd'"]),
        ("method.0.flow.rates=[-1.0,1.0]", ["method.0.flow", "rate", "-1", ">= 0"]),
        ("method.0.flow.rates=[1.0]", ["method.0.flow", "1 rates for 2 players"]),
        ("method.0.flwo=3", ["method.0.flwo", "'flow'"]),
    ],
)
def test_bad_studies(setting, parts, tiny, capsys):
    message = failed(capsys, "run", "tiny.toml", "--quiet", "--set", setting)
    assert len(message.splitlines()) == 1
    for part in parts:
        assert part in message
    assert os.listdir() == ["tiny.toml"]


def test_study_files_that_cannot_be_read(tiny, capsys):
    assert "absent.toml" in failed(capsys, "run", "absent.toml")
    (tiny / "broken.toml").write_text("steps = = 3")
    assert "broken.toml" in failed(capsys, "run", "broken.toml")
    (tiny / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "binary.toml" in failed(capsys, "run", "binary.toml")
    (tiny / "folder.toml").mkdir()
    assert "folder.toml" in failed(capsys, "run", "folder.toml")
    assert "'flagship'" in failed(capsys, "run", "flagshp")
    assert "nowhere_to_be_found" in failed(capsys, "run", "tiny.toml", "--plugin", "nowhere_to_be_found")
    assert not os.path.exists("results")


def test_plugin_from_the_working_folder(tiny, capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tiny / "somebodys_game.py").write_text(PLUGIN)
    study = TINY.replace('"DiracGAN"', '"Somebodys"').replace("noise = 0.0", "strength = 2.0")
    study = study.split("[game.each]")[0] + "[[method]]" + study.split("[[method]]")[1]
    (tiny / "own.toml").write_text(study)
    assert "'Somebodys'" in failed(capsys, "stability", "own.toml")
    assert cli.main(["stability", "own.toml", "--plugin", "somebodys_game", "--json"]) == 0
    first, *_ = json.loads(capsys.readouterr().out)["cells"]
    assert first["radius"] == pytest.approx((1 + 0.4**2) ** 0.5)


PLUGIN = """
import jax
from dynamics.game import Game


class Somebodys(Game):
    "A bilinear game."

    strength: jax.Array

    def losses(self, players, key=None):
        x, y = players
        return self.strength * x * y, -self.strength * x * y

    def equilibria(self):
        return ((0.0, 0.0),)

    @classmethod
    def example(cls):
        return cls(jax.numpy.ones(())), (1.0, 1.0)
"""


def test_interrupted_process_ends_with_one_line(tiny):
    with subprocess.Popen(
        [*INTERRUPTIBLE, "run", "tiny.toml", "--set", "steps=2000000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        try:
            # The run, which would take hours, has begun.
            assert started.stderr.readline() == "dynamics: compiling\n"
            started.send_signal(signal.SIGINT)
            out, err = started.communicate(timeout=60)
        finally:
            started.kill()
    assert (started.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "dynamics: interrupted" and "Traceback" not in err
    assert os.listdir() == ["tiny.toml"]


def test_no_formula_of_a_claim_or_a_component_keeps_its_markup():
    """Words that TeX has commands for are no words of a claim."""
    texts = [readable(t) for c in claims.catalogue().values() for t in (c.statement, c.because, c.hypotheses)]
    for room in catalogue.ROOMS:
        texts += [readable(inspect.getdoc(member) or "") for member in catalogue.members(room).values()]
    for text in texts:
        assert not re.search(r"\\[a-zA-Z]|frac|sqrt[a-z0-9]|begin[a-z]*matrix|\$", text), text
