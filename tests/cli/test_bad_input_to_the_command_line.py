"""Whatever is typed or stands in a study: exit code 2 and one line, never a traceback, never a made-up answer.

Studies are damaged by type, by value and letter by letter, command lines word by word. Where a study is still one, its
cells are made up instead of computed, and everything that is written and printed of them is real.
"""

import copy
import json
import math
import os
import pathlib
import subprocess
import sys
import tomllib

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import study_samples
import tomli_w

import dynamics as dy
from dynamics import _locks, _memory, catalogue, cli, ensembles, studies
from dynamics._text import is_plain
from dynamics.reports import studies as report
from dynamics.studies import engine, figures, schema

STUDY = """
title = "A study"
steps = 20
until = 2.0
seed = 3
draw = ["outcomes", "portraits", "spectra", "rates"]

[[game]]
label = "Dirac"
name = "DiracGAN"
noise = 0.5
start = [0.5, 0.4]

[game.each]
objective = ["Minimax", { name = "LeastSquares", label = "squares" }]
penalty = ["none", { name = "R1", weight = 0.5, label = "R1" }, { label = "wider", set = { noise = 1.0 } }]

[[game]]
name = "Bilinear"
matrix = [[1.0, 0.5], [0.0, 0.8]]
start = [[1.0, -0.5], [0.5, 1.0]]

[[method]]
label = "plain"
flow = { name = "Flow", rates = [1.0, 2.0], direction = { name = "Consensus", weight = 0.1 } }
[method.update]
name = "Simultaneous"
optimisers = [{ name = "sgd", learning_rate = 0.2 }, { name = "adam", learning_rate = 0.2, nesterov = true }]

[[method]]
update = { name = "Averaged", decay = 0.9, inner_update = { name = "RungeKutta", method = "heun", rates = 0.1 } }
flow = { name = "NoisyFlow", scale = 0.1, flow = { name = "GapAwareFlow", ideal_loss = "game", absolute_width = 0.1 } }

[axes]
"method.0.update.optimisers.*.learning_rate" = [0.1, 0.2]
"game.0.noise" = { low = 0.1, high = 1.0, count = 2, scale = "log" }

[[portrait]]
game = "Dirac"
objective = "Minimax"
penalty = "none"
methods = ["plain"]
half_width = 1.0
"""
DATA = tomllib.loads(STUDY)


@pytest.fixture(autouse=True)
def same_settings_afterwards(monkeypatch):
    before = jax.config.jax_enable_x64
    monkeypatch.setattr(catalogue, "_ADDED", list(catalogue._ADDED))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(STUDY, encoding="utf-8")
    return tmp_path


@pytest.fixture
def made_up(monkeypatch):
    """Cells are not computed, but made up from their recipes, in both commands."""

    def execute(study, progress=None, **options):
        jobs = engine.prepare(study)
        figures.requests(study, jobs)
        fields = ("game", "objective", "penalty", "method", "kind", "axes")
        sample = {name: value for name, value in vars(study_samples.cell()).items() if name not in fields}
        cells = [type(study_samples.cell())(**{n: getattr(j.recipe, n) for n in fields}, **sample) for j in jobs]
        provenance = {"dtype": "float64"}
        return report.Results(study.name, study.data["title"], tuple(cells), (), study.data, provenance, ())

    monkeypatch.setattr(studies, "execute", execute)


def answer(capsys, *arguments):
    """Exit code, standard output, and the one line of an error, if there is one."""
    code = cli.main(list(arguments))
    out, err = capsys.readouterr()
    assert code in (0, 2), (code, err)
    if code == 0:
        return code, out, ""
    [line] = err.splitlines()
    assert out == "" and len(line) <= cli.LONGEST_MESSAGE + 20 and is_plain(line) and "Traceback" not in line
    if "--json" in arguments:
        error = json.loads(line)
        assert error.keys() == {"error", "exit_code"} and error["exit_code"] == 2
        return code, out, error["error"]
    assert line.startswith("dynamics: error: ")
    return code, out, line


