"""What is uploaded to the explorer is seen as the clips were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import avc
from avc.encoders.sources import embed_clips
from launch.explore.moments import Embedder
from launch.explore.uploads import Decoder
from shards.format import PackSettings
from shards.pack import pack
from shards.read import Shards
from tests.avc.networks import saved
from tests.small_videos import render_folder


def test_a_packed_frame_that_is_uploaded_lies_at_distance_0_from_itself(tmp_path: Path) -> None:
    videos = render_folder(tmp_path / "videos", videos=2)
    pack([videos], tmp_path / "shards", PackSettings(side=160, split=(1.0, 0.0, 0.0)), workers=1)
    shards = Shards(tmp_path / "shards")
    network = avc.load(str(saved(tmp_path / "ave")))  # of 56 pixels, far below 7/8 of 160
    views = embed_clips(network, shards, np.arange(2))
    embedder = Embedder(network, "run", "AVE-Net", None, "")
    stored = embedder.image(views.image)
    with Decoder() as decoder:
        for vector, clip, tick in zip(stored, views.clip.tolist(), views.tick.tolist(), strict=True):
            Image.fromarray(shards.picture(clip, tick)).save(tmp_path / "frame.png")
            (tmp_path / "frame.jpg").write_bytes(shards.frame(clip, tick))
            for name in ("frame.png", "frame.jpg"):
                kind, array = decoder.decode(tmp_path / name)
                assert kind == "image"
                found = embedder.picture(torch.from_numpy(array.copy())[None])[0]
                assert np.linalg.norm(found - vector) < 1e-6, name
    assert np.linalg.norm(stored[0] - stored[1]) > 1e-4
