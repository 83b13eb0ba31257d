"""The pages that are generated: the reference of public names, the catalogues, studies as TOML, and the tutorials."""

import importlib
import inspect
import pathlib
import re
from collections.abc import Iterable
from typing import Any

from _site import names, objects

ROOT = pathlib.Path(__file__).parents[2]
CODE = re.compile(r"(`[^`]+`|\$[^$]+\$)")


def write(folder: pathlib.Path) -> None:
    """Write all generated pages; a file whose text has not changed is not touched, and one that is no more goes."""
    pages = {**reference(), **catalogues(), "toml.md": toml()}
    texts = {folder / name: text for name, text in pages.items()}
    for path in tutorials():
        texts[folder / "tutorials" / path.name] = path.read_text(encoding="utf-8")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in folder.rglob("*"):
        if path.is_file() and path not in texts:
            path.unlink()


def tutorials() -> list[pathlib.Path]:
    """The notebooks."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


# The reference


def reference() -> dict[str, str]:
    """A page for every public name, one for every public module, and the list of these."""
    modules = names.reference()
    pages = {"api/index.rst": _index(modules)}
    for module, members in modules.items():
        pages[f"api/{module}.rst"] = _module(module, members)
        for name in members:
            pages[f"api/{module}.{name}.rst"] = _object(module, name)
    return pages


def _title(text: str) -> list[str]:
    return [text, "=" * len(text), ""]


def _index(modules: Iterable[str]) -> str:
    lines = _title("Reference")
    lines += [
        "Every public name, from its docstring. ``import dynamics as dy`` is the only import that is needed; what is",
        "in ``dynamics.analysis`` and ``dynamics.simulation`` are the results that functions of ``dynamics`` return.",
        "",
        ".. toctree::",
        "   :maxdepth: 1",
        "",
        *(f"   {module}" for module in modules),
        "",
    ]
    return "\n".join(lines)


def _module(module: str, members: list[str]) -> str:
    lines = _title(module)
    if module != "dynamics":
        lines += [f".. automodule:: {module}", "   :no-members:", ""]
    values = {name: objects.by_full_name()[f"{module}.{name}"] for name in members}
    constants = [name for name, value in values.items() if objects.kind_of(value) == "data"]
    lines += [f".. currentmodule:: {module}", "", ".. autosummary::", "   :nosignatures:", ""]
    lines += [f"   {name}" for name in members if name not in constants]
    lines += [""] + [f"- :py:data:`{name}`: {names.comment(module, name)}" for name in constants]
    return "\n".join([*lines, ""])


def _object(module: str, name: str) -> str:
    value = objects.by_full_name()[f"{module}.{name}"]
    kind = objects.kind_of(value)
    # Outside of the tree of contents, which every page would repeat: the page of the module leads here.
    lines = [":orphan:", "", *_title(name), f"From :doc:`{module}`.", "", f".. currentmodule:: {module}", ""]
    if kind == "data":  # autodoc would take the docstring of its type
        lines += [f".. py:data:: {name}", "", f"   {names.comment(module, name)}"]
    else:
        lines += [f".. auto{kind}:: {name}"]
    if kind in ("class", "exception"):
        lines += ["   :members:", "   :show-inheritance:"]
    return "\n".join([*lines, ""])


# The catalogues


ABOUT = {
    "games": "Losses over players, most with their equilibria. "
    "[Your own](/guides/your_own_game.md) is a function or a class.",
    "objectives": "What the discriminator and the generator of a GAN are paid.",
    "penalties": "What is added to either loss. `dynamics list penalties --effects` prints what each does to "
    "eigenvalues.",
    "directions": "Where each player wants to go: the first of the four axes of a method.",
    "updates": "Who moves when, and where the direction is evaluated: discrete maps. "
    "[Your own](/guides/your_own_update.md) is a class of twenty lines.",
    "flows": "The same in continuous time.",
    "optimisers": "How a direction becomes a step. Any optax transformation will do; these keep their numbers as array "
    "leaves, so that another number compiles nothing.",
}


def catalogues() -> dict[str, str]:
    """A page for every room of the catalogue, for the experiments, the studies, and every topic of the claims."""
    definitions = importlib.import_module("dynamics.reports.definitions")
    pages: dict[str, str] = {}
    for room, about in ABOUT.items():
        entries = []
        for name, line in definitions.summaries(room).items():
            entry = [f"{{py:obj}}`{name} <dynamics.{room}.{name}>`", f": {escaped(line)}"]
            if room == "objectives":
                entry += _objective(definitions.members(room)[name])
            entries.append("\n".join(entry))
        pages[f"catalogue/{room}.md"] = _page(
            room.capitalize(), about, [f"At the command line: `dynamics list {room}`, `dynamics show NAME`.", *entries]
        )
    pages["catalogue/experiments.md"] = _experiments(definitions.members("experiments"))
    pages["catalogue/studies.md"] = _studies(definitions)
    return pages | _claims(definitions.members("claims"))


def _page(title: str, about: str, blocks: Iterable[str]) -> str:
    return "\n\n".join([f"# {title}", about, *blocks]) + "\n"


def escaped(text: str) -> str:
    """A sentence of a docstring in Markdown: formulas and code as they are, nothing else of any meaning."""
    parts = CODE.split(" ".join(text.split()))
    return "".join(
        part if place % 2 else re.sub(r"([\\*_<>\[\]{}|^])", r"\\\1", part) for place, part in enumerate(parts)
    )


def _objective(member: Any) -> list[str]:
    catalogue = importlib.import_module("dynamics.catalogue")
    known = catalogue.objective_details(member)
    lines = []
    if known["losses"]:
        lines.append(f"Losses: {escaped(known['losses'])}")
    if known.get("divergence"):
        ideal = known["ideal_discriminator_loss"]
        at_best = "" if ideal is None else f" Ideal loss of the discriminator: {ideal:.6g}."
        lines.append(f"Minimised at the best discriminator: {escaped(known['divergence'])}.{at_best}")
    if known["source"]:
        lines.append(f"Source: {escaped(known['source'])}")
    return [line for paragraph in lines for line in ("", f"  {paragraph}")]


def _experiments(members: dict[str, Any]) -> str:
    blocks = []
    for name, member in members.items():
        first, _, rest = inspect.cleandoc(member.__doc__ or "").partition("\n")
        text = re.split(r"\n\s*(?:Args|Returns|Raises):|>>>", rest)[0]
        settings = " ".join(
            f"--set {key}={str(parameter.default).lower()}"
            for key, parameter in inspect.signature(member).parameters.items()
        )
        paragraphs = [escaped(paragraph) for paragraph in [first, *text.split("\n\n")] if paragraph.strip()]
        blocks.append("\n\n".join([f"## {name}", *paragraphs, f"```bash\ndynamics run {name}\n```", f"`{settings}`"]))
    about = "Trainings that are ready to run, and comparisons of many. The settings are the defaults."
    return _page("Experiments", about, blocks)


def _studies(definitions: Any) -> str:
    blocks = [
        f"## {name}\n\n{escaped(title)}\n\n```toml\n{definitions.definition('studies', name)}\n```"
        for name, title in definitions.members("studies").items()
    ]
    about = (
        "Studies that come with the library: `dynamics run NAME`, `dynamics stability NAME`. What may be in a study is "
        "in the [TOML reference](/generated/toml.md); `dynamics new mine.toml` writes one to start from."
    )
    return _page("Studies", about, blocks)


def _claims(members: dict[str, Any]) -> dict[str, str]:
    topics: dict[str, list[Any]] = {}
    for identifier, claim in members.items():
        topics.setdefault(identifier.split("/")[0], []).append(claim)
    pages = {}
    for topic, claims in topics.items():
        blocks = [f"Attack them: `dynamics claims {topic}`.", *map(_claim, claims)]
        pages[f"catalogue/claims/{topic}.md"] = _page(f"Claims: {topic}", f"{len(claims)} claims.", blocks)
    rows = [f"- [{topic}](claims/{topic}.md): {len(claims)}" for topic, claims in topics.items()]
    toctree = "\n".join(["```{toctree}", ":hidden:", "", *(f"claims/{topic}" for topic in topics), "```"])
    about = (
        f"{len(members)} published, or often repeated, statements, each a check that a search tries to refute. Those "
        "that are refuted are stated as they are in public, or are theorems without one of their hypotheses. "
        "[How to write one](/guides/your_own_claim.md); [what did not hold](/corrections.md)."
    )
    pages["catalogue/claims.md"] = _page("Claims", about, ["\n".join(rows), toctree])
    return pages


def _claim(claim: Any) -> str:
    facts = {
        "Hypotheses": escaped(claim.hypotheses),
        "Source": escaped(claim.source),
        "Kind": str(claim.kind),
        "Expected": f"it {claim.verdict if claim.holds else 'is refuted'}. {escaped(claim.because)}",
    }
    lines = [f"- {name}: {text}" for name, text in facts.items() if text]
    # No heading: the contents of every page would hold hundreds of them.
    anchor = f"(claim-{claim.identifier.replace('/', '--')})=\n**`{claim.identifier}`**"
    return "\n\n".join([anchor, escaped(claim.statement), "\n".join(lines)])


# Studies as TOML


ROOMS = ("games", "objectives", "penalties", "updates", "flows", "directions")


def toml() -> str:
    """What may be in a study, from the schema that checks it and the constructors that it calls."""
    schema = importlib.import_module("dynamics.studies.schema")
    building = importlib.import_module("dynamics.studies.building")
    catalogue = importlib.import_module("dynamics.catalogue")
    optimisers = importlib.import_module("dynamics.optimisers")
    keys = [(name, _in_toml(key.default), key.expected, key.meaning) for name, key in schema.KEYS.items()]
    blocks = [
        "## Keys of the file",
        _table(("key", "default", "expected", "meaning"), keys),
        "## `[[game]]`",
        "Besides these, the arguments of the class.",
        _table(("key", "meaning"), schema.GAME_KEYS.items()),
        "An objective or a penalty is a name, or a table with a name and arguments; `none` is no penalty. In the lists "
        "of `each` an entry may have a `label`, and a table `set` of arguments of the game that go with it, such as "
        '`{ label = "noise", set = { noise = 0.5 } }`.',
        "## `[[method]]`",
        _table(("key", "meaning"), schema.METHOD_KEYS.items()),
        'In an update or flow, `ideal_loss = "game"` stands for the ideal loss of the objective of the game. With '
        "`absolute_width` beside it the widths of a gap-aware schedule are that number where the ideal loss is 0, and "
        "a tenth of the ideal loss elsewhere.",
        "## `[axes]`",
        'A path leads to a number of a game or method: `"method.*.update.optimisers.0.learning_rate"`, where `*` '
        "stands for every entry of a list. Its value is a list of numbers, or a table:",
        _table(("key", "meaning"), schema.AXIS_KEYS.items()),
        *_figures(schema),
        "## Limits",
        f"A file has at most {schema.LARGEST_FILE >> 20} MiB, a text {schema.LONGEST_TEXT} letters, and tables are "
        f"nested at most {schema.DEEPEST} levels deep. Whole numbers have at most 64 bits, others are finite. "
        "A grid for which there is no memory is refused before anything is computed.",
        "## Arguments by class",
        "A number may be a list of numbers where the class takes an array. Arguments that only Python can give, such "
        "as functions, are marked; a class that needs one cannot be named in a study.",
    ]
    for room in ROOMS:
        blocks.append(f"### {room.capitalize()}")
        blocks += [
            _class(name, f"dynamics.{room}.{name}", cls, building) for name, cls in catalogue.members(room).items()
        ]
    blocks.append("### Optimisers")
    blocks.append("A `learning_rate` is a number, or a table: one of the schedules.")
    blocks += [_class(n, f"dynamics.optimisers.{n}", f, building) for n, f in optimisers.CATALOGUE.items()]
    blocks.append("### Schedules")
    blocks += [
        _class(name, "dynamics.schedules.Every" if name == "Every" else "", factory, building)
        for name, factory in building.SCHEDULES.items()
    ]
    about = (
        "A study is a file of data: which games, which methods, which numbers vary. Nothing in it can run code. "
        "`dynamics new mine.toml` writes one to start from, `dynamics run mine.toml` runs it, and `--set steps=500` "
        "changes an entry for a run. This page is made from the schema that checks a study, and from the constructors "
        "that it calls."
    )
    return _page("Studies as TOML", about, blocks)


def _figures(schema: Any) -> list[str]:
    """The tables of pictures, each with an example."""
    blocks = [
        "## Pictures",
        "Every table is a picture of the report, of one game and its first objective and penalty if it does not say "
        "which; with numeric axes at their first values. Runs are as long as those of the study.",
    ]
    for name, keys in schema.FIGURE_KEYS.items():
        rows = [(key, "required" if entry.required else "", entry.meaning) for key, entry in keys.items()]
        blocks += [f"### `[[{name}]]`", f"```toml\n{_EXAMPLES[name]}\n```", _table(("key", "", "meaning"), rows)]
    return blocks


_EXAMPLES = {
    "portrait": '[[portrait]]\ngame = "Dirac-GAN"\nmethods = ["simultaneous", "alternating"]',
    "series": '[[series]]\ngame = "toy"\nmethods = ["one rate", "two rates"]\nseed = 0',
    "basins": '[[basins]]\ngame = "torus"\nmethod = "two rates"\nlow = -3.1416\nhigh = 3.1416\nperiod = 6.2832',
    "eigenvalues": '[[eigenvalues]]\ngame = "Dirac-GAN"\npenalty = "R1"\nmethod = "simultaneous"\n'
    'over = "game.0.each.penalty.1.weight"\nlow = 0.0\nhigh = 2.0',
}


def _class(name: str, documented: str, factory: Any, building: Any) -> str:
    arguments = building.expected_data(factory)
    link = f"{{py:obj}}`{name} <{documented}>`" if documented else f"`{name}`, of optax"
    if not arguments:
        return f"**{link}**: no arguments."
    rows = [
        (
            key,
            "" if default is ... else _in_toml(default),
            words or "from Python only",
            "required" if default is ... else "",
        )
        for key, (words, default) in arguments.items()
    ]
    return f"**{link}**\n\n{_table(('argument', 'default', 'expected', ''), rows)}"


def _in_toml(value: Any) -> str:
    """A default as a study would have it; empty where there is no such thing."""
    if value is ...:
        return "required"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (int, float)):
        return f"`{value}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, (list, tuple)) and all(isinstance(entry, (str, int, float, list, tuple)) for entry in value):
        return f"`{_listed(value)}`"
    return "`{}`" if value == {} else ""


def _listed(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_listed, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    rows = [[f"`{first}`", *rest] for first, *rest in rows]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)])
