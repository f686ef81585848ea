"""Teachers that somebody else exported: whatever their file is, it ends in one paragraph, in 10 s and within 1 GB."""

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from avc.teachers.exported import ProgramError, noise, open_program
from avc.teachers.teacher import parse_source, try_teachers
from avc.teachers.trial import SECONDS
from tests.avc.test_exported import in_program, rewritten
from tests.teaching import TinyTeacher, export_teacher, long_clips

CPU = torch.device("cpu")


def run(path: Path) -> Tensor:
    program = open_program(path, CPU)
    return program(noise(program))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_teacher(tmp_path_factory.mktemp("teacher") / "teacher.pt2", TinyTeacher(5, seed=1))


def try_out(path: Path) -> None:
    try_teachers([parse_source(str(path))])


def processor_seconds() -> float:
    """Of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class WritesOutOfBounds(nn.Module):
    """Adds gradients at the places that it is given, of which none lies in the picture."""

    def forward(self, x: Tensor) -> Tensor:
        pooled, places = torch.ops.aten.max_pool2d_with_indices(x, [2, 2])
        far = torch.ops.aten.max_pool2d_with_indices_backward(
            pooled, x, [2, 2], [2, 2], [0, 0], [1, 1], False, places + 2**40
        )
        return far.mean(dim=(2, 3))


class ReadsOutOfBounds(nn.Module):
    """Normalizes 4096 channels by the statistics of one."""

    def forward(self, x: Tensor) -> Tensor:
        one = torch.ones(1)
        many = x.mean(dim=1, keepdim=True).expand(-1, 4096, -1, -1)
        out = torch.ops.aten._native_batch_norm_legit_no_training(many, one, one, one, one, 0.1, 1e-5)
        return out[0].mean(dim=(2, 3))  # type: ignore[no-any-return]


class TakesMemory(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.new_ones(x.shape[0], 40_000, 40_000).mean(dim=2)[:, :5] + x.mean()


class TakesTime(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        many = x.new_ones(6000, 6000)
        for _ in range(40):
            many = many @ many
        return many[:5, 0].expand(x.shape[0], 5) + x.mean()


@pytest.mark.parametrize(
    ("model", "operator"),
    [
        (WritesOutOfBounds(), "max_pool2d_with_indices"),
        (ReadsOutOfBounds(), "_native_batch_norm_legit_no_training"),
    ],
    ids=["writing", "reading"],
)
def test_an_operator_that_trusts_its_caller_is_refused_by_name(model, operator, tmp_path) -> None:
    path = export_teacher(tmp_path / "teacher.pt2", model)
    with pytest.raises(ProgramError, match=rf"is refused: it calls 'torch\.ops\.aten\.{operator}"):
        open_program(path, CPU)


@pytest.mark.parametrize("model", [TakesMemory(), TakesTime()], ids=["memory", "time"])
def test_a_program_without_measure_ends_its_own_process_alone(model, tmp_path) -> None:
    path = export_teacher(tmp_path / "teacher.pt2", model)
    open_program(path, CPU)  # nothing about it is forbidden
    before = processor_seconds()
    with pytest.raises(ProgramError, match=r"is refused: (it fails on 2 images .*memory|tried on two images, it)"):
        try_out(path)
    assert processor_seconds() - before < SECONDS + 25, "what it may take, and what starting torch does"


def test_a_program_that_crashes_is_refused_by_how_it_did(tmp_path) -> None:
    path = export_teacher(tmp_path / "teacher.pt2", TinyTeacher(5, seed=9))
    with ThreadPoolExecutor(1) as thread:
        trial = thread.submit(try_out, path)
        while not (children := multiprocessing.active_children()):
            assert not trial.done(), "no process was started for it"
        os.kill(int(children[0].pid or 0), signal.SIGSEGV)  # as a write beyond a tensor's end does
        with pytest.raises(ProgramError, match=r"teacher\.pt2 is refused: tried on two images, it crashes \(SIGSEGV\)"):
            trial.result()


def test_members_that_share_their_bytes_are_refused_before_they_are_read(tmp_path) -> None:
    path = tmp_path / "overlapping.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("t/models/model.json", b"{}")
        archive.writestr("t/data/weights/weight_0", bytes(1_000_000))
        first = archive.getinfo("t/data/weights/weight_0")
        for number in range(1, 3000):
            info = zipfile.ZipInfo(f"t/data/weights/weight_{number}")
            info.header_offset, info.CRC = first.header_offset, first.CRC
            info.file_size = info.compress_size = 1_000_000
            archive.filelist.append(info)
            archive.NameToInfo[info.filename] = info
    assert path.stat().st_size < 2_000_000
    with pytest.raises(ProgramError, match="lies over another part of the archive"):
        open_program(path, CPU)


def deep(name: str, data: bytes) -> bytes:
    return b"[" * 100_000 + b"]" * 100_000 if name == "models/model.json" else data


def emptied(name: str, data: bytes) -> bytes:
    return b"{}" if name.endswith(".json") else data


def without_weights(name: str, data: bytes) -> bytes:
    return bytes(8) if name.startswith("data/weights/weight_") else data


def a_list(name: str, data: bytes) -> bytes:
    return b"[[]]" if name == "models/model.json" else data


def no_nesting(name: str, data: bytes) -> bytes:
    if name != "models/model.json":
        return data
    program = json.loads(data)
    for entry in program["graph_module"]["module_call_graph"]:
        entry["signature"] = {"inputs": [], "outputs": [], "in_spec": "[]", "out_spec": "[]", "forward_arg_names": None}
    return json.dumps(program).encode()


def another_size(name: str, data: bytes) -> bytes:
    """Weights of the last layer that do not fit the one before."""
    if name != "data/weights/model_weights_config.json":
        return data
    content = json.loads(data)
    content["config"]["fc.weight"]["tensor_meta"]["sizes"] = [{"as_int": 5}, {"as_int": 7}]
    content["config"]["fc.weight"]["tensor_meta"]["strides"] = [{"as_int": 7}, {"as_int": 1}]
    return json.dumps(content).encode()


def beyond_the_weights(name: str, data: bytes) -> bytes:
    if name != "data/weights/model_weights_config.json":
        return data
    content = json.loads(data)
    content["config"]["fc.weight"]["tensor_meta"]["storage_offset"] = {"as_int": 10**9}
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "change",
    [
        deep,
        emptied,
        without_weights,
        a_list,
        no_nesting,
        another_size,
        beyond_the_weights,
        in_program('"as_int": 32', '"as_int": 1' + "0" * 30),
        in_program('"torch.ops.aten.relu.default"', '"torch.ops.aten.conv2d.default"'),
        in_program('"torch.ops.aten.relu.default"', '"torch.ops.aten.max.dim"'),
    ],
    ids=lambda change: getattr(change, "__qualname__", ""),
)
def test_a_program_that_is_none_ends_in_one_sentence(teacher, change: Callable[[str, bytes], bytes], tmp_path) -> None:
    path = rewritten(teacher, tmp_path / "changed.pt2", change)
    with pytest.raises(ProgramError):
        run(path)


@pytest.mark.parametrize("at", ["compression", "encryption"])
def test_an_archive_that_zipfile_does_not_read_ends_in_one_sentence(teacher, at, tmp_path) -> None:
    data = bytearray(teacher.read_bytes())
    place = data.index(b"PK\x01\x02")
    while place >= 0:
        data[place + (10 if at == "compression" else 8)] = 98 if at == "compression" else 1
        place = data.find(b"PK\x01\x02", place + 4)
    (tmp_path / "strange.pt2").write_bytes(data)
    with pytest.raises(ProgramError, match=r"strange\.pt2 is "):
        open_program(tmp_path / "strange.pt2", CPU)


def test_what_is_no_file_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "teacher.pt2")
    with pytest.raises(ValueError, match="is a named pipe"):
        try_out(tmp_path / "teacher.pt2")
    with pytest.raises(ValueError, match="cannot be read"):
        try_out(tmp_path / "absent.pt2")


def test_avc_teach_refuses_in_one_paragraph(tmp_path) -> None:
    shards = long_clips(tmp_path / "packed", seconds=(1.2, 1.4))
    path = export_teacher(tmp_path / "teacher.pt2", WritesOutOfBounds())
    command = [sys.executable, "-m", "launch.cli", "teach", str(shards), "--teacher", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert done.stderr.startswith("avc teach: ") and done.stderr.count("\n") == 1, done.stderr
    assert "max_pool2d_with_indices" in done.stderr
    assert not (shards / "teachers").exists()


class Attention(nn.Module):
    """A block as transformers and modern convolutional networks have it: what of those `TinyTeacher` lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.Hardswish(inplace=True))
        self.depth = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid())
        self.norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.dense, self.pool, self.drop = nn.Conv2d(16, 8, 1), nn.MaxPool2d(2), nn.Dropout(0.2)
        self.head = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.SiLU(), nn.ReLU6(), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.pool(self.dense(torch.cat([x, self.depth(x) * self.gate(x)], dim=1)))
        x = torch.roll(nn.functional.pad(x, (0, 1, 0, 1)), (-1, -1), dims=(2, 3))[:, :, :-1, :-1]
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        tokens = self.norm(tokens)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(self.drop(tokens[:, 0] + tokens.mean(dim=1)))  # type: ignore[no-any-return]


def test_the_parts_of_current_networks_pass_all_checks(tmp_path) -> None:
    torch.manual_seed(0)
    model = Attention().eval()
    program = torch.export.export(model, (torch.zeros(2, 3, 32, 32),), dynamic_shapes={"x": {0: Dim("batch")}})
    torch.export.save(program, tmp_path / "teacher.pt2")
    try_out(tmp_path / "teacher.pt2")
    opened = open_program(tmp_path / "teacher.pt2", CPU)
    with torch.no_grad():
        torch.testing.assert_close(opened(noise(opened)), model(noise(opened)))