def refused(capsys, *arguments):
    code, _, line = answer(capsys, *arguments)
    assert code == 2, arguments
    return line


# Named cases

DEEP = "[" * 900 + "]" * 900
SETTINGS = [
    ("game.0.label=3", ["game.0.label", "3", "a text"]),
    ("game.0.label={a=1}", ["game.0.label", "a text"]),
    ("game.0.label=''", ["game.0.label"]),
    ("game.0.label=2020-01-01", ["game.0.label", "2020-01-01", "date"]),
    ("game.0.noise=12:30:00", ["game.0.noise", "12:30:00"]),
    ('game.0.label="\\u001b[31mred"', ["game.0.label", "\\x1b[31m", "control"]),
    ('game.0.label="\\u202eeslaf"', ["game.0.label", "\\u202e", "control"]),
    ("game.0.label=" + "x" * 5000, ["game.0.label", "5000 letters"]),
    ("title='''a\nb'''", ["title", "control"]),
    ("game.0.name={a=1}", ["game.0.name", "a text"]),
    ("game.0.name=[]", ["game.0.name", "a text"]),
    ("game.0.noise=" + "9" * 5000, ["game.0.noise", "too many digits", "64 bits"]),
    ("game.0.noise=0x" + "f" * 5000, ["game.0.noise", "20000 bits"]),
    ("game.0.noise=" + DEEP, ["game.0.noise", "nested"]),
    ("game.0.start=" + "[" * 40 + "]" * 40, ["game.0.start", "nested"]),
    ("game.0.noise=-inf", ["game.0.noise", "-inf", "finite"]),
    ("game.0.each.start=[[1.0, 1.0]]", ["game.0.each.start", "only objective and penalty vary there", "[axes]"]),
    ("game.0.each.objective=[[]]", ["game.0.each.objective.0", "[]"]),
    ("game.0.each.penalty=[{set=3}]", ["game.0.each.penalty.0.set", "3", "a table"]),
    ("game.0.each.penalty=[{set={name=[]}}]", ["game.0.name", "[]"]),
    ("game.0.constructor=example", ["game.0"]),
    ("game.1.constructor=from_losses", ["game.1.constructor"]),
    ("game.1.matrix=[]", ["game.1"]),
    ("game.1.matrix=[[1.0, true]]", ["game.1.matrix.0.1", "True"]),
    ("game.1.label=Dirac", ["game.1.label", "'Dirac'", "game.0"]),
    ("method.1.label=plain", ["method.1.label", "'plain'", "method.0"]),
    ("method.0.update.name=[1]", ["method.0.update", "a table with a name"]),
    ("method.0.flow.direction.name={}", ["method.0.flow.direction"]),
    ("method.0.update.optimisers.0.learning_rate=true", ["learning_rate", "True", "a number"]),
    ("method.0.update.optimisers.1.nesterov=1", ["method.0.update.optimisers.1.nesterov", "1", "true or false"]),
    ("method.0.update.optimisers.0.learning_rate=1e400", ["method.0.update.optimisers.0.learning_rate", "inf"]),
    ("game.0.nodes=1000000000000", ["game.0", "1e+12 nodes", "memory"]),
    ("draw=[[]]", ["draw", "[]"]),
    ("seed=true", ["seed", "True"]),
    ("seed=1" + "0" * 30, ["seed", "64"]),
    ("steps=1000000000000000000", ["steps", "below 2,147,483,648"]),
    ("until=inf", ["until", "inf", "positive"]),
    ("axes=[1]", ["axes", "[1]"]),
    ('axes={"game.0.label"=[1.0]}', ["axes.game.0.label", "'Dirac'", "a number"]),
    ('axes={"game.0"=[1.0]}', ["axes.game.0", "a number"]),
    ('axes={"game.0.noise"=[]}', ["axes.game.0.noise", "[]"]),
    ('axes={"game.0.noise"=[nan]}', ["axes.game.0.noise.0", "nan"]),
    ('axes={"game.0.noise"={low=-1e308,high=1e308,count=3}}', ["axes.game.0.noise", "too far apart"]),
    ('axes={"game.0.noise"={low=0.0,high=1.0,count=1000000000000}}', ["axes.game.0.noise", "memory", "PiB"]),
    ("portrait=[3]", ["portrait.0", "3", "a table"]),
    ("a" * 300 + "=1", ["300 letters"]),
]


