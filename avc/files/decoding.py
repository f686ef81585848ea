"""What a decoding process does: a file in pieces, sound at the network's rate or pictures at the network's size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from avc.data.media import begins_like_picture, read_pictures, stream_mono
from shards.format import Reason
from shards.media.clip import Rejected
from shards.media.streams import stream_pictures
from shards.parent import follow_parent
from shards.sources import Source
from shards.workers import opened

if TYPE_CHECKING:
    from PIL import Image

Content = Literal["audio", "image"]
Crop = NDArray[np.uint8]
Piece = tuple[int, NDArray[np.generic]]
"""Sound: 0 and float32 (samples,). Pictures: number of the hop and uint8 (size, size, 3)."""


@dataclass(frozen=True)
class Wanted:
    """content: sound at `sample_rate_hz`, or a picture of `image_size` pixels every `hop` seconds."""

    content: Content
    hop: Fraction
    sample_rate_hz: int
    image_size: int


def pieces_of(source: Source, wanted: Wanted) -> Iterator[Piece]:
    """A file in pieces. Raises shards.media.Rejected and OSError, perhaps after some."""
    if wanted.content == "audio":
        with opened(source) as file:
            for sound in stream_mono(file, wanted.sample_rate_hz):
                yield 0, sound
    else:
        yield from _pictures(source, wanted)


def _pictures(source: Source, wanted: Wanted) -> Iterator[Piece]:
    import torch

    from avc.data.preprocessing import CROP, center_crop

    def cropped(rgb: Crop) -> Crop:
        return center_crop(torch.from_numpy(rgb)[None], wanted.image_size)[0].numpy()

    torch.set_num_threads(1)  # there are as many processes as cores
    with opened(source) as file:
        if begins_like_picture(file.peek(12)[:12]):
            try:
                yield from _timed(read_pictures(file), wanted.hop, cropped)
            except ValueError as error:
                raise Rejected(Reason.UNDECODABLE, str(error)) from None
            return
        latest, crop = b"", np.empty(0, np.uint8)
        for number, picture in stream_pictures(file, hop=wanted.hop, side=round(wanted.image_size / CROP)):
            if picture is not latest:
                latest, crop = picture, cropped(simplejpeg.decode_jpeg(picture))
            yield number, crop


def _timed(
    pictures: Iterator[tuple[Image.Image, Fraction | None]], hop: Fraction, cropped: Callable[[Crop], Crop]
) -> Iterator[Piece]:
    """The picture that is shown at each multiple of `hop`, seconds; a still one at 0."""
    end = Fraction(0)
    for picture, lasts in pictures:
        start, end = end, end + (hop if lasts is None else lasts)
        shown = range(math.ceil(start / hop), math.ceil(end / hop))
        if shown:
            crop = cropped(np.array(picture))
            for number in shown:
                yield number, crop


def serve(pipe: Connection, wanted: Wanted) -> None:
    """Send the pieces of each source that is asked for, then None, or (reason, detail); until nobody asks any more."""
    follow_parent()
    try:
        while True:
            source = pipe.recv()
            try:
                for piece in pieces_of(source, wanted):
                    pipe.send(piece)
                pipe.send(None)
            except Rejected as error:
                pipe.send((error.reason, error.detail))
            except MemoryError:
                pipe.send((Reason.TOO_LARGE, "decoding it took more memory than there is"))
            except (EOFError, ConnectionError):
                raise
            except OSError as error:
                pipe.send((Reason.UNREADABLE, error.strerror or str(error)))
            except Exception as error:  # whatever a broken file provokes costs that file only
                pipe.send((Reason.UNDECODABLE, f"{type(error).__name__}: {error}"))
    except (EOFError, ConnectionError):
        return
