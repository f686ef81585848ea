"""A trained network as a model of mteb 2.26.24: pictures and sounds in one space for a2i and i2a, or either by itself.

import mteb
from examples.mteb_model import AvcModel

mteb.evaluate(AvcModel("runs/ave"), mteb.get_tasks(["AdvanceA2IRetrieval", "AdvanceI2ARetrieval", "ESC50"]))
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction
from numpy.typing import NDArray

from avc.data.windows import resample
from avc.encoders.load import load_any


class AvcModel(AbsEncoder):
    """The network of a run, of imported weights, or FILE.py:NAME. Raises ValueError where there is none."""

    def __init__(self, source: str, revision: str | None = None, *, device: str | None = None, **_: Any) -> None:
        self.model = load_any(source, device=device or "cpu")
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": f"avc/{self.model.name}",
                "revision": revision or "".join(self.model.key[1:])[:40],
                "modalities": ["audio"] * (self.model.hears is not None) + ["image"] * (self.model.sees is not None),
                "similarity_fn_name": ScoringFunction.COSINE,
                "framework": ["PyTorch"],
            }
        )

    @torch.no_grad()
    def encode(self, inputs: Any, *, task_metadata: Any, **_: Any) -> NDArray[np.float32]:
        """Batches with "audio" or "image" → float32 (N, D). Raises ValueError for what the network does not take."""
        if {"audio", "image"} <= set(task_metadata.modalities) and not self.model.one_space:
            raise ValueError(f"{self.model.title} has a space for each modality: {task_metadata.name} compares them")
        rows: list[NDArray[np.float32]] = []
        for batch in inputs:
            kinds = {"audio", "image"} & set(batch)
            if len(kinds) != 1:
                raise ValueError(f"a batch must have audio or image, and this one has {', '.join(batch)}")
            embed = self._hear if kinds == {"audio"} else self._see
            rows += [embed(item) for item in batch[kinds.pop()]]
        return np.stack(rows)

    def _hear(self, item: Any) -> NDArray[np.float32]:
        samples, rate, hears = np.asarray(item["array"], np.float32), item["sampling_rate"], self.model.audio
        if "embedding" in hears.layers:  # the mean of a recording's windows, 0.5 s apart
            return self.model.embed_audio(samples, sample_rate=rate, hop_size=0.5)[0].mean(axis=0)
        layer, whole = hears.named_layer(None), torch.from_numpy(resample(samples, hears.sample_rate_hz, rate))[None]
        return hears(whole, layer).reshape(-1, hears.places(layer, whole.shape[1])).mean(dim=1).numpy()

    def _see(self, item: Any) -> NDArray[np.float32]:
        return self.model.embed_image(torch.from_numpy(np.array(item.convert("RGB")))[None])[0].numpy()