@pytest.mark.parametrize(("setting", "parts"), SETTINGS, ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_settings(setting, parts, capsys, folder, made_up):
    line = refused(capsys, "run", "study.toml", "--quiet", "--set", setting)
    for part in parts:
        assert part in line
    assert os.listdir() == ["study.toml"]


def test_numbers_that_single_precision_has_not_got(capsys, folder, made_up):
    for setting, where in (
        ("game.0.start=[1e300, 0.1]", "game.0.start.0"),
        ("game.1.matrix=[[1e39, 0.5], [0.0, 0.8]]", "game.1.matrix.0.0"),
        ("method.1.update.decay=-1e300", "method.1.update.decay"),
    ):
        line = refused(capsys, "run", "study.toml", "--quiet", "--precision", "32", "--set", setting)
        assert where in line and "3.4e+38" in line


def test_a_grid_that_is_too_large_is_refused_with_its_memory_before_anything_is_made(capsys, folder, monkeypatch):
    """Two axes of 10^6 values, of which no list is made."""
    monkeypatch.setattr(schema, "put", None)  # would be called for every cell
    monkeypatch.setattr(_memory, "memory", lambda: 2.0**34)
    axis = "{low = 0.1, high = 1.0, count = 1000000}"
    axes = f'axes={{"method.0.flow.rates.0"={axis}, "method.0.flow.rates.1"={axis}}}'
    monkeypatch.setattr(schema, "_apply_setting", lambda data, text: data.update(tomllib.loads(text)))
    line = refused(capsys, "stability", "study.toml", "--set", axes)
    # 2 games, one of them with 2 objectives and 3 penalties; 2 methods of 2 kinds; 10^12 points
    assert "2.8e+13 cells" in line and "199 PiB" in line and "16 GiB" in line


def test_names_that_stand_in_for_labels_are_numbered(folder):
    flows = [{"flow": {"name": "Flow"}}, {"flow": {"name": "Flow", "rates": [1.0, 2.0]}}, {"flow": {"name": "Flow"}}]
    penalties = ["none", {"name": "R1", "weight": 0.1}, {"name": "R1", "weight": 0.2}]
    game = {"name": "DiracGAN", "start": [0.5, 0.5]}
    data = {"game": [{**game, "each": {"penalty": penalties}}, game], "method": [*flows, {"label": "Flow", **flows[0]}]}
    pathlib.Path("study.toml").write_text(tomli_w.dumps(data))
    recipes = schema.read("study.toml").recipes
    assert list(dict.fromkeys(recipe.method for recipe in recipes)) == ["Flow (2)", "Flow (3)", "Flow (4)", "Flow"]
    assert list(dict.fromkeys(recipe.penalty for recipe in recipes)) == ["none", "R1", "R1 (2)", ""]
    assert list(dict.fromkeys(recipe.game for recipe in recipes)) == ["DiracGAN", "DiracGAN (2)"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"steps = " + b"9" * 5000,
        b"steps = " + DEEP.encode(),
        b"a" + b".a" * 3000 + b" = 1",
        b"game = 1979-13-45",
        b"game = 1\n" * 2,
        b'game."\\u001b[31m" = 1',
        b"# \x00",
        b"",
        b"\xef\xbb\xbfgame = 3",
        b" " * (schema.LARGEST_FILE + 1),
    ],
    ids=range(11),
)
def test_files_that_are_no_studies(content, capsys, folder):
    pathlib.Path("bad.toml").write_bytes(content)
    assert len(refused(capsys, "run", "bad.toml")) > 30
    assert len(refused(capsys, "stability", "bad.toml", "--json")) > 10
    assert sorted(os.listdir()) == ["bad.toml", "study.toml"]


