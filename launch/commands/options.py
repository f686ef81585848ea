"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(help="The folder of a run (run.dir of `avc train`).")]
ShardsOption = Annotated[Path | None, typer.Option(help="Packed videos.", show_default="the run's own")]
Split = Annotated[str, typer.Option(help="train, validation or test.")]
Json = Annotated[Path | None, typer.Option(help="Write the result to this file as well.")]
