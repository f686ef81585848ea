"""Where the sounding objects are: boxes drawn by people, or by the renderer of the demo's world."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from shards.text import lines_of, name_forms

Box = tuple[float, float, float, float]  # left, top, right, bottom, as fractions of the picture's width and height

RASTER = 224  # places a side on which regions are compared, as in the benchmarks' own evaluation
_FLICKR_PIXELS = 256  # Flickr-SoundNet's boxes are drawn on images of 256 × 256
_AGREEING = 2  # annotators of three whose agreement gives a place full weight (Senocak et al., CVPR 2018)


@dataclass(frozen=True)
class Truth:
    """The annotation of one clip.

    boxes: those at each tick, or those of the clip's middle frame alone. annotators: each box is another
    person's opinion on one region, and not one object of several. kinds: of what is in view, where known, the sounding
    one first. silent_boxes: of the second kind, as `boxes`, where known. without_area: boxes that were left out.
    """

    boxes: tuple[tuple[Box, ...], ...]
    annotators: bool
    kinds: tuple[str, ...]
    silent_boxes: tuple[tuple[Box, ...], ...] = ()
    without_area: int = 0


def read_boxes(path: Path) -> dict[str, Truth]:
    """The truth about each video by its file name as in `shards.text.name_forms`, without suffix.

    A `.json` file is VGG-SS's list of `file`, `class` and `bbox`, of which a box without an area is left out (18 of its
    boxes have none, for example with a right edge of -2.9e16); a folder holds Flickr-SoundNet's XML files, one for
    each image with the boxes of its annotators; a `.jsonl` file is the demo world's. Raises ValueError where the file
    is missing or of another form.
    """
    path = path.expanduser()
    lines = [] if path.is_dir() else lines_of(path)
    try:
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".xml" and file.name[0] != ".")
            return {name_forms(file.stem)[-1]: _flickr(file) for file in files}
        if path.suffix.lower() == ".jsonl":
            return {name_forms(row["file"])[-1]: _demo(row) for row in map(json.loads, filter(str.strip, lines))}
        return {name_forms(row["file"])[-1]: _vggss(row) for row in json.loads("".join(lines))}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ElementTree.ParseError) as error:
        raise ValueError(
            f"{path} holds no boxes in a form that is known ({error!r}): VGG-SS's .json, a folder of Flickr-SoundNet's "
            "XML files, or a demo world's labels.jsonl"
        ) from None


def region(boxes: tuple[Box, ...], *, annotators: bool) -> NDArray[np.float64]:
    """The annotated region as weights 0 to 1, float64 (224, 224): of annotators' boxes, 1 where two of them agree."""
    weights = np.zeros((RASTER, RASTER))
    for box in boxes:
        weights[_on_raster(box)] += 1
    return np.minimum(weights / _AGREEING if annotators else weights, 1)


def _on_raster(box: Box) -> tuple[slice, slice]:
    """Rows and columns of a region, cut to the picture and rounded down as in the benchmarks' own evaluation."""
    left, top, right, bottom = (int(min(max(edge, 0.0), 1.0) * RASTER) for edge in box)
    return slice(top, bottom), slice(left, right)


def _vggss(row: Mapping[str, Any]) -> Truth:
    drawn = map(_box, row["bbox"])
    boxes = tuple(box for box in drawn if all(side.start < side.stop for side in _on_raster(box)))
    return Truth((boxes,), annotators=False, kinds=(row["class"],), without_area=len(row["bbox"]) - len(boxes))


def _demo(row: Mapping[str, Any]) -> Truth:
    kinds = (row["kind"],) if row["silent_kind"] is None else (row["kind"], row["silent_kind"])
    boxes, silent_boxes = (tuple((_box(box),) for box in row[name]) for name in ("boxes", "silent_boxes"))
    return Truth(boxes, annotators=False, kinds=kinds, silent_boxes=silent_boxes)


def _flickr(file: Path) -> Truth:
    boxes = []
    for drawn in ElementTree.parse(file).getroot().iter("bbox"):
        corners = [int(str(drawn.findtext(name))) / _FLICKR_PIXELS for name in ("xmin", "ymin", "xmax", "ymax")]
        boxes.append(_box(corners))
    return Truth((tuple(boxes),), annotators=True, kinds=())


def _box(corners: Any) -> Box:
    left, top, right, bottom = (float(corner) for corner in corners)
    return left, top, right, bottom
