"""Docstrings as Sphinx reads them: formulas in dollars, names and code in backticks, everything else as it stands."""

import re
from collections.abc import Callable

# What has a meaning of its own: code, displayed formulas, formulas.
_MARKED = re.compile(r"(``.+?``|`[^`\n]+`|\$\$.+?\$\$|\$[^$]+\$)", re.DOTALL)
_DOCTEST = re.compile(r"^\s*>>>")
_SPECIAL = re.compile(r"([*\\|])")
_REFERENCE = re.compile(r"(?<=\w)_(?!\w)")
_BULLET = re.compile(r"^(\s*)\* ", re.MULTILINE)
_HEADING = re.compile(r"^\s*[A-Z][a-z]+:$")


def restructured(lines: list[str], role_of: Callable[[str], str | None]) -> list[str]:
    """A docstring as reStructuredText.

    Args:
        lines: of the docstring.
        role_of: the full name of what a text in backticks names; `None` where it is no public name.

    >>> restructured(["The rate $h$ of `sgd`, *not* x_."], lambda name: "dynamics.optimisers.sgd")
    ['The rate :math:`h` of :py:obj:`sgd <dynamics.optimisers.sgd>`, \\\\*not\\\\* x\\\\_.']
    """
    result: list[str] = []
    for paragraph, examples in _paragraphs(lines):
        if examples:
            result += paragraph
        elif result and not result[-1].strip() and _is_block(paragraph, result):
            indent = min(len(line) - len(line.lstrip()) for line in paragraph if line.strip())
            result += [" " * (indent - 4) + "::", ""] + paragraph
        else:
            result += _converted("\n".join(paragraph), role_of).split("\n")
    return result


def _paragraphs(lines: list[str]) -> list[tuple[list[str], bool]]:
    """Runs of lines up to and with blank ones, and whether they are an example to run."""
    found: list[tuple[list[str], bool]] = []
    current: list[str] = []
    for line in lines:
        current.append(line)
        if not line.strip():
            found.append((current, bool(_DOCTEST.match(current[0]))))
            current = []
    if current:
        found.append((current, bool(_DOCTEST.match(current[0]))))
    return found


def _is_block(paragraph: list[str], before: list[str]) -> bool:
    """Whether a paragraph is a block of code: indented by four, below one that is not and that begins no section."""
    earlier = [line for line in before if line.strip()]
    if not earlier or not paragraph[0].strip():
        return False
    indent = len(paragraph[0]) - len(paragraph[0].lstrip())
    above = len(earlier[-1]) - len(earlier[-1].lstrip())
    return indent >= above + 4 and not _HEADING.match(earlier[-1]) and earlier[-1].strip() not in ("", "::")


def _converted(text: str, role_of: Callable[[str], str | None]) -> str:
    parts = _MARKED.split(_BULLET.sub("\\1\x01 ", text))
    for place in range(1, len(parts), 2):  # markup ends at a space, or at one that is not printed
        before, after = parts[place - 1][-1:], parts[place + 1][:1]
        marked = _marked(parts[place], role_of)
        parts[place] = (
            ("\x00" if before.isalnum() else "") + marked + ("\x00" if after.isalnum() or after == "_" else "")
        )
    text = "".join(part if place % 2 else _plain(part) for place, part in enumerate(parts))
    return text.replace("\x00", "\\ ").replace("\x01", "*")


def _plain(text: str) -> str:
    return _REFERENCE.sub(r"\\_", _SPECIAL.sub(r"\\\1", text))


def _marked(text: str, role_of: Callable[[str], str | None]) -> str:
    flat = " ".join(text.split())
    if text.startswith("$"):
        return f":math:`{flat.strip('$').strip()}`"
    code = flat.strip("`")
    if text.startswith("``"):
        return flat
    target = role_of(code)
    if target is not None:
        return f":py:obj:`{code} <{target}>`"
    return f"``{code}``"
