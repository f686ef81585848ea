"""`avc export`: a trained network for others, as a folder or as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[
        str, typer.Argument(help="A run, a file of `avc import`, a folder of save_pretrained, a hub's name.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for weights, settings and a model card.")] = None,
    onnx: Annotated[Path | None, typer.Option(help="The .onnx file to write.")] = None,
    takes: Annotated[
        str, typer.Option(help="What the .onnx takes: waveform, spectrogram (audio towers) or image.")
    ] = "waveform",
) -> None:
    """Give a network to others: a folder that `avc.load` reads, or a tower that runs without this project.

    **--out** writes what `network.save_pretrained` does: model.safetensors, config.yaml without this machine's paths,
    and README.md, a model card with its settings and the metrics of its best validation. An upload of it is a model on
    the hub.

    **--onnx** writes the audio tower with its spectrogram in front, for any batch size: `samples`, float32 (N, 48000),
    give `embedding`, float32 (N, D). With **--takes image** it is the image tower, of crops, uint8 (N, size, size, 3).
    With **--takes spectrogram** the spectrogram is yours to compute. That is for openl3's networks: their decibels go
    down to what float32 rounds, so that the same waveform gives each runtime other numbers. The file is run once, and
    its largest difference to torch printed. It needs onnx, onnxscript and onnxruntime (`pip install 'avcorr[onnx]'`).

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
        raise ValueError(f"--takes is {takes!r} and must be {', '.join(INPUTS)}")
    network = load(run)
    if out is not None:
        network.save_pretrained(out)
        print(f"{out}: {', '.join(sorted(path.name for path in out.expanduser().iterdir()))}")
    if onnx is not None:
        result = export_onnx(network, onnx.expanduser(), takes=kind)
        print(f"{onnx}: {result.input} → {result.output}")
        print(f"in onnxruntime it differs from torch by at most {result.difference:.1e}, on noise")
