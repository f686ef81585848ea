"""The findings of Objects that Sound in miniature.

    python -m workshop.study --folder demo-world         # stopped, the same command resumes

Trains L3-Net, AVE-Net, AVE-Net under a contrastive loss, AVOL-Net with two poolings, AVE+MF, and AVE-Net with and
without the sampling fault that the paper warns of, each with several seeds, on the demo's world; measures retrieval,
localization and the shortcut audit. FOLDER/study.html shows the findings beside the paper's, with intervals over seeds.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from launch.report.results import print_table, write_json
from launch.user_errors import user_errors
from workshop.study.study import study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("demo-world"), help="Where everything goes.")
    parser.add_argument("--clips", type=int, default=960, help="Videos to render.")
    parser.add_argument("--kinds", type=int, default=8, help="Of objects; one negative in so many is false.")
    parser.add_argument("--seed", type=int, default=1, help="Of the world and of the first training.")
    parser.add_argument("--seeds", type=int, default=3, help="Trainings of each network.")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="Processes.")
    parser.add_argument("--json", type=Path, help="Write the result to this file as well.")
    asked = parser.parse_args()
    with user_errors("workshop.study"):
        folder = asked.folder.expanduser()
        results = study(
            folder, clips=asked.clips, kinds=asked.kinds, seed=asked.seed, seeds=asked.seeds, workers=asked.workers
        )
        claims = [(finding["claim"], finding["measured"], finding["verdict"]) for finding in results["findings"]]
        print_table(("claim", "measured here", ""), claims, show_lines=True)
        print(f"{results['seconds']:.0f} s this time; {folder / 'study.html'} shows it beside the paper's figures")
        write_json(asked.json, results)


if __name__ == "__main__":
    main()
