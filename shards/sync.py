"""Defines measurements of a video's synchronization, and the errors of pipelines that ignore timestamps."""

from __future__ import annotations

from dataclasses import dataclass

# Assumptions of pipelines that ignore timestamps. An error is the time of the sound that a pipeline assigns to a
# picture minus the time of the picture.
PIPELINES = {
    "constant_rate": "frame i is shown at i / declared frame rate",
    "start_ignored": "the first sample belongs to the first frame",
    "samples_counted": "sample n is heard n / sample rate after the first sample",
    "all_three": "numbers of frames and samples are taken for times",
    "edit_lists_ignored": "mp4's stamps are taken as they are without its edit lists",
}


@dataclass(frozen=True)
class Pictures:
    """Times in seconds, on the file's time line."""

    codec: str
    count: int
    start: float
    end: float
    declared_fps: float | None
    fps: float | None  # measured; None for a single picture
    shortest_interval: float
    longest_interval: float
    variable_rate: bool


@dataclass(frozen=True)
class Gap:
    """A gap of `seconds` in the sound; negative for an overlap. at: seconds after the first picture."""

    at: float
    seconds: float


@dataclass(frozen=True)
class Sound:
    """Times in seconds, on the file's time line."""

    codec: str
    first_stamp: float  # of the first samples, as in ffprobe
    start: float  # of its first run, by its timestamps
    end: float
    declared_rate_hz: int
    rate_hz: int  # of the decoded samples
    left_out: float  # priming before `start`, which decoders drop
    runs: int  # gapless runs that packing joins
    gaps: list[Gap]
    drift: float  # duration by timestamps minus duration by samples, without gaps
    drift_ppm: float


@dataclass(frozen=True)
class Edits:
    """Shift of the beginning of each stream by an mp4's edit lists, seconds, and number of pictures they remove."""

    pictures: float
    sound: float
    hidden_pictures: int


@dataclass(frozen=True)
class Packing:
    """The result of packing the entire file."""

    ticks: int
    frames_left_out: int  # shown at no tick
    frames_repeated: int  # ticks that repeat the frame of the tick before, without `held`
    held: float  # seconds that the last frame is held while sound continues
    silence: float  # seconds before a sound that begins after the first picture
    cut: float  # seconds of sound before the first picture
    edit_list_ignored: bool  # it removes nearly all pictures
    too_short: bool  # no frame has a complete second of sound around it: rejected


@dataclass(frozen=True)
class Error:
    """Median of the absolute errors over a file's pictures, and the largest error with its sign, seconds."""

    median: float
    worst: float


@dataclass(frozen=True)
class Sync:
    """offset: `sound.start` minus `pictures.start`, seconds. errors: by name in PIPELINES.

    parts: number of parts with restarting timestamps, which packing joins.
    """

    container: str
    parts: int
    offset: float
    pictures: Pictures
    sound: Sound
    edits: Edits | None
    packing: Packing
    errors: dict[str, Error]

    @property
    def worst(self) -> float:
        """The largest absolute error of all pipelines, seconds."""
        return max((abs(error.worst) for error in self.errors.values()), default=0.0)
