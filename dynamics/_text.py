"""Text for people: lines of documentation without their formulas' markup, and anybody's text such that it is harmless.

Imports nothing heavy.
"""

import re
import unicodedata
from typing import Any

_SYMBOLS = {
    "nabla": "∇",
    "leftarrow": "←",
    "to": "→",
    "rangle": "⟩",
    "dots": "…",
    "cdot": "·",
    "eta": "η",
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "epsilon": "ε",
    "lambda": "λ",
    "kappa": "κ",
    "varphi": "φ",
    "Delta": "Δ",
    "int": "∫",
    "sum": "Σ",
    "sigma": "σ",
    "theta": "θ",
    "rho": "ρ",
    "psi": "ψ",
    "mu": "μ",
    "in": "∈",
    "le": "≤",
    "ge": "≥",
    "ne": "≠",
    "pm": "±",
    "mp": "∓",
    "approx": "≈",
    "sim": "~",
    "times": "×",
    "otimes": "⊗",
    "succ": "≻",
    "succeq": "⪰",
    "prec": "≺",
    "preceq": "⪯",
    "partial": "∂",
    "infty": "∞",
    "ell": "ℓ",
    "xi": "ξ",
    "tau": "τ",
    "chi": "χ",
    "omega": "ω",
    "pi": "π",
    "phi": "φ",
    "zeta": "ζ",
    "nu": "ν",
    "Sigma": "Σ",
    "Lambda": "Λ",
    "Gamma": "Γ",
    "Theta": "Θ",
    "Omega": "Ω",
    "Phi": "Φ",
    "Psi": "Ψ",
}


def readable(text: str) -> str:
    r"""A line of documentation with its formulas as plain text.

    >>> readable(r"Converges for $h\sigma < 1/\sqrt{3}$.")
    'Converges for hσ < 1/√(3).'
    """
    return re.sub(r"\$([^$]*)\$", lambda match: _formula(match[1]), text)


def _formula(text: str) -> str:
    text = re.sub(r"\^\\top(?![a-zA-Z])", "ᵀ", text).replace(r"\{", "(").replace(r"\}", ")").replace(r"\ ", " ")
    text = re.sub(r"\\([a-zA-Z]+)", lambda match: _SYMBOLS.get(match[1], match[0]), text)
    for pattern, replacement in _FORMULAS:
        text = re.sub(pattern, replacement, text)
    before = None
    while text != before:  # the innermost ones first
        before, text = text, re.sub(_RAISED, r"\1(\2)", re.sub(_ROOT, r"√(\1)", _FRACTION.sub(_over, text)))
    for pattern, replacement in _AFTERWARDS:
        text = re.sub(pattern, replacement, text)
    return re.sub(r"\s+", " ", text).strip()


def _over(match: re.Match) -> str:
    """A fraction in one line, sums and products in parentheses."""
    parts = [braced if single is None else single for braced, single in (match.group(1, 2), match.group(3, 4))]
    above, below = (f"({part.strip()})" if re.search(r"[-+*/ ]", part.strip()) else part.strip() for part in parts)
    return f"{above}/{below} " if match[4] else f"{above}/{below}"


