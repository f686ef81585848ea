"""`avc eval correspondence` and `avc eval retrieval`: pairs told apart, and neighbors found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.commands.options import AnyRun, Device, Json, JudgingSplit, Run, ShardsOption, Wandb


def correspondence(
    run: Run,
    shards: ShardsOption = None,
    split: JudgingSplit = None,
    passes: Annotated[int, typer.Option(min=1, help="How often each clip is judged in each role.")] = 10,
    json: Json = None,
    wandb: Wandb = False,
) -> None:
    """How often does the network tell a frame and a second of sound that belong together from a pair that does not?

    Half of the pairs are positives: a frame and the second of sound around it. Half are negatives: the sound is another
    video's. Chance is 50 %. The 95 % interval takes the clips as a sample: pairs with a clip in common vary together.

    **Example**

        avc eval correspondence runs/ave --json ave.json
    """
    from avc.inference import read_run
    from launch.progress import progress
    from launch.report.results import as_json, write_json, write_wandb
    from launch.report.results import correspondence as measure_correspondence
    from launch.report.splits import judging_split, say_splits
    from shards.read import Shards

    split = judging_split(Shards(shards or read_run(run)[0].data.shards), split)
    with progress("judging", unit="pairs") as report:
        result = measure_correspondence(run, shards=shards, split=split, passes=passes, report=report)
    low, high = result.interval_95
    print(
        f"AVC accuracy {result.accuracy:.1%} ({low:.1%} to {high:.1%}) on {result.pairs:,} pairs of the {split} split"
    )
    print(f"positives {result.positives_accuracy:.1%}, negatives {result.negatives_accuracy:.1%}, chance 50.0%")
    content = as_json(result) | {"run": str(run), "split": split} | say_splits([run], f"the {split} split")
    write_json(json, content)
    if wandb:
        write_wandb(run, f"correspondence/{split}", content)


def retrieval(
    run: AnyRun,
    labels: Annotated[Path, typer.Option(help="Labels of videos, in a form of docs/evaluation.md.")],
    ontology: Annotated[
        Path | None, typer.Option(help="The AudioSet ontology; relevance is then 20 − tree distance.")
    ] = None,
    instruments: Annotated[
        bool, typer.Option("--instruments", help="Only labels of AudioSet-Instruments; needs --ontology.")
    ] = False,
    gain: Annotated[str, typer.Option(help="exponential (2^relevance − 1) or linear.")] = "exponential",
    features: Annotated[
        Path | None, typer.Option(help="A .npz of others' features of the drawn frames: clip, tick and features.")
    ] = None,
    drawn: Annotated[
        Path | None, typer.Option(help="Write the frames that --features needs to this .csv: clip and tick.")
    ] = None,
    shards: ShardsOption = None,
    split: JudgingSplit = None,
    device: Device = "auto",
    json: Json = None,
    wandb: Wandb = False,
) -> None:
    """What is nearest to a frame, or to a second of sound, among all frames and all sounds: is it of the same kind?

    nDCG@30 with one random frame and its second of sound for each clip: im-aud finds sounds for a frame, and so on. Two
    clips are relevant to each other if they share a label, or more finely by the AudioSet ontology. L3-Net has a second
    row with CCA, fitted on the training clips, each direction weighted by its correlation squared. The random row is
    measured in the same way and is the floor. Recall@k between modalities: is the other modality of the query's own
    clip among the k nearest?

    Features of another network stand beside them by --features, of the very frames that are drawn. --drawn writes which
    they are, by clip and tick; the same run, labels and split draw the same ones.

    **Examples**

        avc eval retrieval runs/ave --labels demo-world/world/labels.jsonl --drawn drawn.csv
        avc eval retrieval runs/ave --labels demo-world/world/labels.jsonl --features vgg16.npz
    """
    from dataclasses import asdict

    from avc.data.labels import labeled, read_labels
    from avc.data.ontology import INSTRUMENTS, Ontology, flat_relevance
    from avc.evaluation.given import GivenFeatures, write_drawn
    from avc.evaluation.retrieval import GAINS, RECALL_DEPTHS, drawn_frames, evaluate_retrieval
    from avc.inference import load, shards_of
    from launch.progress import printable, progress
    from launch.report.results import write_json, write_wandb
    from launch.report.splits import judging_split, say_splits
    from launch.report.table import print_table
    from shards.read import Shards

    if gain not in GAINS:
        raise ValueError(f"--gain is {gain!r} and must be {' or '.join(GAINS)}")
    tree = Ontology(ontology) if ontology else None
    if instruments and tree is None:
        raise ValueError("--instruments are classes of the AudioSet ontology: give its file with --ontology")
    network = load(run, device=device)
    data = Shards(shards or shards_of(network.config, run))
    split = judging_split(data, split)
    labels_of = read_labels(labels)
    if instruments and tree is not None:
        labels_of = tree.restrict(labels_of, INSTRUMENTS)
    known = labeled(data, data.clips(split), labels_of)
    relevance = tree.relevance(known.classes) if tree else flat_relevance(len(known.classes))
    given = GivenFeatures(features) if features is not None else None
    if drawn is not None:
        write_drawn(drawn, data, *drawn_frames(network, data, known.clips))
    with progress("embedding", unit="views") as report:
        rows = evaluate_retrieval(
            network, data, known, relevance=relevance, gain=GAINS[GAINS.index(gain)], features=given, report=report
        )
    kind = f"{gain} gain, relevance from {'the ontology' if ontology else 'shared labels'}"
    print(f"nDCG@30 on {len(known.clips):,} clips of the {split} split, {len(known.classes)} classes; {kind}")
    print(*map(printable, known.counts(labels, f"the {split} split")), sep="\n")
    scores = [(row.name, row.im_im, row.im_aud, row.aud_im, row.aud_aud) for row in rows]
    print_table(
        ("", "im-im", "im-aud", "aud-im", "aud-aud"),
        [(name, *(f"{s.mean:.3f} ± {s.high - s.mean:.3f}" if s else "" for s in row)) for name, *row in scores],
    )
    print("± is half of the 95 % interval over queries")
    found = [
        (row.name, *(f"{100 * r.mean:.1f} ± {50 * (r.high - r.low):.1f}" for r in recalls))
        for row in rows
        if (recalls := row.im_aud_recall + row.aud_im_recall)
    ]
    chance = [f"{100 * min(1, k / len(known.clips)):.1f}" for k in RECALL_DEPTHS]
    depths = [f"{way} @{k}" for way in ("im-aud", "aud-im") for k in RECALL_DEPTHS]
    print_table(("recall in %", *depths), [*found, ("chance", *chance, *chance)])
    queries = min(score.queries for row in rows for score in (row.im_im, row.aud_aud) if score)
    if queries < len(known.clips):
        print(f"im-im and aud-aud leave out {len(known.clips) - queries:,} clips that share no class with another")
    about = {"run": str(run), "split": split, "gain": gain, "instruments": instruments}
    about |= say_splits([run], f"the {split} split")
    about["ontology"] = str(ontology) if ontology else None
    counts = {"clips": len(known.clips), "unlabeled": known.unlabeled, "names": known.names, "names_met": known.met}
    content = about | counts | {"rows": [asdict(row) for row in rows]}
    write_json(json, content)
    if wandb:
        write_wandb(run, f"retrieval/{split}", content)
