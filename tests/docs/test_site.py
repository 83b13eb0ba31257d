"""The documentation: every page is in a table of contents, every public name has one, and what pages name is there."""

import ast
import html
import importlib
import inspect
import json
import pathlib
import re
import subprocess
import sys
import urllib.parse

import pytest

import dynamics as dy
from dynamics import studies
from dynamics.studies import building, schema

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

from _site import docstrings, hooks, names, objects, pages  # noqa: E402

# What a newcomer would type.
TERMS = (
    "learning rate", "eigenvalues", "mode collapse", "limit cycle", "basin", "phase portrait", "convergence rate",
    "Nash", "minimax", "Lyapunov",
)  # fmt: skip
CLAIM = re.compile(r"`([a-z0-9-]+(?:/[a-z0-9-]+)+)`")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated")
    pages.write(folder)
    return folder


def written() -> list[pathlib.Path]:
    """The pages that are written by hand."""
    return [path for path in DOCS.rglob("*.md") if not {"_build", "generated"} & set(path.parts)]


def listed(text: str) -> set[str]:
    """The pages in the tables of contents of a page."""
    return {
        line.strip()
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
        if line.strip() and not line.startswith(":")
    }


def test_every_page_is_in_a_table_of_contents():
    pages_of = {str(path.relative_to(DOCS).with_suffix("")): path for path in written()}
    inside = set().union(*(listed(path.read_text()) for path in pages_of.values()))
    assert set(pages_of) - inside == {"index"}
    assert "generated/tutorials/*" in inside


def test_what_tables_of_contents_list_is_there(generated):
    for path in written():
        for page in listed(path.read_text()):
            place = generated / page.removeprefix("generated/") if page.startswith("generated/") else DOCS / page
            assert [*place.parent.glob(f"{place.name}.*")], f"{path.name} lists {page}"


def test_every_public_name_has_a_page(generated):
    for name in dy.__all__:
        module = dy._NAMES.get(name)
        page = f"dynamics.{name}"
        assert (generated / "api" / f"{page}.rst").exists(), name
        if module is None:
            text = (generated / "api" / f"{page}.rst").read_text()
            for member in names.reference()[page]:
                assert (generated / "api" / f"{page}.{member}.rst").exists()
                assert re.search(rf"^   {member}$|^- :py:data:`{member}`", text, re.MULTILINE)
    # What a reader finds by completion is what the source declares.
    for module in names.modules():
        declared, holder = names.public(module), importlib.import_module(module)
        assert declared and all(hasattr(holder, name) for name in declared), module


def test_the_citation_is_of_this_version():
    assert f"version: {dy.__version__}\n" in (ROOT / "docs" / "CITATION.cff").read_text()


def documented_arguments(function) -> set[str]:
    """The names before the colons of the section `Args` of a docstring."""
    section = re.search(r"^Args:\n((?: +.*\n|\n)*)", f"{inspect.getdoc(function)}\n", re.MULTILINE)
    heads = re.findall(r"^    (\S[^:\n]*):", section[1] if section else "", re.MULTILINE)
    return {name.strip().lstrip("*") for head in heads for name in head.split(",")}


def test_every_argument_of_a_public_function_is_documented():
    for name, function in objects.by_full_name().items():
        if objects.kind_of(function) == "function":
            parameters = set(inspect.signature(function).parameters)
            assert documented_arguments(function) >= parameters, (
                f"{name}: {parameters - documented_arguments(function)}"
            )


def test_every_public_function_says_what_it_returns():
    """In a section, or by an example; a single value of no argument, or a flag, in its first line."""
    for name, function in objects.by_full_name().items():
        if objects.kind_of(function) == "function":
            signature, text = inspect.signature(function), inspect.getdoc(function) or ""
            plain = signature.return_annotation in (None, bool) or not signature.parameters
            assert plain or "\nReturns:\n" in text or ">>> " in text, f"{name} does not say what it returns"


