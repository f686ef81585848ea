"""The benchmarks run on real, small things and give figures that hang together. How fast is not a matter for tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from avc.config import parse_config
from avc.models import build
from shards.format import PackSettings
from shards.pack import pack as pack_videos
from workshop.bench import __main__, loader, pack, scale, step, synthetic
from workshop.bench.machine import describe
from workshop.bench.report import Report, ratio, rounds_of, write_json

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("model.width=0.0625", "data.image_size=32", "optim.micro_batch_pairs=4", "training.device=cpu")
STEP_NEEDS_NONE_OF = ("av", "librosa", "webdataset", "wandb", "submitit", "typer", "rich")


def videos_of(world: Path) -> Path:
    """The rendered videos that the shards were packed from."""
    return world.parent / "world" / "videos"


def positive(rounds: dict[str, Any]) -> bool:
    return 0 < rounds["low"] <= rounds["median"] <= rounds["high"] and len(rounds["rounds"]) > 0


def saved(path: Path, *, bench: str, result: Any) -> dict[str, Any]:
    """The result after its way through a file."""
    write_json(path, bench=bench, machine=describe(), result=result)
    content = json.loads(path.read_text())
    assert content["bench"] == bench
    assert {"cpu", "cores", "gpu", "python", "versions", "commit", "command", "date"} <= content["machine"].keys()
    assert content["machine"]["versions"]["torch"] == torch.__version__
    return content["result"]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_loader_is_measured_beside_bare_decoding(small_world, tmp_path, workers) -> None:
    result = loader.measure(small_world, workers=workers, seconds=0.2, image_size=56, rounds=2, pairs=64)
    content = saved(tmp_path / "loader.json", bench="loader", result=result)
    for name in ("loader", "bare", "share_of_bare", "cpu_share_of_bare"):
        assert positive(content[name]), name
    assert content["share_of_bare"]["rounds"][0] == pytest.approx(
        content["loader"]["rounds"][0] / content["bare"]["rounds"][0]
    )
    assert "limit" in loader.report(result).plain()


def test_flac_is_measured_against_decoding_flac(small_world, tmp_path) -> None:
    pack_videos([videos_of(small_world)], tmp_path / "flac", PackSettings(side=64, sound="flac"), workers=1)
    wav, flac = (
        loader.measure(folder, seconds=0.2, image_size=56, rounds=2, pairs=64)
        for folder in (small_world, tmp_path / "flac")
    )
    assert (wav.sound, flac.sound) == ("wav", "flac")
    assert flac.bare.high < wav.bare.high  # decoding FLAC is work, reading samples is none


def test_the_packer_is_measured_beside_decoding_alone(small_world, tmp_path) -> None:
    some = tmp_path / "videos"
    some.mkdir()
    for path in sorted(videos_of(small_world).iterdir())[:4]:
        shutil.copy(path, some)
    (some / "broken.mp4").write_bytes(b"not a video")
    told = []
    result = pack.measure(some, workers=1, rounds=1, progress=lambda *words: told.append(words))
    content = saved(tmp_path / "pack.json", bench="pack", result=result)
    assert (content["videos"], content["rejected"], content["video_seconds"]) == (4, 1, pytest.approx(8, abs=0.5))
    for name in ("packer", "decode", "packer_video_seconds", "decode_video_seconds"):
        assert positive(content[name]), name
    assert positive(content["cpu_share_of_decode"])
    assert content["share_of_decode"]["median"] == pytest.approx(
        content["packer"]["median"] / content["decode"]["median"]
    )
    assert all(0 < done <= total for done, total, _ in told)
    assert "1 inputs were rejected" in pack.report(result).plain()


def test_nothing_to_pack_is_said(tmp_path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"not a video")
    with pytest.raises(ValueError, match=r"nothing in .* can be packed"):
        pack.measure(tmp_path / "videos", workers=1, rounds=1)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch's threads wait for each other busily, which takes for ever where other tests run beside this one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_the_step_is_measured_beside_matrix_products(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(step.MATRIX_SIDE, "cpu", 256)
    result = step.measure(step.settings(None, SMALL), seconds=0.1, rounds=2)
    content = saved(tmp_path / "step.json", bench="step", result=result)
    assert len(content["speeds"]) == 12
    assert content["copied_bytes_per_second"] > 1e8
    for speed in content["speeds"]:
        if speed["way"]["mode"] == "compiled":
            assert speed["pairs"] is None
            assert "training.compile=true" in speed["skipped"]
            continue
        if speed["way"]["mode"] == "graphs":
            assert speed["pairs"] is None
            continue
        assert 10**6 < speed["bytes_per_pair"] < 10**9
        for name in ("pairs", "flop", "matrix_flop", "share"):
            assert positive(speed[name]), name
        assert speed["flop"]["median"] == pytest.approx(speed["pairs"]["median"] * content["flop_per_pair"])
        assert speed["peak_bytes"] > 10**6
    assert "not measured" in step.report(result).plain()


@pytest.mark.parametrize("name", ["ave", "l3"])
@pytest.mark.parametrize(("stride", "giga"), [(True, 10.6), (False, 41.5)])
def test_operations_are_counted_from_the_layers_shapes(name, stride, giga) -> None:
    config = parse_config({"model": {"name": name, "stride": stride}})
    per_pair = synthetic.flop_of(config, 4) / 4
    # Forward, and twice that backward; only the first layers have no gradient of their input.
    assert 2.8 * giga < per_pair / 1e9 < 3.0 * giga + 0.1


def test_shared_negatives_take_half_the_operations() -> None:
    shared = parse_config({"negatives": {"source": "shared"}})
    assert synthetic.flop_of(shared, 8) == pytest.approx(synthetic.flop_of(parse_config({}), 8) / 2, rel=0.01)


def test_the_step_needs_no_media_library_and_no_command_line_library() -> None:
    code = f"print([name for name in {STEP_NEEDS_NONE_OF} if name in sys.modules])"
    code = f"import sys, workshop.bench.__main__, workshop.bench.step; {code}"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert found.strip() == "[]"


def test_the_step_runs_as_a_module_where_these_libraries_are_missing(tmp_path) -> None:
    # A package of that name that fails on import stands for one that is not installed.
    for name in STEP_NEEDS_NONE_OF:
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "workshop.bench",
            "step",
            *SMALL,
            "--ways",
            "fp32",
            "--seconds",
            "0.1",
            "--json",
            str(tmp_path / "step.json"),
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "limit" in done.stdout
    assert json.loads((tmp_path / "step.json").read_text())["machine"]["command"].startswith("python -m workshop.bench")


def test_a_wrong_setting_ends_the_step_with_a_sentence() -> None:
    command = [sys.executable, "-m", "workshop.bench", "step", "model.wdith=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "model.width" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_network_that_learns_labels_is_refused_in_words() -> None:
    config = step.settings(None, ["model.name=supervised", "model.width=0.0625"])
    with pytest.raises(ValueError, match=r"needs labels or teachers"):
        step.measure(config)


def test_the_command_prints_and_writes_what_it_measured(small_world, tmp_path, capsys) -> None:
    path = tmp_path / "loader.json"
    __main__.main(["loader", str(small_world), "--seconds", "0.2", "--image-size", "56", "--json", str(path)])
    assert "limit: bare decoding" in capsys.readouterr().out
    assert json.loads(path.read_text())["result"]["pairs"] == loader.PAIRS


def test_training_is_measured_beside_the_step_alone_and_the_loader_alone(small_world, tmp_path, capsys) -> None:
    path = tmp_path / "train.json"
    arguments = ["train", "small", f"data.shards={small_world}", "data.image_size=28", "data.num_workers=1"]
    sizes = ["model.width=0.0625", "negatives.block=4", "optim.micro_batch_pairs=16", "optim.batch_pairs=16"]
    __main__.main([*arguments, *sizes, "--seconds", "0.5", "--json", str(path)])
    printed = capsys.readouterr().out
    assert "limit: the step alone" in printed and "limit: the loader alone" in printed
    result = json.loads(path.read_text())["result"]
    assert all(positive(result[name]) for name in ("line", "step", "loader", "share_of_step", "share_of_loader"))
    assert 0 <= result["waiting"]["median"] < 1


def test_ratios_are_taken_round_by_round() -> None:
    fast, slow = rounds_of([10, 40, 12], unit="pairs/s"), rounds_of([5, 10, 4], unit="pairs/s")
    assert ratio(fast, slow).rounds == (2, 4, 3)
    assert ratio(fast, slow).median == 3


def test_a_plain_report_has_its_columns_in_line() -> None:
    report = Report("title", ("", "rate"), [("short", "1"), ("rather long", "2")], ["a note"])
    assert report.plain().splitlines() == [
        "title",
        "",
        "             rate",
        "short        1",
        "rather long  2",
        "",
        "a note",
    ]


def test_more_machines_ask_a_store_for_more_and_a_machine_for_no_more(tmp_path) -> None:
    few, many = (
        scale.reckon(scale.Scale(gpus, 8, 1000.0, 16, 100.0, clips=2_000_000, window=25, visits=14)) for gpus in (8, 64)
    )
    for one, eight in zip(few.ways, many.ways, strict=True):
        assert (eight.network_gb, eight.cores) == (one.network_gb, one.cores)
        assert eight.requests == 8 * one.requests
    whole, parts = (next(way for way in many.ways if name in way.name) for name in ("data.cache", "partitions"))
    assert whole.disk_tb == 8 * parts.disk_tb
    assert few.gradients_ms == 0 < many.gradients_ms < many.step_ms
    assert "not needed" in scale.report(many).plain()
    content = saved(tmp_path / "scale.json", bench="scale", result=many)
    assert content["ways"][1]["requests"] == 64 * 1000 * 2


def test_gradients_of_a_network_that_says_so_are_as_large_as_the_reckoning_takes_them_for() -> None:
    for name in ("l3", "ave"):
        network = build(parse_config({"model": {"name": name}}).model)
        weights = sum(weight.numel() * 4 for weight in network.parameters()) / 1e6
        assert weights == pytest.approx(scale.GRADIENT_MB, rel=0.01)
