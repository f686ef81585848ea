"""What a clip looks and sounds like, in a few numbers, and by what it is known again.

still, silent      seconds in which no picture differs from the first of them, and nothing is heard
borders            black ones
mark               what stands where all else moves: a logo, a caption
wall_hz            above which the sound has nothing: it was resampled upward, or a codec cut it off
repeats_hz         a pattern of the sound that comes again in every tick, by which a grid can be told
frames, words      fingerprints of pictures and of sound, for `shards.near`
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.atomic import refuse_special
from shards.format import SAMPLE_RATE_HZ, SAMPLES_PER_TICK, TICKS_PER_SECOND
from shards.media.clip import SILENT_DBFS, dbfs

VERSION = 1  # of what is looked at; notes of another one are of no use
EVERY = 5  # ticks between the pictures that are looked at
CELLS = (32, 48)  # of a picture, in which gray levels are compared
PRINT_EVERY, PRINT_CELLS = 2, (16, 16)  # pictures and cells of a fingerprint
STILL_LEVELS = 6.0  # of gray, in the mean of any cell: what packing calls still
CUT_LEVELS = 24.0  # in the mean of all cells, from one picture to the next
BLACK, FLAT, BORDER_SHARE = 32, 2.5, 0.04  # gray level; deviation; of a picture's width or height, both sides together
WINDOW = 16_384  # samples of a word of sound, one a tick
BANDS_HZ = np.geomspace(300, 3000, 34)  # of a word: 33 bands, 32 differences
HEARD_DBFS = -60.0  # below which a word is not looked at
WALL_DB, WALL_SHARE = 25.0, 0.55  # how steep; of the highest frequency that the file's rate can hold
CLIPPED = 32_700
MARK_LEVELS, MARK_CELLS, MARK_SHARE = 4.0, 6, 0.12  # of gray over time; cells at least; share of them at most
MARK_CONTRAST, MARK_MARGIN, MARK_FILLS = 10.0, 12.0, 0.25  # of gray: between cells, from black and white; of a box
MOVES_LEVELS, MOVES_EACH, MOVES_SHARE = 16.0, 0.25, 0.8  # of gray in all, and at a time; in so many of all cells
REPEATS = 0.5  # correlation of every other tick with the rest; 0.34 at a steady whistle, 0.59 by straight lines
STEEP = 8.0  # of fourth differences, above rounding's


@dataclass(frozen=True)
class Look:
    """name: of the input or clip. group: its split, or the input that it came from. digest: of the file.

    still, silent: numbers of seconds. steps, cuts: pictures that are like the one before, and unlike it, of all but the
    first. refused: whether packing takes it for still or silent. loudness: dBFS. clipped: share of samples. borders:
    shares of left, right, top, bottom; mark: where it begins and ends, as shares of the width, then of the height.
    pixels: of a picture of the file. codec, rate_hz: of its sound. wall_hz, repeats_hz, side_db, mark: None where there
    is none. frames: float16 (T, 256), words: uint32 (T',), heard: bool (T',).
    """

    name: str
    group: str
    digest: str
    seconds: float
    still: tuple[int, ...]
    silent: tuple[int, ...]
    stood: int
    cuts: int
    pictures: int
    refused: bool
    loudness: float
    clipped: float
    borders: tuple[float, float, float, float]
    mark: tuple[float, float, float, float] | None
    pixels: int
    codec: str
    rate_hz: int
    wall_hz: float | None
    repeats_hz: float | None
    side_db: float | None
    frames: np.ndarray
    words: np.ndarray
    heard: np.ndarray


def look(
    pictures: Sequence[np.ndarray],
    sound: np.ndarray,
    *,
    name: str,
    group: str,
    digest: str,
    source: Mapping[str, Any],
    side_db: float | None,
    every: int = EVERY,
) -> Look:
    """pictures: uint8 (H, W, 3), one every EVERY ticks. sound: int16 (samples,), mono, 48 kHz. source: as of a `Clip`.

    every: ticks between pictures of which none is the one before again, where there are fewer than these.
    """
    gray = np.stack([picture @ np.array([0.299, 0.587, 0.114], np.float32) for picture in pictures])
    cells = _cells(gray, CELLS)
    per_second = TICKS_PER_SECOND // EVERY
    seconds = range(max(1, round(len(cells) / per_second)))
    still = [_moves(cells[n * per_second : (n + 1) * per_second + 1]) < STILL_LEVELS for n in seconds]
    apart = cells[:: -(-every // EVERY)]
    changes = np.abs(np.diff(apart, axis=0))
    loud = [sound[n : n + SAMPLE_RATE_HZ] for n in range(0, max(1, len(sound) - SAMPLE_RATE_HZ // 2), SAMPLE_RATE_HZ)]
    borders = _borders(gray)
    left, right, top, bottom = (
        round(share * size) for share, size in zip(borders, np.repeat(gray.shape[:0:-1], 2), strict=True)
    )
    inside = gray[:, top : gray.shape[1] - bottom, left : gray.shape[2] - right]
    words, heard = _words(sound)
    loudness, video, audio = _level(sound), source.get("video", {}), source.get("audio", {})
    rate_hz = int(audio.get("sample_rate_hz", SAMPLE_RATE_HZ))
    return Look(
        name=name,
        group=group,
        digest=digest,
        seconds=len(sound) / SAMPLE_RATE_HZ,
        still=tuple(int(n) for n in np.flatnonzero(still)),
        silent=tuple(n for n, piece in enumerate(loud) if _level(piece) < SILENT_DBFS),
        stood=int((changes.max(axis=(1, 2)) < STILL_LEVELS).sum()),
        cuts=int((changes.mean(axis=(1, 2)) > CUT_LEVELS).sum()),
        pictures=len(apart),
        refused=loudness < SILENT_DBFS or _moves(cells) < STILL_LEVELS,
        loudness=loudness,
        clipped=float((np.abs(sound.astype(np.int32)) >= CLIPPED).mean()),
        borders=borders,
        mark=_mark(inside),
        pixels=int(video.get("width", 0)) * int(video.get("height", 0)),
        codec=str(audio.get("codec", "")),
        rate_hz=rate_hz,
        wall_hz=_wall(sound, min(rate_hz, SAMPLE_RATE_HZ)),
        repeats_hz=_repeats(sound),
        side_db=side_db,
        frames=_prints(inside[::PRINT_EVERY]),
        words=words,
        heard=heard,
    )


ARRAYS = {"frames": np.float16, "words": np.uint32, "heard": np.bool_}


def note(key: Sequence[Any], one: Look) -> bytes:
    """A line of the notes of a survey."""
    arrays = {name: base64.b64encode(getattr(one, name).tobytes()).decode() for name in ARRAYS}
    return json.dumps([key, asdict(one) | arrays]).encode() + b"\n"


def read_notes(notes: Path, *, asked: Sequence[Any]) -> dict[tuple[Any, ...], Look]:
    """Looks by their keys, from notes that were begun so; others are begun anew. Drops all from a torn line on.

    Raises ValueError where `notes` is there and no file.
    """
    refuse_special(notes)
    head = json.dumps([VERSION, *asked]).encode() + b"\n"
    known: dict[tuple[Any, ...], Look] = {}
    whole, columns = 0, PRINT_CELLS[0] * PRINT_CELLS[1]
    if notes.is_file():
        with open(notes, "rb") as file:
            for line in file if file.readline() == head else ():
                with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                    if not line.endswith(b"\n"):
                        break
                    key, fields = json.loads(line)
                    fields = {name: tuple(one) if isinstance(one, list) else one for name, one in fields.items()}
                    for name, kind in ARRAYS.items():
                        fields[name] = np.frombuffer(base64.b64decode(fields[name]), kind)
                    fields["frames"] = fields["frames"].reshape(-1, columns)
                    known[tuple(key)] = Look(**fields)
                    whole += len(line)
                    continue
                break
    notes.parent.mkdir(parents=True, exist_ok=True)
    with open(notes, "ab" if known else "wb") as file:
        file.truncate(len(head) + whole) if known else file.write(head)
    return known


def _level(sound: np.ndarray) -> float:
    return dbfs(float(sound.std()) / 32768)


def _moves(cells: np.ndarray) -> float:
    return float(np.abs(cells - cells[0]).max())


def _cells(gray: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Means of (T, H, W) over a grid of cells: float32 (T, *shape)."""
    for axis, count in enumerate(shape, start=1):
        edges = np.linspace(0, gray.shape[axis], min(count, gray.shape[axis]) + 1).astype(int)
        sizes = np.expand_dims(np.diff(edges), 1) if axis == 1 else np.diff(edges)
        gray = np.add.reduceat(gray, edges[:-1], axis=axis) / sizes.astype(np.float32)
    return gray


