"""Files as Keras writes openl3's weights, with arrays that a seed draws. Needs numpy and h5py alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

CHANNELS = (64, 128, 256, 512)
Layer = tuple[str, dict[str, np.ndarray]]


def seeded_layers(kind: str, *, channels: tuple[int, ...] = CHANNELS, seed: int = 7) -> Iterator[Layer]:
    """The layers with weights of a network, in its order: names, and arrays by their names.

    kind: audio or image, openl3's; edge, EdgeL3's of 64 numbers with channels 32, 64, 128, 64.
    """
    random = np.random.default_rng(seed)
    inputs, mean, variance = (3, 0.0, 0.3) if kind == "image" else (1, -40.0, 400.0)

    def norm(size: int, *, mean: float = 0.0, variance: float = 1.0) -> dict[str, np.ndarray]:
        return {
            "gamma": random.uniform(0.5, 1.5, size),
            "beta": random.standard_normal(size) * 0.1,
            "moving_mean": random.standard_normal(size) * 0.2 + mean,
            "moving_variance": random.uniform(0.5, 1.5, size) * variance,
        }

    norms = 0
    for convolution, size in enumerate(size for each in channels for size in (each, each)):
        if convolution == 0:
            yield "batch_normalization_0", norm(inputs, mean=mean, variance=variance)
        kernel = random.standard_normal((3, 3, inputs, size)) * np.sqrt(2 / (9 * inputs))
        yield f"conv2d_{convolution}", {"kernel": kernel, "bias": random.standard_normal(size) * 0.1}
        inputs = size
        if convolution < 7 or kind == "edge":
            norms += 1
            yield f"batch_normalization_{norms}", norm(size)


def seeded_input(kind: str, *, seed: int = 1) -> np.ndarray:
    """A second of sound that swells, float32 (1, 48000); or a picture from -1 to 1, float32 (1, 224, 224, 3)."""
    random = np.random.default_rng(seed)
    if kind == "audio":
        return (random.standard_normal((1, 48_000)) * np.linspace(0, 0.3, 48_000)).astype(np.float32)
    return (random.integers(0, 256, (1, 224, 224, 3)) / 127.5 - 1).astype(np.float32)


def write_layers(path: Path, layers: list[Layer]) -> Path:
    """A file of weights alone, as `Model.save_weights` writes it."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name, _ in layers]
        for name, arrays in layers:
            for part, array in arrays.items():
                file.create_dataset(f"{name}/{name}/{part}:0", data=array.astype(np.float32))
    return path
