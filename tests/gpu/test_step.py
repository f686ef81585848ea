"""The training step on a GPU: its memory layout, its numbers, no wait for the device, and one compiled graph."""

import copy
import traceback
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from avc.config import load_config
from avc.distributed.join import set_numerics
from avc.models import build, to_channels_last
from avc.models.trunks.means import Means
from avc.settings import PairConfig, TrainingSettings
from tests.avc.launching import train_here, write_config
from workshop.bench.synthetic import synthetic, task_on_noise

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DEVICE = "cuda"
NEVER = {"validation": {"every_steps": 0}, "checkpoint": {"every_steps": 1000}, "log": {"every_steps": 1000}}


def config_of(name: str, *overrides: str) -> PairConfig:
    config = load_config(CONFIGS / f"{name}.yaml", overrides)
    assert isinstance(config, PairConfig)
    return config


def network_of(config: PairConfig) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = build(config.model).to(DEVICE)
    to_channels_last(network)
    return network.train()


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a place lie next to each other, and rows and columns in order."""
    _, channels, height, width = x.shape
    next_to_each_other = channels == 1 or x.stride(1) == 1
    return height * width == 1 or (next_to_each_other and x.stride()[2:] == (width * channels, channels))


@pytest.mark.parametrize("name", ["l3", "ave", "avol"])
def test_weights_gradients_and_activations_all_have_their_channels_last(name) -> None:
    config = config_of(name)
    network, batch = network_of(config), synthetic(config, 16, DEVICE)
    wrong: list[str] = []

    def look(layer: str, *values: object) -> None:
        for x in values:
            if isinstance(x, Tensor) and x.dim() == 4 and not is_channels_last(x):
                wrong.append(f"{layer}: {tuple(x.shape)} {x.stride()}")

    for layer, module in network.named_modules():
        if isinstance(module, Means):  # which lays a spectrogram out
            module.register_forward_hook(lambda module, inputs, output, layer=layer: look(layer, output))
        elif not list(module.children()):
            module.register_forward_hook(lambda _, inputs, output, layer=layer: look(layer, *inputs, output))
    task_on_noise(config).loss(network, batch).total.backward()
    for layer, parameter in network.named_parameters():
        look(layer, parameter)
        look(f"gradient of {layer}", parameter.grad)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["l3", "ave", "avol"])
def test_in_fp32_a_gpu_computes_the_gradients_of_the_cpu(name) -> None:
    config = config_of(name, "training.precision=fp32", "model.width=0.25")
    set_numerics(TrainingSettings(deterministic=True))
    network = network_of(config)
    on_cpu = copy.deepcopy(network).cpu()
    losses = [
        task_on_noise(config).loss(one, synthetic(config, 16, device)).total
        for one, device in ((network, DEVICE), (on_cpu, "cpu"))
    ]
    for loss in losses:
        loss.backward()
    assert abs(losses[0].item() / losses[1].item() - 1) < 1e-3
    # Of all gradients: those of a bias before a batch norm are zero but for rounding.
    whole = torch.nn.utils.get_total_norm([one.grad for one in on_cpu.parameters() if one.grad is not None])
    for (layer, gpu), cpu in zip(network.named_parameters(), on_cpu.parameters(), strict=True):
        assert gpu.grad is not None and cpu.grad is not None, layer
        error = (gpu.grad.cpu() - cpu.grad).norm() / whole
        assert error < 1e-3, f"{layer}: {error:.2e}"


def waits(config: Path, run: Path, steps: int) -> Counter[str]:
    """The lines of the project at which a training of so many steps waits for the device, and how often."""
    found: Counter[str] = Counter()

    def note(message: Warning | str, *_: object, **__: object) -> None:
        if "synchronizing CUDA operation" in str(message):
            avc = str(CONFIGS.parent / "avc")
            lines = [f"{call.filename}:{call.lineno}" for call in traceback.extract_stack()]
            found[next((line.removeprefix(avc) for line in reversed(lines) if line.startswith(avc)), "elsewhere")] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            train_here(config, run, f"training.device={DEVICE}", f"training.steps={steps}")
            torch.zeros(1, device=DEVICE).item()  # which must be seen
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return found


def test_a_step_never_waits_for_the_device(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, **NEVER)
    few, many = (waits(config, tmp_path / str(steps), steps) for steps in (5, 25))
    print("waits of a whole training by line:", dict(many))
    assert many["elsewhere"] == 1
    assert many.total() - few.total() <= 20
    assert all(count - few[line] < 20 for line, count in many.items())


def test_forward_and_backward_do_not_wait_for_the_device() -> None:
    config = config_of("ave_fast", "model.width=0.25")
    network, batch = network_of(config), synthetic(config, 32, DEVICE)
    task_on_noise(config).loss(network, batch).total.backward()  # what is made once may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            task_on_noise(config).loss(network, batch).total.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_training_is_compiled_once_in_one_graph(small_world, tmp_path) -> None:
    optim = {"batch_pairs": 32, "micro_batch_pairs": 32}
    config = write_config(tmp_path, small_world, **NEVER, optim=optim)
    counters = torch._dynamo.utils.counters
    counters.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        train_here(config, tmp_path / "run", f"training.device={DEVICE}", "training.compile=true")
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"], dict(counters["graph_break"])
