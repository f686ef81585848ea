"""`avc settings`: every setting of a network with its meaning, default and range."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


# In the order in which most trainings set them; the others keep their defaults as a rule.
SET_FIRST = (
    *("data.shards", "run.dir", "training.steps", "optim.batch_pairs", "optim.micro_batch_pairs", "optim.lr"),
    *("model.width", "data.image_size", "data.num_workers", "training.precision", "validation.every_steps"),
    *("checkpoint.every_steps", "log.wandb"),
)


def settings(
    network: Annotated[
        str | None, typer.Argument(help="Its name, as in model.name.", show_default="all, a line each")
    ] = None,
) -> None:
    """List the networks, or every setting of one of them, those that people set first on top.

    A setting is given in a YAML file, or on the command line as SECTION.NAME=VALUE.

    **Examples**

        avc settings
        avc settings ave
    """
    from avc.config import load_config, settings_of
    from avc.networks import NETWORKS
    from launch.report.results import print_table
    from launch.train import CONFIGS

    if network is None:
        rows = [(name, spec.title, spec.about) for name, spec in NETWORKS.items()]
        print_table(("", "", ""), rows, box=None, show_header=False)
        print("avc settings NAME lists the settings of one of them")
        return
    if network not in NETWORKS and (CONFIGS / f"{network}.yaml").is_file():
        name = load_config(CONFIGS / f"{network}.yaml").model.name
        raise ValueError(f"{network} is a file of settings, of the network {name}: `avc settings {name}` lists them")
    settings = settings_of(network)
    first = [name for name in SET_FIRST if name in settings]
    print(f"Set first: {', '.join(first)}\n")
    for name, field in {name: settings[name] for name in [*first, *settings]}.items():
        default = network if name == "model.name" else shown(field.default)
        limits = f"  ({allowed(field)})" if allowed(field) else ""
        print(f"{name}={default}{limits}")
        print(textwrap.indent(textwrap.fill(" ".join((field.description or "").split()), 100), "    "))


def shown(value: Any) -> str:
    """A default as YAML has it."""
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def allowed(field: FieldInfo) -> str:
    """The values that a setting may have, in words; empty where its type says all."""
    kinds = (field.annotation, *get_args(field.annotation))
    choices = [str(choice) for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if choices and bool in kinds:
        choices += ["true", "false"]
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    limits = [
        f"{sign} {getattr(bound, name):g}"
        for bound in field.metadata
        for name, sign in signs.items()
        if hasattr(bound, name)
    ]
    return ", ".join(choices or limits)