def _prints(gray: np.ndarray) -> np.ndarray:
    """Each picture's cells without their mean and of length 1: float16 (T, 256)."""
    rows = _cells(gray, PRINT_CELLS).reshape(len(gray), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    prints: np.ndarray = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-3)).astype(np.float16)
    return prints


def _borders(gray: np.ndarray) -> tuple[float, float, float, float]:
    """Shares of the width and the height that are black in all pictures: left, right, top, bottom.

    A night is dark too, but not even: where the lines deviate, they are no border.
    """
    brightest = gray.max(axis=0)
    shares: list[float] = []
    for axis in (1, 0):
        lines = np.moveaxis(brightest, axis, 0)
        bright = np.flatnonzero(np.quantile(lines, 0.98, axis=1) > BLACK)  # a watermark in a corner is no picture
        if not len(bright):
            return 0.0, 0.0, 0.0, 0.0
        sides = [lines[: max(0, bright[0] - 1)], lines[bright[-1] + 2 :]]  # the line beside the picture has some of it
        counts = [bright[0], len(lines) - 1 - bright[-1]]
        share = [
            float(count / len(lines)) if side.size and np.median(side.std(axis=1)) < FLAT else 0.0
            for side, count in zip(sides, counts, strict=True)
        ]
        shares += share if sum(share) >= BORDER_SHARE else [0.0, 0.0]
    left, right, top, bottom = shares
    return left, right, top, bottom


