"""Names that somebody chose to do harm: of classes, labels, files and shards, in tables, pictures, pages and lists."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avc.data.labeled_sets import SOUNDS, labeled_folder
from avc.data.labels import read_labels
from avc.encoders.cache import file_identity
from launch.report.page import Part, write_page
from launch.report.results import show_packed
from shards.index import read_manifest
from shards.sources import list_sources
from tests.command_line import avc

MATHEMATICS = r"$\foo{$"  # matplotlib's parser refuses it
ESCAPE = "\x1b[2J\x1b]0;owned\x07"  # clears the screen and renames the window
NOT_UTF8 = os.fsdecode(b"caf\xe9")
NAMES = (MATHEMATICS, f"{ESCAPE}[red]", NOT_UTF8)


def test_an_evaluation_survives_the_names_of_its_classes(tmp_path) -> None:
    rng = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        (tmp_path / "sounds" / name).mkdir(parents=True)
        for file in range(8):
            wave = 0.3 * np.sin(2 * np.pi * 200 * 4**number * np.arange(22_050) / 22_050) + rng.normal(0, 0.01, 22_050)
            soundfile.write(os.fsencode(tmp_path / "sounds" / name / f"{file}.wav"), wave, 22_050)
    broken = tmp_path / "sounds" / MATHEMATICS / f"{ESCAPE}{NOT_UTF8}.wav"
    broken.write_bytes(b"RIFF")
    settings = tmp_path / "small.yaml"
    settings.write_text("model: {name: l3, width: 0.0625}\n")
    command = ["eval", "sound", settings, "dataset=folder", f"root={tmp_path / 'sounds'}", "strength=1"]
    command += [f"cache={tmp_path / 'cache'}", "--json", tmp_path / "r.json"]
    done = avc(*command)
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads((tmp_path / "r.json").read_bytes())["classes"]) == sorted(NAMES)
    assert "24 recordings; chance 33.3%" in done.stdout and "1 recordings cannot be read" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr and "\udce9" not in done.stdout


def test_labels_are_no_mathematics_in_any_picture(small_world, tmp_path) -> None:
    settings = tmp_path / "small.yaml"
    settings.write_text("model: {name: l3, width: 0.0625}\ndata: {image_size: 28}\n")
    rows = [json.loads(line) for line in (small_world.parent / "world" / "labels.jsonl").read_text().splitlines()]
    kinds = sorted({row["kind"] for row in rows})
    labels = tmp_path / "labels.jsonl"
    named = [{"file": row["file"], "kind": NAMES[kinds.index(row["kind"]) % 2]} for row in rows]
    labels.write_text("".join(json.dumps(row) + "\n" for row in named))
    command = ["eval", "kinds", settings, "--shards", small_world, f"labels={labels}", f"cache={tmp_path / 'cache'}"]
    command += ["strength=1e-3", "--json", tmp_path / "r.json"]
    done = avc(*command, f"tsne={tmp_path / 't.png'}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    assert "\x1b" not in done.stdout
    (tmp_path / "r.json").unlink()
    done = avc(*command, f"tsne={tmp_path / 'absent' / 't.png'}")
    assert done.returncode == 2 and "t.png cannot be written" in done.stderr
    assert not (tmp_path / "r.json").exists(), "it is refused before anything is measured"


def test_what_a_manifest_calls_things_does_not_reach_the_terminal(small_world, tmp_path, capsys) -> None:
    (tmp_path / "clips.npy").write_bytes(b"")
    content = json.loads((small_world / "manifest.json").read_bytes())
    content["rejected"][f"{ESCAPE}[/red]"] = 3
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    show_packed(tmp_path, read_manifest(tmp_path))
    shown = capsys.readouterr().out
    assert "[/red]" in shown and "\x1b" not in shown
    content["shards"][0]["name"] = f"{ESCAPE}{NOT_UTF8}.tar"
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    done = avc("verify", tmp_path, "--quick")
    assert done.returncode in (1, 2) and ".tar" in done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr and "\udce9" not in done.stdout + done.stderr


def test_names_that_are_not_utf8_are_printed_as_escapes() -> None:
    code = "from launch.user_errors import user_errors\nwith user_errors('avc'): print('caf\\udce9')"
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"caf\\udce9\n"), done.stderr


def test_a_page_and_a_data_set_take_names_that_are_not_utf8(tmp_path) -> None:
    write_page(tmp_path / "page.html", NOT_UTF8, [Part(text=ESCAPE)])
    assert b"<h1>caf\\udce9</h1>" in (tmp_path / "page.html").read_bytes()
    for kind in ("a", "b"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for number in range(5):
            (tmp_path / "set" / kind / f"{NOT_UTF8}{number}.wav").touch()
    assert len(labeled_folder(tmp_path / "set", SOUNDS).files) == 10
    assert file_identity(tmp_path / f"{NOT_UTF8}.wav").name == f"{NOT_UTF8}.wav"  # which cannot be opened


def test_a_path_with_a_nul_in_a_list_is_rejected_by_its_reason_and_the_others_stay(tmp_path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    (tmp_path / "videos.txt").write_bytes(b"a.mp4\nb\0.mp4\n")
    fine, wrong = list_sources([tmp_path / "videos.txt"])
    assert fine.problem == "" and wrong.problem == "the path holds a NUL, which no path does"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", 'a.mp4,cat\nb.mp4,"dog\nc.mp4,bird\n', "line 2: a quote opens there and is not closed"),
        ("a.csv", 'a.mp4,cat\nb.mp4,"dog"gy\n', "line 2: a quote opens there and is not closed, or more follows"),
        ("a.tsv", "a.mp4\tcat\nb\0.mp4\tdog\n", "line 2 holds a NUL"),
        (
            "a.jsonl",
            '{"file": "a.mp4", "kind": "cat"}\n{"file": "b\\u0000.mp4", "kind": "dog"}\n',
            "line 2 holds a NUL",
        ),
        ("a.csv", f"a.mp4,cat\n{'b' * 200_000}.mp4,dog\n", "line 2: "),
        ("a.jsonl", "[" * 100_000, "RecursionError"),
    ],
    ids=["quote", "more", "nul", "escaped nul", "field", "deep"],
)
def test_a_label_file_that_is_broken_is_told_with_its_line(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="rows of file name and label are wanted") as refusal:
        read_labels(tmp_path / name)
    assert words in str(refusal.value) and name in str(refusal.value)
    assert len(str(refusal.value)) < 500
