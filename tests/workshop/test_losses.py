"""The comparison of two versions sees a change of a training's last digits, and nothing where there is none."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workshop.losses import ROOT, compare, parting


def test_a_change_of_one_constant_is_found_and_the_same_code_is_equal(tmp_path: Path, capsys) -> None:
    changed = tmp_path / "changed"
    for folder in ("avc", "launch", "shards", "configs"):
        shutil.copytree(ROOT / folder, changed / folder, ignore=shutil.ignore_patterns("__pycache__"))
    optimizer = changed / "avc" / "training" / "optimizer.py"
    text = optimizer.read_text()
    assert "fused=True" in text
    optimizer.write_text(text.replace("fused=True", "fused=True, eps=1.1e-8"))
    (tmp_path / "one").mkdir()
    assert compare((ROOT, ROOT), tmp_path / "one", ["small"], steps=2)
    assert "small                equal: loss " in capsys.readouterr().out
    (tmp_path / "two").mkdir()
    assert not compare((ROOT, changed), tmp_path / "two", ["small"], steps=2)
    assert "small                PARTS at step 2, train loss: " in capsys.readouterr().out


@pytest.mark.parametrize("words", [["no-such-commit"], [".", "--configs", "nosuch"]])
def test_what_there_is_not_is_named_in_a_paragraph_with_status_2(words: list[str]) -> None:
    command = [sys.executable, "-m", "workshop.losses", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert words[-1] in done.stderr


def test_a_number_that_one_version_lacks_and_a_missing_line_are_differences() -> None:
    line = {"kind": "train", "step": 1, "loss": 0.5}
    assert parting([line], [line]) == ""
    assert parting([line], [line | {"accuracy": 1.0}]) == "step 1, train accuracy: None and 1.0"
    assert parting([line, line], [line]) == "2 and 1 lines of metrics"
