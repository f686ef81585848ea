"""The null device where it cannot be built; where it can be, `make null-gpu` runs it."""

import pytest
import torch

from workshop.null_gpu.__main__ import main


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is a CUDA build")
def test_without_a_cuda_build_of_torch_it_ends_in_one_sentence(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "is no CUDA build, which the null device needs" in said
    assert len(said.strip().splitlines()) == 1
