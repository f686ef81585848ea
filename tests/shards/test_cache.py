"""The cache of a machine: each file fetched once, whole, bounded, and noticed when it is spoilt."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

import shards.cache
from shards.cache import Cache, CachedFile
from shards.copy import copy_packed
from shards.index import ShardFile
from shards.read import Shards
from shards.store import Store, Url
from tests.object_store import Proxy, Request

FETCH = """
import sys
from pathlib import Path
import shards.cache
from shards.cache import Cache
from shards.index import read_manifest
from shards.store import Store, Url
url = Url(sys.argv[1])
cache, files = Cache(Path(sys.argv[2])), read_manifest(url).shards
for file in files if int(sys.argv[3]) % 2 else reversed(files):
    cache.fetch(Store(url), file)
"""


@pytest.fixture
def url(many_shards: Path, proxy: Proxy, tmp_path: Path) -> Url:
    there = Url(f"s3://shelf/{tmp_path.name}")
    copy_packed(many_shards, there, progress=lambda *_: None)
    proxy.requests.clear()
    return there


@pytest.fixture
def files(many_shards: Path) -> tuple[ShardFile, ...]:
    return Shards(many_shards).manifest.shards


def start(url: Url, folder: Path, number: int = 0) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", FETCH, str(url), str(folder), str(number)])


def test_processes_that_need_the_same_files_fetch_each_once(
    url: Url, many_shards: Path, tmp_path: Path, proxy: Proxy, files: tuple[ShardFile, ...]
) -> None:
    proxy.fault = lambda request: "503" if request.count % 5 == 2 else None
    fetching = [start(url, tmp_path / "cache", number) for number in range(4)]
    (tmp_path / "cache").mkdir()
    assert [process.wait(timeout=100) for process in fetching] == [0] * 4
    assert len(files) > 8
    asked = [r for r in proxy.requests if r.target.endswith(".tar") and r.count % 5 != 2]
    assert len(asked) == len(files), "and again where the answer was spoilt"
    for file in files:
        assert (tmp_path / "cache" / file.sha256).read_bytes() == (many_shards / file.name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted(file.sha256 for file in files)


@pytest.mark.parametrize("harm", ["overwrite", "truncate", "delete", "replace"])
def test_a_file_that_is_spoilt_under_a_reader_is_fetched_anew(
    url: Url, many_shards: Path, tmp_path: Path, proxy: Proxy, files: tuple[ShardFile, ...], harm: str
) -> None:
    cache, store, file = Cache(tmp_path / "cache"), Store(url), files[0]
    cache.need(files)
    reader, right = CachedFile(cache, store, file), (many_shards / file.name).read_bytes()
    assert reader.read(1000, 5000) == right[1000:6000]
    path = cache.folder / file.sha256
    if harm == "overwrite":
        with open(path, "r+b") as opened:
            opened.seek(3000)
            opened.write(b"x")
    elif harm == "truncate":
        os.truncate(path, 2000)
    else:
        path.unlink()
        if harm == "replace":
            path.write_bytes(bytes(file.bytes))
    assert reader.read(1000, 5000) == right[1000:6000]
    assert CachedFile(cache, store, file).read(1000, 5000) == right[1000:6000]
    assert proxy.got(".tar") == [file.name] * 2 and path.read_bytes() == right


def test_a_reader_whose_fetching_process_is_killed_fetches_for_itself(
    url: Url, many_shards: Path, tmp_path: Path, proxy: Proxy, files: tuple[ShardFile, ...]
) -> None:
    (tmp_path / "cache").mkdir()
    asked = threading.Event()

    def stall(request: Request) -> str | None:
        if request.target.endswith(files[2].name) and not asked.is_set():
            asked.set()
            return "stall"
        return None

    proxy.fault = stall
    process = start(url, tmp_path / "cache", 1)
    assert asked.wait(60)
    cache = Cache(tmp_path / "cache")
    cache.fetch(Store(url), files[2], wait=False)  # is left to the other
    assert proxy.got(files[2].name) == [files[2].name] and not (tmp_path / "cache" / files[2].sha256).exists()
    process.send_signal(signal.SIGKILL)
    begun = CachedFile(cache, Store(url), files[2]).read(0, 10_000)
    assert begun == (many_shards / files[2].name).read_bytes()[:10_000]
    process.wait()
    assert not list((tmp_path / "cache").glob("*.part"))


def test_a_bound_holds_and_what_was_unused_for_longest_goes(
    url: Url, tmp_path: Path, files: tuple[ShardFile, ...]
) -> None:
    store, folder = Store(url), tmp_path / "cache"
    for group in (files[0:2], files[2:4], files[0:1]):  # so that files[1] is older than files[0]
        cache = Cache(folder)
        cache.need(group)
        for file in group:
            cache.fetch(store, file)
        del cache  # and what it needs
    size = sum(file.bytes for file in files[:4]) + files[4].bytes - 1  # one byte less than all five
    cache = Cache(folder, limit_bytes=size)
    cache.need([files[4]])
    assert {path.name for path in folder.glob("?" * 64)} == {files[number].sha256 for number in (0, 2, 3)}
    other = Cache(folder, limit_bytes=files[4].bytes + files[5].bytes - 1)
    with pytest.raises(ValueError, match=r"may hold .* GB \(data.cache_gb\), and .* GB are needed: .* by this process"):
        other.need([files[5]])
    other.need([files[4]])
    del cache, other
    (folder / f"{files[6].sha256}.part").write_bytes(b"left by a kill")
    Cache(folder, limit_bytes=0).need([])
    assert [path.name for path in folder.iterdir()] == ["lock"] or len(list(folder.iterdir())) <= 2


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_what_a_link_in_the_cache_leads_to_stays_as_it_is(link: str, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "cache", tmp_path / "precious"
    folder.mkdir()
    elsewhere.write_text("precious")
    inside = folder / ("a" * 64)
    inside.symlink_to(elsewhere) if link == "symbolic" else inside.hardlink_to(elsewhere)
    Cache(folder, limit_bytes=0).need([])
    assert not inside.is_symlink() and not inside.exists(), "it went, to make room"
    assert elsewhere.read_text() == "precious"


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a link"])
def test_what_is_no_file_says_nothing_of_needs(kind: str, tmp_path: Path) -> None:
    strange = tmp_path / "needs-strange"
    make = {"a pipe": os.mkfifo, "a folder": os.mkdir, "a link": lambda path: path.symlink_to(tmp_path / "gone")}
    make[kind](strange)
    need = f"from pathlib import Path; from shards.cache import Cache; Cache(Path({str(tmp_path)!r})).need([])"
    subprocess.run([sys.executable, "-c", need], check=True, timeout=60)
    assert os.path.lexists(strange)


@pytest.mark.parametrize(
    ("content", "bytes_needed"),
    [
        (f'["run", 0, 0, {{"{"a" * 64}": 1000, "{"b" * 64}": 500}}]', 1500),
        (f"{'a' * 64} 1000\n", 0),
        ("", 0),
        ("{", 0),
        ("null", 0),
        ("[1, 2, 3]", 0),
        ('["run", 0, 0, {"file": "long"}]', 0),
        ('{"of": [], "alone": {}}', 0),
        ('["run", 700, 0, {}]', 700),
    ],
)
def test_needs_in_another_form_are_none(content: str, bytes_needed: int, tmp_path: Path) -> None:
    held = tmp_path / "needs-of-another"
    held.write_text(content)
    (tmp_path / ("a" * 64)).write_bytes(bytes(1000))
    with open(held, "rb") as holding:
        fcntl.flock(holding, fcntl.LOCK_EX)
        Cache(tmp_path, limit_bytes=bytes_needed).need([])
        assert (tmp_path / ("a" * 64)).exists() == (bytes_needed == 1500)
        if bytes_needed:
            with pytest.raises(ValueError, match="GB are needed"):
                Cache(tmp_path, limit_bytes=bytes_needed - 1).need([])
    Cache(tmp_path).need([])
    assert not held.exists(), "it went, as nobody holds it"


def test_what_goes_while_it_is_read_takes_no_place_any_more(tmp_path: Path) -> None:
    file = tmp_path / ("a" * 64)
    file.write_bytes(bytes(1000))
    with open(file, "rb") as reader:
        Cache(tmp_path, limit_bytes=0).need([])
        assert not file.exists() and os.fstat(reader.fileno()).st_size == 0


def test_a_full_disk_ends_in_words_and_leaves_room(url: Url, tmp_path: Path, files: tuple[ShardFile, ...]) -> None:
    (tmp_path / "cache").mkdir()
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n{FETCH}"
    done = subprocess.run(
        [sys.executable, "-c", limited, str(url), str(tmp_path / "cache"), "1"], capture_output=True, text=True
    )
    assert f"OSError: [Errno 27] File too large: '{tmp_path / 'cache' / files[0].sha256}'" in done.stderr
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_one_process_did_is_not_done_again_by_those_that_start_with_it_but_after_a_failure_and_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def fails() -> None:
        raise ValueError("a shard is missing")

    with pytest.raises(ValueError, match="a shard is missing"):
        Cache(tmp_path).once("set A", fails)
    for what in ("set A", "set A", "set B"):
        Cache(tmp_path).once(what, partial(done.append, what))
    assert done == ["set A", "set B"]
    monkeypatch.setattr(shards.cache, "JUST_SECONDS", -1.0)
    Cache(tmp_path).once("set A", partial(done.append, "set A"))
    assert done == ["set A", "set B", "set A"]
