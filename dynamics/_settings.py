"""Values as users write them on the command line and in files: TOML, with what is wrong in words."""

import tomllib
from typing import Any

from dynamics._text import reason

DEEPEST = 24  # tables and lists within each other


def parsed(text: str) -> dict[str, Any]:
    """The tables of a text in TOML.

    Raises:
        ValueError: not TOML (a `tomllib.TOMLDecodeError`), nested too deeply, or a number or date that cannot be held.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError as error:
        raise ValueError(f"nested too deeply; expected at most {DEEPEST} levels") from error
    except (ValueError, OverflowError) as error:  # dates that there are not, whole numbers of thousands of digits
        digits = "digits" in str(error)
        said = "a whole number has too many digits; expected at most 64 bits" if digits else reason(error)
        raise ValueError(said) from error


def value_of(text: str) -> Any:
    """The value that a text in TOML stands for.

    Raises:
        ValueError: as for `parsed`, or more than a value.

    >>> value_of("[1, 2.5]")
    [1, 2.5]
    """
    data = parsed(f"value = {text}")
    if data.keys() != {"value"}:
        raise ValueError("expected one value")
    return data["value"]
