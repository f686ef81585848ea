"""Files of settings: YAML in, plain values out, whatever is in the file."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from shards.text import decoded

LARGEST_BYTES = 1_000_000  # of a file
PROBLEMS_SHOWN = 8


def read_settings(path: Path, *, missing: str, example: str) -> dict[str, Any]:
    """What a YAML file holds. missing: what to say where it is not there; example: of a line that it could hold.

    Raises ValueError where it is not there, cannot be read, is no YAML or holds something else than names and values.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
        if len(data) > LARGEST_BYTES:
            raise ValueError(f"{path} is larger than {LARGEST_BYTES:,} bytes and no file of settings")
        tree = parse_yaml(decoded(data, path), origin=str(path))
    except FileNotFoundError:
        raise ValueError(missing) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {error}") from None
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise ValueError(f"{path} must hold settings such as `{example}`, not a bare {type(tree).__name__}")
    return tree


def parse_yaml(text: str, *, origin: str) -> Any:
    """The value of a YAML text. Raises ValueError, with where it came from, for what is none."""
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise ValueError(f"{origin} cannot be read as YAML: it is nested too deep") from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, OverflowError) as error:  # of dates and numbers as well
        raise ValueError(f"{origin} cannot be read as YAML: {error}") from None


def refusal(error: ValidationError, *, origin: str, unknown: Callable[[str], str]) -> ValueError:
    """The error for values that do not fit: what is wrong with each. unknown: what to say of an unknown name."""
    problems = error.errors()
    words = [_in_words(problem, unknown) for problem in problems[:PROBLEMS_SHOWN]]
    if len(problems) > PROBLEMS_SHOWN:
        words.append(f"and {len(problems) - PROBLEMS_SHOWN:,} more")
    return ValueError(f"{origin}: {'; '.join(words)}")


def no_such_setting(place: str, names: Sequence[str], *, otherwise: str = "") -> str:
    """What to say of an unknown name: the nearest of the right ones, or `otherwise` where none is near."""
    import difflib

    nearest = difflib.get_close_matches(place, names, n=1, cutoff=0.5)
    return f"there is no setting `{place}`" + (f"; did you mean `{nearest[0]}`?" if nearest else otherwise)


def _in_words(problem: Any, unknown: Callable[[str], str]) -> str:
    place = ".".join(str(part) for part in problem["loc"])[:100]
    if problem["type"] == "extra_forbidden":
        return unknown(place)
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"`{place}` is {shown(problem['input'])}: {message}" if place else message


def shown(value: object) -> str:
    """A value for a message, cut short."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python prints no number of so many digits
        return "a number of thousands of digits"


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads `1e-4` as a string; this one reads it as the number that was meant."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)
