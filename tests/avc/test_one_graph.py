"""What the GPU's speed hangs on, without one: one graph, no compilation after the second step, channels last."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from avc.config import parse_config
from avc.data.preprocessing import audio_to_input, images_to_input
from avc.distributed.compiled import compile_network
from avc.models import to_channels_last
from avc.models.pair import global_max_pool
from avc.models.trunks import build_trunk
from avc.networks import NETWORKS
from avc.settings import PairConfig
from avc.tasks import task_of
from avc.training.loop import TrainingStep
from shards.format import PackSettings
from shards.pack import pack
from shards.read import Shards
from tests.small_videos import render_folder
from workshop.bench.synthetic import synthetic

PAIR_NETWORKS = [name for name, row in NETWORKS.items() if issubclass(row.config, PairConfig) and name != "supervised"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few clips with optical flow, so that all networks can have them."""
    folder = tmp_path_factory.mktemp("flow")
    videos = render_folder(folder / "videos", videos=10)
    pack([videos], folder / "shards", PackSettings(side=64, flow=True, split=(1.0, 0.0, 0.0)), workers=1)
    return folder / "shards"


def step_of(name: str, shards: Path, **model: str) -> tuple[TrainingStep, PairConfig]:
    config = parse_config(
        {
            "model": {"name": name, "width": 0.0625} | model,
            "data": {"shards": str(shards), "image_size": 56},
            "negatives": {"source": "shared", "block": 4},
            "validation": {"every_steps": 0},
        }
    )
    assert isinstance(config, PairConfig)
    torch.manual_seed(0)
    task = task_of(config, Shards(shards))
    network = task.network()
    to_channels_last(network)
    return TrainingStep(task, network).train(), config


@pytest.mark.parametrize("name", PAIR_NETWORKS)
def test_transforms_network_and_loss_are_one_graph_that_is_compiled_once(name, shards) -> None:
    step, config = step_of(name, shards)
    graphs = []

    def count(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(step, backend=count, fullgraph=True)  # raises where the graph breaks
    plain = copy.deepcopy(step)
    for number in range(4):
        batch = synthetic(config, 8, torch.device("cpu"))._replace(digest=torch.tensor(number))
        total, metrics = compiled(batch)
        expected = plain(batch)
        assert torch.equal(total, expected.total)
        assert torch.equal(metrics, expected.metrics)
        assert len(graphs) == 1
    # By its value a maximum may not be found again in what is computed anew: not rounded to bf16, it is another number.
    maxima = {str(node.target) for node in graphs[0].graph.nodes if str(node.target) in ("max", "amax")}
    assert maxima == ({"max", "amax"} if name == "avol" else {"max"})  # of AVOL-Net's places, which are float32
    torch._dynamo.reset()


@pytest.mark.parametrize("trunk", ["vgg", "resnet18"])
def test_every_map_and_weight_of_both_trunks_is_channels_last(trunk, shards) -> None:
    step, config = step_of("l3", shards, trunk=trunk)
    batch = synthetic(config, 8, torch.device("cpu"))
    network = step.network
    seen = []

    def look(module: nn.Module, inputs, output: torch.Tensor) -> None:
        if output.dim() == 4:
            seen.append(module)
            assert output.is_contiguous(memory_format=torch.channels_last), (module, output.shape, output.stride())

    for module in (*network.vision.modules(), *network.audio.modules()):
        module.register_forward_hook(look)
    network(
        images_to_input(batch.images, batch.image_draws, config.data),
        audio_to_input(batch.audio, batch.audio_draws, config.data),
    )
    assert len(seen) > 40
    for name, parameter in network.named_parameters():
        if parameter.dim() == 4:
            assert parameter.stride(1) == 1, name  # the channel's neighbour is the next number in memory


def pooled_gradient(x: torch.Tensor, of_output: torch.Tensor, **settings: int) -> torch.Tensor:
    return torch.autograd.grad(torch.nn.functional.max_pool2d(x, **settings), x, of_output)[0]


@pytest.mark.parametrize("settings", [{"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}])
def test_compiled_max_pool_adds_nothing_to_zeros_and_has_eagers_gradient(settings) -> None:
    from torch._inductor.decomposition import select_decomp_table
    from torch.fx.experimental.proxy_tensor import make_fx

    compile_network(torch.nn.Identity())
    x = torch.randint(3, (2, 4, 9, 11)).float()  # many are alike, and sides are odd
    x[0, 0, 2, 2] = x[1, 1, 5, 4] = torch.nan
    x.requires_grad_()
    of_output = torch.randn_like(torch.nn.functional.max_pool2d(x, **settings))
    gradient = partial(pooled_gradient, **settings)
    traced = make_fx(gradient, decomposition_table=select_decomp_table())(x, of_output)
    assert not [node for node in traced.graph.nodes if "scatter" in str(node.target)]
    assert torch.equal(traced(x, of_output), gradient(x, of_output))


def test_a_compiled_trunk_has_eagers_gradients(monkeypatch) -> None:
    # All of the compiler but its kernels: these take it a minute.
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **_: whole(module, backend="aot_eager_decomp_partition"))
    trunk = build_trunk("vgg", 3, width=0.0625, stride=True).double()
    images = torch.randn(4, 3, 45, 57, dtype=torch.float64)
    compiled = copy.deepcopy(trunk)
    run = compile_network(compiled)
    for call in (trunk, run):
        global_max_pool(call(images)).square().sum().backward()
    assert any(isinstance(module, nn.Threshold) for module in compiled.modules())
    for (name, parameter), other in zip(trunk.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(other.grad, parameter.grad, rtol=1e-9, atol=1e-9, msg=name)
    for buffer, other in zip(trunk.buffers(), compiled.buffers(), strict=True):
        torch.testing.assert_close(other, buffer)
    torch._dynamo.reset()
