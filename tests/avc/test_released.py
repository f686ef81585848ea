"""Released weights are read; a pickle that would do anything else is refused and does nothing."""

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avc.models.released import import_soundnet, load_soundnet, read_arrays
from avc.models.soundnet import SOUNDNETS, SoundNet
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


def write_npy(path: Path, pickled: bytes) -> Path:
    """An .npy file of one object whose pickle is `pickled`."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header += b" " * (-(len(header) + 11) % 16) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + pickled)
    return path


def save(path: Path, content: Any) -> Path:
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    return path


class Harmful:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


@pytest.mark.parametrize("name", SOUNDNETS)
def test_imported_weights_are_those_of_the_file(tmp_path, name) -> None:
    torch.manual_seed(3)
    model = fresh(name)
    model.layers.bn3.running_mean.normal_()
    import_soundnet(name, save(tmp_path / "weights.npy", arrays_of(model)), tmp_path / "out.safetensors")
    loaded = load_soundnet(tmp_path / "out.safetensors").state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_malicious_pickle_runs_nothing_and_is_refused_in_words(tmp_path, protocol) -> None:
    trace = tmp_path / "trace"
    for harmful in (Harmful(os.system, f"touch {trace}"), Harmful(eval, f"open({str(trace)!r}, 'w')")):
        for content in (harmful, {"conv1": {"weights": harmful}}):
            path = write_npy(tmp_path / "sound8.npy", pickle.dumps(content, protocol=protocol))
            with pytest.raises(ValueError, match=r"sound8\.npy is refused: it asks for .*nothing of it was run"):
                import_soundnet("soundnet8", path, tmp_path / "out.safetensors")
    assert not trace.exists() and not (tmp_path / "out.safetensors").exists()
    np.load(path, allow_pickle=True)
    assert trace.exists(), "numpy's own reader runs it, so the test would have seen it run"


def test_harm_behind_arrays_that_are_well_formed_is_refused_too(tmp_path) -> None:
    arrays: dict[str, Any] = arrays_of(fresh("soundnet8"))
    arrays["conv8_2"]["biases"] = Harmful(os.system, f"touch {tmp_path / 'trace'}")
    path = save(tmp_path / "sound8.npy", arrays)
    with pytest.raises(ValueError, match="is refused"):
        read_arrays(path)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no pickled dictionary"),
        (b"nothing of the kind", "is refused: invalid load key"),
        (pickle.dumps({"conv1": 1}), "is no pickled dictionary"),
        (
            pickle.dumps(np.array({"conv1": {"weights": "text"}}, dtype=object), protocol=4),
            "str where an array belongs",
        ),
    ],
)
def test_what_is_no_dictionary_of_arrays_is_refused(tmp_path, content, words) -> None:
    with pytest.raises(ValueError, match=words):
        read_arrays(write_npy(tmp_path / "sound8.npy", content))
    (tmp_path / "bare.npy").write_bytes(content)
    with pytest.raises(ValueError, match="is no pickled dictionary"):
        read_arrays(tmp_path / "bare.npy")


def test_a_plain_array_a_missing_file_and_a_cut_file_are_refused(tmp_path) -> None:
    np.save(tmp_path / "plain.npy", np.zeros(3))
    with pytest.raises(ValueError, match="holds one array of float64 and no dictionary"):
        read_arrays(tmp_path / "plain.npy")
    with pytest.raises(ValueError, match="there is no file"):
        read_arrays(tmp_path / "absent.npy")
    whole = save(tmp_path / "whole.npy", {"conv1": {"weights": np.zeros((64, 1, 1, 16), np.float32)}}).read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"is refused|is no pickled dictionary"):
        read_arrays(tmp_path / "cut.npy")


def test_a_missing_layer_and_another_shape_are_named(tmp_path) -> None:
    arrays = arrays_of(fresh("soundnet8"))
    del arrays["conv4"]["mean"]
    with pytest.raises(ValueError, match=r"has no conv4/mean"):
        import_soundnet("soundnet8", save(tmp_path / "a.npy", arrays), tmp_path / "out")
    arrays["conv4"]["mean"] = np.zeros(7, np.float32)
    with pytest.raises(ValueError, match=r"conv4/mean in .* has shape \(7,\).* needs \(128,\)"):
        import_soundnet("soundnet8", save(tmp_path / "b.npy", arrays), tmp_path / "out")


def test_weights_of_the_other_number_of_layers_are_refused(tmp_path) -> None:
    path = save(tmp_path / "sound5.npy", arrays_of(fresh("soundnet5")))
    with pytest.raises(ValueError, match=r"conv1/weights .* shape \(32, 1, 64\).* soundnet8 needs \(16, 1, 64\)"):
        import_soundnet("soundnet8", path, tmp_path / "out")


def test_another_safetensors_file_is_refused(tmp_path) -> None:
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(ValueError, match="does not hold the weights of a SoundNet"):
        load_soundnet(tmp_path / "junk.safetensors")
    with pytest.raises(ValueError, match="there is no file"):
        load_soundnet(tmp_path / "absent.safetensors")


def test_the_released_weights_fit_and_give_finite_outputs(tmp_path) -> None:
    model = import_soundnet("soundnet8", released_weights(), tmp_path / "soundnet8.safetensors")
    norms = [m for m in model.layers if isinstance(m, torch.nn.BatchNorm1d)]
    assert all((norm.running_var > 0).all() for norm in norms)
    with torch.inference_mode():
        objects, scenes = model(torch.zeros(1, 441_000))
    assert objects.shape[2] == scenes.shape[2] == 4
    assert objects.isfinite().all() and scenes.isfinite().all()
