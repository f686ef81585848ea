"""Configuration files: YAML and `section.name=value` in, frozen settings out.

A file names sections and settings; what it leaves out keeps its default. Which settings there are depends on
`model.name`. An unknown name, a setting that the network does not have, a wrong type or an impossible combination is a
ValueError that says where it stands and what was probably meant.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from avc.networks import NETWORKS, network_of
from avc.settings import Config, Section
from shards.text import decoded

LARGEST_BYTES = 1_000_000  # of a file
PROBLEMS_SHOWN = 8


def load_config(path: str | Path, overrides: Iterable[str] = (), *, of_run: bool = False) -> Config:
    """Read a YAML file and apply `section.name=value` overrides, whose values are YAML too.

    of_run: whether the file is a run's own, from which settings that no longer exist are dropped: its weights say what
    they need. Raises ValueError for an unreadable file, an unknown name (with the nearest right one), a setting that
    the network does not have, a wrong type or an impossible combination.
    """
    path = Path(path)
    tree = read_settings(path, missing=f"there is no configuration file {path}", example="data: {shards: FOLDER}")
    return parse_config(tree, overrides, origin=str(path), of_run=of_run)


def parse_config(
    tree: Mapping[str, Any], overrides: Iterable[str] = (), *, origin: str = "settings", of_run: bool = False
) -> Config:
    """Check a nested dictionary, as `load_config` does with a file's content."""
    tree = {name: dict(section) if isinstance(section, dict) else section for name, section in tree.items()}
    given = set()
    for override in overrides:
        name, equals, text = override.partition("=")
        given.add(name)
        section, dot, field = name.partition(".")
        if not equals or not dot or not field or name.startswith("-"):
            bare = name.removeprefix("--")
            meant = [each for each in settings_of("ave") if each == bare or each.endswith(f".{bare}")]
            example = f"{meant[0]}={text or 'VALUE'}" if meant else "optim.lr=1e-3"
            raise ValueError(f"`{override}` is not of the form section.name=value, as in {example}")
        try:
            value = parse_yaml(text, origin=name)
        except ValueError:  # the name of a folder, for instance
            value = text
        group = tree.setdefault(section, {})
        if not isinstance(group, dict):
            raise ValueError(f"{origin}: `{section}` must be a section of settings")
        group[field] = value
    model = tree.get("model")
    name = model.get("name", "ave") if isinstance(model, dict) else "ave"
    try:
        if of_run:
            settings = settings_of(name)
            for section, group in tree.items():
                if isinstance(group, dict):
                    tree[section] = {field: value for field, value in group.items() if f"{section}.{field}" in settings}
        return network_of(name).config.model_validate(tree)
    except ValidationError as error:
        if all(".".join(map(str, problem["loc"][:2])) in given for problem in error.errors()):
            origin = "on the command line"
        raise refusal(error, origin=origin, unknown=lambda place: _unknown(name, place)) from None
    except ValueError as error:
        raise ValueError(f"{origin}: {error}") from None


def dump_config(config: Config) -> str:
    """The whole configuration as YAML, defaults included; `load_config` reads it back to an equal object."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def settings_of(name: str) -> dict[str, FieldInfo]:
    """Every setting that a network has, by its full name such as `optim.lr`."""
    settings: dict[str, FieldInfo] = {}
    for section, field in network_of(name).config.model_fields.items():
        kind = field.annotation
        assert isinstance(kind, type) and issubclass(kind, Section), kind
        settings |= {f"{section}.{name}": setting for name, setting in kind.model_fields.items()}
    return settings


def _unknown(network: str, place: str) -> str:
    """What to say of a setting that a network does not have."""
    settings = settings_of(network)
    section = place.partition(".")[0]
    if any(setting == place or setting.startswith(f"{place}.") for other in NETWORKS for setting in settings_of(other)):
        names = [name for name in settings if name.startswith(f"{section}.")]
        there = f"its settings of `{section}` are {', '.join(names)}" if names else f"it has no section `{section}`"
        return f"`{place}` means nothing to {network}: {there} (`avc settings {network}` lists all)"
    return no_such_setting(place, [*dict.fromkeys(name.partition(".")[0] for name in settings), *settings])


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
    place = place.replace("data.shards.sets.", "data.shards.").replace("data.shards.path", "data.shards")  # tags
    if problem["type"] == "extra_forbidden":
        return unknown(place)
    if problem["input"] is None:
        return f"`{place}` is empty"
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
