"""Videos that lie in a store are packed as those of a folder are, and spoilt answers do not change a byte."""

from __future__ import annotations

import itertools
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from shards.format import PackSettings
from shards.pack import pack
from shards.read import Shards
from shards.sources import Source, _below, list_sources
from shards.store import Store, Url
from shards.workers import open_source
from tests.object_store import Proxy, Server
from tests.small_videos import render_folder

SETTINGS = PackSettings(side=48)
FOLDERS = (f"s3://shelf/raw-{number}" for number in itertools.count())


def put(url: str, name: str, content: bytes) -> None:
    Store(Url(url)).create(name, content)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_folder(tmp_path_factory.mktemp("videos") / "my films", videos=4)


@pytest.fixture
def stored(videos: Path, proxy: Proxy) -> str:
    """The videos in a store, with what does not count beside them."""
    url = next(FOLDERS)
    for path in sorted(videos.iterdir()):
        put(url, f"2026/my films/{path.name}", path.read_bytes())
    put(url, "2026/.hidden/film.mp4", b"x")
    put(url, "2026/my films/film.mp4.part", b"x")
    return url


def below(sources: list[Source], url: str) -> list[str]:
    assert all(source.path.startswith(f"{url}/") for source in sources)
    return [source.name.removeprefix(f"{url}/") for source in sources]


def test_a_url_gives_an_object_all_below_it_or_what_a_pattern_names(stored: str) -> None:
    four = [f"2026/my films/video-0{number}.mp4" for number in range(4)]
    everything = list_sources([stored])
    assert below(everything, stored) == ["2026/my films/film.mp4.part", *four]
    assert ["interrupted" in source.problem for source in everything] == [True, False, False, False, False]
    assert list_sources([Path(f"{stored}/2026/")]) == everything
    assert below(list_sources([f"{stored}/2026/*/video-0[12].mp4"]), stored) == four[1:3]
    assert below(list_sources([f"{stored}/{four[3]}", f"{stored}/*/*/*03.mp4"]), stored) == four[3:]
    for missing in (f"{stored}/*.mp4", f"{stored}/2025", f"{stored}/2026/my films/video-9?.mp4"):
        with pytest.raises(ValueError, match="does not exist: there is no such object, and none below it"):
            list_sources([missing])


def test_what_a_console_stores_for_an_empty_folder_is_no_input() -> None:
    class Listing:
        """What S3 lists of a folder that was made in a browser: SeaweedFS, which has folders, cannot hold such."""

        def __init__(self, url: Url) -> None:
            assert url == Url("s3://shelf/raw")

        def listed(self) -> dict[str, tuple[int, int]]:
            return {"": (0, 1), "2026": (0, 1), "2026/film.mp4": (9, 1), "empty.mp4": (0, 1)}

    found = _below(Url("s3://shelf/raw"), Listing)  # type: ignore[arg-type]
    assert [str(url) for url in found] == ["s3://shelf/raw/2026/film.mp4", "s3://shelf/raw/empty.mp4"]


def test_names_with_letters_that_mean_something_elsewhere_are_plain_names(proxy: Proxy) -> None:
    url = next(FOLDERS)
    names = ["film [abc].mp4", "50%.mp4", "ü #1.mp4", "a+b~c.mp4", "what?.mp4"]
    for name in names:
        put(f"{url}/é [x] 50% #2?", name, name.encode())
        put(f"{url}/é [x] 50% ", name, b"of another folder")
    found = [source for source in list_sources([url]) if "#2?" in source.path]
    assert sorted(below(found, url)) == sorted(f"é [x] 50% #2?/{name}" for name in names)
    assert [source.size for source in found] == [len(source.basename.encode()) for source in found]
    assert list_sources([source.name for source in found]) == found
    for source in found:
        with open_source(source) as file:
            assert file.read() == source.basename.encode()


def test_lists_and_tars_may_be_urls_and_lists_hold_them(stored: str, videos: Path, tmp_path: Path) -> None:
    three = [f"{stored}/2026/my films/video-0{number}.mp4" for number in range(3)]
    lines = [*three[:2], "2026/my films/video-02.mp4", f"{stored}/lost.mp4", ""]
    put(stored, "list.txt", "\n".join(lines).encode())
    (tmp_path / "list.txt").write_text("\n".join([*three, str(videos / "video-03.mp4"), f"{stored}/lost.mp4"]))
    found = list_sources([f"{stored}/list.txt"])
    assert [source.name for source in found] == sorted([*three, lines[3]])
    assert ["does not exist" in source.problem for source in found] == [False, False, False, True]
    assert list_sources([tmp_path / "list.txt"]) == sorted(
        [*found, *list_sources([videos / "video-03.mp4"])], key=lambda source: os.fsencode(source.name)
    )
    with tarfile.open(tmp_path / "films.tar", "w") as archive:
        archive.add(videos / "video-00.mp4", "a/one.mp4")
        archive.add(videos / "video-01.mp4", "two.mp4")
        archive.add(tmp_path / "list.txt", "list.txt")
    put(stored, "tars/films.tar", (tmp_path / "films.tar").read_bytes())
    there, here = list_sources([f"{stored}/tars"]), list_sources([tmp_path / "films.tar"])
    assert [(source.inside, source.offset, source.size) for source in there] == [
        (source.inside, source.offset, source.size) for source in here
    ]
    with open_source(there[0]) as one, open_source(here[0]) as other:
        assert one.read() == other.read() == (videos / "video-00.mp4").read_bytes()
    put(stored, "tars/cut.tar", (tmp_path / "films.tar").read_bytes()[:700])
    [cut] = list_sources([f"{stored}/tars/cut.tar"])
    assert "cannot be read to its end" in cut.problem


