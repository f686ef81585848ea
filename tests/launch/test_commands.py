"""`avc train` and `avc eval`, as a user calls them."""

import json
import re

import pytest

from tests.avc.launching import write_config
from tests.command_line import avc


@pytest.fixture(scope="module")
def trained(small_world, tmp_path_factory):
    """The folder of a run of two steps, trained by the command."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder, small_world, training={"steps": 2}, validation={"every_steps": 0})
    done = avc("train", config, f"run.dir={folder / 'run'}", "model.name=l3")
    assert done.returncode == 0, done.stderr
    assert "step 2/2" in done.stdout and f"{folder / 'run'}: attempt 1" in done.stdout.splitlines()[0]
    return folder / "run"


def test_eval_measures_a_run_and_writes_the_result_for_machines(trained, tmp_path) -> None:
    done = avc("eval", "correspondence", trained, "passes=2", "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["pairs"] == 2 * 2 * 16
    assert result["accuracy"] == pytest.approx((result["positives_accuracy"] + result["negatives_accuracy"]) / 2)
    assert result["interval_95"][0] < result["accuracy"] < result["interval_95"][1]
    assert f"{result['accuracy']:.1%}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["eval", "correspondence", "/nowhere"], "there is no run at /nowhere"),
        (["train", "/nowhere.yaml"], "there is no configuration file"),
        (["train", "CONFIG", "optim.learningrate=1"], "did you mean `optim.lr_decay`|there is no setting"),
        (["train", "CONFIG", "data.shards=/nowhere"], "there is no folder /nowhere"),
        (["train", "SHARDS"], "is a folder, and a YAML file of settings comes first: avc train ave data.shards=SHARDS"),
        (["train", "RUN"], "RUN is a run: avc train RUN/config.yaml run.dir=RUN goes on with it"),
        (["train", "CONFIG", "shards=SHARDS"], "is not of the form section.name=value, as in data.shards=SHARDS"),
        (["train", "CONFIG", "data.shards=/proc"], "/proc has no manifest.json.*`avc pack VIDEOS --out FOLDER`"),
        (["train", "small"], "data.shards is not given: data.shards=FOLDER"),
        (["train", "CONFIG", "optim.batch_pairs=30"], "cannot be divided"),
        (["train", "CONFIG", "training.device=cuda"], "no CUDA device"),
        (["train", "CONFIG", "run.dir=FILE/run"], "run.dir is FILE/run, and FILE is a file"),
        (["train", "CONFIG", "model.name=avee"], "there is no network 'avee' .* did you mean `ave`"),
        (["train", "CONFIG", "model.name=AVE-Net"], "there is no network 'AVE-Net' .* did you mean `ave`"),
        (["train", "CONFIG", "run.dir=s3://b/run"], "`run.dir` is 's3://b/run': a run is written to a folder"),
        (["train", "CONFIG", "--optim.lr=1"], "`--optim.lr=1` is not of the form section.name=value, as in optim.lr=1"),
        (["train", "CONFIG", "--steps", "3"], "`--steps` is not of the form .* as in training.steps=VALUE"),
        (["train", "CONFIG", "training.steps=ten"], "avc train: on the command line: `training.steps` is 'ten'"),
        (["pack", "FILE", "--out", "s3://b/x"], "--out: s3://b/x is in a store.* give a folder"),
        (["pack", "HERE", "--out", "HERE"], "HERE is what is to be packed, and where to: give another --out"),
        (["copy", "SHARDS", "http://127.0.0.1:9/x"], "over http a store is only read"),
        (["embed", "FILE", "--run", "RUN", "--out", "SHARDS"], "SHARDS holds packed videos: give another folder"),
        (["explore", "RUN", "--out", "SHARDS"], "SHARDS holds packed videos: give another folder"),
        (["export", "mfcc", "--out", "x"], "MFCC comes from a program, which a folder of weights would not hold"),
        (["export", "RUN", "--out", "SHARDS"], "SHARDS holds packed videos: give another folder"),
        (["embed", "FILE", "--run", "RUN", "--out", "a.csv"], "embeddings go to a folder or to a .parquet"),
        (["embed", "FILE", "--run", "own.py"], "own.py is a program: name what in it .*, as in own.py:encoder"),
        (["settings", "few"], "few is a file of settings, of the network ave_nce: `avc settings ave_nce`"),
        (["settings", "soundnet"], "there is no network 'soundnet' .*; did you mean `soundnet[58]`"),
        (["eval", "correspondence", "RUN", "--json", "/proc/a.json"], "--json: /proc/a.json cannot be written"),
        (["eval", "correspondence", "RUN", "--json", "/nowhere/a"], "--json: /nowhere/a cannot be written: No such"),
        (["eval", "units", "RUN", "out=FILE"], "out: FILE cannot be written: FILE is a file, and a folder is needed"),
        (["explore", "RUN", "--out", "FILE/page"], "--out: FILE/page cannot be written: FILE is a file"),
        (["audit", "set", "nowhere", "--out", "FILE"], "--out: FILE cannot be written: FILE is a file"),
        (["export", "RUN", "--out", "FILE"], "--out: FILE cannot be written: FILE is a file"),
        (["export", "RUN", "--onnx", "RUN"], "--onnx: .* cannot be written: it is a folder, and a file is to be"),
        (["embed", "FILE", "--run", "RUN", "--out", "FILE"], "--out: FILE cannot be written: FILE is a file"),
        (["eval", "correspondence", "RUN", "--split", "test"], "0 clips in its test split"),
        (["eval", "correspondence", "RUN", "--split", "dev"], "the splits are train, validation, test"),
    ],
)
def test_a_users_mistake_ends_in_one_paragraph_and_status_2(trained, small_world, tmp_path, arguments, words) -> None:
    config = write_config(tmp_path, small_world)
    names = {"CONFIG": str(config), "RUN": str(trained), "FILE": str(tmp_path / "file"), "SHARDS": str(small_world)}
    names["HERE"] = str(tmp_path)
    (tmp_path / "file").write_text("as it was")
    for name, path in names.items():
        arguments, words = [word.replace(name, path) for word in arguments], words.replace(name, path)
    done = avc(*arguments)
    assert done.returncode == 2
    assert (tmp_path / "file").read_text() == "as it was"
    assert "Traceback" not in done.stderr
    message = done.stderr.strip()
    assert message
    assert "\n\n" not in message
    assert re.search(words, message), message


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("demo --clips 40", "it is `python -m workshop.demo` in a checkout, or `make demo` now"),
        ("submit-pack a --out b", "it is `avc pack INPUTS --out FOLDER --cluster FILE --tasks N` now"),
        ("visualize runs/l3", "it is `avc eval units SOURCE` now"),
        ("eval categories s8 a.ogg", "it is part of sound now: avc eval sound SOURCE recordings=FILE..."),
    ],
)
def test_a_former_name_says_what_to_call_now(former: str, now: str) -> None:
    done = avc(*former.split())
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.endswith(now)
