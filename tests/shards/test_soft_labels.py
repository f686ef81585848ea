"""Sidecars lie where their layout says, and belong to one set of shards."""

import json
import pickle
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from shards.format import CLIP
from shards.read import BadRecord, Shards
from shards.sidecars import (
    BEGUN,
    FINISHED,
    NPY_HEADER_BYTES,
    Layout,
    Teacher,
    Teaching,
    begin,
    finish,
    frame_ticks,
    missing_sidecars,
    verify_sidecars,
    write_sidecar,
)
from shards.soft_labels import SoftLabels
from shards.writer import BLOCK
from tests.teaching import long_clips

TEACHERS = (Teacher("objects", 7, "00"), Teacher("scenes", 3, "11"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp("sidecars")
    return Shards(long_clips(folder, seconds=(1.2, 2.0, 3.4, 1.5, 2.6), shard_bytes=700_000))


def labels_of(clip: int, frames: int, teacher: Teacher) -> np.ndarray:
    generator = np.random.default_rng(clip)
    return generator.dirichlet(np.ones(teacher.classes), size=frames).astype(np.float16)


def write_all(folder: Path, shards: Shards) -> Layout:
    layout = Layout(shards, Teaching(shards.digest, TEACHERS, 25))
    begin(folder, layout.teaching)
    for number in missing_sidecars(folder, layout):
        clips = layout.clips(number).tolist()
        rows = (tuple(labels_of(clip, len(frame_ticks(shards.row(clip), 25)), t) for t in TEACHERS) for clip in clips)
        write_sidecar(folder, layout, number, rows)
    finish(folder, layout)
    return layout


def test_every_soft_label_is_read_back_and_is_a_member_of_a_tar_with_the_shards_keys(shards, tmp_path) -> None:
    write_all(tmp_path, shards)
    labels = SoftLabels(tmp_path, shards)
    assert len(shards.manifest.shards) > 2, "one shard would not show that each has its sidecar"
    members = {}
    for shard in shards.manifest.shards:
        with tarfile.open(tmp_path / shard.name) as tar:
            members |= {entry.name: np.load(BytesIO(tar.extractfile(entry).read())) for entry in tar}
    assert len(members) == 2 * len(shards)
    for clip in range(len(shards)):
        for number, teacher in enumerate(TEACHERS):
            frames = len(labels.ticks(clip))
            expected = labels_of(clip, frames, teacher)
            assert np.array_equal(labels.read(clip, number), expected)
            assert np.array_equal(members[f"{shards.key(clip)}.{teacher.name}.npy"], expected)


def test_a_process_that_soft_labels_are_sent_to_reads_them_without_the_index(shards, tmp_path) -> None:
    write_all(tmp_path, shards)
    labels = SoftLabels(tmp_path, shards)
    sent = pickle.loads(pickle.dumps(labels))
    for clip in range(len(shards)):
        assert np.array_equal(sent.ticks(clip), labels.ticks(clip))
        assert all(np.array_equal(sent.read(clip, teacher), labels.read(clip, teacher)) for teacher in (0, 1))
    assert "index" not in sent.shards.__dict__


def frames(ticks: int, every: int, spacing_ticks: int) -> np.ndarray:
    row = np.zeros((), CLIP)
    row["ticks"], row["every"] = ticks, every
    return frame_ticks(row, spacing_ticks)


def test_frames_are_in_the_middle_of_each_second_and_on_kept_pictures() -> None:
    assert frames(250, 1, 25).tolist() == [12 + 25 * second for second in range(10)]
    assert frames(260, 5, 25).tolist() == [10 + 25 * second for second in range(10)]
    assert frames(263, 5, 25).tolist()[-1] == 260
    assert frames(30, 1, 100).tolist() == [15]


def test_other_shards_are_refused(shards, tmp_path) -> None:
    write_all(tmp_path / "sidecars", shards)
    other = Shards(long_clips(tmp_path, seconds=(1.2, 2.0)))
    with pytest.raises(ValueError, match="were computed on other shards than"):
        SoftLabels(tmp_path / "sidecars", other)


def test_unfinished_and_missing_folders_are_told_apart(shards, tmp_path) -> None:
    with pytest.raises(ValueError, match="is not there or holds no soft labels: make them by `avc teach"):
        SoftLabels(tmp_path / "none", shards)
    begin(tmp_path, Teaching(shards.digest, TEACHERS, 25))
    with pytest.raises(ValueError, match="is not finished: run the same `avc teach` command again"):
        SoftLabels(tmp_path, shards)


def test_a_folder_that_was_begun_with_others_is_refused(shards, tmp_path) -> None:
    begin(tmp_path, Teaching(shards.digest, TEACHERS, 25))
    with pytest.raises(ValueError, match="was begun with other frames; remove it"):
        begin(tmp_path, Teaching(shards.digest, TEACHERS, 50))
    with pytest.raises(ValueError, match="was begun with other teachers"):
        begin(tmp_path, Teaching(shards.digest, TEACHERS[:1], 25))


def test_a_truncated_or_altered_sidecar_is_found(shards, tmp_path) -> None:
    write_all(tmp_path, shards)
    name = shards.manifest.shards[0].name
    data = bytearray((tmp_path / name).read_bytes())
    layout = Layout(shards, Teaching(shards.digest, TEACHERS, 25))
    clip = int(layout.clips(0)[0])
    offset = int(layout.starts[clip]) + BLOCK + NPY_HEADER_BYTES
    data[offset : offset + 2] = np.float16(9).tobytes()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadRecord, match=r"objects\.npy of record .*: its probabilities do not add up to 1"):
        SoftLabels(tmp_path, shards).read(clip, 0)
    assert list(verify_sidecars(tmp_path)) == [f"{name}: altered: its SHA-256 is not the one in {FINISHED}"]
    (tmp_path / name).write_bytes(data[:-512])
    with pytest.raises(ValueError, match=f"{name} has .* bytes instead of"):
        SoftLabels(tmp_path, shards)


def test_damaged_manifests_are_refused_in_words(shards, tmp_path) -> None:
    write_all(tmp_path, shards)
    (tmp_path / FINISHED).write_text(json.dumps({"teaching": 1}))
    with pytest.raises(ValueError, match="is not what `avc teach` wrote"):
        SoftLabels(tmp_path, shards)
    (tmp_path / BEGUN).write_text("{")
    with pytest.raises(ValueError, match="is not what `avc teach` wrote: remove"):
        begin(tmp_path, Teaching(shards.digest, TEACHERS, 25))
