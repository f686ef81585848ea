"""The training step on synthetic batches, beside the device's rate of multiplying matrices.

Each way of running it (precision, memory layout, eager or compiled) is measured in rounds, and each round begins with a
large matrix product in the same precision: no convolution can be faster for long, so the step's share of that rate says
how much a better way of running it could still gain. What its operators read and write takes its time as well: at the
rate of a large copy, that is the other limit.

Reads no videos, so it runs where only torch and the libraries of training are.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from avc.config import load_config, parse_config
from avc.distributed.join import take_device
from avc.networks import network_of
from avc.settings import ClassifierConfig, Config, PairConfig
from workshop.bench.device import (
    MATRIX_SIDE,
    copied_bytes,
    forget_peak,
    matrix_product,
    memory_copy,
    peak_bytes,
    per_second,
    tf32_as_convolutions_have_it,
)
from workshop.bench.report import Progress, Report, Rounds, figure, ratio, rounds_of
from workshop.bench.synthetic import MODES, PRECISIONS, BytesCounter, Way, flop_of, step_on, synthetic

ROUNDS = 5
SECONDS = 5.0
COPY_SECONDS = 1.0
WARM_UP_STEPS = 2  # the first allocates, chooses algorithms and compiles
ON_A_CPU = ("model.width=0.25", "optim.micro_batch_pairs=32")  # without a file: the papers' size takes a CPU too long


@dataclass(frozen=True)
class Speed:
    """What a way of running the step achieved; `skipped` says why there are no figures.

    peak_bytes: on CUDA of tensors, on the CPU of the process's memory, at the highest. bytes_per_pair: read and written
    by the operators of an eager step, each by itself; None where it was compiled.
    """

    way: Way
    pairs: Rounds | None
    flop: Rounds | None
    matrix_flop: Rounds | None
    share: Rounds | None
    peak_bytes: int | None
    bytes_per_pair: float | None = None
    skipped: str = ""


@dataclass(frozen=True)
class StepResult:
    """What was measured. flop_per_pair: of convolutions and matrix products, forward and backward, exact."""

    device: str
    model: str
    width: float
    stride: bool
    image_size: int
    negatives: str
    pairs_per_step: int
    flop_per_pair: float
    matrix_side: int
    copied_bytes_per_second: float
    tf32: bool
    speeds: tuple[Speed, ...]


def settings(path: Path | None, overrides: Sequence[str]) -> Config:
    """The settings to measure: a file's, or the defaults, which on a CPU are those of a small network."""
    if path is not None:
        return load_config(path, overrides)
    config = parse_config({}, overrides)
    return (
        config
        if take_device(config.training, local_rank=0).type == "cuda"
        else parse_config({}, [*ON_A_CPU, *overrides])
    )


def measure(
    config: Config,
    *,
    ways: Sequence[str] = (),
    seconds: float = SECONDS,
    rounds: int = ROUNDS,
    progress: Progress | None = None,
) -> StepResult:
    """Measure the step in every precision, layout and mode, or in those whose description has all of the words `ways`.

    seconds: for each way's steps, over all rounds; every round takes a step at least.
    Raises ValueError for a device that is not there, a network that learns labels, and words that no way has.
    """
    if not seconds > 0:
        raise ValueError(f"--seconds is {seconds} and must be more than 0")
    if not isinstance(config, PairConfig) or isinstance(config, ClassifierConfig):
        raise ValueError(
            f"the step of {config.model.name} needs labels or teachers, which noise has not; take l3 or ave"
        )
    device = take_device(config.training, local_rank=0)
    pairs = min(config.optim.micro_batch_pairs, config.optim.batch_pairs) // 2 * 2
    flop_per_pair = flop_of(config, pairs) / pairs
    every = [Way(*way) for way in itertools.product(PRECISIONS, (True, False), MODES)]
    chosen = [way for way in every if set(ways) <= set(_words(way))]
    if not chosen:
        raise ValueError(f"--ways: no way of running the step is {' and '.join(ways)}; words are {_vocabulary(every)}")
    speeds = []
    for number, way in enumerate(chosen):
        if progress is not None:
            progress(number, len(chosen), ", ".join(_words(way)))
        if way.mode == "compiled" and device.type == "cpu" and config.training.compile is not True:
            speeds.append(_skipped(way, "compiled on a CPU only with training.compile=true"))
        elif way.mode == "graphs" and device.type == "cpu":
            speeds.append(_skipped(way, "graphs are CUDA graphs"))
        elif way.precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            speeds.append(_skipped(way, "this GPU has no bf16"))
        else:
            speeds.append(_speed(config, way, device, pairs, flop_per_pair, seconds=seconds / rounds, rounds=rounds))
    if progress is not None:
        progress(len(chosen), len(chosen), "")
    return StepResult(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        model=config.model.name,
        width=config.model.width,
        stride=config.model.stride,
        image_size=config.data.image_size,
        negatives=config.negatives.source,
        pairs_per_step=pairs,
        flop_per_pair=flop_per_pair,
        matrix_side=MATRIX_SIDE[device.type],
        copied_bytes_per_second=copied_bytes(device) * per_second(memory_copy(device), device, seconds=COPY_SECONDS),
        tf32=device.type == "cuda" and torch.backends.cudnn.allow_tf32,
        speeds=tuple(speeds),
    )