@pytest.mark.parametrize("fault", [None, "503", "cut", "lie", "stall"])
def test_a_store_is_packed_to_the_bytes_that_its_folder_is_packed_to(
    stored: str, videos: Path, proxy: Proxy, tmp_path: Path, fault: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVC_STORE_PATIENCE", "20")  # a stalled body is given up after a quarter of it
    pack([videos], tmp_path / "plain", SETTINGS, workers=1)
    proxy.requests.clear()
    proxy.fault = lambda request: fault if request.count in (3, 5, 6) else None
    summary = pack([f"{stored}/2026/*/*.mp4"], tmp_path / "stored", SETTINGS, workers=2)
    assert summary.done == sum(summary.manifest.packed.values()) == 4
    assert Shards(tmp_path / "stored").digest == Shards(tmp_path / "plain").digest
    if fault is None:
        assert sorted(proxy.got(".mp4")) == [f"video-0{number}.mp4" for number in range(4)], "each is fetched once"
    proxy.requests.clear()
    again = pack([f"{stored}/2026/*/*.mp4"], tmp_path / "stored", SETTINGS, workers=2)
    assert (again.done, again.skipped, proxy.got(".mp4")) == (0, 4, [])


def test_what_a_store_does_not_give_is_named_and_taken_by_the_next_packing(
    stored: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVC_STORE_PATIENCE", "1")
    proxy.fault = lambda request: "503" if request.target.endswith("video-02.mp4") else None
    summary = pack([f"{stored}/2026/*/*.mp4"], tmp_path / "out", SETTINGS, workers=1)
    assert summary.manifest.rejected == {"unreadable file": 1}
    [line] = (tmp_path / "out" / "rejected.tsv").read_text().splitlines()
    assert line.startswith(f"{stored}/2026/my films/video-02.mp4\tunreadable file\tthe store answers 503")
    proxy.fault = lambda request: None
    again = pack([f"{stored}/2026/*/*.mp4"], tmp_path / "out", SETTINGS, workers=1)
    assert (again.done, again.manifest.rejected) == (1, {})


def test_a_line_that_a_store_refuses_costs_that_line_and_a_store_that_is_gone_ends_the_list(
    stored: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVC_STORE_PATIENCE", "1")
    (tmp_path / "list.txt").write_text("".join(f"{stored}/2026/my films/video-0{n}.mp4\n" for n in range(4)))
    proxy.fault = lambda request: "410" if request.target.endswith("video-02.mp4") else None
    found = list_sources([tmp_path / "list.txt"])
    assert [source.problem for source in found] == ["", "", "the store answers 410", ""]
    proxy.fault = lambda request: "503"
    with pytest.raises(TimeoutError, match="the store answers 503"):
        list_sources([tmp_path / "list.txt"])


def test_a_listing_that_is_not_allowed_or_a_url_with_a_key_ends_in_words_without_a_key(
    stored: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ("https://host/film.mp4?X-Amz-Signature=s3cr3t", "s3://AKID:s3cr3t@shelf/film.mp4"):
        (tmp_path / "list.txt").write_text(f"{url}\n")
        for given in (url, str(tmp_path / "list.txt")):
            with pytest.raises(ValueError, match="with a key or a password in it is not taken") as raised:
                list_sources([given])
            assert "s3cr3t" not in str(raised.value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(PermissionError, match="the store answers 403") as refused:
        list_sources([f"{stored}/2026/*/*.mp4"])
    assert "another-secret" not in str(refused.value)


def test_videos_come_over_http_one_by_one(stored: str, server: Server, videos: Path) -> None:
    url = f"http://127.0.0.1:{server.filer}/buckets/{stored.removeprefix('s3://')}/2026/my films/video-00.mp4"
    [source] = list_sources([url])
    with open_source(source) as file:
        assert file.read() == (videos / "video-00.mp4").read_bytes()
    with pytest.raises(ValueError, match="Over http none is listed"):
        list_sources([f"{url}.not"])


def test_an_object_that_is_stored_anew_after_it_was_listed_is_rejected_by_name(stored: str, proxy: Proxy) -> None:
    url = Url(f"{stored}/2026/my films")
    video, *_ = [source for source in list_sources([str(url)]) if source.basename == "video-00.mp4"]
    with open_source(video) as file:
        content = file.read()
    for size, listed in ((len(content) - 1, video.mtime_ns), (len(content), video.mtime_ns - 10**10)):
        with pytest.raises(OSError, match="stored anew since it was listed"):
            open_source(replace(video, size=size, mtime_ns=listed))
    member = replace(video, offset=0, size=100)
    with open_source(member) as file:
        assert file.read() == content[:100]
    with pytest.raises(OSError, match="stored anew since it was listed"):
        open_source(replace(member, mtime_ns=video.mtime_ns - 10**10))
