"""`avc eval kinds`, as a user calls it."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import avc


@pytest.fixture
def command(small_world, tmp_path) -> list[object]:
    settings = tmp_path / "small.yaml"
    settings.write_text("model: {name: l3, width: 0.0625}\ndata: {image_size: 28}\n")
    lines = (small_world.parent / "world" / "labels.jsonl").read_text().splitlines()
    halves = {kind: "noisy" if number % 2 else "quiet" for number, kind in enumerate(_kinds(lines))}
    labels = tmp_path / "labels.csv"
    labels.write_text("".join(f"{json.loads(line)['file']},{halves[json.loads(line)['kind']]}\n" for line in lines))
    return ["eval", "kinds", settings, "--shards", small_world, f"labels={labels}", f"cache={tmp_path / 'cache'}"]


def _kinds(lines: list[str]) -> list[str]:
    return sorted({json.loads(line)["kind"] for line in lines})


def test_sound_frames_and_both_have_a_row_and_a_panel(command, tmp_path) -> None:
    done = avc(*command, "strength=1e-3", f"tsne={tmp_path / 't.png'}", "--json", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    assert "16 clips; chance 50.0%" in done.stdout
    result = json.loads((tmp_path / "r.json").read_text())
    rows = result["rows"]
    assert all(row["interval_95"][0] < row["accuracy"] < row["interval_95"][1] for row in rows)
    assert [(each["units"], each["name"].rpartition(", ")[2]) for each in result["structure"]] == [
        (32, "sound"),
        (32, "frames of 28 pixels"),
    ]
    assert all(f"{each['nmi']:.3f}" in done.stdout for each in result["structure"])
    assert [row["name"].removeprefix("l3 untrained, width 0.0625, seed 0, ") for row in rows] == [
        "sound",
        "frames of 28 pixels",
        "both together",
    ]
    assert all(np.sum(row["result"]["confusion"]) == 16 and row["result"]["folds"][0]["fold"] == 0 for row in rows)
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_audiosets_identifiers_are_given_their_names(command, tmp_path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(labels.read_text().replace("noisy", "/m/1").replace("quiet", "/m/2"))
    nodes = [{"id": f"/m/{n}", "name": name, "child_ids": []} for n, name in ((1, "Speech"), (2, "Dog"))]
    (tmp_path / "ontology.json").write_text(json.dumps(nodes))
    options = ["strength=1e-3", "layer=embedding", "--json", tmp_path / "r.json"]
    done = avc(*command, *options, f"ontology={tmp_path / 'ontology.json'}")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "r.json").read_text())["classes"] == ["Dog", "Speech"]


def test_few_labelled_clips_are_drawn_ten_times_for_what_the_towers_end_in(command, tmp_path) -> None:
    done = avc(*command, "layer=embedding", "few=2", "--json", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    assert "16 clips; chance 50.0%" in done.stdout and "draw" in done.stdout
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert [row["name"].removeprefix("l3 untrained, width 0.0625, seed 0, ") for row in rows] == [
        "embedding, sound",
        "embedding, frames of 28 pixels",
        "both together",
    ]
    assert all([fold["strength"] for fold in row["result"]["folds"]] == [0.01] * 10 for row in rows)


def test_what_only_hears_stands_alone_or_beside_the_frames_of_a_network_that_sees(command, tmp_path) -> None:
    """SoundNet's multi-modal recognition: sound, vision, and both together."""
    (tmp_path / "soundnet.yaml").write_text("model: {name: soundnet5, width: 0.0625}\n")
    (tmp_path / "autoencoder.yaml").write_text("model: {name: autoencoder, width: 0.25}\n")

    def names(*models: Path) -> list[str]:
        done = avc("eval", "kinds", *models, *command[3:], "strength=1e-3", "--json", tmp_path / "r.json")
        assert done.returncode == 0, done.stderr
        return [row["name"] for row in json.loads((tmp_path / "r.json").read_text())["rows"]]

    soundnet = "soundnet5 untrained, width 0.0625, seed 0"
    assert names(tmp_path / "soundnet.yaml") == [f"{soundnet}, sound, conv4, 3 of 9 steps"]
    *of_pair, sound, together, coded, coded_together = names(
        command[2], tmp_path / "soundnet.yaml", tmp_path / "autoencoder.yaml"
    )
    assert len(of_pair) == 3 and sound == f"{soundnet}, sound, conv4, 3 of 9 steps"
    assert together == f"{soundnet} and frames of {of_pair[1]}, both together"
    assert coded.startswith("autoencoder untrained") and coded_together.endswith("both together")


def test_mistakes_are_answered_in_words(command) -> None:
    for more, words in (
        (["--split", "train"], "must be validation or test"),
        (["strength=0"], "`strength` is 0: Input should be greater than 0"),
        (["layer=conv4_2"], "choose from trunk, embedding"),
        (["few=400"], "12 training clips"),
    ):
        done = avc(*command, *more)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
