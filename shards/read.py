"""Random access to a packed folder: one picture, one second of sound, and only their bytes.

::

    shards = Shards("~/shards")
    for clip in shards.clips("train"):
        picture = shards.picture(clip, tick=125)            # uint8, height x width x 3, RGB
        sound = shards.sound(clip, first_sample=216_000)    # int16, 48,000 samples

Everything here may be called from many threads and many processes at once, however these were started.
"""

from __future__ import annotations

import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import simplejpeg
import soundfile

from shards.cache import Cache, CachedFile
from shards.file_slice import Descriptor, Readable, Table, Window, shards_kept_open
from shards.flow import decode_flow
from shards.format import CLIPS, SAMPLE_RATE_HZ, SAMPLES_PER_TICK, SPLITS
from shards.index import Fetched, Manifest, check_shards, open_index
from shards.store import Object, Store, Url, place

ROWS_KEPT = 256  # of the index, where it is not in memory: one clip's row is asked for several times in a row
LEFT_OUT = ("index", "_descriptor", "_read_row", "_threads")  # of what is pickled

RANGES_IN_FLIGHT = 128  # of a batch, read from a store

COLUMNS = {"json": "json", "mjpeg": "mjpeg", "flow.mjpeg": "flow", "wav": "sound", "flac": "sound"}  # of the index

WAV_HEADER_BYTES = 44  # RIFF, fmt and data headers of the PCM files that the packer writes, and nothing else


class BadRecord(Exception):
    """Bytes of a record came back short or do not decode: which ones, and why."""

    def __init__(self, folder: str, shard: str, key: str, member: str, reason: str) -> None:
        super().__init__(folder, shard, key, member, reason)  # all of them: exceptions are pickled by these
        self.folder, self.shard, self.key, self.member, self.reason = folder, shard, key, member, reason

    def __str__(self) -> str:
        return (
            f"{self.member} of record {self.key} in {self.shard}: {self.reason}. "
            f"`avc verify {self.folder}` lists everything that is wrong there"
        )


