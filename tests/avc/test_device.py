"""Which device a rank takes, and how exact its arithmetic is; CUDA is pretended, as flags and counts need none."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.torch_version import TorchVersion

from avc.distributed.join import refuse_wrong_numbers, set_numerics, take_device
from avc.models import build
from avc.settings import PairModel, TrainingSettings
from tests.avc.launching import train_here, write_config


@pytest.fixture
def gpus(monkeypatch) -> Iterator[list[torch.device]]:
    """Pretends that torch sees four GPUs; the devices that were made current. Flags are put back."""
    taken: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delitem(os.environ, "CUBLAS_WORKSPACE_CONFIG")
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, torch.get_float32_matmul_precision()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    yield taken
    cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = before[:3]
    torch.set_float32_matmul_precision(before[3])
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def test_each_rank_of_a_node_takes_its_own_gpu_and_one_too_many_is_refused(gpus) -> None:
    assert take_device(TrainingSettings(), local_rank=3) == torch.device("cuda", 3)
    assert gpus == [torch.device("cuda", 3)]
    with pytest.raises(ValueError, match="local rank 4 has no GPU: there are 4 on this node"):
        take_device(TrainingSettings(), local_rank=4)


def test_a_rank_that_sees_only_the_gpu_bound_to_it_takes_that(gpus, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert take_device(TrainingSettings(), local_rank=3) == torch.device("cuda", 0)


def test_the_cpu_is_taken_where_it_is_asked_for_or_there_is_no_gpu(gpus, monkeypatch) -> None:
    assert take_device(TrainingSettings(device="cpu"), local_rank=1) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert take_device(TrainingSettings(), local_rank=1) == torch.device("cpu")
    with pytest.raises(ValueError, match="torch sees no CUDA device here"):
        take_device(TrainingSettings(device="cuda"), local_rank=0)
    assert gpus == []


@pytest.mark.parametrize("exact", [True, False])
def test_kernels_are_deterministic_and_without_tf32_or_else_the_fastest(gpus, exact) -> None:
    set_numerics(TrainingSettings(deterministic=exact))
    cudnn = torch.backends.cudnn
    assert (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32) == (exact, not exact, not exact)
    assert torch.get_float32_matmul_precision() == ("highest" if exact else "high")
    assert torch.are_deterministic_algorithms_enabled() == exact
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if exact else None)


@pytest.mark.parametrize(
    ("network", "precision", "cudnn", "version", "wrong"),
    [
        ("ave_mf", "bf16", 91002, "2.8.0+cu128", True),
        ("ave_mf", "bf16", 90800, "2.7.1", True),
        ("ave_mf", "bf16", 90701, "2.8.0", False),
        ("ave_mf", "bf16", 91300, "2.8.0", False),
        ("ave_mf", "bf16", 91002, "2.13.0", False),
        ("ave_mf", "fp32", 91002, "2.8.0", False),
        ("ave_mf", "bf16", None, "2.8.0", False),
        ("ave", "bf16", 91002, "2.8.0", False),
    ],
)
def test_a_training_whose_convolutions_cudnn_would_compute_wrongly_is_refused(
    network, precision, cudnn, version, wrong, monkeypatch
) -> None:
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    model = build(PairModel(name=network, width=0.0625))
    settings = TrainingSettings(precision=precision)
    if not wrong:
        refuse_wrong_numbers(model, settings, cudnn=cudnn)
        return
    with pytest.raises(ValueError, match=r"bf16, in which cuDNN 9\.\d+ under torch .* install torch 2\.10 or newer"):
        refuse_wrong_numbers(model, settings, cudnn=cudnn)


def test_a_training_in_bf16_on_a_processor_without_instructions_for_it_says_what_to_take(small_world, tmp_path) -> None:
    processor = Path("/proc/cpuinfo")
    if not processor.exists():
        pytest.skip("there is no /proc/cpuinfo, which names the processor's instructions")
    config = write_config(tmp_path, small_world, training={"steps": 1})
    for precision, slow in (("fp32", False), ("bf16", "bf16" not in processor.read_text())):
        printed = train_here(config, tmp_path / precision, f"training.precision={precision}")
        assert ("take training.precision=fp32" in printed) == slow, printed
