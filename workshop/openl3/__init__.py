"""openl3's and EdgeL3's released networks as encoders, for every command that takes FILE.py:NAME.

In a checkout, with this as mine.py, `PYTHONPATH=. avc eval sound mine.py:encoder dataset=esc10 root=ESC-10`:

    from workshop.openl3 import audio

    def encoder():
        return audio("openl3_audio_mel256_music.h5")
"""

from __future__ import annotations

from pathlib import Path

from workshop.openl3.keras_file import read_keras
from workshop.openl3.networks import OpenL3Audio, OpenL3Image

__all__ = ["OpenL3Audio", "OpenL3Image", "audio", "image"]


def audio(path: str | Path, *, input_repr: str | None = None, embedding_size: int = 6144) -> OpenL3Audio:
    """The audio network of a file that openl3 or EdgeL3 released (.h5 or .h5.gz), an encoder in evaluation mode.

    input_repr: linear, mel128 or mel256, where the file's name does not say it. embedding_size: 6144 or 512, openl3's
    own two; EdgeL3's follows from its file. Raises ValueError for another size or file, and without h5py or librosa.
    """
    _refuse_size(embedding_size, 6144)
    network = read_keras(Path(path).expanduser(), input_repr=input_repr, grid=embedding_size != 512)
    if not isinstance(network, OpenL3Audio):
        raise ValueError(f"{path} holds an image network: take `image` of workshop.openl3")
    return network


def image(path: str | Path, *, embedding_size: int = 8192) -> OpenL3Image:
    """The image network of a file that openl3 released, as `audio`; embedding_size: 8192 or 512."""
    _refuse_size(embedding_size, 8192)
    network = read_keras(Path(path).expanduser(), grid=embedding_size != 512)
    if not isinstance(network, OpenL3Image):
        raise ValueError(f"{path} holds an audio network: take `audio` of workshop.openl3")
    return network


def _refuse_size(embedding_size: int, larger: int) -> None:
    if embedding_size not in (512, larger):
        raise ValueError(f"embedding_size is {embedding_size} and must be 512 or {larger}")
