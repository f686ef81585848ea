"""What is wrong in a set: what is there twice, stands still, is silent, and what only looks like more than it is?

    python -m workshop.survey ~/vggsound --out audit
    python -m workshop.survey ~/mine/train ~/mine/test --json set.json
    python -m workshop.survey ~/shards

Twice: the same bytes, or one recording encoded anew, scaled, cropped or shifted; where the two lie in different
splits, a network is tested on what it has learnt. Splits are those of packed videos, folders train, validation and
test, or the inputs, where there are several. By second: pictures that stand still, slide shows, sound that is not
heard. Besides, for information: black borders, watermarks, sound that repeats itself on the grid of 0.04 s or lacks
the frequencies that its rate promises, two channels that are one (not of packed videos, which have one), clipping.
Beside each count stands how many of them packing rejects anyway. `avc audit sync` says how far sound is from its
picture. Stopped, the same command with --out goes on with what was not looked at. The exit status is 1 where nothing
could be looked at.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from launch.commands import refuse_unwritable
from launch.progress import progress
from launch.report.results import write_json
from launch.user_errors import user_errors
from workshop.survey.report import NOTES, as_json, show_survey, write_survey
from workshop.survey.survey import survey


def main(arguments: list[str] | None = None) -> None:
    """Survey, print, write and exit."""
    parser = argparse.ArgumentParser(
        "python -m workshop.survey", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", nargs="+", help="Folders, video files, .txt lists, .tar files; or packed videos.")
    parser.add_argument("--seconds", type=float, default=10.0, help="Look at the first so many of each.")
    parser.add_argument("--workers", type=int, help="Processes; the number of cores by default.")
    parser.add_argument("--time-limit", type=float, default=120.0, help="Seconds after which a video is given up.")
    parser.add_argument("--out", type=Path, help="A folder for index.html, drop.tsv and notes to go on from.")
    parser.add_argument("--json", type=Path, help="Write the result to this file as well.")
    asked = parser.parse_args(arguments)
    with user_errors("workshop.survey", resumes=asked.out is not None):
        for option, path in (("--out", asked.out), ("--json", asked.json)):
            if path is not None:
                refuse_unwritable(path, option, folder=option == "--out")
        folder = asked.out.expanduser() if asked.out is not None else None
        with progress("looking", unit="videos") as report:
            result = survey(
                asked.videos,
                seconds=asked.seconds,
                workers=asked.workers,
                time_limit_seconds=asked.time_limit,
                progress=report,
                notes=folder / NOTES if folder is not None else None,
            )
        show_survey(result)
        write_json(asked.json, as_json(result))
        if folder is not None:
            write_survey(folder, result)
    sys.exit(not result.looks)


if __name__ == "__main__":
    main()