class Shards:
    """The records of one packed folder, by row number.

    Rows are sorted by key, so a row number means the same clip wherever the folder is copied to. At a URL, records are
    read by ranges, or out of `cache`, into which a shard is fetched whole when it is first read from. Raises ValueError
    when the folder is missing, not packed to the end, of another format version, or when a shard is missing.
    """

    sets: Sequence[Any] = ()  # of which these are made, where they are several: `shards.mixed`
    about = ""  # what is drawn from which, in a line

    def __init__(self, folder: str | os.PathLike[str], *, cache: Cache | None = None) -> None:
        self.folder, self.cache = place(folder), cache
        self.store = Store(self.folder, reached=True) if isinstance(self.folder, Url) else None
        if cache is not None and self.store is None:
            raise ValueError(f"data.cache is for shards at a URL, and {self.folder} is a folder of this machine")
        index = open_index(self.folder, None if self.store is None else partial(_tables, self.store, cache or Cache()))
        check = partial(check_shards, self.folder, index.manifest)
        check() if self.store is None else (cache or Cache()).once(f"{self.folder} {index.digest}", check)
        self.manifest, self.index, self.digest = index.manifest, index.clips, index.digest
        self._rows, self.pictures, self._flow = index.rows, index.pictures, index.flow
        self._open_shards()

    def _open_shards(self) -> None:
        folder, files, store, cache = self.folder, self.manifest.shards, self.store, self.cache

        def opened(shard: int) -> Readable:
            if store is None:
                return Descriptor(folder / files[shard].name)
            return Object(store, files[shard].name) if cache is None else CachedFile(cache, store, files[shard])

        # Threads hold what is opened while they read, so that one that falls out of the cache closes after them. The
        # cache does not refer to this object, so that both go when the last reference to it does.
        self._descriptor = lru_cache(maxsize=shards_kept_open())(opened)
        self._threads: ThreadPoolExecutor | None = None
        rows = self._rows
        self._read_row = lru_cache(maxsize=ROWS_KEPT)(lambda clip: rows[clip : clip + 1][0])

    def __getstate__(self) -> dict[str, Any]:
        # Neither the index, which each process that reads would hold, nor anything that is opened while unpickling:
        # what is gone by then is a BadRecord of the first read.
        return {name: value for name, value in self.__dict__.items() if name not in LEFT_OUT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._open_shards()

    def __len__(self) -> int:
        return len(self._rows)

    def together(self, jobs: Iterable[Callable[[], object]]) -> None:
        """Do jobs that read records: one after the other, or at once where each of them waits for a store."""
        if self.store is None or self.cache is not None:
            for job in jobs:
                job()
            return
        self._threads = self._threads or ThreadPoolExecutor(RANGES_IN_FLIGHT)
        for done in [self._threads.submit(job) for job in jobs]:
            done.result()

    @cached_property
    def index(self) -> np.ndarray:
        """All rows of the index: read when the folder is opened, in another process when they are asked for."""
        try:
            return self._rows[:]
        except OSError as error:
            raise self._bad_index(0, error) from None

    def row(self, clip: int) -> np.void:
        """A clip's row of the index, which is not read for it where it is not in memory."""
        try:
            row: np.void = self.index[clip] if "index" in self.__dict__ else self._read_row(clip)
        except OSError as error:
            raise self._bad_index(clip, error) from None
        return row

    def clips(self, split: str) -> np.ndarray:
        """Row numbers (int64, ascending: sorted by key) of the clips of one split.

        Raises ValueError for an unknown split, and where no split has any clip.
        """
        if split not in SPLITS:
            raise ValueError(f"there is no split {split!r}: the splits are {', '.join(SPLITS)}")
        if not len(self.index):
            raise ValueError(f"{self.folder} holds no clips: all that was packed into it was rejected")
        return np.flatnonzero(self.index["split"] == SPLITS.index(split))

    def key(self, clip: int) -> str:
        """The clip's key: 32 hexadecimal digits from the hash of the video file that it came from."""
        return str(self.row(clip)["key"], "ascii")

    def info(self, clip: int) -> dict[str, Any]:
        """The record's JSON member: name of the source, sizes, and facts about the source's streams."""
        data = self._read(clip, "json", offset=0, size=int(self.row(clip)["json_size"]))
        try:
            content = json.loads(data)
        except ValueError as error:
            raise self._bad(clip, "json", str(error)) from None
        if not isinstance(content, dict):
            raise self._bad(clip, "json", "not a JSON object")
        return content

    def frame(self, clip: int, tick: int) -> bytes:
        """The JPEG file of the picture shown at `tick`.

        Raises ValueError for a tick outside of the clip or one whose picture was not kept, BadRecord when the bytes
        are not there.
        """
        return self.frames(clip, tick, count=1)[0]

    def frames(self, clip: int, first_tick: int, *, count: int) -> list[bytes]:
        """The JPEG files of `count` kept pictures in a row, the first at `first_tick`, in one read.

        Raises as `frame` does.
        """
        row = self.row(clip)
        ticks, every = int(row["ticks"]), int(row["every"])
        for tick in (first_tick, first_tick + (count - 1) * every):
            if not 0 <= tick < ticks or tick % every:
                raise ValueError(
                    f"tick {tick} of clip {self.key(clip)} has no picture: it has one at every "
                    f"{'tick' if every == 1 else f'{every}th tick'} of 0 to {ticks - 1}"
                )
        place = int(row["first_picture"]) + first_tick // every
        return self._images(clip, "mjpeg", self.pictures, place, count)

    def picture(self, clip: int, tick: int, *, reduce: int = 1) -> np.ndarray:
        """The picture shown at `tick`: uint8, height x width x 3, RGB.

        `reduce` is 1, 2, 4 or 8: sides divided by that and rounded up, as libjpeg does while it decodes, which costs
        less than decoding the whole. Raises as `frame` does, and BadRecord when it does not decode.
        """
        return self.film(clip, tick, count=1, reduce=reduce)[0]

    def film(self, clip: int, first_tick: int, *, count: int, reduce: int = 1) -> list[np.ndarray]:
        """`count` kept pictures in a row, the first at `first_tick`, each as `picture` gives it and with its errors."""
        row = self.row(clip)
        width, height, every = int(row["width"]), int(row["height"]), int(row["every"])
        film = []
        for number, data in enumerate(self.frames(clip, first_tick, count=count)):
            try:
                film.append(decode_picture(data, width=width, height=height, reduce=reduce))
            except PictureError as error:
                tick = first_tick + number * every
                raise self._bad(clip, "mjpeg", f"the picture at tick {tick} does not decode: {error}") from None
        return film

    def flow(self, clip: int, first_tick: int, *, count: int, reduce: int = 1) -> list[np.ndarray]:
        """`count` steps of optical flow in a row, the first from `first_tick` to the tick after it.

        Each is uint8, height x width x 2 with sides reduced as in `picture`: motion to the right and down, in levels
        (shards/flow.py). Raises ValueError where the folder has none or the clip no such ticks, BadRecord as `picture`.
        """
        if self._flow is None:
            raise ValueError(f"{self.folder} holds no optical flow: pack the videos again with `avc pack --flow`")
        row = self.row(clip)
        if first_tick < 0 or first_tick + count >= int(row["ticks"]):
            raise ValueError(
                f"clip {self.key(clip)} has no motion from tick {first_tick} to {first_tick + count}: it has ticks 0 "
                f"to {int(row['ticks']) - 1}"
            )
        place = int(row["first_flow"]) + first_tick
        steps = []
        for step, data in enumerate(self._images(clip, "flow.mjpeg", self._flow, place, count)):
            try:
                steps.append(decode_flow(data, width=int(row["width"]), height=int(row["height"]), reduce=reduce))
            except ValueError as error:
                why = f"the step at tick {first_tick + step} does not decode: {error}"
                raise self._bad(clip, "flow.mjpeg", why) from None
        return steps

    def sound(self, clip: int, first_sample: int, samples: int = SAMPLE_RATE_HZ) -> np.ndarray:
        """Samples [first_sample, first_sample + samples) of the clip's sound: int16, mono, 48 kHz.

        Raises ValueError when these are not all inside the clip, BadRecord when the bytes are not there.
        """
        row = self.row(clip)
        total = int(row["ticks"]) * SAMPLES_PER_TICK
        if first_sample < 0 or samples < 1 or first_sample + samples > total:
            raise ValueError(
                f"samples {first_sample} to {first_sample + samples} are not inside of clip {self.key(clip)}, "
                f"which has {total}"
            )
        if self.manifest.settings.sound == "wav":
            data = self._read(clip, "wav", offset=WAV_HEADER_BYTES + 2 * first_sample, size=2 * samples)
            return np.frombuffer(data, dtype="<i2").astype(np.int16)  # a copy that may be written to
        with self._window(clip, "flac") as member:
            try:
                with soundfile.SoundFile(member) as file:
                    file.seek(first_sample)
                    sound: np.ndarray = file.read(samples, dtype="int16")
            except (soundfile.SoundFileError, EOFError) as error:
                raise self._bad(clip, "flac", str(error)) from None
        if sound.shape != (samples,):
            raise self._bad(clip, "flac", f"{len(sound)} samples came back instead of {samples}")
        return sound

    def _images(self, clip: int, member: str, table: Table, first: int, count: int) -> list[bytes]:
        try:
            bounds = table[first : first + count + 1].tolist()
        except OSError as error:
            why = f"{table.path.name}, which says where its pictures are, cannot be read: {error.strerror}"
            raise self._bad(clip, member, why) from None
        data = self._read(clip, member, offset=bounds[0], size=bounds[-1] - bounds[0])
        return [data[start - bounds[0] : end - bounds[0]] for start, end in itertools.pairwise(bounds)]

    def _place(self, clip: int, member: str) -> tuple[int, int]:
        row = self.row(clip)
        column = COLUMNS[member]
        return int(row[f"{column}_offset"]), int(row[f"{column}_size"])

    def _window(self, clip: int, member: str) -> io.BufferedReader:
        offset, size = self._place(clip, member)
        try:
            descriptor = self._descriptor(int(self.row(clip)["shard"]))
        except OSError as error:
            raise self._bad(clip, member, f"the shard cannot be opened ({error.strerror})") from None
        return io.BufferedReader(Window(descriptor, offset=offset, size=size))

    def _read(self, clip: int, member: str, *, offset: int, size: int) -> bytes:
        start, member_size = self._place(clip, member)
        if size < 0 or offset + size > member_size:
            raise self._bad(clip, member, f"the index points to bytes {offset} to {offset + size} of {member_size}")
        try:
            data = self._descriptor(int(self.row(clip)["shard"])).read(start + offset, size)
        except OSError as error:
            raise self._bad(clip, member, f"the shard cannot be read ({error.strerror})") from None
        if len(data) != size:
            raise self._bad(clip, member, f"{len(data)} bytes came back instead of {size}: the shard is truncated")
        return data

    def _bad_index(self, clip: int, error: OSError) -> BadRecord:
        return BadRecord(str(self.folder), CLIPS, f"number {clip}", "the row", str(error.strerror))

    def _bad(self, clip: int, member: str, reason: str) -> BadRecord:
        shard = self.manifest.shards[int(self.row(clip)["shard"])].name
        key = self.key(clip)
        return BadRecord(str(self.folder), shard, key, f"{key}.{member}", reason)


def _tables(store: Store, cache: Cache, manifest: Manifest) -> dict[str, Fetched]:
    cache.need(manifest.tables)
    return {file.name: (cache.path(store, file), partial(CachedFile, cache, store, file)) for file in manifest.tables}


class PictureError(ValueError):
    """A JPEG file that does not decode to the size that it should have."""


def decode_picture(data: bytes, *, width: int, height: int, reduce: int = 1) -> np.ndarray:
    """Decode one JPEG file of `width` x `height` pixels: uint8, ceil(height / reduce) x ceil(width / reduce) x 3, RGB.

    `reduce` is 1, 2, 4 or 8. Raises PictureError when the data is damaged or of another size.
    """
    if reduce not in (1, 2, 4, 8):
        raise ValueError(f"reduce must be 1, 2, 4 or 8, not {reduce}: these are the scales at which libjpeg decodes")
    smaller_height, smaller_width = -(-height // reduce), -(-width // reduce)
    try:
        stored_height, stored_width, *_ = simplejpeg.decode_jpeg_header(data)
        if (stored_height, stored_width) != (height, width):  # before memory is taken for it
            raise PictureError(f"{stored_width} x {stored_height} pixels instead of {width} x {height}")
        picture: np.ndarray = simplejpeg.decode_jpeg(
            data, colorspace="RGB", min_height=smaller_height, min_width=smaller_width, min_factor=float(reduce)
        )
    except ValueError as error:
        raise PictureError(str(error)) from None
    assert picture.shape == (smaller_height, smaller_width, 3)
    return picture
