"""Splits: the same for the same content, wherever, whenever and beside whatever it is packed."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from shards.split import Splitter

KEYS = [hashlib.sha256(bytes([number % 256, number // 256])).hexdigest()[:32] for number in range(4000)]


def _list(path: Path, *names: str) -> Path:
    path.write_text("".join(f"{name}\n" for name in names))
    return path


def test_the_key_alone_decides_and_the_decision_never_changes() -> None:
    # Written down, so that no later version moves a clip from one split to another.
    splitter = Splitter((0.8, 0.1, 0.1))
    assert splitter.split("0" * 32, "a.mp4") == "train"
    assert splitter.split("cccccccc" + "0" * 24, "b.mp4") == "train"  # 0.79999999988
    assert splitter.split("cccccccd" + "0" * 24, "a.mp4") == "validation"  # 0.8000000001
    assert splitter.split("e6666666" + "0" * 24, "a.mp4") == "validation"
    assert splitter.split("e6666667" + "0" * 24, "a.mp4") == "test"
    assert splitter.split("f" * 32, "a.mp4") == "test"


def test_shares_are_kept_to_within_chance() -> None:
    counts = Counter(Splitter((0.8, 0.1, 0.1)).split(key, "") for key in KEYS)
    assert abs(counts["train"] - 3200) < 4 * (4000 * 0.8 * 0.2) ** 0.5
    assert abs(counts["test"] - 400) < 4 * (4000 * 0.1 * 0.9) ** 0.5


def test_a_split_without_a_share_gets_nothing() -> None:
    assert {Splitter((0.0, 1.0, 0.0)).split(key, "") for key in [*KEYS, "0" * 32, "f" * 32]} == {"validation"}


@pytest.mark.parametrize("name", ["x.mp4", "x", "clips/x.mp4", "clips/x", "/data/clips/x.mp4"])
def test_a_list_may_name_a_path_its_end_a_file_name_or_a_stem(tmp_path: Path, name: str) -> None:
    splitter = Splitter((0.8, 0.1, 0.1), {"test": _list(tmp_path / "test.txt", name)})
    assert splitter.split("0" * 32, "/data/clips/x.mp4") == "test"
    assert splitter.split("f" * 32, "/data/clips/y.mp4") != "test"


def test_a_list_names_members_of_tars_too(tmp_path: Path) -> None:
    splitter = Splitter((1.0, 0.0, 0.0), {"test": _list(tmp_path / "test.txt", "dir/x.mp4")})
    assert splitter.split("0" * 32, "/data/a.tar::dir/x.mp4") == "test"


def test_what_is_in_no_list_goes_to_the_splits_without_one(tmp_path: Path) -> None:
    splitter = Splitter((0.8, 0.1, 0.1), {"test": _list(tmp_path / "test.txt", "x")})
    counts = Counter(splitter.split(key, "y.mp4") for key in KEYS)
    assert counts["test"] == 0
    assert abs(counts["validation"] - 4000 / 9) < 4 * (4000 * (1 / 9) * (8 / 9)) ** 0.5


def test_lists_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    lists = {"train": _list(tmp_path / "a.txt", "x", "y"), "test": _list(tmp_path / "b.txt", "y")}
    with pytest.raises(ValueError, match="'y' is in"):
        Splitter((0.8, 0.1, 0.1), lists)


def test_a_list_that_fits_no_input_is_refused(tmp_path: Path) -> None:
    splitter = Splitter((0.8, 0.1, 0.1), {"test": _list(tmp_path / "test.txt", "elsewhere")})
    with pytest.raises(ValueError, match="none of the names"):
        splitter.check(["/data/x.mp4"])


def test_with_three_lists_an_input_in_none_of_them_is_refused(tmp_path: Path) -> None:
    lists = {split: _list(tmp_path / f"{split}.txt", f"my-{split}") for split in ("train", "validation", "test")}
    splitter = Splitter((0.8, 0.1, 0.1), lists)
    named = [f"/data/my-{split}.mp4" for split in lists]
    splitter.check(named)
    with pytest.raises(ValueError, match=r"1 of 4 inputs .*/data/other\.mp4"):
        splitter.check([*named, "/data/other.mp4"])


def test_a_missing_list_and_an_unknown_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        Splitter((0.8, 0.1, 0.1), {"test": tmp_path / "no.txt"})
    with pytest.raises(ValueError, match="no split 'val'"):
        Splitter((0.8, 0.1, 0.1), {"val": tmp_path / "no.txt"})


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffcaf\u00e9\r\n",
        "videos\\caf\u00e9.MP4\r\n",
        '"videos\\caf\u00e9.mp4"\n',
        "./videos/caf\u00e9.mp4  \n",
        "../videos/caf\u00e9\n",
        "/data/videos/caf\u00e9.mp4",
    ],
    ids=["mark", "backslash", "quotes", "here", "above", "path"],
)
def test_a_list_meets_a_name_however_another_system_wrote_it(tmp_path: Path, text: str) -> None:
    for stored in ("NFC", "NFD"):
        (tmp_path / "test.txt").write_text(text, encoding="utf-8", newline="")
        splitter = Splitter((0.8, 0.1, 0.1), {"test": tmp_path / "test.txt"})
        name = unicodedata.normalize(stored, "/data/videos/caf\u00e9.mp4")
        splitter.check([name, "/data/videos/y.mp4"])
        assert splitter.split("0" * 32, name) == "test"
        assert [str(coverage) for coverage in splitter.coverage] == ["test: 1 of 1 names"]


def test_names_in_milliseconds_meet_a_list_in_seconds_and_the_other_way_round(tmp_path: Path) -> None:
    for listed, name in (("abc_000005", "/d/abc_5000_15000.mp4"), ("abc_5000_15000.mp4", "/d/abc_000005.mkv.mp4")):
        splitter = Splitter((0.8, 0.1, 0.1), {"test": _list(tmp_path / "test.txt", listed)})
        assert splitter.split("0" * 32, name.replace(".mkv", "")) == "test"


def test_how_many_names_meet_an_input_is_counted_and_those_that_do_not_are_named(tmp_path: Path) -> None:
    lists = {
        "test": _list(tmp_path / "test.txt", *(f"gone-{number}" for number in range(999)), "x.mp4", "x.mp4"),
        "train": _list(tmp_path / "train.txt", "y"),
    }
    splitter = Splitter((0.8, 0.1, 0.1), lists)
    splitter.check(["/data/x.mp4", "/data/y.mp4", "/other/x.mp4"])
    test, train = map(str, splitter.coverage)
    assert train == "train: 1 of 1 names"
    assert test == (
        f"test: 1 of 1,000 names; 999 in {tmp_path / 'test.txt'} are of no input, such as 'gone-0', 'gone-1', 'gone-2'"
    )


@pytest.mark.parametrize("other", ["clips/x.mp4", "x.mp4", "x.MP4", "\ufeffx"])
def test_one_clip_in_two_lists_is_refused_however_each_names_it(tmp_path: Path, other: str) -> None:
    lists = {"train": _list(tmp_path / "a.txt", "x", "y"), "test": _list(tmp_path / "b.txt", other, "z")}
    with pytest.raises(ValueError, match=r"a\.txt") as refusal:
        Splitter((0.8, 0.1, 0.1), lists).check([f"/data/clips/{name}.mp4" for name in "xyz"])
    assert "b.txt" in str(refusal.value) and "belongs to one split" in str(refusal.value)


def test_two_colons_in_a_plain_name_are_part_of_it_in_a_list(tmp_path: Path) -> None:
    splitter = Splitter((1.0, 0.0, 0.0), {"test": _list(tmp_path / "test.txt", "a::x.mp4", "/d/t.tar::y.mp4")})
    assert splitter.split("0" * 32, "/data/a::x.mp4") == "test"
    assert splitter.split("0" * 32, "/d/t.tar::y.mp4") == "test"
    assert splitter.split("0" * 32, "/data/b::x.mp4") == "train"


def test_a_list_without_names_is_refused(tmp_path: Path) -> None:
    splitter = Splitter((0.8, 0.1, 0.1), {"test": _list(tmp_path / "test.txt")})
    with pytest.raises(ValueError, match=r"it has 0, and an input is '/data/x\.mp4'"):
        splitter.check(["/data/x.mp4"])
