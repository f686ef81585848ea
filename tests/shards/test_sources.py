"""Inputs: folders, files, lists and tar files, and names that somebody chose to do harm."""

from __future__ import annotations

import io
import os
import tarfile
import unicodedata
from pathlib import Path

import pytest

from shards.sources import Source, list_sources


def _touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def _names(sources: list[Source], under: Path) -> list[str]:
    return [os.path.relpath(source.name, under) for source in sources]


def test_a_folder_gives_all_of_its_files_but_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.mp4", "a/c.mkv", "a/README.txt", ".hidden.mp4", ".cache/d.mp4"):
        _touch(tmp_path / name)
    assert _names(list_sources([tmp_path]), tmp_path) == ["a/README.txt", "a/c.mkv", "b.mp4"]


def test_order_and_overlap_of_the_inputs_do_not_matter(tmp_path: Path) -> None:
    files = [_touch(tmp_path / name) for name in ("b.mp4", "a/c.mkv", "z.mov")]
    once = list_sources([tmp_path])
    assert list_sources([*reversed(files), tmp_path, tmp_path / "a" / ".." / "a"]) == once


def test_a_list_names_paths_beside_itself(tmp_path: Path) -> None:
    for name in ("lists/one.mp4", "two.mp4", "three.mp4"):
        _touch(tmp_path / name)
    text = _touch(tmp_path / "lists" / "all.txt", f"one.mp4\r\n\n../two.mp4\n{tmp_path}/three.mp4\ngone.mp4".encode())
    sources = list_sources([text])
    assert _names(sources, tmp_path) == ["lists/gone.mp4", "lists/one.mp4", "three.mp4", "two.mp4"]
    assert [bool(source.problem) for source in sources] == [True, False, False, False]


def test_a_tar_gives_its_videos_where_they_lie(tmp_path: Path) -> None:
    members = {"a.json": b"{}", "a.mp4": b"first", "dir/b.WEBM": b"second", "a.txt": b"words"}
    path = _tar(tmp_path / "shard.tar", members)
    sources = list_sources([tmp_path])
    assert [source.name for source in sources] == [f"{path}::a.mp4", f"{path}::dir/b.WEBM"]
    assert [source.basename for source in sources] == ["a.mp4", "b.WEBM"]
    data = path.read_bytes()
    content = [data[source.offset : (source.offset or 0) + source.size] for source in sources]
    assert content == [b"first", b"second"]


def test_a_truncated_tar_is_listed_beside_the_members_that_can_be_reached(tmp_path: Path) -> None:
    path = _tar(tmp_path / "shard.tar", {"a.mp4": b"a" * 5000, "b.mp4": b"b" * 5000})
    os.truncate(path, 8000)
    problems = {source.name: source.problem for source in list_sources([path])}
    assert "to its end" in problems[str(path)]
    assert problems[f"{path}::a.mp4"] == ""


def test_a_tar_without_videos_is_not_passed_over(tmp_path: Path) -> None:
    path = _tar(tmp_path / "labels.tar", {"a.json": b"{}"})
    [source] = list_sources([path])
    assert "no member" in source.problem


def test_what_is_not_a_regular_file_is_listed_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    dangling, pipe = list_sources([tmp_path])
    assert pipe.problem == "not a regular file"
    assert "No such file" in dangling.problem


def test_links_inside_of_a_tar_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        member = tarfile.TarInfo("secret.mp4")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    [source] = list_sources([tmp_path])
    assert "link" in source.problem


def test_the_folder_that_is_packed_into_is_not_an_input(tmp_path: Path) -> None:
    _touch(tmp_path / "a.mp4")
    _touch(tmp_path / "shards" / "train-000000.tar")
    assert _names(list_sources([tmp_path], without=tmp_path / "shards"), tmp_path) == ["a.mp4"]


def test_names_that_are_not_text_survive(tmp_path: Path) -> None:
    odd = [b"a&b?c=d.mp4", b"new\nline.mp4", b"not-utf8-\xff.mp4", "ünïcode.mp4".encode(), b"-o.mp4", b"$(id).mp4"]
    for name in odd:
        _touch(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))))
    found = list_sources([tmp_path])
    assert sorted(os.fsencode(source.basename) for source in found) == sorted(odd)


def test_an_input_that_the_user_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.mp4 does not exist"):
        list_sources([tmp_path / "nowhere.mp4"])
    for url in ("bucket.s3.amazonaws.com/films", "S3://bucket/films", "www.films.org/a.mp4"):
        with pytest.raises(ValueError, match="or URLs, which begin with s3://"):
            list_sources([url])


