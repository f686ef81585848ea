"""The `avc` commands, a file for each group of them, and the options that several have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(help="The folder of a run (run.dir of `avc train`).")]
AnyRun = Annotated[
    Path, typer.Argument(help="A run, a .safetensors of `avc import`, a network by name, or FILE.py:NAME, an encoder.")
]
ShardsOption = Annotated[Path | None, typer.Option(help="Packed videos.", show_default="the run's own")]
JudgingSplit = Annotated[
    str | None, typer.Option("--split", help="train, validation or test.", show_default="test if any, or validation")
]
Device = Annotated[str, typer.Option(help="cpu, cuda or one of several, as cuda:1.", show_default="a GPU if any")]
Json = Annotated[Path | None, typer.Option(help="Write the result to this file as well.")]
Wandb = Annotated[bool, typer.Option("--wandb", help="Write the numbers into the run that it is on W&B as well.")]
