"""What is known of how a video's sound lies to its pictures, and of what pipelines make of it that do not look."""

from __future__ import annotations

from dataclasses import dataclass

# What a pipeline that does not look at the stamps takes for granted. An error is the time of the sound that it gives to
# a picture less the time of the picture.
PIPELINES = {
    "constant_rate": "frame i is shown at i / declared frame rate",
    "start_ignored": "the first sample belongs to the first frame",
    "samples_counted": "sample n is heard n / sample rate after the first sample",
    "all_three": "numbers of frames and samples are taken for times",
    "edit_lists_ignored": "mp4's stamps are taken as they are without its edit lists",
}


@dataclass(frozen=True)
class Pictures:
    """Times in seconds, in the file's own time."""

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
    """A step in the sound, `seconds` long; negative for an overlap. `at` is in seconds after the first picture."""

    at: float
    seconds: float


@dataclass(frozen=True)
class Sound:
    """Times in seconds, in the file's own time."""

    codec: str
    first_stamp: float  # of the first samples, as ffprobe shows it
    start: float  # where the stamps of its first run put it
    end: float
    declared_rate_hz: int
    rate_hz: int  # what the decoder gives
    left_out: float  # before `start`: what the file tells decoders to drop, as the priming of the codec
    runs: int  # pieces without a gap that packing puts it together from
    gaps: list[Gap]
    drift: float  # by how much more time its stamps take than its samples do, gaps left out
    drift_ppm: float


@dataclass(frozen=True)
class Edits:
    """By how much an mp4's edit lists move the beginning of each stream, seconds, and pictures that they take out."""

    pictures: float
    sound: float
    hidden_pictures: int


@dataclass(frozen=True)
class Packing:
    """What packing all of the file would do."""

    ticks: int
    frames_left_out: int  # no tick shows them
    frames_repeated: int  # ticks that show the frame of the tick before, `held` left out
    held: float  # seconds that the last frame is shown beyond its own end, as sound goes on
    silence: float  # seconds in front of a sound that begins after the first picture
    cut: float  # seconds of sound before the first picture
    edit_list_ignored: bool  # as it takes out nearly all pictures
    too_short: bool  # no whole second of sound around any frame: would be rejected


@dataclass(frozen=True)
class Error:
    """Over the pictures of a file, seconds: the median of the absolute errors, and the largest with its sign."""

    median: float
    worst: float


@dataclass(frozen=True)
class Sync:
    """offset: `sound.start` less `pictures.start`, seconds. errors: by PIPELINES, where there is one.

    parts: stretches with stamps of their own, which packing puts one after the other.
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
        """The largest error of any of the pipelines, seconds, without its sign."""
        return max((abs(error.worst) for error in self.errors.values()), default=0.0)