def test_a_list_finds_its_files_however_another_system_wrote_their_names(tmp_path: Path) -> None:
    stored = unicodedata.normalize("NFD", "Caf\u00e9")
    for name in (f"{stored}/{stored}.mp4", "b/one.mp4", "c.mp4", "blank .mp4 ", "q.mp4"):
        _touch(tmp_path / name)
    lines = [
        "\ufeffc.mp4 \t",
        '"b\\one.mp4"',
        "Caf\u00e9/Caf\u00e9.mp4",
        "blank .mp4 ",
        "Caf\u00e9/gone.mp4",
        "'q.mp4'",
    ]
    sources = list_sources([_touch(tmp_path / "all.txt", "\r\n".join(lines).encode())])
    found = [source for source in sources if not source.problem]
    assert _names(found, tmp_path) == [f"{stored}/{stored}.mp4", "b/one.mp4", "blank .mp4 ", "c.mp4", "q.mp4"]
    assert [os.path.basename(source.name) for source in sources if source.problem] == ["gone.mp4"]
    assert _names(list_sources([tmp_path / "Caf\u00e9" / "Caf\u00e9.mp4"]), tmp_path) == [f"{stored}/{stored}.mp4"]


def test_two_files_whose_names_differ_by_their_normal_form_alone_are_two_inputs(tmp_path: Path) -> None:
    names = ["Caf\u00e9.mp4", unicodedata.normalize("NFD", "Caf\u00e9.mp4")]
    for name in names:
        _touch(tmp_path / name)
    assert sorted(_names(list_sources([tmp_path]), tmp_path)) == sorted(names)
    both = _touch(tmp_path / "all.txt", "\n".join(names).encode())
    assert sorted(_names(list_sources([both]), tmp_path)) == sorted(names)


@pytest.mark.parametrize(
    "name",
    [
        *("a.mp4.part", "a.mp4.part-Frag7", "a.MP4.crdownload", "a.mp4.ytdl", "a.mp4.tmp", "a.mp4~", "a.temp.mp4"),
        *("a.part.mkv", "a.mp4.aria2", "a.webm.download/a.webm"),
    ],
)
def test_what_an_interrupted_download_left_is_named_unless_it_is_given_itself(tmp_path: Path, name: str) -> None:
    _touch(tmp_path / "a.part1.mp4")
    _touch(tmp_path / "films.tmp" / "b.mp4")
    _touch(tmp_path / "template.mp4")
    left = _touch(tmp_path / name)
    problems = {os.path.relpath(source.name, tmp_path): source.problem for source in list_sources([tmp_path])}
    assert "interrupted download" in problems.pop(name.partition("/")[0])
    assert problems == {"a.part1.mp4": "", "films.tmp/b.mp4": "", "template.mp4": ""}
    [given] = list_sources([left])
    assert not given.problem
    [listed] = list_sources([_touch(tmp_path / "list.txt", name.encode())])
    assert not listed.problem


def test_a_film_that_aria2_has_not_ended_is_none_yet(tmp_path: Path) -> None:
    _touch(tmp_path / "a.mp4")
    _touch(tmp_path / "a.mp4.aria2")
    assert all("interrupted download" in source.problem for source in list_sources([tmp_path]))


def test_two_colons_in_a_plain_name_or_a_members_are_part_of_it(tmp_path: Path) -> None:
    _touch(tmp_path / "a::b.mp4")
    path = _tar(tmp_path / "t::u.tar", {"d/x::y.mp4": b"x"})
    plain, member = list_sources([tmp_path])
    assert (plain.name, plain.basename) == (str(tmp_path / "a::b.mp4"), "a::b.mp4")
    assert (member.name, member.inside, member.basename) == (f"{path}::d/x::y.mp4", "d/x::y.mp4", "x::y.mp4")


def test_a_folder_that_this_project_has_made_is_named_with_what_takes_it(small_world: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "attempts").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").touch()
    for folder, taken in ((small_world, "is of packed videos, which `avc train`"), (tmp_path / "run", "is of a run")):
        with pytest.raises(ValueError, match=f"{folder} {taken}.*: here give files"):
            list_sources([folder])
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "manifest.json").touch()  # as others have it
    assert [source.basename for source in list_sources([tmp_path / "videos"])] == ["manifest.json"]
