"""A conformance suite for decoders: flashes and beeps whose times are known, in files of many forms.

Each decoder decodes in processes of its own with a time limit for each file, so that one that crashes or hangs costs
its own file. What a decoder cannot read, and what it loses or invents, counts as outside of every limit.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from itertools import accumulate, product
from pathlib import Path

from shards.format import TICKS_PER_SECOND, Reason
from shards.journal import Rejection
from shards.sources import Source, list_sources
from shards.workers import run_in_workers
from workshop.bench.report import Progress, Report
from workshop.decoders.decoders import DECODERS, Decoder, Heard
from workshop.decoders.flash_and_beep import MILLISECOND, OTHER_EVENTS, Film, cut_by_copy, film, render

HALF_A_FRAME_SECONDS = 0.5 / TICKS_PER_SECOND
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
LAME_PRIMING = 1105  # samples; avi has no way to say that they are not sound


@dataclass(frozen=True)
class Case:
    """One file of the suite.

    rate: frames per second, None for a variable one. starts: of the sound, seconds. reordered: B-frames between others.
    cut: seconds that are cut off its beginning, by stream copy. joined: another film was put behind it, byte by byte,
    so that its stamps start over.
    """

    container: str
    video: str
    audio: str
    sound_rate: int
    rate: Fraction | None
    starts: Fraction = Fraction(0)
    gap: tuple[float, float] = (0, 0)
    drift: Fraction = Fraction(0)
    reordered: int | None = None
    cut: Fraction = Fraction(0)
    joined: bool = False

    @property
    def films(self) -> list[Film]:
        """What is shown, one after the other."""
        films = [film(self.rate, sound_starts=self.starts)]
        return [*films, film(self.rate, about=OTHER_EVENTS)] if self.joined else films

    @property
    def truth(self) -> Heard:
        """When flashes and beeps truly begin, seconds after the file's beginning."""
        films = self.films
        begins = accumulate((float(each.ends) for each in films), initial=-float(self.cut))
        flashes = [begin + time for begin, each in zip(begins, films, strict=False) for time in each.event_times]
        flashes = [time for time in flashes if time > 0]
        return Heard(flashes, [time * float(1 + self.drift) for time in flashes])

    def render(self, path: Path) -> Path:
        """The file."""
        path = path.with_suffix(f".{self.container}")
        parts = [self._render(path.with_stem(f"{path.stem}-{n}"), part) for n, part in enumerate(self.films)]
        if self.cut:
            cut_by_copy(parts[0], path, at=self.cut)
        else:
            path.write_bytes(b"".join(part.read_bytes() for part in parts))
        for part in parts:
            part.unlink()
        return path

    def _render(self, path: Path, film: Film) -> Path:
        mean = ((len(film.stamps) - 1) / film.stamps[-1]).limit_denominator(1001)
        return render(
            path,
            film,
            video=self.video,
            audio=self.audio,
            sound_rate=self.sound_rate,
            priming=LAME_PRIMING if (self.container, self.audio) == ("avi", "libmp3lame") else 0,
            gap=self.gap,
            drift=self.drift,
            declared=None if self.rate else mean,  # as cameras do
            options=FRAGMENTS if self.joined and self.container == "mp4" else None,
            reordered=self.reordered,
        )


RATES = (Fraction(25), Fraction(30000, 1001), None)
STARTS = (Fraction(0), Fraction(3, 10), Fraction(-3, 10))
FORMS = (
    ("mp4", "libx264", "aac", 44_100),
    ("mov", "libx264", "pcm_s16le", 48_000),
    ("mkv", "libx264", "libopus", 48_000),
    ("webm", "libvpx", "libopus", 48_000),
)
JOINED = (
    ("ts", "libx264", "aac", 48_000),
    ("mpg", "mpeg2video", "mp2", 48_000),
    ("webm", "libvpx", "libopus", 48_000),
    ("mkv", "libx264", "aac", 48_000),
    ("mp4", "libx264", "aac", 44_100),
)
CUTS = tuple(Fraction(at, 1000) for at in (660, 700, 730, 777, 850))  # most of them inside a frame
CUT_RATES = (Fraction(10), Fraction(25), Fraction(30000, 1001))
CASES = (
    *(Case(*form, rate, start) for form, rate, start in product(FORMS, RATES, STARTS)),
    *(Case("avi", "mpeg4", "libmp3lame", 44_100, rate) for rate in RATES if rate),
    *(Case("ts", "mpeg2video", "mp2", 48_000, rate) for rate in RATES if rate),
    *(
        Case("mp4", "libx264", "aac", 44_100, rate, reordered=reordered, cut=cut)
        for rate, reordered, cut in product(CUT_RATES, (0, 2), CUTS)
    ),
    *(
        Case("avi", "libx264", "pcm_s16le", 48_000, rate, reordered=reordered)
        for rate, reordered in product(RATES[:2], range(4))
    ),
    *(Case(*form, Fraction(25), gap=(1.25, 1.55)) for form in FORMS if form[2] != "pcm_s16le"),
    Case("mkv", "libx264", "libopus", 48_000, Fraction(25), drift=Fraction(1, 100)),
    *(Case(*form, Fraction(25), joined=True) for form in JOINED),
)