def test_studies_are_utf8_whatever_the_locale_and_may_begin_with_a_mark(folder):
    pathlib.Path("study.toml").write_bytes(b"\xef\xbb\xbf" + STUDY.replace("A study", "σ").encode())
    assert schema.read("study.toml").data["title"] == "σ"


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "x" * 5000],
        ["run", "x" * 5000 + ".toml"],
        ["run", "a\0.toml"],
        ["run", "\x1b[31m.toml"],
        ["run", "/dev/zero"],
        ["run", "study.toml", "--out", "x" * 5000],
        ["run", "study.toml", "--out", "a\0b"],
        ["run", "study.toml", "--workers", "9" * 5000],
        ["run", "study.toml", "--devices", "9" * 17],
        ["run", "study.toml", "--resume"],
        ["run", "study.toml", "--set", "\x1b=3"],
        ["run", "study.toml", "--set", "steps=1\nuntil=3"],
        ["claims", "\x1b[31m"],
        ["claims", "x" * 100_000],
        ["claims", "--seed", "-1"],
        ["claims", "--examples", "9" * 18],
        ["list", "games", ""],
        ["list", "games", "\n"],
        ["list", "\x1b[31m"],
        ["\x1b[31m"],
        [""],
        ["--"],
        ["-\n"],
    ],
    ids=lambda value: " ".join(value)[:30].encode("unicode_escape").decode(),
)
def test_command_lines(arguments, capsys, folder, made_up):
    refused(capsys, *arguments)
    refused(capsys, *arguments[:1], "--json", *arguments[1:]) if arguments[0] in cli.COMMANDS else None
    assert os.listdir() == ["study.toml"]


# Plugins

CLASSES = """
from dynamics.directions import Direction
from dynamics.game import Game
class Mine(Game):
    def losses(self, players, key=None):
        {losses}
    def equilibria(self):
        {equilibria}
    @classmethod
    def example(cls):
        return cls(), (1.0, 1.0)
"""
GOOD = {"losses": "return players[0] * players[1], -players[0] * players[1]", "equilibria": "return ((0.0, 0.0),)"}
MINE = """
steps = 20
until = 2.0
draw = []
game = { name = "Mine", start = [0.5, 0.4] }
method = { flow = { name = "Flow" } }
"""


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("raise ValueError('no')", ["ValueError: no"]),
        ("raise ValueError('\\x1b[31mred\\nand more')", ["\\x1b[31mred"]),
        ("class Odd(Exception):\n    def __str__(self): raise self\nraise Odd", ["Odd"]),
        ("import sys; sys.exit(7)", ["SystemExit"]),
        ("this is no Python", ["SyntaxError"]),
        ("import nowhere_to_be_found", ["nowhere_to_be_found"]),
        ("import warnings; warnings.warn('beware')", ["beware"]),
        ("from dynamics.games import Bilinear\nclass DiracGAN(Bilinear): pass", ["'DiracGAN'", "another name"]),
        ("from dynamics.game import Game\nclass Mine(Game): pass", ["'Mine'", "abstract", "losses"]),
        (CLASSES.format(**GOOD | {"losses": "raise KeyError('lost')"}), ["KeyError: 'lost'"]),
        (CLASSES.format(**GOOD | {"losses": "import sys; sys.exit()"}), ["SystemExit"]),
        (CLASSES.format(**GOOD | {"losses": "return 'a', 'b'"}), []),
        (CLASSES.format(**GOOD | {"losses": "return players[0],"}), []),
        (CLASSES.format(**GOOD | {"losses": "return players[2], players[3]"}), []),
        (CLASSES.format(**GOOD | {"equilibria": "return 3"}), []),
        (CLASSES.format(**GOOD | {"equilibria": "raise RuntimeError('lost')"}), ["RuntimeError: lost"]),
        (CLASSES.format(**GOOD | {"equilibria": "return ((0.0,),)"}), ["--plugin plugin_16"]),
    ],
    ids=range(17),
)
def test_plugins(code, parts, capsys, folder, request):
    name = f"plugin_{request.node.callspec.id.split('-')[0]}"
    pathlib.Path(f"{name}.py").write_text(code)
    pathlib.Path("mine.toml").write_text(MINE)
    line = refused(capsys, "stability", "mine.toml", "--plugin", name)
    assert ("KeyError" not in line and "SystemExit" not in line and "RuntimeError" not in line) or name in line
    for part in parts:
        assert part in line
    assert refused(capsys, "stability", "mine.toml", "--plugin", name, "--json")


