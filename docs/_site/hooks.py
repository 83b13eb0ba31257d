"""What Sphinx calls: docstrings and included texts, before they are read."""

import importlib
import pathlib
import re
from typing import Any

from _site import objects
from _site.docstrings import restructured


def convert_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Formulas and names in a docstring, as reStructuredText."""
    lines[:] = restructured(lines, lambda text: objects.role_of(text, own=name))


def not_public(app: Any, env: Any, node: Any, content: Any) -> Any:
    """A type in a signature that is no public name is no link; one that does not exist stays an error."""
    target = node.get("reftarget", "")
    module, _, name = target.rpartition(".")
    if not module.startswith("dynamics.") or target in objects.by_full_name():
        return None
    try:
        return content if hasattr(importlib.import_module(module), name) else None
    except ImportError:
        return None


def repair_links_back(app: Any, exception: Exception | None) -> None:
    """Links from source code to the reference: Sphinx names the object by the module that was documented last.

    An object is on a page of its name, whose anchors begin with it.
    """
    if exception is None and app.builder.format == "html":
        for path in (pathlib.Path(app.outdir) / "_modules").rglob("*.html"):
            text = path.read_text(encoding="utf-8")
            path.write_text(_LINK_BACK.sub(_to_the_name_of_the_page, text), encoding="utf-8")


_LINK_BACK = re.compile(r'(?<=generated/api/)([\w.]+)\.html#([\w.]+)(?=")')


def _to_the_name_of_the_page(match: re.Match) -> str:
    page, anchor = match.groups()
    name = page.rpartition(".")[2]
    member = anchor.partition(f".{name}.")[2]
    return f"{page}.html#{page}{'.' if member else ''}{member}"


# Documents of the repository that are, or are parts of, pages here.
PAGES = {
    "README.md": "/index",
    "CONTRIBUTING.md": "/contributing",
    "dynamics/README.md": "/concepts/architecture",
    "dynamics/claims/README.md": "/guides/your_own_claim",
    "dynamics/ensembles/README.md": "/guides/a_sweep_on_a_cluster",
    "notebooks": "/tutorials",
}
_LINK = re.compile(r"(!?)\[([^\]]+)\]\(([^)#:]+)\)")


def convert_links(app: Any, relative_path: pathlib.Path, parent: str, content: list[str]) -> None:
    """Links between files of the repository become links between pages; where there is no page, plain text."""
    folder = (pathlib.Path(app.srcdir) / relative_path).resolve().parent
    root = pathlib.Path(app.srcdir).resolve().parent

    def converted(match: re.Match) -> str:
        picture, text, target = match.groups()
        place = (folder / target).resolve()
        if picture or not place.is_relative_to(root):
            return match[0]
        name = str(place.relative_to(root))
        if name.startswith("notebooks/") and name.endswith(".ipynb"):
            return f"[{text}](/generated/tutorials/{place.name})"
        return f"[{text}]({PAGES[name]}.md)" if name in PAGES else f"{text} (`{name}` in the repository)"

    content[0] = _LINK.sub(converted, content[0])
