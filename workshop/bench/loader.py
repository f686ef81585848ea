"""The loader's pairs per second, beside the bare decoding of the same bytes.

Both deliver the same rows of the same plan, in turns: a short round of the loader, one of the bare decoder, and again,
so that what else runs on the machine falls on both alike. Beside the rates, which are by the clock, stands the
processor's time per pair, which other programs cannot take away.
"""

from __future__ import annotations

import io
import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
import soundfile

from avc.data.loader import PREFETCHED_BATCHES, Loader
from avc.data.reader import Batch, PairReader
from avc.data.sampler import PairRows, PairSampler
from avc.settings import Config
from shards.file_slice import Descriptor
from shards.format import HALF_SECOND_SAMPLES, SAMPLE_RATE_HZ
from shards.read import Shards
from workshop.bench.report import Progress, Report, Rounds, figure, ratio, rounds_of

ROUNDS = 15
PAIRS = 2048  # their JPEG files are more than a processor's caches hold, so both read from memory
PAIRS_PER_BATCH = Config().optim.micro_batch_pairs


@dataclass(frozen=True)
class LoaderResult:
    """What was measured, and the ratios of the loader to its limits, round by round.

    loader: each worker process. cpu_share_of_bare: the bare decoder's processor time for a pair, of a worker's.
    """

    workers: int
    image_size: int
    clips: int
    pairs: int
    pairs_per_batch: int
    sound: str
    loader: Rounds
    bare: Rounds
    share_of_bare: Rounds
    cpu_share_of_bare: Rounds


def measure(
    folder: Path,
    *,
    workers: int = 1,
    seconds: float = 30.0,
    image_size: int = 224,
    rounds: int = ROUNDS,
    pairs: int = PAIRS,
    progress: Progress | None = None,
) -> LoaderResult:
    """Measure reading the training clips of a packed folder.

    seconds: for each of what is measured, over all rounds.
    Raises ValueError for a folder that is not a packed one or has too few clips.
    """
    if workers < 1:
        raise ValueError(f"--workers is {workers} and must be at least 1: what is measured is a worker process")
    if not seconds > 0:
        raise ValueError(f"--seconds is {seconds} and must be more than 0")
    shards = Shards(folder)
    sampler = PairSampler(shards.index, shards.clips("train"), seed=0)
    reader = PairReader(shards, sampler, image_size=image_size, augment=True)
    rows = sampler.rows(0, pairs)
    bare = itertools.cycle(_bare(reader, rows))
    starts = range(0, pairs, PAIRS_PER_BATCH)
    row_ranges = itertools.cycle([(start, min(start + PAIRS_PER_BATCH, pairs)) for start in starts])
    loader = _Loader(Loader(reader, rows=PAIRS_PER_BATCH, num_workers=workers, pin=False).batches(row_ranges), workers)
    loaded, decoded = [], []
    for number in range(-1, rounds):  # the first one is warm-up
        if progress is not None:
            progress(max(0, number), rounds, "warming up" if number < 0 else "")
        loaded.append(loader.run_for(seconds / rounds))
        decoded.append(_decode_for(seconds / rounds, bare))
    if progress is not None:
        progress(rounds, rounds, "")
    (loader_rate, loader_cpu), (bare_rate, bare_cpu) = (_pace(turns[1:]) for turns in (loaded, decoded))
    return LoaderResult(
        workers=workers,
        image_size=image_size,
        clips=len(sampler.clips),
        pairs=pairs,
        pairs_per_batch=PAIRS_PER_BATCH,
        sound=shards.manifest.settings.sound,
        loader=loader_rate,
        bare=bare_rate,
        share_of_bare=ratio(loader_rate, bare_rate),
        cpu_share_of_bare=ratio(bare_cpu, loader_cpu),
    )


def report(result: LoaderResult) -> Report:
    """The result for people."""
    share, cpu_share = figure(result.share_of_bare.median), figure(result.cpu_share_of_bare.median)
    rows = [
        ("loader, each worker process", str(result.loader), ""),
        ("limit: bare decoding of the same JPEG and sound bytes", str(result.bare), share),
        ("the same by processor time per pair", "", cpu_share),
    ]
    notes = [
        f"Median (lowest to highest) of {len(result.loader.rounds)} rounds in turns; the share is the median of the "
        "rounds' shares. One process and thread each, files in the page cache.",
    ]
    return Report(
        title=f"loader: {result.workers} worker{'s' * (result.workers > 1)}, {result.pairs} pairs of {result.clips} "
        f"clips in batches of {result.pairs_per_batch}, pictures of {result.image_size}, sound as {result.sound}",
        columns=("", "pairs/s", "loader is so many times that"),
        rows=rows,
        notes=notes,
    )


