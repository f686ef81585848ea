"""The demo's last page: what was measured, and what the networks found, to look at and to listen to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from avc.data.labels import Labels
from avc.encoders.load import load
from avc.encoders.sources import Floats
from avc.evaluation import options
from avc.evaluation.activations import units_of
from avc.evaluation.measures import Request
from launch.explore.moments import Embedder, Moments, embed, embedder, heats, other, second
from launch.explore.write import write_explorer
from launch.progress import progress
from launch.report.overlay import blend
from launch.report.page import ImageArray, Moment, Part, data_url, write_page
from launch.report.units import beside, section, spectrogram
from shards.read import Shards
from workshop.demo.world.render import Label

SPLIT = "validation"
QUERIES = 3  # of each direction: the first clips of different kinds, not the best ones
NEIGHBORS = 5
SCENES = 4
UNITS, TOP = 4, 4
PICTURES = {"results.png": "Accuracy while training, and on held-out clips", "world.png": "The world"}
SOUNDS = ("its own sound", "another's", "silence")


def write_demo_page(
    folder: Path, results: dict[str, Any], packed: Path, labels: dict[str, Label], *, ave: Path, avol: Path
) -> Path:
    """Write FOLDER/index.html and FOLDER/explorer, of the demo's runs of AVE-Net and AVOL-Net; returns the page."""
    shards = Shards(packed)
    clips = shards.clips(SPLIT)
    kinds = Labels({name: (label.kind,) for name, label in labels.items()})
    compared = [embedder(load(path), path, shards) for path in (ave, avol)]
    with progress("embedding", unit="moments") as report:
        moments, vectors = embedded = embed(compared, shards, clips, kinds, report)
    write_explorer(
        folder / "explorer",
        compared,
        shards,
        clips,
        labels=kinds,
        title="What the demo's networks find",
        about=f"{len(clips):,} held-out clips of the rendered world",
        embedded=embedded,
    )
    request = Request((ave,), progress=progress)
    units = units_of(compared[0].network, shards, clips, options.Units(count=UNITS, top=TOP), request)
    parts = [
        Part(
            text="AVE-Net, L3-Net and AVOL-Net learned which frame goes with which sound from the videos of a rendered "
            "world, without being told what is in them. All that is shown is of this run, on clips that were held out.",
            link=(
                "explorer/index.html",
                "Explore all held-out clips",
                ": click a frame to hear the sounds nearest to it, click a sound to see its frames.",
            ),
        ),
        _table(results),
        *(Part(words, picture=data_url("image/png", (folder / name).read_bytes())) for name, words in PICTURES.items()),
        *_retrieval(shards, moments, *vectors[0]),
        _scenes(compared[1], shards, clips, kinds),
        *(section(shards, part) for part in units),
    ]
    page = folder / "index.html"
    write_page(page, "avc: the demo", parts)
    return page


def _table(results: dict[str, Any]) -> Part:
    header = ("held-out clips", "AVC accuracy", "95 % interval", "of the ceiling")
    rows = []
    for row in results["rows"]:
        low, high = row["interval_95"]
        shares = f"{row['accuracy']:.1%}", f"{low:.1%} to {high:.1%}", f"{row['share_of_ceiling']:.1%}"
        rows.append((row["name"], *shares))
    rows.append(("ceiling (kinds that look and sound alike)", f"{results['ceiling']:.1%}", "", ""))
    rows.append(("chance", "50.0%", "", ""))
    return Part("Results", header=header, cells=rows)


def _retrieval(shards: Shards, moments: Moments, image: Floats, audio: Floats) -> list[Part]:
    """Frames and the sounds nearest to them, sounds and the frames nearest to them; each row begins with its query."""
    kind = [moments.classes[labels[0]] for labels in moments.labels]
    first_of_kind = [kind.index(name) for name in moments.classes]

    def shown(i: int, what: str, *, sound: bool) -> Moment:
        heard = second(shards, moments, i)
        picture = _frame(shards, moments, i)
        return Moment(beside(picture, _like(picture, heard)) if sound else picture, f"{what}: {kind[i]}", heard)

    def nearest_to(title: str, queries: list[int], asking: Floats, asked: Floats, *, sound: bool) -> Part:
        rows = []
        for query in queries:
            scores = asked @ asking[query]
            scores[query] = -np.inf  # its own is no find
            nearest = np.argsort(-scores, kind="stable")[:NEIGHBORS].tolist()
            row = [shown(query, "query", sound=not sound)]
            for place, i in enumerate(nearest, start=1):
                mark = "✓ " if kind[i] == kind[query] else ""
                row.append(shown(i, f"{mark}{place}", sound=sound))
            rows.append((kind[query], row))
        about = (
            "The first held-out clips of their kinds, not the best. Left what is asked with, then the nearest of all, "
            "with a ✓ where they are of the same kind."
        )
        return Part(title, about, rows=rows)

    return [
        nearest_to("Which sounds go with this frame?", first_of_kind[:QUERIES], image, audio, sound=True),
        nearest_to("What may this sound look like?", first_of_kind[-QUERIES:], audio, image, sound=False),
    ]


def _scenes(network: Embedder, shards: Shards, clips: np.ndarray, kinds: Labels) -> Part:
    """AVOL-Net's heat over frames under their own sound, another's and silence."""
    with progress("embedding", unit="moments") as report:
        moments, _ = embed([network], shards, clips[:: max(1, len(clips) // 8)], kinds, report)
    with progress("localizing", unit="frames") as report:
        maps = heats(network.network, shards, moments, report)
    rows = []
    for i in range(min(SCENES, len(moments))):
        frame = _frame(shards, moments, i)
        pictures = blend(np.repeat(frame[None], 3, axis=0), maps[i])
        foreign = second(shards, moments, other(i, len(moments)))
        sounds = (second(shards, moments, i), foreign, np.zeros_like(foreign))
        words = [f"{sound}, at most {float(map_.max()):.2f}" for sound, map_ in zip(SOUNDS, maps[i], strict=True)]
        rows.append((moments.names[i], list(map(Moment, pictures, words, sounds))))
    return Part("What makes the sound?", f"The heat of {network.title} over the frame under three sounds.", rows=rows)


def _frame(shards: Shards, moments: Moments, i: int) -> ImageArray:
    frame: ImageArray = shards.picture(int(moments.clip[i]), int(moments.tick[i]))
    return frame


def _like(picture: ImageArray, sound: np.ndarray) -> ImageArray:
    """The sound's spectrogram, as high as the picture."""
    gray = torch.from_numpy(spectrogram(sound)).permute(2, 0, 1)[None].float()
    scaled = torch.nn.functional.interpolate(gray, picture.shape[:2], mode="bilinear", antialias=True)
    return scaled[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
