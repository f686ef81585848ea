"""Which of the decoders on this machine keep sound and picture together?

    python -m workshop.decoders --json decoders.json
    python -m workshop.decoders --mine package.module:function       # your own loader beside them

Flashes and beeps in mp4, mov, mkv, webm, avi, ts and mpg, at constant and variable frame rates, with sound that begins
before, with and after the picture, with a gap, and with drift; cut by stream copy, and joined by their bytes, so that
stamps start over. Each decoder reads them as its users would; those that are not installed are listed as absent. The
exit status is 1 where fewer than --at-least percent of the beeps of --mine are within 20 ms of their flashes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from launch.progress import progress
from launch.user_errors import user_errors
from workshop.bench.machine import describe
from workshop.bench.report import write_json
from workshop.decoders.conformance import CASES, measure, report
from workshop.decoders.decoders import DECODERS, decoder_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mine", metavar="PACKAGE.MODULE:FUNCTION", help="A loader of yours: see workshop/README.md.")
    parser.add_argument("--fps", type=float, help="Of the frames that --mine gives whatever the file has, if it does.")
    parser.add_argument("--at-least", type=float, default=100.0, metavar="PERCENT", help="Of --mine, or status 1.")
    parser.add_argument("--only", default="", metavar="WORD", help="Beside --mine only decoders whose name holds this.")
    parser.add_argument("--quick", action="store_true", help="An eighth of the files.")
    parser.add_argument("--time-limit", type=float, default=300.0, help="Seconds after which a file is given up.")
    parser.add_argument("--json", type=Path, help="Write the result to this file as well.")
    asked = parser.parse_args()
    with user_errors("workshop.decoders"):
        chosen = [decoder for decoder in DECODERS.values() if asked.only.lower() in decoder.name.lower()]
        if not chosen:
            raise ValueError(f"--only is {asked.only!r}, and no decoder is named so: {', '.join(DECODERS)}")
        mine = [decoder_of(asked.mine, frames_hz=asked.fps)] if asked.mine else []
        with progress("decoding", unit="files") as tell:
            cases = CASES[::8] if asked.quick else CASES
            result = measure([*mine, *chosen], cases, time_limit_seconds=asked.time_limit, progress=tell)
        print(report(result).plain())
        if asked.json is not None:
            write_json(asked.json, bench="decoders", machine=describe(), result=result)
        if mine and (share := 100 * result.scores[0].within) < asked.at_least:
            print(f"{asked.mine}: {share:.1f} % within 20 ms, and --at-least is {asked.at_least:g} %", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main()
