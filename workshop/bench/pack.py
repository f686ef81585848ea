"""The packer's rate, beside decoding the same files and nothing else.

Both in turns, over all files, with as many processes; a first packing is warm-up, brings the files into the page cache
and says which of them can be packed. Processes are started anew for each turn, as every packing does.
"""

from __future__ import annotations

import io
import itertools
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

from shards.file_slice import Descriptor, Window
from shards.format import JOURNAL, TICKS_PER_SECOND, PackSettings
from shards.journal import Packed, Rejection, read_events
from shards.media.container import CONTAINERS, open_container
from shards.pack import pack
from shards.sources import Source
from workshop.bench.report import Progress, Report, Rounds, figure, ratio, rounds_of

ROUNDS = 3
OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}


@dataclass(frozen=True)
class PackResult:
    """What was measured: videos per second, and seconds of video per second, of all processes together.

    cpu_share_of_decode: the processor time of decoding alone, of packing's.
    """

    workers: int
    videos: int
    rejected: int
    video_seconds: float
    packer: Rounds
    decode: Rounds
    packer_video_seconds: Rounds
    decode_video_seconds: Rounds
    share_of_decode: Rounds
    cpu_share_of_decode: Rounds


def measure(
    folder: Path, *, workers: int | None = None, rounds: int = ROUNDS, progress: Progress | None = None
) -> PackResult:
    """Pack everything in `folder` into a temporary folder and decode it, in turns.

    workers: processes, by default as many as there are cores. Raises ValueError as `shards.pack.pack` does, and where
    nothing in the folder can be packed.
    """
    workers = workers or len(os.sched_getaffinity(0))
    settings = PackSettings()
    turns = itertools.count()

    def report(done: int, total: int, name: str) -> None:
        if progress is not None:
            progress(turn * total + done, (2 * rounds + 1) * total, name)

    with tempfile.TemporaryDirectory(prefix="avc-bench-") as scratch:
        out = Path(scratch) / "shards"

        def packing() -> None:
            shutil.rmtree(out, ignore_errors=True)
            pack([folder], out, settings, workers=workers, progress=report)

        turn = next(turns)
        packing()
        events = list(read_events(out / JOURNAL))
        packed = [event for event in events if isinstance(event, Packed)]
        if not packed:
            raise ValueError(f"nothing in {folder} can be packed: `avc pack {folder} --out FOLDER` says why")
        sources = [event.source for event in packed]
        packs, decodes = [], []
        for _ in range(rounds):
            turn = next(turns)
            decodes.append(_took(lambda: _decode_all(sources, settings.seconds, workers=workers, report=report)))
            turn = next(turns)
            packs.append(_took(packing))
    video_seconds = sum(event.ticks for event in packed) / TICKS_PER_SECOND
    packer, decode = (
        rounds_of((len(packed) / took.seconds for took in side), unit="videos/s") for side in (packs, decodes)
    )
    packer_seconds, decode_seconds = (
        rounds_of((video_seconds / took.seconds for took in side), unit="s/s") for side in (packs, decodes)
    )
    cpu = zip(decodes, packs, strict=True)
    return PackResult(
        workers=workers,
        videos=len(packed),
        rejected=sum(isinstance(event, Rejection) for event in events),
        video_seconds=video_seconds,
        packer=packer,
        decode=decode,
        packer_video_seconds=packer_seconds,
        decode_video_seconds=decode_seconds,
        share_of_decode=ratio(packer, decode),
        cpu_share_of_decode=rounds_of((a.cpu_seconds / b.cpu_seconds for a, b in cpu), unit="ratio"),
    )


def report(result: PackResult) -> Report:
    """The result for people."""
    packed = (str(result.packer), str(result.packer_video_seconds))
    decoded = (str(result.decode), str(result.decode_video_seconds))
    notes = [
        f"Median (lowest to highest) of {len(result.packer.rounds)} rounds in turns, after a packing as warm-up; the "
        "share is the median of the rounds' shares. One decoder thread in each process, files in the page cache.",
    ]
    if result.rejected:
        notes.append(f"{result.rejected} inputs were rejected: that took the packer time, and they are not decoded.")
    return Report(
        title=f"packer: {result.videos} videos, {result.video_seconds:,.0f} s of them, {result.workers} processes",
        columns=("", "videos/s", "seconds of video/s", "packer's share of that"),
        rows=[
            ("packer", *packed, ""),
            ("limit: decoding the same row_range and nothing else", *decoded, figure(result.share_of_decode.median)),
            ("the same by processor time", "", "", figure(result.cpu_share_of_decode.median)),
        ],
        notes=notes,
    )


@dataclass(frozen=True)
class _Took:
    seconds: float
    cpu_seconds: float


def _took(work: Callable[[], None]) -> _Took:
    """The time that work in child processes took; they are gone when it ends."""
    began, cpu_began = time.perf_counter(), _cpu_seconds()
    work()
    return _Took(time.perf_counter() - began, _cpu_seconds() - cpu_began)


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _decode_all(sources: Sequence[Source], seconds: float, *, workers: int, report: Progress) -> None:
    context = multiprocessing.get_context("spawn")  # as the packer's processes are
    with ProcessPoolExecutor(min(workers, len(sources)), mp_context=context) as pool:
        decoded = pool.map(decode_stretch, sources, itertools.repeat(seconds))
        for done, (source, frames) in enumerate(zip(sources, decoded, strict=True), start=1):
            assert frames, source.name
            report(done, len(sources), source.name)


def decode_stretch(source: Source, seconds: float) -> int:
    """Decode the first `seconds` of a source's pictures and sound and drop them; the number of decoded frames."""
    whole: Path | io.BufferedReader = Path(source.path)
    if source.offset is not None:
        whole = io.BufferedReader(Window(Descriptor(source.path), offset=source.offset, size=source.size))
    frames = 0
    with _open(whole) as container:
        streams = {stream.index: stream for stream in (*container.streams.video[:1], *container.streams.audio[:1])}
        begins = min(float((stream.start_time or 0) * (stream.time_base or 0)) for stream in streams.values())
        pending = set(streams)
        for packet in container.demux(*streams.values()):
            if packet.stream.index not in pending:
                continue
            for frame in _decoded(packet):
                frames += 1
                if frame.time is not None and frame.time >= begins + seconds:
                    pending.discard(packet.stream.index)
            if not pending:
                break
    return frames


def _open(file: Path | io.BufferedReader) -> InputContainer:
    """A video file with its decoders on one thread each: what is compared is processes, one to a core."""
    container = open_container(file, options=OPTIONS)
    for stream in container.streams:
        if stream.type in ("video", "audio") and stream.codec_context is not None:
            stream.codec_context.thread_count = 1
    return container


def _decoded(packet: av.Packet[Any]) -> Sequence[Any]:
    try:
        return packet.decode()
    except av.error.InvalidDataError:  # after a seek, for one, a decoder may lack what came before
        return ()
