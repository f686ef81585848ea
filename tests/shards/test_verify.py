"""Verifying: whatever is wrong is found and named."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from shards.format import PackSettings
from shards.pack import pack
from shards.read import Shards
from shards.verify import Problem, verify
from tests.small_videos import render_folder


@pytest.fixture(scope="module", params=["wav", "flac"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    videos = render_folder(tmp_path_factory.mktemp("videos"), videos=6)
    out = tmp_path_factory.mktemp("packed")
    pack([videos], out, PackSettings(side=32, sound=request.param), workers=2, shard_bytes=1_000_000)
    return out


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


def flip(path: Path, byte: int) -> None:
    with path.open("r+b") as file:
        file.seek(byte)
        value = file.read(1)[0]
        file.seek(byte)
        file.write(bytes([value ^ 0x10]))


def found(problems: list[Problem]) -> list[tuple[str, str, str]]:
    return [(problem.file, problem.member, problem.what) for problem in problems]


def place(folder: Path, clip: int) -> tuple[Path, np.void]:
    shards = Shards(folder)
    return folder / shards.manifest.shards[int(shards.index[clip]["shard"])].name, shards.index[clip].copy()


def test_a_packed_folder_has_no_problems(folder: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    assert verify(folder, progress=lambda *facts: seen.append(facts)) == []
    assert verify(folder, quick=True) == []
    assert [name for _, _, name in seen] == [shard.name for shard in Shards(folder).manifest.shards]
    assert seen[-1][0] == seen[-1][1] == sum(path.stat().st_size for path in folder.glob("*.tar"))


@pytest.mark.parametrize("column", ["json", "mjpeg", "sound"])
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_a_flipped_bit_in_any_member_names_the_member(copy: Path, column: str, part: float) -> None:
    shard, row = place(copy, 3)
    flip(shard, int(row[f"{column}_offset"]) + int(part * (int(row[f"{column}_size"]) - 1)))
    extension = Shards(copy).manifest.settings.sound if column == "sound" else column
    key = str(row["key"], "ascii")
    assert found(verify(copy)) == [(shard.name, f"{key}.{extension}", "altered")]
    assert verify(copy, quick=True) == []


def test_a_flipped_bit_in_a_tar_header_names_its_member(copy: Path) -> None:
    shard, row = place(copy, 3)
    flip(shard, int(row["mjpeg_offset"]) - 512 + 3)
    [problem] = verify(copy)
    assert (problem.member, problem.what) == (f"{str(row['key'], 'ascii')}.mjpeg", "altered")
    assert "tar header" in problem.detail


def test_a_flipped_bit_between_members_names_the_shard(copy: Path) -> None:
    shard, row = place(copy, 3)
    flip(shard, int(row["json_offset"]) + int(row["json_size"]))  # the padding up to the next block
    assert found(verify(copy)) == [(shard.name, "", "altered")]


def test_a_truncated_shard_names_what_it_lost(copy: Path) -> None:
    shard, row = place(copy, 2)
    with tarfile.open(shard) as archive:
        begins = {member.name: member.offset_data for member in archive}
    cut = int(row["mjpeg_offset"])
    os.truncate(shard, cut + 100)
    assert set(found(verify(copy))) == {
        (shard.name, "", "truncated"),
        (shard.name, f"{str(row['key'], 'ascii')}.mjpeg", "truncated"),
        *((shard.name, name, "missing") for name, begin in begins.items() if begin > cut),
    }
    assert found(verify(copy, quick=True)) == [(shard.name, "", "truncated")]


def test_a_missing_and_an_extra_shard_are_named(copy: Path) -> None:
    shard = min(copy.glob("*.tar"))
    shard.rename(copy / "train-000077.tar")
    for quick in (False, True):
        assert set(found(verify(copy, quick=quick))) == {
            (shard.name, "", "missing"),
            ("train-000077.tar", "", "not listed"),
        }


def test_a_shard_that_grew_is_altered(copy: Path) -> None:
    shard = min(copy.glob("*.tar"))
    with shard.open("ab") as file:
        file.write(bytes(512))
    assert found(verify(copy, quick=True)) == [(shard.name, "", "altered")]
    assert found(verify(copy)) == [(shard.name, "", "altered")]


def test_two_shards_that_changed_places_are_noticed(copy: Path) -> None:
    first, second = sorted(copy.glob("train-*.tar"))[:2]
    first.rename(copy / "aside")
    second.rename(first)
    (copy / "aside").rename(second)
    assert {problem.file for problem in verify(copy)} == {first.name, second.name}


@pytest.mark.parametrize("table", ["clips.npy", "pictures.npy"])
def test_an_altered_table_is_named_and_accuses_no_member(copy: Path, table: str) -> None:
    flip(copy / table, (copy / table).stat().st_size - 3)
    assert found(verify(copy)) == [(table, "", "altered")]
    (copy / table).unlink()
    assert found(verify(copy, quick=True)) == [(table, "", "missing")]


def test_an_index_that_never_fitted_its_shards_is_inconsistent(copy: Path) -> None:
    # As a mistake in the packer would leave it: every checksum holds.
    pictures = np.load(copy / "pictures.npy")
    pictures[7] += 1
    np.save(copy / "pictures.npy", pictures)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["tables"] = []
    (copy / "manifest.json").write_text(json.dumps(manifest))
    [problem] = verify(copy)
    assert problem.what == "inconsistent"
    assert problem.member.endswith(".mjpeg")


def test_counts_that_do_not_agree_are_inconsistent(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["packed"]["train"] += 1
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert found(verify(copy)) == [("clips.npy", "", "inconsistent")]


def test_a_folder_that_was_never_packed_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a packed folder"):
        verify(tmp_path)
