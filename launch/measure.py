"""`avc eval retrieval`: what an embedding knows, beyond telling right pairs from wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from avc.evaluation.retrieval import Row
    from avc.evaluation.views import Features

Run = Annotated[Path, typer.Argument(help="The folder of a run (run.dir of `avc train`).")]
ShardsOption = Annotated[Path | None, typer.Option(help="Packed videos.", show_default="the run's own")]
Split = Annotated[str, typer.Option(help="train, validation or test.")]
Json = Annotated[Path | None, typer.Option(help="Write the result to this file as well.")]


def retrieval(
    run: Run,
    labels: Annotated[Path, typer.Option(help="Labels: .csv or .tsv rows of file name and label, or .jsonl.")],
    ontology: Annotated[
        Path | None, typer.Option(help="The AudioSet ontology; relevance is then 20 − tree distance.")
    ] = None,
    gain: Annotated[str, typer.Option(help="exponential (2^relevance − 1) or linear.")] = "exponential",
    features: Annotated[
        Path | None, typer.Option(help="A .npy file of pictures' features: a row for each clip of the shards' index.")
    ] = None,
    shards: ShardsOption = None,
    split: Split = "validation",
    json: Json = None,
) -> None:
    """What is nearest to a frame, or to a second of sound, among all frames and all sounds: is it of the same kind?

    nDCG@30 with one random frame and its second of sound for each clip: im-aud finds sounds for a frame, and so on. Two
    clips are relevant to each other if they share a label, or more finely by the AudioSet ontology. L3-Net has a second
    row with CCA, fitted on the training clips. The random row is measured in the same way and is the floor.

    **Example**

        avc eval retrieval runs/ave --labels demo-world/world/labels.jsonl
    """
    from dataclasses import asdict

    from avc.evaluation.labels import Ontology, flat_relevance, labelled, read_labels
    from avc.evaluation.retrieval import GAINS, evaluate_retrieval
    from avc.inference import load
    from launch.evaluate import write_json
    from launch.progress import progress
    from shards.read import Shards

    if gain not in GAINS:
        raise ValueError(f"--gain is {gain!r} and must be {' or '.join(GAINS)}")
    network = load(run)
    data = Shards(shards or network.config.data.shards)
    known = labelled(data, data.clips(split), read_labels(labels))
    relevance = Ontology(ontology).relevance(known.classes) if ontology else flat_relevance(len(known.classes))
    given = _array(features) if features is not None else None
    with progress("embedding", unit="views") as report:
        rows = evaluate_retrieval(
            network, data, known, relevance=relevance, gain=GAINS[GAINS.index(gain)], features=given, report=report
        )
    kind = f"{gain} gain, relevance from {'the ontology' if ontology else 'shared labels'}"
    print(f"nDCG@30 on {len(known.clips):,} clips of the {split} split, {len(known.classes)} classes; {kind}")
    if known.unlabelled:
        print(f"{known.unlabelled:,} clips of the split have no label in {labels} and were left out")
    _show(rows)
    if json is not None:
        about = {"run": str(run), "split": split, "gain": gain, "ontology": str(ontology) if ontology else None}
        write_json(
            json,
            about | {"clips": len(known.clips), "unlabelled": known.unlabelled, "rows": [asdict(row) for row in rows]},
        )


def _show(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "im-im", "im-aud", "aud-im", "aud-aud")
    for row in rows:
        scores = (row.im_im, row.im_aud, row.aud_im, row.aud_aud)
        table.add_row(row.name, *(f"{s.mean:.3f} ± {s.high - s.mean:.3f}" if s else "" for s in scores))
    Console().print(table)
    print("± is half of the 95 % interval over queries")


def _array(path: Path) -> Features:
    import numpy as np

    try:
        features: Features = np.load(path.expanduser(), allow_pickle=False).astype(np.float32)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not a .npy file of numbers: {error}") from None
    return features