_MATRIX = r"\\(?:begin|end){[a-z]*matrix}"
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:{([^{}]*)}|([\w∂]))\s*(?:{([^{}]*)}|([\w∂]))")
_ROOT, _RAISED = r"\\sqrt\s*{([^{}]*)}", r"([_^]){([^{}]*)}"
# What is rewritten once symbols are put in, before fractions and after them, in this order.
_FORMULAS = (
    (rf"{_MATRIX}(.*?){_MATRIX}", lambda match: f"[{match[1].replace(chr(92) * 2, ';').replace('&', ',')}]"),
    (r"\\(?:left|right|[bB]igg?[lr]?)\b(?=[^a-zA-Z])", ""),
    (r"(_){(\w+)}|(\^){(\w)}", r"\1\2\3\4"),
    (r"\\dot\b\s*(\w(?:_\w)?)", r"d\1/dt"),
    (r"\\(?:hat|bar|tilde|mathrm|text|operatorname)\b\s*{(\w*)}", r"\1"),
    (r"\\(?:hat|bar|tilde|mathrm|text|operatorname)\b\s*", ""),
    (r"\\\|", "‖"),
    (r"\\,|\\;|\\!|\\quad\b", " "),
    (r"\\langle\s*", "⟨"),
    (r"\\sqrt\s*(\w)", r"√\1"),
)
_AFTERWARDS = (
    (r"\\(cos|sin|log|exp|max|min|sup|tanh|ln|arcsin)(?![a-zA-Z])\s*(?=[(_])", r" \1"),
    (r"\\(cos|sin|log|exp|max|min|sup|ln|arcsin)(?![a-zA-Z])\s*", r" \1 "),
    (r"\\([a-zA-Z]+)", r"\1"),
    (r"\(\s+", "("),
    (r"\s+([,;\])])", r"\1"),
    (r"\\.|[{}]", ""),
)


# Categories of characters that are not shown as themselves: control, format (among them those that turn the direction
# of what follows), surrogates, separators of lines and paragraphs. Two of the format ones belong to spelling.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_SPELLING = "\u200c\u200d"


def is_plain(text: str) -> bool:
    """True when a text is one line without control characters, lone surrogates or marks that turn its direction.

    >>> is_plain("Dirac-GAN, σ = 1"), is_plain("\\x1b[31mred"), is_plain("two\\nlines")
    (True, False, False)
    """
    return text.isprintable() or not any(_is_hidden(character) for character in text)


def printable(text: Any) -> str:
    r"""Any text as one line that a terminal shows and does not obey: what is hidden is written as an escape.

    >>> printable("\x1b[31mred")
    '\\x1b[31mred'
    """
    text = str(text)
    if is_plain(text):
        return text
    if len(lines := text.splitlines()) > 1:
        text = " ".join(filter(None, (line.strip() for line in lines)))
    return "".join(_escape(character) if _is_hidden(character) else character for character in text)


def shown(value: Any, longest: int = 60) -> str:
    """A value for a message: its `repr` in one line and not too long, whatever it is.

    >>> shown("a"), shown([0] * 1000, 12)
    ("'a'", '[0, 0, 0,...')
    """
    try:
        text = printable(repr(value))
    except Exception:  # whole numbers of thousands of digits, lists nested in themselves, others' classes
        return f"something of type {type(value).__name__} that is too large to be shown"
    return shortened(text, longest)


def shortened(text: str, longest: int) -> str:
    """The text, or its beginning with an ellipsis."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def reason(error: BaseException) -> str:
    """What an exception says, in one line; with its kind where messages are not written for people.

    >>> reason(ValueError("rate is -1")), reason(KeyError("rate"))
    ('rate is -1', "KeyError: 'rate'")
    """
    kind = type(error)
    lines = [line for line in _said(error).splitlines() if line.strip()]
    text = shortened(printable(lines[0]), 200) if lines else ""
    if isinstance(error, (ValueError, TypeError)) and text:
        return text
    return f"{kind.__name__}: {text}" if text else kind.__name__


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # of somebody's own class
        return ""


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN and character not in _SPELLING


def _escape(character: str) -> str:
    return ascii(character)[1:-1]


def complex_text(value: complex, digits: int = 6) -> str:
    """A complex number to so many digits; a real one where the imaginary part is rounding.

    >>> complex_text(0.5 - 2j), complex_text(0.25 + 1e-17j)
    ('0.5-2i', '0.25')
    """
    if abs(value.imag) < 1e-14 * (1 + abs(value)):
        return f"{value.real:.{digits}g}"
    return f"{value.real:.{digits}g}{value.imag:+.{digits}g}i"
