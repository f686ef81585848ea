"""`avc eval correspondence` and `avc eval retrieval`: pairs told apart, and neighbors found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.commands.options import Device, Json, Run, ShardsOption, Split, Wandb

if TYPE_CHECKING:
    from avc.embedding import Features


def correspondence(
    run: Run,
    shards: ShardsOption = None,
    split: Split = "validation",
    passes: Annotated[int, typer.Option(min=1, help="How often each clip is judged in each role.")] = 10,
    json: Json = None,
    wandb: Wandb = False,
) -> None:
    """How often does the network tell a frame and a second of sound that belong together from a pair that does not?

    Half of the pairs are positives: a frame and the second of sound around it. Half are negatives: the sound is another
    video's. Chance is 50 %. The 95 % interval takes the pairs as independent.

    **Example**

        avc eval correspondence runs/ave --json ave.json
    """
    from launch.progress import progress
    from launch.report.results import as_json, write_json, write_wandb
    from launch.report.results import correspondence as measure_correspondence

    if split not in ("train", "validation", "test"):
        raise ValueError(f"--split is {split!r} and must be train, validation or test")
    with progress("judging", unit="pairs") as report:
        result = measure_correspondence(run, shards=shards, split=split, passes=passes, report=report)
    low, high = result.interval
    print(
        f"AVC accuracy {result.accuracy:.1%} ({low:.1%} to {high:.1%}) on {result.pairs:,} pairs of the {split} split"
    )
    print(f"positives {result.positives_accuracy:.1%}, negatives {result.negatives_accuracy:.1%}, chance 50.0%")
    content = as_json(result) | {"run": str(run), "split": split}
    write_json(json, content)
    if wandb:
        write_wandb(run, f"correspondence/{split}", content)


def retrieval(
    run: Run,
    labels: Annotated[Path, typer.Option(help="Labels of videos, in a form of docs/evaluation.md.")],
    ontology: Annotated[
        Path | None, typer.Option(help="The AudioSet ontology; relevance is then 20 − tree distance.")
    ] = None,
    instruments: Annotated[
        bool, typer.Option("--instruments", help="Only labels of AudioSet-Instruments; needs --ontology.")
    ] = False,
    gain: Annotated[str, typer.Option(help="exponential (2^relevance − 1) or linear.")] = "exponential",
    features: Annotated[
        Path | None, typer.Option(help="A .npy file of images' features: a row for each clip of the shards' index.")
    ] = None,
    shards: ShardsOption = None,
    split: Split = "validation",
    device: Device = "auto",
    json: Json = None,
    wandb: Wandb = False,
) -> None:
    """What is nearest to a frame, or to a second of sound, among all frames and all sounds: is it of the same kind?

    nDCG@30 with one random frame and its second of sound for each clip: im-aud finds sounds for a frame, and so on. Two
    clips are relevant to each other if they share a label, or more finely by the AudioSet ontology. L3-Net has a second
    row with CCA, fitted on the training clips, each direction weighted by its correlation squared. The random row is
    measured in the same way and is the floor.

    **Example**

        avc eval retrieval runs/ave --labels demo-world/world/labels.jsonl
    """
    from dataclasses import asdict

    from avc.data.labels import INSTRUMENTS, Ontology, flat_relevance, labeled, read_labels
    from avc.evaluation.retrieval import GAINS, evaluate_retrieval
    from avc.inference import load
    from launch.progress import progress
    from launch.report.results import write_json, write_wandb
    from launch.report.table import print_table
    from shards.read import Shards

    if gain not in GAINS:
        raise ValueError(f"--gain is {gain!r} and must be {' or '.join(GAINS)}")
    tree = Ontology(ontology) if ontology else None
    if instruments and tree is None:
        raise ValueError("--instruments are classes of the AudioSet ontology: give its file with --ontology")
    network = load(run, device=device)
    data = Shards(shards or network.config.data.shards)
    labels_of = read_labels(labels)
    if instruments and tree is not None:
        labels_of = tree.restrict(labels_of, INSTRUMENTS)
    known = labeled(data, data.clips(split), labels_of)
    relevance = tree.relevance(known.classes) if tree else flat_relevance(len(known.classes))
    given = _read_array(features) if features is not None else None
    with progress("embedding", unit="views") as report:
        rows = evaluate_retrieval(
            network, data, known, relevance=relevance, gain=GAINS[GAINS.index(gain)], features=given, report=report
        )
    kind = f"{gain} gain, relevance from {'the ontology' if ontology else 'shared labels'}"
    print(f"nDCG@30 on {len(known.clips):,} clips of the {split} split, {len(known.classes)} classes; {kind}")
    if known.unlabeled:
        print(f"{known.unlabeled:,} clips of the split have no label in {labels} and were left out")
    if known.unread:
        print(f"{known.unread:,} rows of {labels} cannot be read")
    scores = [(row.name, row.im_im, row.im_aud, row.aud_im, row.aud_aud) for row in rows]
    print_table(
        ("", "im-im", "im-aud", "aud-im", "aud-aud"),
        [(name, *(f"{s.mean:.3f} ± {s.high - s.mean:.3f}" if s else "" for s in row)) for name, *row in scores],
    )
    print("± is half of the 95 % interval over queries")
    queries = min(score.queries for row in rows for score in (row.im_im, row.aud_aud) if score)
    if queries < len(known.clips):
        print(f"im-im and aud-aud leave out {len(known.clips) - queries:,} clips that share no class with another")
    about = {"run": str(run), "split": split, "gain": gain, "instruments": instruments}
    about["ontology"] = str(ontology) if ontology else None
    counts = {"clips": len(known.clips), "unlabeled": known.unlabeled}
    content = about | counts | {"rows": [asdict(row) for row in rows]}
    write_json(json, content)
    if wandb:
        write_wandb(run, f"retrieval/{split}", content)


def _read_array(path: Path) -> Features:
    import numpy as np

    try:
        array = np.load(path.expanduser(), allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it holds several arrays")
        features: Features = array.astype(np.float32)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a .npy file of numbers: {error}") from None
    return features