@pytest.mark.parametrize("room", ["games", "objectives", "penalties", "directions", "updates", "flows"])
def test_catalogues_have_every_member(generated, room):
    text = (generated / "catalogue" / f"{room}.md").read_text()
    for name in dy.catalogue.members(room):
        assert f"<dynamics.{room}.{name}>" in text


def test_every_claim_and_study_is_on_a_page(generated):
    text = "".join(path.read_text() for path in (generated / "catalogue" / "claims").glob("*.md"))
    assert all(f"**`{identifier}`**" in text for identifier in dy.claims.catalogue())
    assert all(f"## {name}\n" in (generated / "catalogue" / "studies.md").read_text() for name in studies.builtin())


def test_the_toml_reference_has_every_key_and_argument(generated):
    text = (generated / "toml.md").read_text()
    for table in (schema.KEYS, schema.GAME_KEYS, schema.METHOD_KEYS, schema.AXIS_KEYS, *schema.FIGURE_KEYS.values()):
        assert all(f"| `{key}` |" in text for key in table)
    for room in pages.ROOMS:
        for name, member in dy.catalogue.members(room).items():
            section = text[text.index(f"<dynamics.{room}.{name}>") :].split("\n\n**")[0]
            assert all(f"| `{key}` |" in section for key in building.expected_data(member)), name


def test_what_data_of_an_argument_is_expected():
    expected = building.expected_data(dy.updates.Scheduled)
    assert expected["inner_update"] == ("a name or a table: one of the updates", ...)
    assert "schedules" in expected["schedule"][0]
    assert building.expected_data(dy.directions.Natural)["geometries"][0] == ""  # functions: from Python only
    assert building.expected_data(dy.games.DiracGAN)["nodes"] == ("a whole number", 32)


def test_glossary_has_what_a_newcomer_would_type():
    text = (DOCS / "glossary.md").read_text()
    terms = {line.strip() for line in text.splitlines() if line and not line.startswith((" ", "`", "#"))}
    assert set(TERMS) <= terms


