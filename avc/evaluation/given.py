"""Others' features of the very frames that retrieval draws: which these are, and what is given for them."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from avc.data.sampler import Integers
from avc.encoders.sources import Floats, drawn_views
from avc.encoders.trained import Trained
from avc.evaluation.cca import fitting_clips
from shards.atomic import write_whole
from shards.read import Shards

ARRAYS = ("clip", "tick", "features")


def drawn_frames(network: Trained, shards: Shards, clips: Integers) -> tuple[Integers, Integers]:
    """Rows of the index and ticks of all frames that others' features are needed of: int64 (V,) each.

    Those of `clips`, which are judged, and those of training clips that CCA is fitted on.
    """
    judged = drawn_views(network, shards, clips)
    training, passes = fitting_clips(shards)
    fitting = drawn_views(network, shards, training, passes=passes)
    return np.concatenate([judged[0], fitting[0]]), np.concatenate([judged[1], fitting[1]])


def write_drawn(path: Path, shards: Shards, clip: Integers, tick: Integers) -> None:
    """Write a .csv of clip and tick, a frame a line: the clip by its key, `shards.picture(row, tick)` of its frame.

    clip, tick: int64 (V,), rows of the index and ticks. Raises ValueError where the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("clip", "tick"))
    writer.writerows((shards.key(row), at) for row, at in zip(clip.tolist(), tick.tolist(), strict=True))
    try:
        write_whole(path.expanduser(), text.getvalue().encode())
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from None


class GivenFeatures:
    """Features of frames out of a .npz file: `clip` (V,) keys, `tick` (V,) integers, `features` (V, D) numbers.

    Raises ValueError where the file is missing or of another form.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            loaded = np.load(path.expanduser(), allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise ValueError("one array, which does not tell whose rows they are")
            with loaded as file:
                clip, tick, features = (file[name] for name in ARRAYS)
            self._rows = features.astype(np.float32)
            keys = clip.astype(str).tolist()
            self._number = {view: n for n, view in enumerate(zip(keys, tick.astype(np.int64).tolist(), strict=True))}
            if self._rows.ndim != 2 or len(self._rows) != len(keys):
                raise ValueError(f"{len(keys)} clips and features of shape {self._rows.shape}")
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
        except (ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise ValueError(
                f"{path} is no .npz file of the arrays {', '.join(ARRAYS)} ({error}): wanted are the keys (V,) and "
                "ticks (V,) of what drawn=FILE writes, and the features (V, D) of these frames"
            ) from None

    def of(self, shards: Shards, clip: Integers, tick: Integers) -> Floats:
        """float32 (V, D) of these frames. Raises ValueError where one is missing or holds what is not finite."""
        views = list(zip(map(shards.key, clip.tolist()), tick.tolist(), strict=True))
        missing = [view for view in views if view not in self._number]
        if missing:
            raise ValueError(
                f"{self.path} lacks {len(missing):,} of {len(views):,} frames that are drawn, such as tick "
                f"{missing[0][1]} of clip {missing[0][0]}: take them from what drawn=FILE writes for this run and split"
            )
        rows: Floats = self._rows[[self._number[view] for view in views]]
        if not np.isfinite(rows).all():
            key, at = views[int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])]
            raise ValueError(f"{self.path} holds what is not a finite number for tick {at} of clip {key}")
        return rows
