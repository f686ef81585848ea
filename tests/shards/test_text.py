"""Text and names as other systems write them: byte order marks, NFD, backslashes, milliseconds."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from shards.sources import read_lines
from shards.text import counted, name_forms, normalize_name

NFC = "Caf\u00e9"
NFD = unicodedata.normalize("NFD", NFC)


def test_text_is_read_once_so_that_a_pipe_may_be_given(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, "\ufeffone\r\ntwo\r\n".encode())
    os.close(writing)
    try:
        assert list(read_lines(f"/dev/fd/{reading}")) == ["one", "two"]
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        (NFC, NFD),
        ("a/x.mp4", "a\\x.mp4"),
        ("x.mp4", "x.MP4"),
        ("x.mp4", "\ufeffx.mp4 "),
        ("/d/a.tar::b/x.mp4", "/d/a.tar/b/x.mp4"),
        ("abc-_defghi_000005.mp4", "abc-_defghi_5000_15000.mp4"),
        ("id_000300", "id_300000_310000"),
    ],
)
def test_names_that_mean_one_file_compare_equal(name: str, other: str) -> None:
    assert normalize_name(name) == normalize_name(other)
    assert set(name_forms(name)) == set(name_forms(other))


@pytest.mark.parametrize(
    ("name", "other"),
    [("x.mp4", "X.mp4"), ("x_5000_15000", "x_5000_16000"), ("x_5500_15500", "x_5000_15000"), ("a::b.mp4", "a/b.mp4")],
)
def test_names_that_mean_two_files_do_not(name: str, other: str) -> None:
    assert normalize_name(name) != normalize_name(other)


def test_a_file_goes_by_its_name_and_by_it_without_its_ending() -> None:
    assert name_forms("Clip.ABC.MP4") == ("Clip.ABC.mp4", normalize_name("Clip.ABC"))
    assert name_forms("id_5000_15000.webm") == ("id_000005.webm", "id_000005")


def test_one_thing_is_counted_in_the_singular() -> None:
    counts = [counted(number, plural) for number in (0, 1, 2000) for plural in ("files", "micro-batches", "processes")]
    assert counts[:3] == ["0 files", "0 micro-batches", "0 processes"]
    assert counts[3:6] == ["1 file", "1 micro-batch", "1 process"]
    assert counts[6:] == ["2,000 files", "2,000 micro-batches", "2,000 processes"]