def report(result: StepResult) -> Report:
    """The result for people."""
    rows: list[tuple[str, ...]] = []
    for speed in result.speeds:
        way: tuple[str, ...] = (speed.way.precision, "yes" if speed.way.channels_last else "no", speed.way.mode)
        if speed.pairs is None:
            rows.append((*way, "not measured", "", "", "", ""))
            continue
        assert speed.flop is not None and speed.matrix_flop is not None and speed.share is not None
        peak = "" if speed.peak_bytes is None else f"{speed.peak_bytes / 1e9:.2f} GB"
        flop = [figure(rate.median / 1e9) for rate in (speed.flop, speed.matrix_flop)]
        rows.append((*way, str(speed.pairs), *flop, figure(speed.share.median), peak))
    notes = [
        f"{result.flop_per_pair / 1e9:.2f} GFLOP a pair, forward and backward. The limit is a product of two matrices "
        f"of {result.matrix_side} x {result.matrix_side} in the same precision, measured before each round of steps.",
        "Steps include augmentation, spectrogram, forward, backward, the check of the loss and Adam. Median (lowest to "
        f"highest) of {ROUNDS} rounds.",
    ]
    for speed in result.speeds:
        if speed.bytes_per_pair is not None:
            way_name, copied = ", ".join(_words(speed.way)), result.copied_bytes_per_second
            notes.append(
                f"{way_name}: operators read and write {speed.bytes_per_pair / 1e6:.1f} MB a pair, which at a copy's "
                f"{copied / 1e9:,.1f} GB/s allows {figure(copied / speed.bytes_per_pair)} pairs/s."
            )
    if result.tf32:
        notes.append("fp32: torch lets convolutions round to TF32 here, so the limit is measured in TF32 as well.")
    notes += [f"Not measured: {why}." for why in dict.fromkeys(speed.skipped for speed in result.speeds) if why]
    return Report(
        title=f"training step: {network_of(result.model).title} at width {result.width:g}"
        f"{'' if result.stride else ' without stride'}, pictures of {result.image_size}, "
        f"{result.pairs_per_step} pairs, negatives {result.negatives}, on {result.device}",
        columns=("precision", "channels_last", "mode", "pairs/s", "GFLOP/s", "limit", "share", "peak memory"),
        rows=rows,
        notes=notes,
    )


def _speed(
    config: PairConfig,
    way: Way,
    device: torch.device,
    pairs: int,
    flop_per_pair: float,
    *,
    seconds: float,
    rounds: int,
) -> Speed:
    forget_peak(device)
    try:
        step = step_on(config, way, device, synthetic(config, pairs, device))
        for _ in range(WARM_UP_STEPS):
            step()
        peak = peak_bytes(device)
        counted = None
        if way.mode == "eager":
            with BytesCounter() as counter:
                step()
            counted = counter.total / pairs
        multiply = matrix_product(torch.bfloat16 if way.precision == "bf16" else torch.float32, device)
        matrix, steps = [], []
        with tf32_as_convolutions_have_it(device):
            multiply()
            for _ in range(rounds):
                matrix.append(2 * MATRIX_SIDE[device.type] ** 3 * per_second(multiply, device, seconds=seconds / 4))
                steps.append(per_second(step, device, seconds=seconds))
    except torch.OutOfMemoryError:
        return _skipped(way, f"{pairs} pairs do not fit into memory")
    except Exception as error:
        if way.mode == "eager":
            raise
        # Compilers fail in many ways, and where one is missing or fails the other ways still count.
        return _skipped(way, f"does not compile here: {str(error).strip().splitlines()[0][:120]}")
    finally:
        if way.mode != "eager":
            torch._dynamo.reset()
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    flop = rounds_of((rate * pairs * flop_per_pair for rate in steps), unit="FLOP/s")
    limit = rounds_of(matrix, unit="FLOP/s")
    return Speed(
        way=way,
        pairs=rounds_of((rate * pairs for rate in steps), unit="pairs/s"),
        flop=flop,
        matrix_flop=limit,
        share=ratio(flop, limit),
        peak_bytes=peak,
        bytes_per_pair=counted,
    )


def _skipped(way: Way, why: str) -> Speed:
    return Speed(way, pairs=None, flop=None, matrix_flop=None, share=None, peak_bytes=None, skipped=why)


def _words(way: Way) -> tuple[str, ...]:
    return (way.precision, *["channels_last"] * way.channels_last, way.mode)


def _vocabulary(ways: Sequence[Way]) -> str:
    return ", ".join(dict.fromkeys(word for way in ways for word in _words(way)))


def gpu_of(result: StepResult) -> str | None:
    """The GPU that was measured, if one was."""
    return None if result.device == "cpu" else result.device
