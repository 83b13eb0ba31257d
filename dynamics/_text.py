"""Lines of documentation as plain text."""

import re

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
    "sigma": "σ",
    "theta": "θ",
    "rho": "ρ",
    "psi": "ψ",
    "mu": "μ",
    "in": "∈",
    "le": "≤",
    "ge": "≥",
}


def readable(text: str) -> str:
    r"""A line of documentation with its formulas as plain text.

    >>> readable(r"Converges for $h\sigma < 1/\sqrt{3}$.")
    'Converges for hσ < 1/√(3).'
    """
    return re.sub(r"\$([^$]*)\$", lambda match: _formula(match[1]), text)


def _formula(text: str) -> str:
    for pattern, replacement in _FORMULAS:
        text = re.sub(pattern, replacement, text)
    text = re.sub(r"\\([a-zA-Z]+)", lambda match: _SYMBOLS.get(match[1], match[1]), text)
    return re.sub(r"\s+", " ", re.sub(r"\\.|[{}]", "", text)).strip()


# What is rewritten before symbols are put in, in this order.
_FORMULAS = (
    (r"([_^]){(\w+)}", r"\1\2"),
    (r"\\d?frac\s*{([^{}]*)}\s*{([^{}]*)}", r"\1/\2"),
    (r"\\d?frac\s*(\w)\s*(\w)", r"\1/\2 "),
    (r"\\dot\b\s*(\w(?:_\w)?)", r"d\1/dt"),
    (r"\\(?:hat|bar|tilde|mathrm|text)\b\s*", ""),
    (r"\\\|", "‖"),
    (r"\\,", " "),
    (r"\^\\top\b", "ᵀ"),
    (r"\\langle\s*", "⟨"),
    (r"\\sqrt\s*{([^{}]*)}", r"√(\1)"),
    (r"\\(cos|sin|log|exp)\b\s*(?=\()", r" \1"),
    (r"\\(cos|sin|log|exp)\b\s*", r" \1 "),
    (r"([_^]){([^{}]*)}", r"\1(\2)"),
)