@pytest.mark.parametrize("name", ["", ".", "..x", "a/b", "a b", "\x1b[31m", "x" * 5000, "os.path.join"])
def test_names_that_are_no_plugins(name, capsys, folder):
    assert "--plugin" in refused(capsys, "stability", "study.toml", "--plugin", name)
    assert "--plugin" in refused(capsys, "claims", "bilinear", "--plugin", name)


def test_what_a_plugin_prints_is_not_in_the_document(capsys, folder):
    pathlib.Path("plugin_that_prints.py").write_text("print('hello')\n" + CLASSES.format(**GOOD))
    pathlib.Path("mine.toml").write_text(MINE)
    assert cli.main(["stability", "mine.toml", "--plugin", "plugin_that_prints", "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["cells"]) == 1 and err == "hello\n"


@pytest.mark.slow
def test_warnings_take_a_line_and_name_the_plugin(folder):
    pathlib.Path("plugin_that_warns.py").write_text("import warnings\nwarnings.warn('beware\\n\\x1b[31m')\n")
    done = ended("stability", "nonsense", "--plugin", "plugin_that_warns")
    warning, error = done.stderr.decode().splitlines()
    assert done.returncode == 2 and "nonsense" in error
    assert warning == "dynamics: warning: --plugin plugin_that_warns: UserWarning: beware \\x1b[31m"


CLAIM = """
import hypothesis.strategies as st
from dynamics.claims.base import claim
said = dict(source="Smith [3] \\x1b[31m", kind="folklore", because="so it is", domain={"x": st.floats(0, 1)})
@claim("mine/one", "A thing [/nope] \\u202e.", **said)
def one(x):
    raise SystemExit("\\x1b[31m")
"""


def test_claims_of_a_plugin_neither_end_the_search_nor_reach_the_terminal(capsys, folder, monkeypatch):
    from dynamics.claims import base

    monkeypatch.setattr(base, "_CLAIMS", dict(base._CLAIMS))
    pathlib.Path("plugin_with_a_claim.py").write_text(CLAIM)
    arguments = ["mine", "--plugin", "plugin_with_a_claim", "--workers", "1", "--examples", "5", "--quiet"]
    assert cli.main(["claims", *arguments, "--out", "found"]) == 0
    out = capsys.readouterr().out
    for text in (out, pathlib.Path("found/report.md").read_text(encoding="utf-8")):
        assert "Smith [3] \\x1b[31m" in text and all(is_plain(line) for line in text.splitlines())
    assert "mine/one" in out and "broken" in out and os.path.isfile("found/claims.json")


# An error of our own


def test_an_error_of_our_own_says_how_to_see_where(capsys, folder, monkeypatch):
    def load(*arguments):
        raise NameError("name 'x' is not defined")

    monkeypatch.setattr(studies, "load", load)
    assert cli.main(["run", "study.toml"]) == 70
    [line] = capsys.readouterr().err.splitlines()
    assert "NameError" in line and "--debug" in line and "error of dynamics itself" in line
    assert cli.main(["run", "study.toml", "--debug", "--json"]) == 70
    *where, line = capsys.readouterr().err.splitlines()
    assert where[0].startswith("Traceback") and json.loads(line)["exit_code"] == 70
    assert cli.main(["stability", "nonsense", "--debug"]) == 70


# Terminals, devices, closed streams


def ended(*arguments, **variables):
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-m", "dynamics", *arguments], capture_output=True, timeout=120, env=environment
    )


@pytest.mark.slow
def test_a_terminal_that_knows_only_ascii():
    plain = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = ended("list", "directions", **plain)
    assert (done.returncode, done.stderr) == (0, b"") and b"?" in done.stdout and done.stdout.isascii()
    done = ended("stability", "nonsense-σ", **plain)
    assert done.returncode == 2 and done.stderr.isascii() and done.stderr.count(b"\n") == 1


def test_a_device_that_is_not_there(capsys, folder, monkeypatch):
    done = ended("stability", "study.toml", "--json", JAX_PLATFORMS="no-such-device")
    assert (done.returncode, done.stdout) == (2, b"")
    assert "no-such-device" in json.loads(done.stderr.splitlines()[-1])["error"]

    def devices(platform=None):
        raise RuntimeError("Unknown backend: 'cpu' requested")

    monkeypatch.setattr(jax, "devices", devices)
    assert "no device cpu" in refused(capsys, "claims", "bilinear/optimistic")
    assert "no device" in refused(capsys, "run", "study.toml")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_standard_output_that_cannot_be_written():
    shell = f"{sys.executable} -m dynamics list studies"
    for redirection, code in ((">/dev/full", 2), (">&-", 0), ("2>&-", 0)):
        done = subprocess.run(f"{shell} {redirection}", shell=True, capture_output=True, text=True, timeout=120)
        assert done.returncode == code and "Traceback" not in done.stderr
        assert done.stderr.count("\n") == (code == 2)


# Damage at random

TEXTS = ["", "Dirac", "game", "DiracGAN", "none", "\x1b[31m", "\u202e", "a\nb", "$x^{", "[/]", "x" * 300, "σ", "*", "0"]
VALUES = st.one_of(
    st.sampled_from(
        [None, True, 0, 1, -1, 2**31, 2**40, 2**63 - 1, 10**30, 0.0, -0.5, 1e-320, 1e300, math.inf, math.nan]
    ),
    st.sampled_from(TEXTS),
    st.sampled_from(
        [[], {}, [[]], [{}], [1, "a"], [True], [1.0, [2.0]], {"name": 3}, {"name": "Flow"}, {"a": {"b": []}}]
    ),
    st.sampled_from([tomllib.loads("a = 2020-01-01")["a"], tomllib.loads("a = 12:00:00")["a"]]),
)


def places(value, path=()):
    """Paths of all entries."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield (*path, key)
        yield from places(entry, (*path, key))


PLACES = sorted(places(DATA), key=str)


def enter(data, path):
    for key in path:
        data = data[key]
    return data


@st.composite
def damaged_data(draw):
    """A study with one or two entries that are something else, gone, or under another name."""
    data = copy.deepcopy(DATA)
    for _ in range(draw(st.integers(1, 2))):
        *parents, last = draw(st.sampled_from(PLACES))
        try:
            place = enter(data, parents)
            what = draw(st.integers(0, 9))
            if what == 0:
                del place[last]
            elif what == 1 and isinstance(place, dict):
                place[draw(st.sampled_from(TEXTS))] = place.pop(last)
            elif what == 2:
                place[last] = copy.deepcopy(enter(DATA, draw(st.sampled_from(PLACES))))
            else:
                place[last] = draw(VALUES)
        except (LookupError, TypeError):
            pass  # the other damage has taken the place away
    return data


def as_toml(data):
    """Text in TOML, also of what `tomli_w` refuses."""

    def without_none(value):
        if isinstance(value, dict):
            return {key: without_none(entry) for key, entry in value.items() if entry is not None}
        if isinstance(value, list):
            return [without_none(entry) for entry in value if entry is not None]
        return value

    return tomli_w.dumps(without_none(data))


@st.composite
def damaged_text(draw):
    """A study with letters changed, lines gone, or pieces of it repeated."""
    text = STUDY
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(text)))
        end = min(len(text), begin + draw(st.integers(0, 12)))
        piece = draw(
            st.sampled_from(["", "[", "]", "{", "}", '"', "=", "\n", ".", "#", "\x00", "1e999", "\\u0000", text[:end]])
        )
        text = text[:begin] + piece + text[end:]
    return text


def try_studies(strategy, capsys, most):
    seen = {0: 0, 2: 0}

    @hypothesis.settings(max_examples=most)
    @hypothesis.given(text=strategy, command=st.sampled_from(["run", "stability"]), as_json=st.booleans())
    def attack(text, command, as_json):
        if "1e300" in text or "9223372036854775807" in text:
            command = "run"
        pathlib.Path("damaged.toml").write_text(text, encoding="utf-8")
        code, out, _ = answer(capsys, command, "damaged.toml", *["--json"] * as_json, *["--quiet"] * (command == "run"))
        seen[code] += 1
        if code == 0:
            assert all(is_plain(line) for line in out.splitlines()) and (not as_json or json.loads(out))

    attack()
    return seen


@pytest.fixture
def no_eigenvalues(monkeypatch):
    """`stability` does everything but compute."""
    monkeypatch.setattr(studies, "stabilities", lambda study: engine.prepare(study) and [])
    from dynamics.studies import prediction

    monkeypatch.setattr(prediction, "table", lambda cells: "")
    monkeypatch.setattr(prediction, "text", lambda cells, detail: "")


@pytest.mark.slow
def test_studies_damaged_at_random(capsys, folder, made_up, no_eigenvalues):
    seen = try_studies(damaged_data().map(as_toml), capsys, 50)
    assert seen[2] > 20 and seen[0] > 3


def test_studies_damaged_letter_by_letter(capsys, folder, made_up, no_eigenvalues):
    assert try_studies(damaged_text(), capsys, 40)[2] > 10


WORDS = st.one_of(
    st.sampled_from(
        [*cli.COMMANDS, *cli.ROOMS, "study.toml", "flagship", "bilinear", "--", "-", "-x", "--set", "--json"]
    ),
    st.sampled_from(["--out", "--quiet", "--workers", "--devices", "--store", "--plugin", "--examples", "--precision"]),
    st.sampled_from(
        ["steps=3", "=", "game.0.label=3", "study.toml/x", "0", "1", "-1", "9" * 30, "32", "--detail", "*"]
    ),
    st.sampled_from(TEXTS),
    st.text(max_size=8),
)


def try_command_lines(capsys, most):
    @hypothesis.settings(max_examples=most)
    @hypothesis.given(st.lists(WORDS, max_size=6))
    def attack(words):
        hypothesis.assume("claims" not in words[:1])  # would search
        answer(capsys, *words)

    attack()


@pytest.mark.slow
def test_command_lines_at_random(capsys, folder, made_up, no_eigenvalues):
    try_command_lines(capsys, 60)


@pytest.mark.slow
def test_much_damage(capsys, folder, made_up, no_eigenvalues):
    try_studies(damaged_data().map(as_toml), capsys, 1000)
    try_studies(damaged_text(), capsys, 300)
    try_command_lines(capsys, 300)


# Sizes of sweeps and runs


def build(rate, weight):
    sgd = dy.optimisers.sgd(rate)
    return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), dy.updates.Alternating(sgd, sgd), (1.0, 1.0)


def test_sweeps_without_room_are_refused_with_their_memory(monkeypatch):
    monkeypatch.setattr(_memory, "memory", lambda: 2.0**34)
    many = np.linspace(0.1, 1.0, 10**6)
    uniform = ensembles.uniform(0.1, 1.0)
    for function in (dy.sweep, ensembles.stability_chart):
        options = {"steps": 100} if function is dy.sweep else {}
        for axes, design in (
            ({"rate": many, "weight": many}, "grid"),
            ({"rate": uniform, "weight": 0.3}, ("random", 10**12)),
            ({"rate": uniform, "weight": 0.3}, ("sobol", 10**12)),
        ):
            with pytest.raises(ValueError, match=r"1e\+12 cells.* TiB of memory or more, of which there are 16 GiB"):
                function(build, axes, design=design, **options)
    with pytest.raises(ValueError, match=r"1e\+12 cells; expected fewer than 2\^32"):
        dy.sweep(build, {"rate": many, "weight": many}, steps=100, store="never.zarr")
    with pytest.raises(ValueError, match=r"steps is 1e\+18; expected fewer than 2\^31"):
        dy.sweep(build, {"rate": [0.1], "weight": [0.3]}, steps=10**18)


def test_the_players_count_among_what_a_sweep_takes(monkeypatch):
    monkeypatch.setattr(_memory, "memory", lambda: 1e6)

    def large(scale):
        game = dy.games.Bilinear(scale * np.eye(500))
        return game, dy.updates.ProximalPoint(0.1), (np.ones(500), np.ones(500))

    with pytest.raises(ValueError, match="1,000 cells would take 7.7 MiB"):
        dy.sweep(large, {"scale": np.linspace(0.1, 1.0, 1000)}, steps=100, predict=False)


def test_runs_without_room_are_refused_with_their_memory(monkeypatch):
    monkeypatch.setattr(_memory, "memory", lambda: 2.0**34)
    game, update, players = build(0.1, 0.3)
    with pytest.raises(ValueError, match=r"2e\+09 saves would take .* GiB of memory.*save_every="):
        dy.simulate(game, update, players, steps=2 * 10**9)
    with pytest.raises(ValueError, match=r"steps is 1e\+18; expected fewer than 2\^31"):
        dy.simulate(game, update, players, steps=10**18, save_every="last")
    with pytest.raises(ValueError, match=r"saves would take .* of memory"):
        dy.simulate(game, dy.flows.Flow(), players, until=1e300, save_every=1e-12)


def test_the_memory_of_this_machine():
    assert 2**28 < _memory.memory() < 2**50
    _memory.check_memory("a thing", 10, 8, "none")
    with pytest.raises(
        ValueError, match="a thing would take .* EiB of memory or more, of which there are .*; try less"
    ):
        _memory.check_memory("a thing", 10**4000, 8, "try less")


def test_a_study_that_does_not_say_which_has_portraits_of_every_planar_game(folder):
    pathlib.Path("study.toml").write_text(STUDY.split("[[portrait]]")[0])
    study = schema.read("study.toml")
    jobs = engine.prepare(study)
    requests = figures.requests(study, jobs)
    assert requests and len({request.title for request in requests}) == len(requests)
    for request in requests:
        assert len({job.recipe.method for job in request.jobs}) == len(request.jobs) <= figures.MOST_PATHS
        assert request.table == {} and all(str(job.recipe.game) in request.title for job in request.jobs)
    assert {job.recipe.game for request in requests for job in request.jobs} == {"Dirac"}  # the other one is in space


def test_long_runs_have_portraits_of_so_many_points(folder):
    text = (
        STUDY.replace("steps = 20", "steps = 100_000").split("[axes]")[0]
        + "[[portrait]]"
        + STUDY.split("[[portrait]]")[1]
    )
    pathlib.Path("study.toml").write_text(text)
    study = schema.read("study.toml")
    [request] = figures.requests(study, engine.prepare(study)[:1])
    with _locks.tracing:
        portrait = figures.figure(study, request)
    assert [len(points) for _, points in portrait.trajectories] == [10_001]
