"""Configuration files: YAML and `section.name=value` in, frozen settings out.

A file names sections and settings; what it leaves out keeps its default. Which settings there are depends on
`model.name`. An unknown name, a setting that the network does not have, a wrong type or an impossible combination is a
ValueError that says where it stands and what was probably meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from avc.networks import NETWORKS, network_of
from avc.section import Section
from avc.settings import Config
from avc.settings_file import no_such_setting, parse_yaml, read_settings, refusal

RENAMED = {
    "model.kinds": "model.num_classes",
    "model.trunks": "model.frozen_trunks",
}
RETIRED = {"log.wandb_sweep": None}  # with the default that the files of older runs have


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file and apply `section.name=value` overrides, whose values are YAML too.

    Raises ValueError for an unreadable file, an unknown name (with the nearest right one), a setting that the network
    does not have, a wrong type or an impossible combination.
    """
    path = Path(path)
    tree = read_settings(path, missing=f"there is no configuration file {path}", example="data: {shards: FOLDER}")
    return parse_config(tree, overrides, origin=str(path))


def parse_config(tree: Mapping[str, Any], overrides: Iterable[str] = (), *, origin: str = "settings") -> Config:
    """Check a nested dictionary, as `load_config` does with a file's content."""
    tree = {name: dict(section) if isinstance(section, dict) else section for name, section in tree.items()}
    for override in overrides:
        name, equals, text = override.partition("=")
        section, dot, field = name.partition(".")
        if not equals or not dot or not field:
            raise ValueError(f"`{override}` is not of the form section.name=value, as in optim.lr=1e-3")
        try:
            value = parse_yaml(text, origin=name)
        except ValueError:  # the name of a folder, for instance
            value = text
        group = tree.setdefault(section, {})
        if not isinstance(group, dict):
            raise ValueError(f"{origin}: `{section}` must be a section of settings")
        group[field] = value
    _drop_retired(tree, origin)
    model = tree.get("model")
    name = model.get("name", "ave") if isinstance(model, dict) else "ave"
    try:
        return network_of(name).config.model_validate(tree)
    except ValidationError as error:
        raise refusal(error, origin=origin, unknown=lambda place: _unknown(name, place)) from None
    except ValueError as error:
        raise ValueError(f"{origin}: {error}") from None


def dump_config(config: Config) -> str:
    """The whole configuration as YAML, defaults included; `load_config` reads it back to an equal object."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def settings_of(name: str) -> dict[str, FieldInfo]:
    """Every setting that a network has, by its full name such as `optim.lr`."""
    return dict(_fields(network_of(name).config))


def _fields(config: type[Config]) -> Iterator[tuple[str, FieldInfo]]:
    for section, field in config.model_fields.items():
        kind = field.annotation
        assert isinstance(kind, type) and issubclass(kind, Section), kind
        for name, setting in kind.model_fields.items():
            yield f"{section}.{name}", setting


def _drop_retired(tree: dict[str, Any], origin: str) -> None:
    """Take out what older versions wrote and nobody had set. Raises ValueError where somebody has."""
    for place, default in RETIRED.items():
        section, _, name = place.partition(".")
        group = tree.get(section)
        if isinstance(group, dict) and name in group and group.pop(name) != default:
            raise ValueError(f"{origin}: there is no setting `{place}` any more: take it out; no result depends on it")


def _unknown(network: str, place: str) -> str:
    """What to say of a setting that a network does not have."""
    if place in RENAMED:
        return f"`{place}` is called `{RENAMED[place]}` now"
    own = settings_of(network)
    section = place.partition(".")[0]
    if any(known == place or known.startswith(f"{place}.") for other in NETWORKS for known in settings_of(other)):
        names = [name for name in own if name.startswith(f"{section}.")]
        there = f"its settings of `{section}` are {', '.join(names)}" if names else f"it has no section `{section}`"
        return f"`{place}` means nothing to {network}: {there} (`avc settings {network}` lists all)"
    return no_such_setting(place, [*dict.fromkeys(name.partition(".")[0] for name in own), *own])