@dataclass(frozen=True)
class _Turn:
    """What one round of one of the two took."""

    pairs_per_second: float
    cpu_seconds_per_pair: float


def _pace(turns: Sequence[_Turn]) -> tuple[Rounds, Rounds]:
    return (
        rounds_of((turn.pairs_per_second for turn in turns), unit="pairs/s"),
        rounds_of((turn.cpu_seconds_per_pair for turn in turns), unit="s/pair"),
    )


class _Loader:
    """The loader's worker processes, which fill batches without anything else to do."""

    def __init__(self, batches: Iterator[Batch], workers: int) -> None:
        self._batches, self._workers = batches, workers
        before = set(multiprocessing.active_children())
        next(batches)
        self._processes = [child for child in multiprocessing.active_children() if child not in before]

    def run_for(self, seconds: float) -> _Turn:
        """Measure each worker's pairs; all of them are idle again afterwards."""
        waiting = PREFETCHED_BATCHES * self._workers + 2  # read while nobody looked: in queues, and one in the thread
        for _ in range(waiting):
            next(self._batches)
        began, cpu_began, pairs, count = time.perf_counter(), self._cpu_seconds(), 0, 0
        while time.perf_counter() - began < seconds or not pairs:
            pairs += len(next(self._batches).label)
            count += 1
        elapsed, cpu = time.perf_counter() - began, self._cpu_seconds() - cpu_began
        time.sleep(2 * waiting * elapsed / count)
        return _Turn(pairs / elapsed / self._workers, cpu / pairs)

    def _cpu_seconds(self) -> float:
        # The clock of another process's processor time, as clock_getcpuclockid(3) makes it out of the process's number.
        return sum(time.clock_gettime(~int(process.pid or 0) << 3 | 2) for process in self._processes)


def _decode_for(seconds: float, decoders: Iterator[Callable[[], None]]) -> _Turn:
    began, cpu_began, pairs = time.perf_counter(), time.thread_time(), 0
    while (elapsed := time.perf_counter() - began) < seconds or not pairs:
        next(decoders)()
        pairs += 1
    return _Turn(pairs / elapsed, (time.thread_time() - cpu_began) / pairs)


def _bare(reader: PairReader, rows: PairRows) -> Sequence[Callable[[], None]]:
    """For each pair, a call that decodes its JPEG and its second of sound from memory, and nothing else."""
    shards = reader.shards
    factor = float(reader.reduce)
    flac: dict[int, bytes] = {}

    def decoder(jpeg: bytes, smallest: tuple[int, int], sound: Callable[[], object]) -> Callable[[], None]:
        def decode() -> None:
            simplejpeg.decode_jpeg(
                jpeg, colorspace="RGB", min_height=smallest[0], min_width=smallest[1], min_factor=factor
            )
            sound()

        return decode

    def wav(clip: int, first: int) -> Callable[[], object]:
        samples = shards.sound(clip, first, SAMPLE_RATE_HZ).astype("<i2").tobytes()
        return lambda: np.frombuffer(samples, dtype="<i2")

    def from_flac(clip: int, first: int) -> Callable[[], object]:
        if clip not in flac:
            flac[clip] = _sound_member(shards, clip)

        def decode() -> None:
            with soundfile.SoundFile(io.BytesIO(flac[clip])) as file:
                file.seek(first)
                file.read(SAMPLE_RATE_HZ, dtype="int16")

        return decode

    sound = wav if shards.manifest.settings.sound == "wav" else from_flac
    decoders = []
    for i, (clip, tick) in enumerate(zip(rows.frame_clip.tolist(), rows.frame_tick.tolist(), strict=True)):
        row = shards.index[clip]
        smallest = -(-int(row["height"]) // reader.reduce), -(-int(row["width"]) // reader.reduce)
        first = int(rows.audio_center[i]) - HALF_SECOND_SAMPLES
        decoders.append(decoder(shards.frame(clip, tick), smallest, sound(int(rows.audio_clip[i]), first)))
    return decoders


def _sound_member(shards: Shards, clip: int) -> bytes:
    row = shards.index[clip]
    shard = Descriptor(shards.folder / shards.manifest.shards[int(row["shard"])].name)
    return shard.read(int(row["sound_offset"]), int(row["sound_size"]))
