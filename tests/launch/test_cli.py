"""The `avc` command as a user meets it."""

from __future__ import annotations

import inspect
import io
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from rich.console import Console

from launch import cli
from launch.commands import pack as packing
from launch.progress import printable, progress
from shards.format import PackSettings
from tests.small_videos import render_folder, render_video

HEAVY = ("torch", "numpy", "av", "webdataset", "wandb")


def avc(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = render_folder(tmp_path_factory.mktemp("videos"), videos=3)
    render_video(folder / "mute.mp4", seed=9, sound=False)
    return folder


@pytest.fixture(scope="module")
def packed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "out"
    assert avc("pack", videos, "--out", folder, "--side", 32).returncode == 0
    return folder


@pytest.mark.parametrize("arguments", [["--help"], ["pack", "--help"], ["verify", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from launch.cli import main\n"
        f"sys.argv = ['avc', *{arguments!r}]\n"
        "try: main()\n"
        f"finally: print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert done.stdout


def test_every_command_that_wants_arguments_shows_an_example() -> None:
    shown = [command for command in cli.app.registered_commands if not command.hidden]  # others name their new form
    assert len(shown) > 10
    for command in shown:
        assert command.callback is not None
        name = command.name or command.callback.__name__.replace("_", "-")
        done = avc(name, "--help")
        assert done.returncode == 0
        if "Arguments" in done.stdout:
            assert f"  avc {name} " in done.stdout


def test_packs_options_begin_as_the_settings_do() -> None:
    parameters = inspect.signature(packing.pack).parameters
    for field in fields(PackSettings):
        if field.name == "version":  # a packing's own, and not asked for
            continue
        default = parameters[{"start_seconds": "start"}.get(field.name, field.name)].default
        assert (packing.parse_shares(default) if field.name == "split" else default) == field.default


def test_pack_ends_with_a_table_of_counts(packed: Path, videos: Path) -> None:
    again = avc("pack", videos, "--out", packed, "--side", 32)
    assert again.returncode == 0
    words = " ".join(again.stdout.split())
    assert "rejected │ no audio stream │ 1" in words
    assert f"{packed}: 3 records in" in again.stdout
    assert "4 videos done by an earlier run, 0 by this one" in again.stdout
    assert f"{packed}/rejected.tsv lists the 1 that were rejected" in again.stdout


def test_progress_is_plain_lines_where_there_is_no_terminal(videos: Path, tmp_path: Path) -> None:
    done = avc("pack", videos, "--out", tmp_path / "out", "--side", 32)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("packing: 4 of 4 videos, ")
    assert " videos/s, " in last
    assert "\x1b" not in done.stderr + done.stdout


def test_pack_of_nothing_usable_ends_with_status_1(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    render_video(tmp_path / "in" / "mute.mp4", seed=9, sound=False)
    done = avc("pack", tmp_path / "in", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "no audio stream" in done.stdout


def test_verify_says_that_all_is_well_and_names_what_is_not(packed: Path, tmp_path: Path) -> None:
    good = avc("verify", packed)
    assert (good.returncode, good.stdout.splitlines()[-1]) == (0, "all is as it was packed")
    assert "3 records" in good.stdout
    copy = shutil.copytree(packed, tmp_path / "copy")
    shard = min(copy.glob("*.tar"))
    data = bytearray(shard.read_bytes())
    key = data[: data.index(b".")].decode()
    data[600] ^= 1
    shard.write_bytes(data)
    bad = avc("verify", copy)
    assert bad.returncode == 1
    assert f"{shard.name}: {key}.json altered: " in bad.stdout
    assert avc("verify", copy, "--quick").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "{tmp}/nowhere"], "avc verify: there is no folder {tmp}/nowhere"),
        (["verify", "{tmp}"], "avc verify: {tmp} has no manifest.json"),
        (["pack", "{tmp}/nowhere", "--out", "{tmp}/o"], "avc pack: {tmp}/nowhere does not exist"),
        (["pack", "{videos}", "--out", "{tmp}/o", "--sound", "mp3"], "avc pack: the setting sound is 'mp3'"),
        (["pack", "{videos}", "--out", "{tmp}/o", "--split", "1,2"], "avc pack: --split is '1,2'"),
        (["pack", "{videos}", "--out", "{tmp}/o", "--split", "0.5,0.4,0.2"], "avc pack: the setting split"),
        (["pack", "{videos}", "--out", "{tmp}/o", "--split-list", "x.txt"], "avc pack: --split-list is 'x.txt'"),
        (
            ["pack", "{videos}", "--out", "{tmp}/o", "--split-list", "test={tmp}/x"],
            "avc pack: {tmp}/x cannot be read: No such file",
        ),
        (["pack", "{videos}", "--out", "/proc/none"], "avc pack: --out: /proc/none"),
        (["pack", "{videos}", "--out", "{tmp}/o", "--workers", "0"], "avc pack: workers must be at least 1"),
        (["pack", "{videos}"], "Missing option '--out'"),
        (["pack", "{videos}", "--out", "{tmp}/o", "--side", "tall"], "Invalid value for '--side'"),
        (["pack", "{videos}", "--ouT", "{tmp}/o"], "No such option: --ouT"),
        (["pak"], "Did you mean 'pack'?"),
    ],
)
def test_a_users_mistake_is_a_paragraph_and_status_2(
    videos: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = avc(*(argument.format(tmp=tmp_path, videos=videos) for argument in arguments))
    assert done.returncode == 2
    assert done.stdout == ""
    assert message.format(tmp=tmp_path) in done.stderr
    assert "Traceback" not in done.stderr
    if message.startswith("avc"):
        assert len(done.stderr.splitlines()) == 1


def test_an_error_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    done = avc("verify", tmp_path / "red\x1b[31m\nline")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_terminal_gets_a_bar_with_rate_and_time_left() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with progress("packing", unit="videos", console=console) as report:
        for done in range(1, 5):
            report(done, 4, f"name-{done}[bold]")
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "4/4" in shown
    assert "videos/s" in shown
    assert "name-4[bold]" in shown


def test_names_are_made_printable() -> None:
    assert printable("a\x1b[2Jb\n\udcffé") == "a\ufffd[2Jb\ufffd\ufffdé"


def test_the_console_command_is_installed() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "avc", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("avc ")