def _mark(gray: np.ndarray) -> tuple[float, float, float, float] | None:
    """Where few cells stand, not even, nor black or white, while nearly all others move all the time."""
    cells = _cells(gray, CELLS)
    ranges, mean = np.ptp(cells, axis=0), cells.mean(axis=0)
    stand = (ranges < MARK_LEVELS) & (mean > MARK_MARGIN) & (mean < 255 - MARK_MARGIN)
    if len(cells) < 3 or not MARK_CELLS <= stand.sum() <= MARK_SHARE * stand.size:
        return None
    moves = (ranges > MOVES_LEVELS) & (np.median(np.abs(np.diff(cells, axis=0)), axis=0) > MOVES_EACH)  # not by a cut
    if moves.mean() < MOVES_SHARE or mean[stand].std() < MARK_CONTRAST:
        return None
    rows, columns = np.nonzero(stand)
    height, width = stand.shape
    left, right, top, bottom = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
    if len(rows) < MARK_FILLS * (right - left) * (bottom - top):
        return None  # here and there
    return float(left / width), float(right / width), float(top / height), float(bottom / height)


def _repeats(sound: np.ndarray) -> float | None:
    """The frequency, Hz, at which how steep the sound is comes again in each tick; None where it does not."""
    steep = np.diff(sound.astype(np.float32), n=4)
    ticks = steep[: len(steep) // SAMPLES_PER_TICK * SAMPLES_PER_TICK].reshape(-1, SAMPLES_PER_TICK)
    ticks = ticks[ticks.std(axis=1) > STEEP]
    if len(ticks) < TICKS_PER_SECOND:
        return None
    level = np.log1p(np.abs(ticks))
    level -= level.mean(axis=1, keepdims=True)
    if np.corrcoef(level[::2].mean(axis=0), level[1::2].mean(axis=0))[0, 1] < REPEATS:
        return None
    return float(np.argmax(np.abs(np.fft.rfft(level.mean(axis=0)))[1:]) + 1) * TICKS_PER_SECOND


def _words(sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """32 bits a tick: whether a band's lead over the next has grown within two ticks. uint32 (T,), bool (T,)."""
    starts = range(0, len(sound) - WINDOW + 1, SAMPLES_PER_TICK)
    if len(starts) < 3:
        return np.zeros(0, np.uint32), np.zeros(0, bool)
    edges = (BANDS_HZ * WINDOW / SAMPLE_RATE_HZ).astype(int)
    window = np.hanning(WINDOW).astype(np.float32)
    level, bands = [], []
    for start in starts:
        piece = sound[start : start + WINDOW].astype(np.float32) / 32768
        power = np.square(np.abs(np.fft.rfft(piece * window)[: edges[-1]]))
        bands.append(np.add.reduceat(power, edges[:-1]))
        level.append(dbfs(float(piece.std())))
    lead = -np.diff(np.log(np.array(bands) + 1e-9), axis=1)
    bits = lead[2:] > lead[:-2]
    words = np.packbits(bits, axis=1, bitorder="little").view(np.uint32)[:, 0]
    return words, np.array(level[2:]) > HEARD_DBFS


def _wall(sound: np.ndarray, rate_hz: int) -> float | None:
    """The frequency, Hz, at which the spectrum falls off for good, far below what the rate can hold; None without."""
    size = 2048
    pieces = np.lib.stride_tricks.sliding_window_view(sound, size)[::size].astype(np.float32)
    pieces = pieces[pieces.std(axis=1) > 32768 * 10 ** (HEARD_DBFS / 20)]
    if not len(pieces):
        return None
    power = np.square(np.abs(np.fft.rfft(pieces * np.hanning(size).astype(np.float32), axis=1))).mean(axis=0)
    db = 10 * np.log10(power + 1e-3)
    hz = SAMPLE_RATE_HZ / size
    wide, gap, top = round(600 / hz), round(250 / hz), round(0.95 * rate_hz / 2 / hz)
    walls = []
    for place in range(round(1500 / hz), min(top - gap - wide, round(WALL_SHARE * rate_hz / 2 / hz))):
        below = float(db[place - gap - wide : place - gap].mean())
        drop = below - float(db[place + gap : place + gap + wide].mean())
        if drop >= WALL_DB and below - float(db[place + gap : top].max()) >= WALL_DB / 2:
            walls.append((drop, place * hz))
    return max(walls)[1] if walls else None
