"""How fast is each part, beside its own limit in the same run?

    python -m workshop.bench loader SHARDS                    # a loader process, beside bare decoding of the same bytes
    python -m workshop.bench pack VIDEOS                      # the packer, beside decoding the same videos
    python -m workshop.bench step --ways bf16,compiled        # the training step, beside matrix products and copies
    python -m workshop.bench train small data.shards=SHARDS   # the whole line, beside the step and the loader
    python -m workshop.bench scale --gpus 64 --network 100    # what so many GPUs would ask of storage and network

`pack` packs into a temporary folder (in TMPDIR, where that is set), four times. `step` runs in fp32 and bf16, with and
without channels_last, eager, compiled and as CUDA graphs; it needs neither data nor the libraries of media and of the
command line, so that a bare GPU machine can run it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from launch.user_errors import user_errors
from workshop.bench.machine import describe
from workshop.bench.report import Progress, Report, write_json

Measured = tuple[Report, Any, str | None]  # as a table, as figures, and the GPU if there was one


def loader(asked: argparse.Namespace) -> Measured:
    """Pairs per second that a loader process reads, beside decoding the same bytes and nothing else."""
    from workshop.bench.loader import measure, report

    with _progress("rounds") as tell:
        sizes = {"workers": asked.workers, "seconds": asked.seconds, "image_size": asked.image_size}
        result = measure(asked.shards, **sizes, progress=tell)
    return report(result), result, None


def pack(asked: argparse.Namespace) -> Measured:
    """Videos per second that the packer packs, beside decoding the same videos and nothing else."""
    from workshop.bench.pack import measure, report

    with _progress("videos") as tell:
        result = measure(asked.folder, workers=asked.workers, progress=tell)
    return report(result), result, None


def step(asked: argparse.Namespace) -> Measured:
    """Pairs per second of the training step on synthetic batches, beside the device's rates of products and copies."""
    from workshop.bench.step import gpu_of, measure, report, settings

    config = settings(asked.config, asked.overrides)
    with _progress("ways") as tell:
        result = measure(config, ways=[*filter(None, asked.ways.split(","))], seconds=asked.seconds, progress=tell)
    return report(result), result, gpu_of(result)


def train(asked: argparse.Namespace) -> Measured:
    """Pairs per second of training, loader included, beside the step alone and the loader alone."""
    from avc.config import load_config
    from launch.train import find_config
    from workshop.bench.train import measure, report

    with _progress("rounds") as tell:
        result = measure(load_config(find_config(asked.config), asked.overrides), seconds=asked.seconds, progress=tell)
    return report(result), result, None if result.device == "cpu" else result.device


def scale(asked: argparse.Namespace) -> Measured:
    """What storage, network and nodes have to give for so many GPUs: measured factors, multiplied out."""
    from workshop.bench.scale import Scale, reckon, report

    result = reckon(Scale(**{name: getattr(asked, name) for name in Scale.__annotations__}))
    return report(result), result, None


def _progress(unit: str) -> AbstractContextManager[Progress]:
    try:
        from launch.progress import progress
    except ImportError:  # rich is not on this machine
        return nullcontext(lambda done, total, note: None)
    return progress("measuring", unit=unit)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m workshop.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    benches = parser.add_subparsers(required=True, metavar="BENCH")

    def bench(measure: Callable[[argparse.Namespace], Measured], seconds: float | None = None) -> Any:
        one = benches.add_parser(measure.__name__, help=measure.__doc__, description=measure.__doc__)
        one.set_defaults(measure=measure)
        one.add_argument("--json", type=Path, help="Write all figures, the machine and the versions here too.")
        if seconds is not None:
            one.add_argument("--seconds", type=float, default=seconds, help="How long each is measured.")
        return one

    one = bench(loader, seconds=30.0)
    one.add_argument("shards", type=Path, metavar="SHARDS", help="A folder that `avc pack` made.")
    one.add_argument("--workers", type=int, default=1, help="Worker processes; the rate is for each.")
    one.add_argument("--image-size", type=int, default=224, help="Height and width of the network's picture.")
    one = bench(pack)
    one.add_argument("folder", type=Path, metavar="FOLDER", help="Videos, as for `avc pack`.")
    one.add_argument("--workers", type=int, help="Processes; without it one for each core.")
    one = bench(step, seconds=5.0)
    one.add_argument("--config", type=Path, help="Settings file; without it the papers' sizes, small on a CPU.")
    one.add_argument("--ways", default="", metavar="WORD,...", help="Only ways that are all of this: bf16,compiled.")
    one.add_argument("overrides", nargs="*", metavar="SECTION.NAME=VALUE", help="Settings, as for `avc train`.")
    one = bench(train, seconds=30.0)
    one.add_argument("config", metavar="CONFIG", help="Settings file or name, as for `avc train`.")
    one.add_argument("overrides", nargs="*", metavar="SECTION.NAME=VALUE", help="Settings, as for `avc train`.")
    one = bench(scale)
    one.add_argument("--gpus", type=_counted, default=16, help="All of them.")
    one.add_argument("--node", type=_counted, default=8, help="GPUs in one machine.")
    one.add_argument("--pairs", type=float, default=1000.0, help="Pairs a second and GPU, as `step` measures.")
    one.add_argument("--share", type=_counted, default=16, help="Pairs that a GPU takes in a step.")
    one.add_argument("--network", type=float, default=100.0, help="Gbit/s of a machine.")
    one.add_argument("--clips", type=_counted, default=2_000_000, help="Training clips, of 10 s.")
    one.add_argument("--window", type=_counted, default=25, help="data.shuffle_shards.")
    one.add_argument("--visits", type=_counted, default=14, help="data.visits.")
    return parser


def _counted(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def main(arguments: list[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    with user_errors("workshop.bench"):
        report, result, gpu = asked.measure(asked)
        print(report.plain())
        if asked.json is not None:
            write_json(asked.json, bench=asked.measure.__name__, machine=describe(gpu=gpu), result=result)


if __name__ == "__main__":
    main()
