"""Computes statistics and fingerprints of a clip's pictures and sound.

still, silent      seconds without a change of the picture, or without audible sound
borders            black borders
mark               a static area in a moving picture: a logo, a caption
wall_hz            cutoff frequency of the sound: it was resampled upward, or low-passed by a codec
repeats_hz         a pattern of the sound that repeats in every tick, which reveals a grid
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

VERSION = 1  # of the analysis; notes of other versions are discarded
EVERY = 5  # ticks between analyzed pictures
CELLS = (32, 48)  # grid over a picture on which gray levels are compared
PRINT_EVERY, PRINT_CELLS = 2, (16, 16)  # pictures and grid of a fingerprint
STILL_LEVELS = 6.0  # gray levels, maximum change of a cell's mean: packing's limit for still
CUT_LEVELS = 24.0  # gray levels, mean change over all cells between two pictures
BLACK, FLAT, BORDER_SHARE = 32, 2.5, 0.04  # gray level; deviation; minimum share of width or height, sum of both sides
WINDOW = 16_384  # samples of a sound word; one word per tick
BANDS_HZ = np.geomspace(300, 3000, 34)  # of a word: 33 bands, 32 differences
HEARD_DBFS = -60.0  # minimum level of an audible word
WALL_DB, WALL_SHARE = 25.0, 0.55  # minimum drop; maximum share of the file's Nyquist frequency
CLIPPED = 32_700
MARK_LEVELS, MARK_CELLS, MARK_SHARE = 4.0, 6, 0.12  # maximum change, gray levels; number of cells; their maximum share
MARK_CONTRAST, MARK_MARGIN, MARK_FILLS = 10.0, 12.0, 0.25  # gray levels, to black and white too; share of its box
MOVES_LEVELS, MOVES_EACH, MOVES_SHARE = 16.0, 0.25, 0.8  # range, median step (gray levels); share of moving cells
REPEATS = 0.5  # correlation of even and odd ticks; 0.34 for a steady whistle, 0.59 for linear interpolation
STEEP = 8.0  # minimum deviation of fourth differences, above that of rounding


@dataclass(frozen=True)
class Look:
    """name: of the input or clip. group: its split, or the input that it came from. digest: of the file.

    still, silent: indices of seconds. stood, cuts: number of pictures equal to the one before, and at a cut. refused:
    whether packing rejects it as still or silent. loudness: dBFS. clipped: share of samples. borders: shares of left,
    right, top, bottom. mark: left, right as shares of the width, top, bottom of the height. pixels: per picture of the
    file. codec, rate_hz: of its sound. wall_hz, repeats_hz, side_db, mark: None without. frames: float16 (T, 256).
    words: uint32 (T',). heard: bool (T',).
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
    """Analyze a clip. pictures: uint8 (H, W, 3), one every EVERY ticks. sound: int16 (samples,), mono, 48 kHz.

    source: as in `Clip`. every: ticks between distinct pictures, where that is more than EVERY.
    """
    gray = np.stack([picture @ np.array([0.299, 0.587, 0.114], np.float32) for picture in pictures])
    cells = _cells(gray, CELLS)
    per_second = TICKS_PER_SECOND // EVERY
    seconds = range(max(1, round(len(cells) / per_second)))
    still = [_max_change(cells[n * per_second : (n + 1) * per_second + 1]) < STILL_LEVELS for n in seconds]
    distinct = cells[:: -(-every // EVERY)]
    changes = np.abs(np.diff(distinct, axis=0))
    starts = range(0, max(1, len(sound) - SAMPLE_RATE_HZ // 2), SAMPLE_RATE_HZ)
    sound_seconds = [sound[start : start + SAMPLE_RATE_HZ] for start in starts]
    borders = _borders(gray)
    left, right, top, bottom = (
        round(share * size) for share, size in zip(borders, np.repeat(gray.shape[:0:-1], 2), strict=True)
    )
    cropped = gray[:, top : gray.shape[1] - bottom, left : gray.shape[2] - right]
    words, heard = _sound_words(sound)
    loudness, video, audio = _level(sound), source.get("video", {}), source.get("audio", {})
    rate_hz = int(audio.get("sample_rate_hz", SAMPLE_RATE_HZ))
    return Look(
        name=name,
        group=group,
        digest=digest,
        seconds=len(sound) / SAMPLE_RATE_HZ,
        still=tuple(int(n) for n in np.flatnonzero(still)),
        silent=tuple(n for n, piece in enumerate(sound_seconds) if _level(piece) < SILENT_DBFS),
        stood=int((changes.max(axis=(1, 2)) < STILL_LEVELS).sum()),
        cuts=int((changes.mean(axis=(1, 2)) > CUT_LEVELS).sum()),
        pictures=len(distinct),
        refused=loudness < SILENT_DBFS or _max_change(cells) < STILL_LEVELS,
        loudness=loudness,
        clipped=float((np.abs(sound.astype(np.int32)) >= CLIPPED).mean()),
        borders=borders,
        mark=_find_mark(cropped),
        pixels=int(video.get("width", 0)) * int(video.get("height", 0)),
        codec=str(audio.get("codec", "")),
        rate_hz=rate_hz,
        wall_hz=_cutoff_hz(sound, min(rate_hz, SAMPLE_RATE_HZ)),
        repeats_hz=_repetition_hz(sound),
        side_db=side_db,
        frames=_fingerprints(cropped[::PRINT_EVERY]),
        words=words,
        heard=heard,
    )


ARRAYS = {"frames": np.float16, "words": np.uint32, "heard": np.bool_}


def encode_note(key: Sequence[Any], look: Look) -> bytes:
    """Encode a look as a line of a survey's notes."""
    arrays = {name: base64.b64encode(getattr(look, name).tobytes()).decode() for name in ARRAYS}
    return json.dumps([key, asdict(look) | arrays]).encode() + b"\n"


def read_notes(notes: Path, *, settings: Sequence[Any]) -> dict[tuple[Any, ...], Look]:
    """Read looks by key from notes of the same settings; other notes are replaced. Truncates at a torn line.

    Raises ValueError where `notes` exists and is no file.
    """
    refuse_special(notes)
    header = json.dumps([VERSION, *settings]).encode() + b"\n"
    looks: dict[tuple[Any, ...], Look] = {}
    valid_bytes, columns = 0, PRINT_CELLS[0] * PRINT_CELLS[1]
    if notes.is_file():
        with open(notes, "rb") as file:
            for line in file if file.readline() == header else ():
                with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                    if not line.endswith(b"\n"):
                        break
                    key, fields = json.loads(line)
                    fields = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
                    for name, dtype in ARRAYS.items():
                        fields[name] = np.frombuffer(base64.b64decode(fields[name]), dtype)
                    fields["frames"] = fields["frames"].reshape(-1, columns)
                    looks[tuple(key)] = Look(**fields)
                    valid_bytes += len(line)
                    continue
                break
    notes.parent.mkdir(parents=True, exist_ok=True)
    with open(notes, "ab" if looks else "wb") as file:
        file.truncate(len(header) + valid_bytes) if looks else file.write(header)
    return looks


def _level(sound: np.ndarray) -> float:
    return dbfs(float(sound.std()) / 32768)


def _max_change(cells: np.ndarray) -> float:
    return float(np.abs(cells - cells[0]).max())


def _cells(gray: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Means of (T, H, W) over a grid: float32 (T, *shape)."""
    for axis, count in enumerate(shape, start=1):
        edges = np.linspace(0, gray.shape[axis], min(count, gray.shape[axis]) + 1).astype(int)
        sizes = np.expand_dims(np.diff(edges), 1) if axis == 1 else np.diff(edges)
        gray = np.add.reduceat(gray, edges[:-1], axis=axis) / sizes.astype(np.float32)
    return gray


def _fingerprints(gray: np.ndarray) -> np.ndarray:
    """Each picture's cells with mean 0 and norm 1: float16 (T, 256)."""
    rows = _cells(gray, PRINT_CELLS).reshape(len(gray), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    fingerprints: np.ndarray = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-3)).astype(np.float16)
    return fingerprints


def _borders(gray: np.ndarray) -> tuple[float, float, float, float]:
    """Shares of the width and the height that are black in all pictures: left, right, top, bottom.

    Dark scenes are not uniform: lines that deviate are no border.
    """
    brightest = gray.max(axis=0)
    shares: list[float] = []
    for axis in (1, 0):
        lines = np.moveaxis(brightest, axis, 0)
        bright = np.flatnonzero(np.quantile(lines, 0.98, axis=1) > BLACK)  # ignores a watermark in a corner
        if not len(bright):
            return 0.0, 0.0, 0.0, 0.0
        sides = [lines[: max(0, bright[0] - 1)], lines[bright[-1] + 2 :]]  # without the line beside the picture
        counts = [bright[0], len(lines) - 1 - bright[-1]]
        share = [
            float(count / len(lines)) if side.size and np.median(side.std(axis=1)) < FLAT else 0.0
            for side, count in zip(sides, counts, strict=True)
        ]
        shares += share if sum(share) >= BORDER_SHARE else [0.0, 0.0]
    left, right, top, bottom = shares
    return left, right, top, bottom


def _find_mark(gray: np.ndarray) -> tuple[float, float, float, float] | None:
    """Box of few static cells, textured and neither black nor white, while most others move all the time; or None."""
    cells = _cells(gray, CELLS)
    ranges, mean = np.ptp(cells, axis=0), cells.mean(axis=0)
    static = (ranges < MARK_LEVELS) & (mean > MARK_MARGIN) & (mean < 255 - MARK_MARGIN)
    if len(cells) < 3 or not MARK_CELLS <= static.sum() <= MARK_SHARE * static.size:
        return None
    moving = (ranges > MOVES_LEVELS) & (np.median(np.abs(np.diff(cells, axis=0)), axis=0) > MOVES_EACH)  # not by a cut
    if moving.mean() < MOVES_SHARE or mean[static].std() < MARK_CONTRAST:
        return None
    rows, columns = np.nonzero(static)
    height, width = static.shape
    left, right, top, bottom = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
    if len(rows) < MARK_FILLS * (right - left) * (bottom - top):
        return None  # scattered
    return float(left / width), float(right / width), float(top / height), float(bottom / height)


def _repetition_hz(sound: np.ndarray) -> float | None:
    """Frequency, Hz, of a pattern in the sharpness of the sound that repeats in each tick; None without."""
    sharpness = np.diff(sound.astype(np.float32), n=4)
    ticks = sharpness[: len(sharpness) // SAMPLES_PER_TICK * SAMPLES_PER_TICK].reshape(-1, SAMPLES_PER_TICK)
    ticks = ticks[ticks.std(axis=1) > STEEP]
    if len(ticks) < TICKS_PER_SECOND:
        return None
    level = np.log1p(np.abs(ticks))
    level -= level.mean(axis=1, keepdims=True)
    if np.corrcoef(level[::2].mean(axis=0), level[1::2].mean(axis=0))[0, 1] < REPEATS:
        return None
    return float(np.argmax(np.abs(np.fft.rfft(level.mean(axis=0)))[1:]) + 1) * TICKS_PER_SECOND


def _sound_words(sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Words of 32 bits, one per tick: whether a band's level relative to the next has grown in two ticks.

    Returns uint32 (T,), and bool (T,): whether they are audible.
    """
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


def _cutoff_hz(sound: np.ndarray, rate_hz: int) -> float | None:
    """Frequency, Hz, at which the spectrum ends far below the Nyquist frequency; None without."""
    size = 2048
    pieces = np.lib.stride_tricks.sliding_window_view(sound, size)[::size].astype(np.float32)
    pieces = pieces[pieces.std(axis=1) > 32768 * 10 ** (HEARD_DBFS / 20)]
    if not len(pieces):
        return None
    power = np.square(np.abs(np.fft.rfft(pieces * np.hanning(size).astype(np.float32), axis=1))).mean(axis=0)
    db = 10 * np.log10(power + 1e-3)
    hz = SAMPLE_RATE_HZ / size
    wide, gap, top = round(600 / hz), round(250 / hz), round(0.95 * rate_hz / 2 / hz)
    cutoffs = []
    for bin_ in range(round(1500 / hz), min(top - gap - wide, round(WALL_SHARE * rate_hz / 2 / hz))):
        below = float(db[bin_ - gap - wide : bin_ - gap].mean())
        drop = below - float(db[bin_ + gap : bin_ + gap + wide].mean())
        if drop >= WALL_DB and below - float(db[bin_ + gap : top].max()) >= WALL_DB / 2:
            cutoffs.append((drop, bin_ * hz))
    return max(cutoffs)[1] if cutoffs else None
