"""Every shell block and Python block of docs/ runs, in the order of its page, on one small rendered world.

A block that cannot run in a test has a comment above it, `<!-- needs: a cluster -->`, and is skipped for that reason.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from tests.docs.blocks import ROOT, Block, blocks_of, pages
from tests.docs.datasets import SEGMENTS, write_datasets
from tests.docs.server import CLIENT, SHORT, TORCHRUN

BLOCKS = [block for page in pages() for block in blocks_of(page)]
RUN = [block for block in BLOCKS if block.language in ("sh", "python")]
COMMANDS = r"^(avc|torchrun|python|pip|make|docker|sbatch|apptainer) "


class Reader:
    """Somebody who has the videos, a home folder and a shell, and follows the pages."""

    def __init__(self, home: Path, socket: Path) -> None:
        self.home = home
        self.names: dict[str, dict[str, Any]] = {}  # of a page's Python blocks, which go on from one to the next
        commands = home / "bin"
        commands.mkdir()
        (commands / "avc").write_text(CLIENT.format(python=sys.executable, path=str(socket)))
        (commands / "torchrun").write_text(TORCHRUN.format(python=sys.executable, short=" ".join(SHORT)))
        for command in commands.iterdir():
            command.chmod(0o755)
        path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {
            **os.environ,
            **{"HOME": str(home), "PATH": path, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
            **{"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "WANDB_MODE": "disabled"},
        }

    def shell(self, text: str) -> str:
        """Run a block by bash, which stops at the first command that fails; what it printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{text}\nended with {done.returncode}:\n{done.stdout[-4000:]}"
        return done.stdout

    def python(self, block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run a block where those before it of its page have run."""
        monkeypatch.chdir(self.home)
        monkeypatch.setenv("HOME", str(self.home))
        exec(compile("\n" * block.line + block.text, block.page, "exec"), self.names.setdefault(block.page, {}))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Videos, shards and trained runs under the names that the pages use."""
    home = tmp_path_factory.mktemp("home")
    socket = tmp_path_factory.mktemp("s") / "avc"
    reader = Reader(home, socket)
    started = subprocess.Popen(
        [sys.executable, "-m", "tests.docs.server", socket],
        cwd=ROOT,
        env=reader.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        write_world(home)
        reader.shell(
            """
            avc pack ~/flickr --out ~/shards
            for network in ave l3 avol; do avc train $network data.shards=~/shards run.dir=runs/$network; done
            mkdir demo-world/runs && ln -s ~/shards demo-world/shards && cp -r runs/l3 demo-world/runs/l3
            """
        )
        yield reader
    finally:
        started.terminate()
        started.wait()


def write_world(home: Path) -> None:
    """40 rendered videos as a reader's own, and small data sets in their published forms made of them."""
    from workshop.demo.world.render import World, render

    render(home / "demo-world" / "world", World(clips=40, seed=5, seconds=2.6, kinds=3), workers=1)
    (home / "flickr").symlink_to(home / "demo-world" / "world" / "videos")
    (home / "configs").symlink_to(ROOT / "configs")
    (home / "videos.txt").write_text("".join(f"{video}\n" for video in sorted((home / "flickr").iterdir())))
    for split, numbers in (("validation", range(30, 38)), ("test", range(10, 18))):
        names = [f"clip-{number:05}" for number in numbers]
        names += [f"abcdefgh-{n:02}_{n:06}{end}" for n in range(1, SEGMENTS, 4) for end in ("", f"_{n + 10:06}")]
        (home / f"{split}-names.txt").write_text("\n".join(names if split == "validation" else names[:8]) + "\n")
    write_datasets(home)
    write_odds(home)


def write_odds(home: Path) -> None:
    """Labels by file name; a recording, and names of classes."""
    rows = map(json.loads, (home / "demo-world" / "world" / "labels.jsonl").read_text().splitlines())
    (home / "labels.csv").write_text("".join(f"{row['file']},{row['kind']}\n" for row in rows))
    soundfile.write(home / "rooster.ogg", np.random.default_rng(0).normal(0, 0.1, 3 * 44100), 44100)
    (home / "imagenet.txt").write_text("".join(f"class {number}\n" for number in range(1000)))


@pytest.mark.parametrize("block", RUN, ids=str)
def test_a_block_of_the_pages_runs(block: Block, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    if block.needs:
        pytest.skip(f"needs {block.needs}")
    if block.language == "sh":
        reader.shell(block.text)
    else:
        reader.python(block, monkeypatch)


def test_a_block_that_a_page_does_not_mark_is_run_and_may_fail(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\nfalse\n```\n\n<!-- needs: a cluster -->\n```sh\nsbatch\n```\n\n```text\nwords\n```\n")
    unmarked, marked, _ = blocks_of(page)
    assert (unmarked.needs, marked.needs) == ("", "a cluster")
    assert (unmarked.line, marked.line) == (1, 6)
    (tmp_path / "socket").touch()
    with pytest.raises(AssertionError, match="ended with 1"):
        Reader(tmp_path, tmp_path / "socket").shell(unmarked.text)


def test_every_block_says_what_it_is_written_in() -> None:
    assert {str(block) for block in BLOCKS if block.language not in ("sh", "python", "yaml", "text")} == set()
    hidden = [str(block) for block in BLOCKS if block.language == "text" and re.search(COMMANDS, block.text, re.M)]
    assert not hidden, f"commands that no test runs: {hidden}"
    for block in BLOCKS:
        if block.language == "yaml":
            yaml.safe_load(block.text)


def test_few_blocks_need_what_a_test_has_not() -> None:
    left_out = [f"{block} needs {block.needs}" for block in RUN if block.needs]
    print(f"{len(RUN) - len(left_out)} of {len(RUN)} blocks run; not: {'; '.join(left_out)}")
    assert len(left_out) <= len(RUN) / 3, left_out
