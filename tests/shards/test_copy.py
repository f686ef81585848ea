"""Packed folders copied to a store and back, verified there, and read from there."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shards.copy import copy_packed
from shards.read import Shards
from shards.store import Store, Url
from shards.survey import survey
from shards.verify import verify
from tests.object_store import KEY, SECRET, Proxy, Request
from tests.shards.packing import content


def quiet(done: int, total: int, name: str) -> None:
    """No progress."""


@pytest.fixture
def url(tmp_path: Path) -> Url:
    return Url(f"s3://shelf/{tmp_path.name}")


@pytest.fixture
def there(small_world: Path, proxy: Proxy, url: Url) -> Url:
    """A copy in the store."""
    copy_packed(small_world, url, progress=quiet)
    proxy.requests.clear()
    return url


def test_a_copy_and_its_copy_are_the_same_bytes(there: Url, small_world: Path, tmp_path: Path, proxy: Proxy) -> None:
    copy_packed(there, tmp_path / "back", progress=quiet)
    assert content(tmp_path / "back") == content(small_world)
    assert (tmp_path / "back" / "journal.jsonl").read_bytes() == (small_world / "journal.jsonl").read_bytes()
    assert verify(there) == [] == verify(there, quick=True)


def test_what_is_there_is_not_copied_again_either_way(
    there: Url, small_world: Path, tmp_path: Path, proxy: Proxy
) -> None:
    copy_packed(small_world, there, progress=quiet)
    assert [request.method for request in proxy.requests if request.method == "PUT"] == ["PUT"], "the manifest, refused"
    copy_packed(there, tmp_path / "back", progress=quiet)
    proxy.requests.clear()
    copy_packed(there, tmp_path / "back", progress=quiet)
    assert proxy.got(".tar") == [] == proxy.got(".npy")


def test_the_manifest_is_put_last_and_never_over_another(
    there: Url, small_world: Path, tmp_path: Path, proxy: Proxy, url: Url
) -> None:
    copy_packed(small_world, url / "again", progress=quiet)
    stored = [
        request.target.rpartition("/")[2].partition("?")[0] for request in proxy.requests if request.method == "PUT"
    ]
    assert stored[-1] == "manifest.json" and stored.count("manifest.json") == 1 and len(stored) > 4
    other = shutil.copytree(small_world, tmp_path / "other")
    (other / "manifest.json").write_text((other / "manifest.json").read_text() + " ")
    with pytest.raises(ValueError, match=f"{there} holds another packed folder"):
        copy_packed(other, there, progress=quiet)
    copy_packed(there, tmp_path / "back", progress=quiet)
    (tmp_path / "back" / "manifest.json").write_text((other / "manifest.json").read_text())
    with pytest.raises(ValueError, match="back holds another packed folder"):
        copy_packed(there, tmp_path / "back", progress=quiet)


def test_a_manifest_that_another_copy_has_put_meanwhile_stays(small_world: Path, proxy: Proxy, url: Url) -> None:
    anothers: list[bytes] = []

    def fault(request: Request) -> None:
        if request.method == "PUT" and "manifest.json" in request.target and not anothers:
            anothers.append(b"another's")
            Store(url).create("manifest.json", anothers[0])

    proxy.fault = fault
    with pytest.raises(ValueError, match="holds another packed folder"):
        copy_packed(small_world, url, progress=quiet)
    assert [Store(url).whole("manifest.json", most=100)] == anothers


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_copy_that_is_killed_goes_on_and_ends_with_the_same_bytes(
    way: str, small_world: Path, tmp_path: Path, proxy: Proxy, url: Url
) -> None:
    if way == "down":
        copy_packed(small_world, url, progress=quiet)
    ends = (small_world, url) if way == "up" else (url, tmp_path / "back")
    command = [sys.executable, "-m", "launch.cli", "copy", *map(str, ends)]
    for kill_at in (2, 3, 4):
        seen = len(proxy.requests)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

        def fault(request: Request, kill: int = seen + kill_at, process: subprocess.Popen[bytes] = process) -> None:
            if request.count == kill:
                process.send_signal(signal.SIGKILL)

        proxy.fault = fault
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        if way == "up":
            with pytest.raises(ValueError, match="which `avc copy FOLDER"):
                Shards(url)
    proxy.fault = lambda request: None
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "each as its checksum says" in done.stdout
    assert verify(ends[1]) == []
    if way == "down":
        assert content(tmp_path / "back") == content(small_world)


def test_verify_names_what_is_wrong_in_a_store(there: Url, small_world: Path, tmp_path: Path) -> None:
    store = Store(there)
    shards = Shards(small_world)
    spoilt, short, stray = shards.manifest.shards[0].name, shards.manifest.shards[1].name, "train-000077.tar"
    data = bytearray((small_world / spoilt).read_bytes())
    offset = int(shards.index["mjpeg_offset"][shards.index["shard"] == 0][0])
    data[offset + 5] ^= 1
    obstore, client = store._client
    obstore.put(client, spoilt, bytes(data))
    obstore.put(client, short, (small_world / short).read_bytes()[:-2000])
    obstore.put(client, stray, b"")
    found = {(problem.file, problem.what) for problem in verify(there)}
    assert {(spoilt, "altered"), (short, "truncated"), (stray, "not listed")} <= found
    assert {(problem.file, problem.what) for problem in verify(there, quick=True)} == {
        (short, "truncated"),
        (stray, "not listed"),
    }
    with pytest.raises(ValueError, match=f"{there}/{short} has .* bytes and manifest.json says"):
        Shards(there)
    obstore.delete(client, short)
    assert (short, "missing") in {(problem.file, problem.what) for problem in verify(there)}
    with pytest.raises(ValueError, match=f"{there}/{short} is listed in manifest.json and is not there"):
        Shards(there)


def test_shards_at_a_url_give_what_the_folder_gives_and_fetch_the_tables_once(
    there: Url, small_world: Path, proxy: Proxy
) -> None:
    local, remote = Shards(small_world), Shards(str(there))
    assert remote.digest == local.digest and str(remote.folder) == str(there)
    for clip in (0, 39):
        np.testing.assert_array_equal(remote.picture(clip, 10), local.picture(clip, 10))
        np.testing.assert_array_equal(remote.sound(clip, 1000, 500), local.sound(clip, 1000, 500))
        assert remote.info(clip) == local.info(clip)
    assert len(proxy.got(".tar")) == 6, "a range each"
    Shards(there)
    assert sorted(proxy.got(".npy")) == ["clips.npy", "pictures.npy"]
    assert sum(request.target.startswith("/shelf?list") for request in proxy.requests) == 1, "nor is it listed anew"


def test_packed_videos_at_a_url_are_audited_as_those_of_a_folder(there: Url, small_world: Path) -> None:
    for inputs in ([str(there)], [Path(str(there))]):  # which makes s3:/ of s3://
        found = survey(inputs, workers=1)
        assert len(found.looks) == 40 and not found.rejected
        assert {fault.kind for fault in found.faults} == {fault.kind for fault in survey([small_world]).faults}


def test_no_output_of_a_command_holds_a_key(there: Url, small_world: Path, tmp_path: Path, proxy: Proxy) -> None:
    commands = (["verify", str(there)], ["copy", str(there), str(tmp_path / "back")], ["verify", f"{there}-nowhere"])
    for fault, command in zip((None, "503", None), commands, strict=True):
        proxy.fault = lambda request, fault=fault: fault if request.count % 7 == 3 else None  # type: ignore[misc]
        done = subprocess.run([sys.executable, "-m", "launch.cli", *command], capture_output=True, text=True)
        assert done.returncode == (2 if "nowhere" in command[-1] else 0), done.stderr
        assert str(there) in done.stdout + done.stderr or command[0] == "copy"
        assert KEY not in done.stdout + done.stderr and SECRET not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    for path in [*(tmp_path / "back").iterdir(), *(tmp_path / "xdg").rglob("*")]:
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()