@pytest.mark.parametrize("path", written(), ids=lambda path: path.stem)
def test_claims_tests_and_names_on_pages_are_there(path):
    text, known = path.read_text(), dy.claims.catalogue()
    topics = {identifier.split("/")[0] for identifier in known}
    for identifier in CLAIM.findall(text):
        is_page = any((path.parent / f"{identifier}.md").exists() for path in (path, DOCS / "index.md"))
        assert identifier in known or is_page or identifier.split("/")[0] not in topics, identifier
    for file, function in TEST.findall(text):
        tree = ast.parse((ROOT / file).read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{function}"
    for target in re.findall(r"\{py:obj\}`(?:[^`<]*<)?([\w.]+)>?`", text):
        assert target in objects.by_full_name(), target


def test_corrections_call_refuted_what_is():
    text, known = (DOCS / "corrections.md").read_text(), dy.claims.catalogue()
    for sentence in re.split(r"Checks?:", text):
        for group in re.findall(r"((?:`[\w/-]+`,?\s+)+)\(refuted\)", sentence):
            assert all(not known[identifier].holds for identifier in CLAIM.findall(group)), group
    said = text[text.index("## Often said") :]
    assert all(not known[identifier].holds for identifier in CLAIM.findall(said))


def test_included_sections_are_there():
    for path in written():
        for file, options in re.findall(r"```\{include\} (\S+)\n((?::.*\n)*)", path.read_text()):
            text = (path.parent / file).read_text()
            for marker in re.findall(r':(?:start-after|end-before): "(.*)"', options):
                assert text.count(f"\n{marker}\n") + text.startswith(f"{marker}\n") == 1, f"{path.name}: {marker}"


def test_links_between_files_become_links_between_pages(tmp_path):
    class App:
        srcdir = str(DOCS)

    content = [
        "[claims](dynamics/claims/README.md), [a](notebooks/01_a.ipynb), [b](benchmarks/README.md), [c](https://c.d)"
    ]
    hooks.convert_links(App, pathlib.Path("../CONTRIBUTING.md"), "", content)
    claims, notebook, benchmarks, outside = content[0].split(", ")
    assert claims == "[claims](/guides/your_own_claim.md)" and notebook == "[a](/generated/tutorials/01_a.ipynb)"
    assert benchmarks == "b (`benchmarks/README.md` in the repository)" and outside == "[c](https://c.d)"


@pytest.mark.parametrize(
    "line, expected",
    [
        ("The rate $h$, *not* `x`.", "The rate :math:`h`, \\*not\\* ``x``."),
        ("`R1`s and x_.", ":py:obj:`R1 <dynamics.penalties.R1>`\\ s and x\\_."),
        ("* `dy.simulate`", "* :py:obj:`dy.simulate <dynamics.simulate>`"),
    ],
)
def test_docstrings_in_restructured_text(line, expected):
    assert docstrings.restructured([line], objects.role_of) == [expected]


def test_examples_in_docstrings_stay_as_they_are():
    lines = ["A sum.", "", ">>> 2 * 3  # *not* 5", "6"]
    assert docstrings.restructured(lines, objects.role_of) == lines


def broken_links(site: pathlib.Path) -> list[tuple[str, str]]:
    """Links between pages of the site whose page or anchor is not there."""
    texts = {path.resolve(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    anchors = {path: set(re.findall(r'\b(?:id|name)="([^"]+)"', text)) for path, text in texts.items()}
    broken = []
    for path, text in texts.items():
        for link in re.findall(r'(?:href|src)="([^"]+)"', re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)):
            target, _, anchor = urllib.parse.unquote(html.unescape(link)).partition("#")
            target = target.partition("?")[0]
            if re.match(r"[a-z]+:", target):
                continue
            place = (path.parent / target).resolve() if target else path
            place = place / "index.html" if place.is_dir() else place
            if not place.exists() or anchor and place in anchors and anchor not in anchors[place]:
                broken.append((path.name, link))
    return broken


def found_first(site: pathlib.Path, term: str) -> str:
    """The page that the search of the site shows first: entries of the index weigh most, then titles."""
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    entries = index["indexentries"].get(term.lower(), [])
    return index["docnames"][entries[0][0]] if entries else ""


def test_links_that_lead_nowhere_are_seen(tmp_path):
    (tmp_path / "a.html").write_text('<p id="here"><a href="b.html#there">b</a> <a href="#here">a</a></p>')
    (tmp_path / "b.html").write_text('<a href="https://c.d">c</a> <a href="missing.html">none</a>')
    assert sorted(broken_links(tmp_path)) == [("a.html", "b.html#there"), ("b.html", "missing.html")]


def test_links_back_from_the_source_lead_to_the_name_of_the_page():
    text = 'href="../generated/api/dynamics.analysis.Alignment.html#dynamics.Alignment.describe"'
    assert hooks._LINK_BACK.sub(hooks._to_the_name_of_the_page, text) == text.replace(
        "#dynamics.", "#dynamics.analysis."
    )
    text = 'href="../generated/api/dynamics.best.html#dynamics.analysis.best"'
    assert hooks._LINK_BACK.sub(hooks._to_the_name_of_the_page, text) == text.replace(".analysis.", ".")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_site_builds_without_a_warning(tmp_path):
    """Without executing: `test_notebook_runs` and the build itself, `python -m sphinx -W docs docs/_build/html`, do."""
    pytest.importorskip("myst_nb")
    pytest.importorskip("furo")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-D", "nb_execution_mode=off"]
    done = subprocess.run([*command, str(DOCS), str(tmp_path / "html")], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not broken_links(tmp_path / "html")
    assert {term: found_first(tmp_path / "html", term) for term in TERMS} == dict.fromkeys(TERMS, "glossary")