@dataclass
class Score:
    """What a decoder made of the suite. Errors in seconds, positive for what comes late.

    pairs: by how much each beep is later than its flash. events: of all files, also those that it did not read.
    failures, apart: files that it did not read, and those with a beep far from its flash, with the reason.
    """

    decoder: str
    version: str
    files: int = 0
    events: int = 0
    flashes: list[float] = field(default_factory=list)
    beeps: list[float] = field(default_factory=list)
    pairs: list[float] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    apart: dict[str, str] = field(default_factory=dict)

    @property
    def within(self) -> float:
        """The share of all events whose beep is within half a frame (at 25 a second) of its flash."""
        return sum(abs(error) <= HALF_A_FRAME_SECONDS for error in self.pairs) / self.events if self.events else 0.0

    def add(self, name: str, truth: Heard, found: Heard | Rejection, *, frames_hz: float | None) -> None:
        """Take note of one file."""
        self.files += 1
        self.events += len(truth.flashes)
        if isinstance(found, Rejection):
            self.failures[name] = found.detail
        elif len(found.flashes) != len(truth.flashes) or len(found.beeps) != len(truth.beeps):
            counts = f"{len(found.flashes)} flashes and {len(found.beeps)} beeps instead of {len(truth.flashes)}"
            self.failures[name] = counts
        else:
            shown = [_first_frame(time, frames_hz) for time in truth.flashes] if frames_hz else truth.flashes
            flashes = [late - true for late, true in zip(found.flashes, shown, strict=True)]
            beeps = [late - true for late, true in zip(found.beeps, truth.beeps, strict=True)]
            self.flashes += flashes
            self.beeps += beeps
            pairs = [beep - flash for beep, flash in zip(beeps, flashes, strict=True)]
            self.pairs += pairs
            if abs(worst := max(pairs, key=abs)) > HALF_A_FRAME_SECONDS:
                self.apart[name] = f"a beep {worst * 1000:+.0f} ms from its flash"


@dataclass(frozen=True)
class Conformance:
    """The scores of all decoders that are installed, and what the absent ones lack."""

    files: int
    scores: list[Score]
    absent: dict[str, str]


def measure(
    decoders: Iterable[Decoder] = tuple(DECODERS.values()),
    cases: Sequence[Case] = CASES,
    *,
    time_limit_seconds: float = 300.0,
    progress: Progress | None = None,
) -> Conformance:
    """Render the suite into a temporary folder and let each decoder that is installed decode it."""
    decoders = list(decoders)
    absent = {decoder.name: decoder.lacks for decoder in decoders if decoder.lacks}
    present = [decoder for decoder in decoders if decoder.name not in absent]
    report = progress or (lambda done, total, note: None)
    total, done = len(cases) * (1 + len(present)), 0
    with tempfile.TemporaryDirectory(prefix="avc-decoders-") as folder:
        truths = {}
        for done, case in enumerate(cases, start=1):
            path = case.render(Path(folder) / f"{done:03}")
            truths[str(path)] = case.truth
            report(done, total, f"rendering {path.name}")
        sources = list_sources([folder])
        scores = []
        for decoder in present:
            score = Score(decoder.name, decoder.version)
            work = partial(_decode, decoder=decoder)
            cores = len(os.sched_getaffinity(0))
            results = run_in_workers(work, sources, workers=cores, time_limit_seconds=time_limit_seconds)
            with contextlib.closing(results):
                for source, result in zip(sources, results, strict=True):
                    score.add(source.basename, truths[source.name], result, frames_hz=decoder.frames_hz)
                    done += 1
                    report(done, total, decoder.name)
            scores.append(score)
    return Conformance(len(cases), scores, absent)


def _decode(source: Source, *, decoder: Decoder) -> Heard | Rejection:
    try:
        return decoder.find(source.path)
    except Exception as error:  # whatever a decoder raises is its answer
        words = f"{type(error).__name__}: {error}".strip().splitlines()
        return Rejection(source, Reason.UNDECODABLE, words[0][:200])


def _first_frame(time: float, frames_hz: float) -> float:
    """When the first of regular frames shows what begins at a time; stamps may be rounded to milliseconds."""
    return math.ceil((time - float(MILLISECOND)) * frames_hz) / frames_hz


def report(result: Conformance) -> Report:
    """The scoreboard."""
    rows = [
        (
            score.decoder,
            score.version,
            f"{score.files - len(score.failures)} of {score.files}",
            *(_errors(errors) for errors in (score.flashes, score.beeps, score.pairs)),
            f"{score.within:.0%}",
        )
        for score in sorted(result.scores, key=lambda score: -score.within)
    ]
    rows += [(name, f"absent: no {lacks}", "", "", "", "", "") for name, lacks in result.absent.items()]
    failures = [
        f"{score.decoder}, {name}: {why}"
        for score in result.scores
        for name, why in [*(score.failures | score.apart).items()][:3]
    ]
    return Report(
        title=f"decoders on {result.files} files of flashes and beeps; errors in ms: median and worst",
        columns=("", "version", "read", "flash", "beep", "beep to flash", "within 20 ms"),
        rows=rows,
        notes=[
            "Errors are of times after the first frame that it gives, late ones positive. Where frames come at a rate",
            "of the decoder's own, a flash is due on the first of these. Within: events whose beep is at most half a",
            "frame (at 25 a second) from its flash, of all; what was not read, lost or invented is not within.",
            *failures,
        ],
    )


def _errors(seconds: Sequence[float]) -> str:
    if not seconds:
        return "-"
    worst = max(seconds, key=abs)
    return f"{statistics.median(map(abs, seconds)) * 1000:.1f}, {worst * 1000:+.0f}"
