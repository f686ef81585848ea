"""The settings of networks whose weights come from elsewhere: openl3's and EdgeL3's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from avc.settings import Config, ModelSettings, PairData


class OpenL3Model(ModelSettings):
    frontend: Literal["linear", "mel128", "mel256", "mel64"] = "mel256"
    """Spectrogram of the audio network: 257 linear bins, or so many mel bands; 64 at 8 kHz are EdgeL3's."""
    kapre: Literal["0.1", "0.3"] = "0.3"
    """kapre whose mel-spectrogram it is: 0.3, openl3 0.4's, or 0.1, that of older openl3 and of EdgeL3."""
    grid: bool = True
    """Embed as the last map's maxima over a grid, 4x3 for audio (6144 numbers) and 4x4 for images (8192), openl3's
    default; false, over the whole map (512)."""
    narrowing: int = Field(default=1, ge=1, le=8)
    """conv4's channels are divided by this in addition: EdgeL3's 64 numbers are width 0.5, narrowing 4."""


class OpenL3Config(Config):
    """Settings of imported networks."""

    data: PairData = PairData()
    model: OpenL3Model = OpenL3Model()
