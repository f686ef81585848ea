"""Sidecars lie where their layout says, and belong to one set of shards."""

import json
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from shards.read import BadRecord, Shards
from shards.soft_labels import (
    BEGUN,
    POSTERIORS,
    Layout,
    SoftLabels,
    Teacher,
    Teaching,
    begin,
    digest_of,
    finish,
    frame_ticks,
    unwritten,
    verify_sidecars,
    write_sidecar,
)
from tests.teaching import long_clips

TEACHERS = (Teacher("objects", 7, "00"), Teacher("scenes", 3, "11"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp("sidecars")
    return Shards(long_clips(folder, seconds=(1.2, 2.0, 3.4, 1.5, 2.6), shard_bytes=700_000))


def seen_by(clip: int, frames: int, teacher: Teacher) -> np.ndarray:
    generator = np.random.default_rng(clip)
    return generator.dirichlet(np.ones(teacher.classes), size=frames).astype(np.float16)


def write_all(folder: Path, shards: Shards) -> Layout:
    layout = Layout(shards, Teaching(digest_of(shards), TEACHERS, 25))
    begin(folder, layout.teaching)
    for number in unwritten(folder, layout):
        clips = layout.clips(number).tolist()
        rows = (tuple(seen_by(clip, int(layout.frames[clip]), t) for t in TEACHERS) for clip in clips)
        write_sidecar(folder, layout, number, rows)
    finish(folder, layout)
    return layout


def test_every_posterior_is_read_back_and_is_a_member_of_an_ordinary_tar_with_the_shards_keys(shards, tmp_path) -> None:
    write_all(tmp_path, shards)
    posteriors = SoftLabels(tmp_path, shards)
    assert len(shards.manifest.shards) > 2, "one shard would not show that each has its sidecar"
    members = {}
    for shard in shards.manifest.shards:
        with tarfile.open(tmp_path / shard.name) as tar:
            members |= {entry.name: np.load(BytesIO(tar.extractfile(entry).read())) for entry in tar}
    assert len(members) == 2 * len(shards)
    for clip in range(len(shards)):
        for number, teacher in enumerate(TEACHERS):
            frames = len(posteriors.ticks(clip))
            expected = seen_by(clip, frames, teacher)
            assert np.array_equal(posteriors.read(clip, number), expected)
            assert np.array_equal(members[f"{shards.key(clip)}.{teacher.name}.npy"], expected)


def test_frames_are_in_the_middle_of_each_second_and_on_kept_pictures() -> None:
    assert frame_ticks(250, 1, 25).tolist() == [12 + 25 * second for second in range(10)]
    assert frame_ticks(260, 5, 25).tolist() == [10 + 25 * second for second in range(10)]
    assert frame_ticks(263, 5, 25).tolist()[-1] == 260
    assert frame_ticks(30, 1, 100).tolist() == [15]


def test_other_shards_are_refused(shards, tmp_path) -> None:
    write_all(tmp_path / "sidecars", shards)
    other = Shards(long_clips(tmp_path, seconds=(1.2, 2.0)))
    with pytest.raises(ValueError, match="were computed on other shards than"):
        SoftLabels(tmp_path / "sidecars", other)


def test_unfinished_and_missing_folders_are_told_apart(shards, tmp_path) -> None:
    with pytest.raises(ValueError, match="is not there or holds no posteriors: make them by `avc teach"):
        SoftLabels(tmp_path / "none", shards)
    begin(tmp_path, Teaching(digest_of(shards), TEACHERS, 25))
    with pytest.raises(ValueError, match="is not finished: run the same `avc teach` command again"):
        SoftLabels(tmp_path, shards)


def test_a_folder_that_was_begun_with_others_is_refused(shards, tmp_path) -> None:
    begin(tmp_path, Teaching(digest_of(shards), TEACHERS, 25))
    with pytest.raises(ValueError, match="was begun with other frames; remove it"):
        begin(tmp_path, Teaching(digest_of(shards), TEACHERS, 50))
    with pytest.raises(ValueError, match="was begun with other teachers"):
        begin(tmp_path, Teaching(digest_of(shards), TEACHERS[:1], 25))


def test_a_truncated_or_altered_sidecar_is_found(shards, tmp_path) -> None:
    write_all(tmp_path, shards)
    name = shards.manifest.shards[0].name
    data = bytearray((tmp_path / name).read_bytes())
    layout = Layout(shards, Teaching(digest_of(shards), TEACHERS, 25))
    clip = int(layout.clips(0)[0])
    offset = int(layout.offsets[clip, 0])
    data[offset : offset + 2] = np.float16(9).tobytes()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadRecord, match=r"objects\.npy of record .*: its probabilities do not add up to 1"):
        SoftLabels(tmp_path, shards).read(clip, 0)
    assert list(verify_sidecars(tmp_path)) == [f"{name}: altered: its SHA-256 is not the one in {POSTERIORS}"]
    (tmp_path / name).write_bytes(data[:-512])
    with pytest.raises(ValueError, match=f"{name} has .* bytes instead of"):
        SoftLabels(tmp_path, shards)


def test_damaged_manifests_are_refused_in_words(shards, tmp_path) -> None:
    write_all(tmp_path, shards)
    (tmp_path / POSTERIORS).write_text(json.dumps({"teaching": 1}))
    with pytest.raises(ValueError, match="is not what `avc teach` wrote"):
        SoftLabels(tmp_path, shards)
    (tmp_path / BEGUN).write_text("{")
    with pytest.raises(ValueError, match="is not what `avc teach` wrote: remove"):
        begin(tmp_path, Teaching(digest_of(shards), TEACHERS, 25))
