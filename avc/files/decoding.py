"""Files decoded ahead, each by a process: in pieces, sound at the network's rate or pictures at the network's size."""

from __future__ import annotations

import errno
import io
import math
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from avc.data.media import read_pictures, stream_mono
from shards.format import Reason
from shards.journal import Rejection
from shards.media.clip import Rejected
from shards.media.headers import is_picture
from shards.media.streams import stream_pictures
from shards.processes import Ended, NeverBegan, Processes
from shards.sources import Source
from shards.workers import attempt

if TYPE_CHECKING:
    from PIL import Image

Content = Literal["audio", "image"]
Crop = NDArray[np.uint8]
Piece = tuple[int, NDArray[np.generic]]
"""Sound: 0 and float32 (samples,). Pictures: number of the hop and uint8 (size, size, 3)."""
Refused = tuple[Reason, str]
MOST_CRASHES = 20
"""So many processes in a row that end by themselves are no fault of the files."""


@dataclass(frozen=True)
class Wanted:
    """content: sound at `sample_rate_hz`, or a picture of `image_size` pixels every `hop` seconds."""

    content: Content
    hop: Fraction
    sample_rate_hz: int
    image_size: int


def pieces_of(file: io.BufferedReader, wanted: Wanted) -> Iterator[Piece]:
    """A file in pieces. Raises shards.media.Rejected and OSError, perhaps after some."""
    if wanted.content == "audio":
        return ((0, sound) for sound in stream_mono(file, wanted.sample_rate_hz))
    return _pictures(file, wanted)


def _pictures(file: io.BufferedReader, wanted: Wanted) -> Iterator[Piece]:
    import torch

    from avc.data.preprocessing import CROP, center_crop

    def cropped(rgb: Crop) -> Crop:
        return center_crop(torch.from_numpy(rgb)[None], wanted.image_size)[0].numpy()

    torch.set_num_threads(1)  # there are as many processes as cores
    if is_picture(file.peek(12)[:12]):
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


def _send(source: Source, send: Callable[[Piece], None], *, wanted: Wanted) -> Rejection | None:
    """Send a file's pieces, in a process; why it is none, or not all of one."""

    def pieces(file: io.BufferedReader) -> None:
        for piece in pieces_of(file, wanted):
            send(piece)

    return attempt(pieces, source)


def decode(
    sources: Iterator[tuple[int, Source]], wanted: Wanted, *, processes: int, time_limit_seconds: float
) -> Generator[tuple[int, Piece | Refused | None], None, None]:
    """The pieces of each source as they come, by the source's number; at its end None, or why it ends before.

    A process waits until its piece is taken: however long a file is, one piece of it is in memory. Close the generator,
    and the processes are gone. Raises ChildProcessError where they cannot be kept running.
    """
    answers: SimpleQueue[tuple[int, Piece | Future[Rejection | None]]] = SimpleQueue()
    room, closed = threading.Semaphore(processes), threading.Event()

    def give(number: int, piece: Piece) -> None:
        room.acquire()
        if closed.is_set():
            raise EOFError
        answers.put((number, piece))

    def begin() -> bool:
        following = next(sources, None)
        if following is not None:
            number, source = following
            future = pool.submit(source, partial(give, number))
            future.add_done_callback(lambda future: answers.put((number, future)))
        return following is not None

    pool = Processes(partial(_send, wanted=wanted), count=processes, time_limit_seconds=time_limit_seconds)
    crashes = 0
    try:
        busy = sum(begin() for _ in range(processes))
        while busy:
            number, answer = answers.get()
            if not isinstance(answer, Future):
                room.release()
                crashes = 0
                yield number, answer
                continue
            busy += begin() - 1
            refused: Refused | None = None
            try:
                if (rejection := answer.result()) is not None:
                    refused = rejection.reason, rejection.detail
            except TimeoutError:
                refused = Reason.TIMED_OUT, f"nothing came of it within {time_limit_seconds:g} s"
            except (Ended, NeverBegan) as error:
                refused = Reason.DECODER_CRASHED, str(error)
            crashes = crashes + 1 if refused and refused[0] == Reason.DECODER_CRASHED else 0
            if crashes == MOST_CRASHES:
                raise ChildProcessError(
                    errno.ECHILD,
                    f"{crashes} times in a row a decoding process ended: {refused and refused[1]} (out of memory, or "
                    "killed from outside?). What is written is kept: run the same command again",
                )
            yield number, refused
    finally:
        closed.set()
        room.release(processes)
        pool.close()
