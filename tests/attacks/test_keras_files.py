"""Keras' HDF5 files from strangers: nothing in them runs, no other file is read, memory is bounded."""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import avc
from tests.workshop.keras_files import seeded_layers, write_layers
from workshop.openl3.keras_file import LARGEST, read_keras

h5py = pytest.importorskip("h5py", reason="h5py is not installed")
KERNEL = "conv2d_1/conv2d_1/kernel:0"


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return write_layers(tmp_path_factory.mktemp("good") / "linear.h5", list(seeded_layers("audio")))


def replaced(file: Any, **how: Any) -> None:
    shape = file[KERNEL].shape
    del file[KERNEL]
    file.create_dataset(KERNEL, shape, "f4", **how)


def outside(file: Any) -> None:
    secret = Path(file.filename).with_name("secret.bin")
    secret.write_bytes(bytes(4 * 64 * 64 * 9))
    replaced(file, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def virtual(file: Any) -> None:
    shape = file[KERNEL].shape
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "kernel", shape)
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def linked(file: Any) -> None:
    del file[KERNEL]
    file[KERNEL] = h5py.ExternalLink("/tmp/other.h5", "/kernel")


def soft(file: Any) -> None:
    del file[KERNEL]
    file[KERNEL] = h5py.SoftLink("/conv2d_2/conv2d_2/kernel:0")


def circle(file: Any) -> None:
    file["conv2d_1/conv2d_1/again"] = file["conv2d_1"]


def plugin(file: Any) -> None:
    """A filter that HDF5 would load as a library from a folder of plugins."""
    shape = file[KERNEL].shape
    del file[KERNEL]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(shape)
    properties.set_filter(32_013, h5py.h5z.FLAG_OPTIONAL)
    group, name = os.path.split(KERNEL)
    h5py.h5d.create(file[group].id, name.encode(), h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple(shape), properties)


def enormous(file: Any) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (2**20, 2**20, 64, 64), "f4", chunks=(1, 1, 64, 64), compression="gzip")


def many(file: Any) -> None:
    del file.attrs["layer_names"]
    file.attrs["layer_names"] = np.array([b"x"] * 5_000)


def upwards(file: Any) -> None:
    del file.attrs["layer_names"]
    file.attrs["layer_names"] = [b"../conv2d_1"]


def numbers(file: Any) -> None:
    del file.attrs["layer_names"]
    file.attrs["layer_names"] = 7


def words(file: Any) -> None:
    shape = file[KERNEL].shape
    del file[KERNEL]
    file.create_dataset(KERNEL, shape, h5py.string_dtype())


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (outside, "lies in another file"),
        (virtual, "lies in another file"),
        (linked, "is not in the file itself but a link"),
        (soft, "is not in the file itself but a link"),
        (circle, "more than 100 parts|in place of"),
        (plugin, "compressed in an unknown way"),
        (enormous, "and the network needs float32"),
        (many, "5,000 layers"),
        (upwards, "is not in the file itself but a link"),
        (numbers, "does not hold weights"),
        (words, "and the network needs float32"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_file_that_leads_elsewhere_is_refused(good, tmp_path, attack: Callable[[Any], None], message: str) -> None:
    path = tmp_path / "linear.h5"
    path.write_bytes(good.read_bytes())
    with h5py.File(path, "r+") as file:
        attack(file)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=message):
        read_keras(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


def test_a_description_of_a_network_with_code_in_it_is_not_looked_at(good, tmp_path) -> None:
    path, trace = tmp_path / "linear.h5", tmp_path / "trace"
    path.write_bytes(good.read_bytes())
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(
            {"class_name": "Lambda", "config": {"function": f"open('{trace}', 'w')"}}
        )
        file.attrs["training_config"] = np.void(b"\x80\x04cos\nsystem\n(Vtouch " + str(trace).encode() + b"\ntR.")
    assert read_keras(path).name == "OpenL3, linear"
    assert not trace.exists()


def test_what_unpacks_to_more_than_weights_have_is_refused(tmp_path) -> None:
    path = tmp_path / "linear.h5.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(LARGEST // 2**24 + 1):
            file.write(bytes(2**24))
    with pytest.raises(ValueError, match="is larger than 268 MB"):
        read_keras(path)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(5_000), b"PK\3\4"])
@pytest.mark.parametrize("suffix", [".h5", ".h5.gz"])
def test_what_is_no_hdf5_ends_in_one_paragraph(tmp_path, content, suffix) -> None:
    path = tmp_path / f"linear{suffix}"
    path.write_bytes(content)
    program = tmp_path / "mine.py"
    program.write_text(f"from workshop.openl3 import audio\ndef encoder():\n    return audio({str(path)!r})\n")
    done = avc("export", f"{program}:encoder", "--onnx", tmp_path / "a.onnx")
    assert done.returncode == 2 and "does not hold weights of openl3" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "a.onnx").exists()


FUZZ = """
import sys
from pathlib import Path
import numpy as np
from workshop.openl3.keras_file import read_keras
content, random = bytearray(Path(sys.argv[1]).read_bytes()), np.random.default_rng(int(sys.argv[2]))
target = Path(sys.argv[3]) / "linear.h5"
places = [n for n in range(len(content)) if n < 4096 or n > len(content) - 65536]
for _ in range(int(sys.argv[4])):
    damaged = bytearray(content)
    for place in random.choice(places, random.integers(1, 40)):
        damaged[place] = random.integers(256)
    target.write_bytes(damaged)
    try:
        read_keras(target)
    except ValueError:
        pass
print("done")
"""


def test_damage_anywhere_in_the_tables_of_a_file_is_an_error_and_no_crash(good, tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, good, "0", tmp_path, os.environ.get("AVC_TEST_FUZZ", "15")],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]
