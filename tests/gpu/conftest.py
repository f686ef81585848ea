"""Every test here needs CUDA, and skips where there is none."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder alone: the hook sees those of every folder."""
    if not torch.cuda.is_available():
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device here"))


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Compiled graphs and the switches of arithmetic are those of the process: none reaches the next test."""
    torch._dynamo.reset()
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, torch.get_float32_matmul_precision()
    yield
    cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = before[:3]
    torch.set_float32_matmul_precision(before[3])
    torch.use_deterministic_algorithms(False)
