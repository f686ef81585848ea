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

Box = tuple[float, float, float, float]  # left, top, right, bottom, as fractions of the picture's width and height

RASTER = 224  # places a side on which regions are compared, as in the benchmarks' own evaluation
_FLICKR_PIXELS = 256  # Flickr-SoundNet's boxes are drawn on images of 256 × 256
_AGREEING = 2  # annotators of three whose agreement gives a place full weight (Senocak et al., CVPR 2018)


@dataclass(frozen=True)
class Truth:
    """The annotation of one clip.

    boxes: those at each tick, or those of the clip's middle frame alone. annotators: each box is another
    person's opinion on one region, and not one object of several. kinds: of what is in view, where known, the sounding
    one first.
    """

    boxes: tuple[tuple[Box, ...], ...]
    annotators: bool
    kinds: tuple[str, ...]


def read_boxes(path: Path) -> dict[str, Truth]:
    """The truth about each video by its file name, without suffix.

    A `.json` file is VGG-SS's list of `file`, `class` and `bbox`; a folder holds Flickr-SoundNet's XML files, one for
    each image with the boxes of its annotators; a `.jsonl` file is the demo world's. Raises ValueError where the file
    is missing or of another form.
    """
    path = path.expanduser()
    try:
        if path.is_dir():
            return {file.stem: _flickr(file) for file in sorted(path.glob("*.xml"))}
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return {Path(row["file"]).stem: _demo(row) for row in map(json.loads, text.splitlines())}
        return {row["file"]: _vggss(row) for row in json.loads(text)}
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ElementTree.ParseError) as error:
        raise ValueError(
            f"{path} holds no boxes in a form that is known ({error!r}): VGG-SS's .json, a folder of Flickr-SoundNet's "
            "XML files, or a demo world's labels.jsonl"
        ) from None


def region(boxes: tuple[Box, ...], *, annotators: bool) -> NDArray[np.float64]:
    """The annotated region as weights 0 to 1, float64 (224, 224): of annotators' boxes, 1 where two of them agree."""
    weights = np.zeros((RASTER, RASTER))
    for left, top, right, bottom in boxes:
        rows, columns = (
            slice(round(max(low, 0) * RASTER), round(min(high, 1) * RASTER))
            for low, high in ((top, bottom), (left, right))
        )
        weights[rows, columns] += 1
    return np.minimum(weights / _AGREEING if annotators else weights, 1)


def _vggss(row: Mapping[str, Any]) -> Truth:
    return Truth((tuple(_box(box) for box in row["bbox"]),), annotators=False, kinds=(row["class"],))


def _demo(row: Mapping[str, Any]) -> Truth:
    kinds = (row["kind"],) if row["silent_kind"] is None else (row["kind"], row["silent_kind"])
    return Truth(tuple((_box(box),) for box in row["boxes"]), annotators=False, kinds=kinds)


def _flickr(file: Path) -> Truth:
    boxes = []
    for drawn in ElementTree.parse(file).getroot().iter("bbox"):
        corners = [int(str(drawn.findtext(name))) / _FLICKR_PIXELS for name in ("xmin", "ymin", "xmax", "ymax")]
        boxes.append(_box(corners))
    return Truth((tuple(boxes),), annotators=True, kinds=())


def _box(corners: Any) -> Box:
    left, top, right, bottom = (float(corner) for corner in corners)
    return left, top, right, bottom
