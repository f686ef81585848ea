"""Objects read, written and checked over a real server, behind a proxy that spoils answers."""

from __future__ import annotations

import hashlib
import itertools
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import shards.store
from shards.aws import aws_profile
from shards.store import Store, Url, place
from tests.object_store import KEY, SECRET, Proxy, Server, free_ports

CONTENT = np.random.default_rng(0).bytes(3 * 2**20 + 17)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FOLDERS = (f"s3://shelf/test-store-{number}" for number in itertools.count())


@pytest.fixture
def store(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A folder with one object, `film.tar`."""
    filled = Store(Url(next(FOLDERS)))
    (tmp_path / "film.tar").write_bytes(CONTENT)
    filled.upload(tmp_path / "film.tar", "film.tar", sha256=DIGEST)
    proxy.requests.clear()
    return filled


def fetched(store: Store, tmp_path: Path) -> bytes:
    with open(tmp_path / "fetched", "w+b") as file:
        store.fetch("film.tar", file, size=len(CONTENT), sha256=DIGEST)
    return (tmp_path / "fetched").read_bytes()


@pytest.mark.parametrize("text", ["s3://shelf/flickr", "gs://shelf/a/b", "https://host:8000/a", "az://account/box/a"])
def test_a_url_stays_one_wherever_a_path_may_stand(text: str) -> None:
    url = place(text)
    assert isinstance(url, Url) and str(url) == text and str(place(Path(text))) == text
    assert str(url / "a" / "b") == f"{text}/a/b" and str((url / "a").parent) == text == str(url.absolute())
    assert str(pickle.loads(pickle.dumps(url))) == text and pickle.loads(pickle.dumps(url)) == url
    assert not isinstance(place("s3/shelf"), Url) and not isinstance(place("/s3:/shelf"), Url)


def test_what_was_stored_comes_back_by_ranges_and_whole(store: Store, proxy: Proxy, tmp_path: Path) -> None:
    assert bytes(store.read("film.tar", 5, 70)) == CONTENT[5:75] and bytes(store.read("film.tar", 5, 0)) == b""
    assert fetched(store, tmp_path) == CONTENT
    assert len(proxy.got("film.tar")) == 1 + 1, "one request a range, one the whole"
    assert store.sizes() == {"film.tar": len(CONTENT)} and store.uploaded("film.tar") == DIGEST
    assert fetched(pickle.loads(pickle.dumps(store)), tmp_path) == CONTENT


@pytest.mark.parametrize("fault", ["503", "stall", "cut", "lie", "flip", "silent", "down"])
def test_spoilt_answers_are_asked_for_again_and_no_wrong_byte_gets_through(
    store: Store, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(shards.store, "STALLED_SECONDS", 2.0)
    proxy.fault = lambda request: fault if request.count in (0, 1) else None
    assert fetched(Store(store.url), tmp_path) == CONTENT
    assert len(proxy.got("film.tar")) == 3


def test_an_answer_that_takes_longer_than_it_may_is_gone_on_with_where_it_ended(
    store: Store, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards.store, "ANSWER_SECONDS", 3.0)
    proxy.fault = lambda request: "slow" if request.count == 0 else None
    assert fetched(Store(store.url), tmp_path) == CONTENT
    first, *later = [request.start for request in proxy.requests]
    assert first == 0 and later and min(start for start in later if start is not None) >= 2**20


def test_a_store_that_refuses_one_answer_in_three_is_read_to_its_end(
    store: Store, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.fault = lambda request: "503" if request.count % 3 == 0 else None
    assert [fetched(store, tmp_path) == CONTENT for _ in range(3)] == [True] * 3
    monkeypatch.setattr(shards.store, "PART_BYTES", 5 * 2**20)  # S3 takes no smaller ones
    (tmp_path / "large").write_bytes(4 * CONTENT)
    store.upload(tmp_path / "large", "large", sha256=hashlib.sha256(4 * CONTENT).hexdigest())
    assert b"".join(map(bytes, store.pieces("large", 4 * len(CONTENT)))) == 4 * CONTENT
    assert sum(request.method == "PUT" for request in proxy.requests) >= 3


@pytest.mark.parametrize("fault", ["503", "stall", "cut", "lie", "silent", "down"])
def test_a_store_that_stays_bad_ends_in_a_sentence_after_the_patience(
    store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("AVC_STORE_PATIENCE", "1")
    proxy.fault = lambda request: fault
    begun = time.monotonic()
    with pytest.raises(OSError, match=r"and so for \d+ s \(AVC_STORE_PATIENCE\)") as raised:
        Store(store.url).read("film.tar", 0, 1000)
    assert 1 <= time.monotonic() - begun < 30 and raised.value.filename == f"{store.url}/film.tar"
    assert SECRET not in str(raised.value) and KEY not in str(raised.value)


def test_a_command_that_reaches_no_store_ends_in_seconds_in_a_paragraph_and_a_rank_waits(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in shards.store.PATIENT:
        monkeypatch.delenv(name, raising=False)
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections, and answers nobody
    for port, reason, words in (
        (9, "no connection", ["verify", "s3://shelf/x"]),
        (9, "no connection", ["pack", "s3://shelf/x.mp4", "--out", str(tmp_path / "out")]),
        (silent.getsockname()[1], "no answer in time", ["verify", "s3://shelf/x"]),
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        done = subprocess.run([sys.executable, "-m", "launch.cli", *words], capture_output=True, text=True, timeout=200)
        last = done.stderr.splitlines()[-1]
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert last.startswith(f"avc {words[0]}: s3://shelf/x") and f"{reason}, and so for " in last
    silent.close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    waiting = subprocess.Popen(
        [sys.executable, "-m", "launch.cli", "verify", "s3://shelf/x"],
        env=os.environ | {"RANK": "0"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr is not None and "it is asked again for up to 600 s" in waiting.stderr.readline()
    waiting.kill()
    waiting.communicate()


def test_a_store_that_has_answered_is_asked_again_for_longer(
    store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in shards.store.PATIENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(shards.store, "FIRST_SECONDS", 0.0)
    assert bytes(store.read("film.tar", 0, 5)) == CONTENT[:5]
    (port,) = free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(OSError, match=r"no connection, and so for \d+ s .*check the URL"):
        Store(store.url).read("film.tar", 0, 5)
    proxies: list[Proxy] = []
    threading.Timer(1.0, lambda: proxies.append(Proxy(proxy.to, port=port))).start()
    elsewhere = pickle.loads(pickle.dumps(store))  # as a process of a training has it
    assert bytes(elsewhere.read("film.tar", 0, 5)) == CONTENT[:5]
    proxies[0].close()


def test_bytes_that_are_always_others_end_in_a_sentence(store: Store, proxy: Proxy, tmp_path: Path) -> None:
    proxy.fault = lambda request: "flip" if request.start == 0 else None
    with pytest.raises(OSError, match="its SHA-256 is not the manifest's, 3 times in turn"):
        fetched(store, tmp_path)


def test_a_long_wait_is_said_once(store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards.store, "STALLED_SECONDS", 0.5)
    monkeypatch.setenv("AVC_STORE_PATIENCE", "4")
    proxy.fault = lambda request: "503"
    refusal = "does not give what is asked for .the store answers 503"
    with pytest.warns(shards.store.Waiting, match=refusal) as said, pytest.raises(OSError, match="and so for"):
        Store(store.url).read("film.tar", 0, 1000)
    assert len(said) == 1


def test_what_is_not_there_and_what_is_not_allowed_end_at_once(
    store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match=f"answers 404 NoSuchKey.*{store.url}/other"):
        store.read("other", 0, 10)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(PermissionError, match="answers 403 SignatureDoesNotMatch") as raised:
        Store(store.url).read("film.tar", 0, 10)
    assert "another-secret" not in str(raised.value) and len(proxy.requests) == 2


def test_a_server_that_knows_no_ranges_is_named_as_such_at_once(tmp_path: Path) -> None:
    (tmp_path / "film.tar").write_bytes(CONTENT)
    serve = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as plain:
        threading.Thread(target=plain.serve_forever, daemon=True).start()
        far = Store(Url(f"http://127.0.0.1:{plain.server_port}"))
        with pytest.raises(OSError, match=r"does not answer ranges of bytes[^(]*$"):  # and no "so for 15 s (...)"
            far.read("film.tar", 5, 10)
        plain.shutdown()


def test_an_upload_whose_bytes_change_on_the_way_is_sent_again(
    store: Store, proxy: Proxy, tmp_path: Path, server: Server
) -> None:
    (tmp_path / "new").write_bytes(CONTENT[:1000])
    asked = proxy._ask
    spoilt = []

    def ask(request: bytes) -> bytes:
        if not spoilt:
            spoilt.append(request)
            request = request[:-1] + bytes([request[-1] ^ 1])
        return asked(request)

    proxy._ask = ask  # type: ignore[method-assign]
    store.upload(tmp_path / "new", "new", sha256=hashlib.sha256(CONTENT[:1000]).hexdigest())
    assert spoilt and bytes(store.read("new", 0, 1000)) == CONTENT[:1000]


def test_a_file_that_is_not_what_the_manifest_says_is_not_stored(store: Store, tmp_path: Path) -> None:
    (tmp_path / "damaged").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(ValueError, match="damaged is not what the manifest says"):
        store.upload(tmp_path / "damaged", "damaged", sha256=DIGEST)
    assert store.sizes() == {"film.tar": len(CONTENT)}


def test_what_is_there_is_not_created_again(store: Store, proxy: Proxy) -> None:
    store.create("manifest.json", b"one")
    with pytest.raises(FileExistsError, match="answers 412"):
        store.create("manifest.json", b"another")
    assert store.whole("manifest.json", most=100) == b"one"


def test_a_server_that_is_killed_and_started_again_is_waited_for(
    store: Store, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.kill()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(fetched, Store(store.url), tmp_path)
        server.start()
        assert waiting.result() == CONTENT


def test_profiles_are_read_and_keys_of_the_environment_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert aws_profile() == {}
    (tmp_path / "config").write_text(
        "[default]\nregion = eu-north-1\n[profile lab]\nendpoint_url = http://lab\n[profile login]\nsso_session = x\n"
    )
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = a\naws_secret_access_key = b%c\n[lab]\naws_session_token = t\n"
    )
    assert aws_profile() == {"access_key_id": "a", "secret_access_key": "b%c", "region": "eu-north-1"}
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert aws_profile() == {"session_token": "t", "endpoint": "http://lab"}
    monkeypatch.setenv("AWS_PROFILE", "login")
    with pytest.raises(ValueError, match=r"the profile login in ~/\.aws has no keys of its own"):
        aws_profile()
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ValueError, match="AWS_PROFILE is nobody, and there is no such profile"):
        aws_profile()
    (tmp_path / "credentials").write_text("aws_secret_access_key = hidden\n")
    with pytest.raises(ValueError, match="cannot be read as such") as raised:
        aws_profile()
    assert "hidden" not in str(raised.value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "e")
    assert aws_profile() == {}


@pytest.mark.parametrize("url", ["https://me:password@host/a", "https://host/a?X-Amz-Signature=password"])
def test_a_url_with_a_key_in_it_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="a key or a password in it is not taken") as raised:
        Store(Url(url)).read("a", 0, 1)
    assert "password@" not in str(raised.value) and "=password" not in str(raised.value)


def test_without_obstore_a_url_says_what_to_install_and_folders_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ValueError, match=r"s3://shelf/a needs the package obstore: pip install 'avcorr\[store\]'"):
        Store(Url("s3://shelf/a")).sizes()
    code = "import sys, shards.read, shards.verify, launch.cli; sys.exit('obstore' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
