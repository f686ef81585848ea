"""How each kind of object sounds: one function a kind, from a pitch and a generator to a waveform.

No voice is silent for a second: what repeats does so at least twice a second. Rhythm, tuning and timbre come from the
generator, so two objects of a kind at one pitch still differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from shards.format import TICKS_PER_SECOND

Wave = NDArray[np.float64]
Voice = Callable[[Generator, Wave, float], Wave]
TURN = 2 * math.pi


def bell(rng: Generator, time: Wave, pitch: float) -> Wave:
    """Inharmonic strokes that ring on."""
    now = _first(time, 0.7)
    stroke = np.zeros_like(now)
    for partial in (0.5, 1.0, 1.19, 1.5, 2.0, 2.74, 4.1):
        fade = np.exp(-now * (3 + 2 * partial))
        stroke += rng.uniform(0.3, 1) / math.sqrt(partial) * np.sin(TURN * pitch * partial * now) * fade
    return _repeated(rng, time, [stroke], period=rng.uniform(0.28, 0.48))


def drum(rng: Generator, time: Wave, pitch: float) -> Wave:
    """Thumps that fall in pitch, with the slap of the stick."""
    now = _first(time, 0.4)
    thump = np.sin(TURN * pitch * (now + 0.04 * (1 - np.exp(-now / 0.03)))) * np.exp(-now / 0.09)
    slap = _noise(rng, now, center=1500, octaves=1.5) * np.exp(-now / 0.02)
    return _repeated(rng, time, [thump + rng.uniform(0.15, 0.5) * slap], period=rng.uniform(0.16, 0.36))


def siren(rng: Generator, time: Wave, pitch: float) -> Wave:
    """One tone that glides up and down without a break."""
    sweep = np.sin(TURN * (rng.uniform(1.0, 2.2) * time + rng.random()))
    phase = np.cumsum(pitch * 2 ** (rng.uniform(0.35, 0.6) * sweep)) * time[1]
    return _harmonics(phase, [1, 0.35, 0.2, 0.1])


def bird(rng: Generator, time: Wave, pitch: float) -> Wave:
    """Short chirps that fall and warble."""
    length = rng.uniform(0.07, 0.13)
    now = _first(time, length)
    bend = rng.uniform(0.25, 0.6) * (1 - 2 * now / length) + 0.06 * np.sin(TURN * rng.uniform(25, 45) * now)
    chirp = np.sin(TURN * np.cumsum(pitch * 2**bend) * time[1]) * np.sin(math.pi * now / length) ** 2
    return _repeated(rng, time, [chirp], period=rng.uniform(0.15, 0.28))


def cricket(rng: Generator, time: Wave, pitch: float) -> Wave:
    """Bursts of fast high pulses."""
    length = rng.uniform(0.16, 0.26)
    now = _first(time, length)
    pulses = np.maximum(np.sin(TURN * rng.uniform(28, 48) * now), 0) ** 1.5
    return _repeated(rng, time, [np.sin(TURN * pitch * now) * pulses], period=length + rng.uniform(0.08, 0.2))


def motor(rng: Generator, time: Wave, pitch: float) -> Wave:
    """A low rough buzz with the beat of its strokes."""
    buzz = _harmonics(pitch * time, 1 / np.arange(1, 25) ** rng.uniform(0.5, 0.9))
    beat = 1 + rng.uniform(0.5, 0.9) * np.sin(TURN * pitch * time / 4)
    return buzz * beat + 0.2 * _noise(rng, time, center=8 * pitch, octaves=1.5)


def waterfall(rng: Generator, time: Wave, pitch: float) -> Wave:
    """A steady broad rush."""
    swell = 1 + 0.15 * np.sin(TURN * (rng.uniform(0.4, 1.2) * time + rng.random()))
    return _noise(rng, time, center=pitch, octaves=rng.uniform(1.6, 2.4)) * swell


def clock(rng: Generator, time: Wave, pitch: float) -> Wave:
    """Dry ticks, every other one lower."""
    now, decay = _first(time, 0.1), rng.uniform(0.004, 0.009)
    tick, tock = (
        (np.sin(TURN * tone * now) + 0.5 * np.sin(TURN * 2.3 * tone * now)) * np.exp(-now / decay)
        for tone in (pitch, pitch * rng.uniform(0.6, 0.85))
    )
    return _repeated(rng, time, [tick, tock], period=rng.uniform(0.11, 0.2))


def guitar(rng: Generator, time: Wave, pitch: float) -> Wave:
    """Plucked chords, note by note."""
    now, place = _first(time, 0.6), rng.uniform(0.12, 0.3)
    plucks = []
    for step in rng.permutation([1.0, rng.choice([6 / 5, 5 / 4]), 1.5, 2.0]):
        pluck = np.zeros_like(now)
        for order in range(1, 13):
            weight = math.sin(order * math.pi * place) / order
            pluck += weight * np.sin(TURN * order * step * pitch * now) * np.exp(-now * (3 + 1.3 * order))
        plucks.append(pluck * np.minimum(now / 0.003, 1))
    return _repeated(rng, time, plucks, period=rng.uniform(0.14, 0.26))


def organ(rng: Generator, time: Wave, pitch: float) -> Wave:
    """A held chord with a slight tremor."""
    stops = rng.uniform(0.2, 1, 8) / np.arange(1, 9) ** 0.7
    chord: Wave = np.zeros_like(time)
    for step in (1.0, rng.choice([6 / 5, 5 / 4]), 1.5):
        chord += _harmonics(pitch * step * time + rng.random(), stops)
    chord *= 1 + 0.15 * np.sin(TURN * (rng.uniform(4, 7) * time + rng.random()))
    return chord


def robot(rng: Generator, time: Wave, pitch: float) -> Wave:
    """Square beeps that jump from note to note."""
    beats = time / rng.uniform(0.07, 0.13)
    number = beats.astype(int)
    notes = pitch * 2 ** (rng.integers(0, 12, number[-1] + 1) / 6)
    phase = np.cumsum(notes[number]) * time[1]
    wave = _harmonics(phase, [1, 0, 1 / 3, 0, 1 / 5, 0, 1 / 7, 0, 1 / 9])
    wave[beats - number > 0.8] = 0
    return wave


def fan(rng: Generator, time: Wave, pitch: float) -> Wave:
    """Air chopped by blades."""
    chop = (0.55 + 0.45 * np.sin(TURN * (rng.uniform(10, 19) * time + rng.random()))) ** 3
    return _noise(rng, time, center=pitch, octaves=rng.uniform(1.0, 1.6)) * chop


def synthesize(
    voice: Voice, rng: Generator, *, pitch_hz: float, level_db: float, seconds: float, sample_rate_hz: int
) -> NDArray[np.float32]:
    """The object's sound over faint noise, float32 [samples] in (-1, 1).

    `level_db` is the root mean square of the voice relative to full scale; the noise lies 14 to 30 dB below it. A
    voice of rare sharp peaks is kept from clipping by a lower level.
    """
    time = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
    wave = voice(rng, time, pitch_hz)
    wave /= math.sqrt(float(np.mean(wave**2)))
    hiss = _noise(rng, time, center=rng.uniform(200, 4000), octaves=rng.uniform(2, 4))
    wave += hiss * 10 ** (-rng.uniform(14, 30) / 20)
    return (wave * min(10 ** (level_db / 20), 0.9 / float(np.abs(wave).max()))).astype(np.float32)


def clicks(*, seconds: float, sample_rate_hz: int) -> NDArray[np.float32]:
    """A click of 1 ms at 13 kHz and -26 dBFS at every multiple of 0.04 s: float32 [samples]."""
    wave = np.zeros(round(seconds * sample_rate_hz), np.float32)
    click = np.arange(sample_rate_hz // 1000) / sample_rate_hz
    click = 0.05 * np.sin(TURN * 13_000 * click) * np.hanning(click.size)
    for number in range(math.ceil(seconds * TICKS_PER_SECOND)):
        start = round(number * sample_rate_hz / TICKS_PER_SECOND)
        wave[start : start + click.size] += click[: wave.size - start]
    return wave


def _first(time: Wave, seconds: float) -> Wave:
    return time[: math.ceil(seconds / time[1])]


def _repeated(rng: Generator, time: Wave, beats: Sequence[Wave], *, period: float) -> Wave:
    """The beats in turn, one a period, each a little louder or softer; the first one began before the clip."""
    length = max(beat.size for beat in beats)
    wave = np.zeros(time.size + 2 * length)
    step = round(period / time[1])
    for number, onset in enumerate(range(int(rng.integers(step)), time.size + length, step)):
        beat = beats[number % len(beats)]
        wave[onset : onset + beat.size] += rng.uniform(0.6, 1) * beat
    return wave[length : length + time.size]


def _harmonics(phase: Wave, weights: Sequence[float] | Wave) -> Wave:
    """A tone of the given overtones at a phase in turns, read from a table of one period."""
    turn = np.arange(4097) / 4096
    table = np.zeros_like(turn)
    for order, weight in enumerate(weights, start=1):
        table += weight * np.sin(TURN * order * turn)
    return np.interp(phase % 1, turn, table)


def _noise(rng: Generator, time: Wave, *, center: float, octaves: float) -> Wave:
    """Noise of unit strength whose spectrum is a bell on the octave scale."""
    size = 1 << (time.size - 1).bit_length()
    frequencies = np.fft.rfftfreq(size, time[1])
    frequencies[0] = frequencies[1]
    shape = np.exp(-0.5 * (np.log2(frequencies / center) / octaves) ** 2)
    noise: Wave = np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * shape)[: time.size]
    return noise / math.sqrt(float(np.mean(noise**2)))
