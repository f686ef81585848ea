"""Every command, option and setting stands in tests/surface.txt: a new one is a decision, and its commit says why.

`python -m tests.test_surface` writes the list anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from avc.config import settings_of
from avc.evaluation.measures import MEASURES
from avc.evaluation.options import fields_of
from avc.networks import NETWORKS
from launch.cli import app

LIST = Path(__file__).with_name("surface.txt")


def surface() -> list[str]:
    """A line for each parameter of each command, and for each setting with the networks that have it."""
    lines = [line for name, command in commands(typer.main.get_command(app)) for line in parameters(name, command)]
    lines += [f"avc eval {name} {option}=" for name, row in MEASURES.items() for option in fields_of(row.options)]
    networks: dict[str, list[str]] = {}
    for network in NETWORKS:
        for setting in settings_of(network):
            networks.setdefault(setting, []).append(network)
    for setting, having in sorted(networks.items()):
        lines.append(f"{setting}{'' if len(having) == len(NETWORKS) else ': ' + ' '.join(sorted(having))}")
    return lines


def commands(command: Any, name: str = "avc") -> list[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        return [] if command.hidden else [(name, command)]
    return [row for word, inner in sorted(command.commands.items()) for row in commands(inner, f"{name} {word}")]


def parameters(name: str, command: Any) -> list[str]:
    words = [p.opts[0] if p.param_type_name == "option" else str(p.name).upper() for p in command.params]
    return [name, *(f"{name} {word}" for word in sorted(words) if word != "--help")]


def test_every_command_option_and_setting_is_on_the_list() -> None:
    listed = LIST.read_text(encoding="utf-8").splitlines()
    assert surface() == listed, "write the list anew by `python -m tests.test_surface`, and say why in the commit"


if __name__ == "__main__":
    LIST.write_text("\n".join(surface()) + "\n", encoding="utf-8")
