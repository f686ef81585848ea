"""What a stranger may send to the served explorer: files, names, addresses and requests, all refused in words."""

from __future__ import annotations

import io
import json
import pickle
import socket
import struct
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from avc.config import parse_config
from avc.encoders.trained import trained
from avc.models import build
from launch.explore.moments import Embedder
from launch.explore.serve import CONNECTIONS, Server, _Handler
from launch.explore.uploads import MAX_BYTES, Decoder
from launch.explore.write import PAGE, page


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("explorer")
    (folder / "data").mkdir()
    (folder / "data" / "about.js").write_text("0123456789")
    for name in ("index.html", *PAGE):
        (folder / name).write_text("")
    for beside in (folder.parent, folder):
        (beside / "secret.txt").write_text("secret")
    config = parse_config({"model": {"name": "ave", "width": 0.0625}, "data": {"image_size": 28}})
    network = trained(build(config.model), config)
    embedders = [Embedder(network, "run", "AVE-Net", None, "")]
    with Decoder() as decoder, Server(folder, embedders, title="t", port=0, decoder=decoder) as started:
        threading.Thread(target=started.serve_forever, daemon=True).start()
        yield started
        started.shutdown()


def talk(server: Server, raw: bytes, *, rest: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """What the server answers to these very bytes: status, headers, body."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=60) as connection:
        connection.sendall(raw)
        try:
            connection.sendall(rest)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has stopped reading
        answer = b""
        try:
            while block := connection.recv(2**20):
                answer += block
        except ConnectionResetError:
            pass
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, body


def request(
    server: Server, line: str, *, body: bytes = b"", **headers: str | None
) -> tuple[int, dict[str, str], bytes]:
    """The answer to a request as the page would make it, with some headers changed; None leaves one out."""
    usual = {"Host": f"127.0.0.1:{server.server_port}", "Connection": "close"}
    if line.startswith("POST"):
        usual |= {"X-Token": server.token, "Content-Length": str(len(body))}
    usual |= {name.replace("_", "-"): value for name, value in headers.items()}  # type: ignore[misc]
    head = "".join(f"{name}: {value}\r\n" for name, value in usual.items() if value is not None)
    return talk(server, f"{line} HTTP/1.1\r\n{head}\r\n".encode(), rest=body)


def encoded(kind: str, size: tuple[int, int] = (40, 30)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size).save(stream, kind)
    return stream.getvalue()


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size, and holds a little of it."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def wav(samples: int = 48_000, *, rate: int = 48_000, channels: int = 1, form: str = "WAV") -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(-9000, 9000, (samples, channels)).astype(np.int16)
    soundfile.write(stream, noise, rate, format=form)
    return stream.getvalue()


def flac_of_hours() -> bytes:
    """By its header; it holds a second."""
    data = bytearray(wav(form="FLAC"))
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4  # 2**36 - 1 samples
    return bytes(data)


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../etc/cron.d/x", bytes(10**6))
    return stream.getvalue()


def not_finite() -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, np.full(48_000, np.nan, np.float32), 48_000, format="WAV", subtype="FLOAT")
    return stream.getvalue()


class Command:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        import os

        return os.system, ("touch /tmp/owned",)


JPEG = encoded("JPEG")
HUGE_JPEG = bytearray(encoded("JPEG"))
HUGE_JPEG[HUGE_JPEG.index(b"\xff\xc0") + 5 : HUGE_JPEG.index(b"\xff\xc0") + 9] = struct.pack(">HH", 65_500, 65_500)
UPLOADS = {
    "a script": b"<script>alert(1)</script>",
    "a page": b"<!doctype html><html><body onload=alert(1)></body></html>",
    "an SVG with a script": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "an SVG with another file": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "a bomb of entities": b'<!DOCTYPE a [<!ENTITY b "cccc"><!ENTITY d "&b;&b;">]><a>&d;</a>',
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
    "a PDF": b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj",
    "a shell script": b"#!/bin/sh\ntouch /tmp/owned\n",
    "a program": b"\x7fELF\x02\x01\x01" + bytes(100),
    "a pickle": pickle.dumps(Command()),
    "a zip with a path": zipped(),
    "a playlist of HLS": b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "a playlist of addresses": b"#EXTM3U\nhttp://169.254.169.254/latest/meta-data\n",
    "a list to concatenate": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    "a manifest of DASH": b'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>file:///etc/</BaseURL></MPD>',
    "a session description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    "a PLS": b"[playlist]\nFile1=/etc/passwd\nNumberOfEntries=1\n",
    "zeros": bytes(2**20),
    "all the zeros that it takes": bytes(MAX_BYTES),
    "one byte": b"\xff",
    "a TIFF": encoded("TIFF"),
    "an icon": encoded("ICO"),
    "a TGA": encoded("TGA"),
    "a JPEG 2000": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(50),
    "a PNG of 100,000 pixels": png(100_000, 100_000),
    "a PNG of a line": png(100_000, 1),
    "a PNG of nothing": png(0, 0),
    "a PNG that ends early": png(4000, 4000),
    "a PNG of 2**31": png(2**31 - 1, 2**31 - 1),
    "a PNG without anything": b"\x89PNG\r\n\x1a\n",
    "a JPEG of 65,500 pixels": bytes(HUGE_JPEG),
    "half a JPEG": JPEG[: len(JPEG) // 2],
    "a JPEG's beginning": b"\xff\xd8\xff",
    "a GIF of 65,535 pixels": b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x02\x00;",
    "a BMP of minus 2**31": b"BM"
    + struct.pack("<IIIIiiHHIIIIII", 100, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24, *[0] * 6),
    "a WebP of noise": b"RIFF\x40\0\0\0WEBPVP8 " + bytes(range(64)),
    "a WebP of 16,384 pixels": b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f\xff\xff\xff\x0f" + bytes(16),
    "half a second": wav(24_000),
    "no samples": wav(0),
    "samples that are no numbers": not_finite(),
    "sound at 1 Hz": wav(100, rate=1),
    "sound of 1,000 channels": wav(50, channels=1000),
    "sound at 2 GHz": wav(100, rate=2**31 - 1),
    "a HEIC": b"\0\0\0\x18ftypheic" + bytes(100),
    "a FLAC's beginning": wav(form="FLAC")[:60],
    "an Ogg of noise": b"OggS" + bytes(200),
    "a WAV that claims 4 GB": b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff" + bytes(100),
    "an MP4": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(100),
    "a Matroska": b"\x1aE\xdf\xa3" + bytes(100),
    "an array": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
}


def works(server: Server) -> bool:
    """Whether a picture and a sound are embedded as ever."""
    for body, kind in ((encoded("PNG"), "image"), (wav(60_000), "audio"), (flac_of_hours(), "audio")):
        status, _, answer = request(server, "POST /embed", body=body)
        said = json.loads(answer)
        if status != 200 or said["kind"] != kind or np.shape(said["vectors"]) != (1, 128):
            return False
    return True


def test_fifty_hostile_files_are_refused_in_words_and_the_server_lives(server, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert len(UPLOADS) == 50
    for name, body in UPLOADS.items():
        status, headers, answer = request(server, "POST /embed", body=body)
        error = json.loads(answer)["error"]
        assert status == 422 and error.startswith("That cannot be used: ") and len(error) > 40, (name, answer)
        assert headers["Content-Type"] == "application/json" and headers["X-Content-Type-Options"] == "nosniff"
        assert "/proc" not in error and "Traceback" not in error, (name, error)
        assert not list(tmp_path.iterdir())
    assert works(server) and not Path("/tmp/owned").exists()


def test_two_gigabytes_of_zeros_are_refused_before_they_are_read(server) -> None:
    status, _, answer = request(server, "POST /embed", body=bytes(2**20), Content_Length=str(2**31))
    assert status == 413 and "at most 64 MB" in json.loads(answer)["error"]
    assert works(server)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X_Token": None}, 403),
        ({"X_Token": "guess"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": None}, 421),
        ({"Content_Length": None}, 411),
        ({"Content_Length": "-1"}, 411),
        ({"Content_Length": "1" * 5000}, 413),
        ({"Content_Length": "\xb2"}, 411),
        ({"Content_Length": None, "Transfer_Encoding": "chunked"}, 411),
        ({"Content_Length": "0"}, 400),
        ({"Content_Length": "1000"}, 408),
    ],
    ids=str,
)
def test_a_request_that_the_page_would_not_make_is_refused(server, headers, status) -> None:
    answered, _, answer = request(server, "POST /embed", body=b"x", **headers)
    assert answered == status and json.loads(answer)["error"].startswith("Refused: ")
    assert works(server)


@pytest.mark.parametrize(
    "path",
    [
        "/secret.txt",
        "/../secret.txt",
        "/data/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/data/..%2f..%2fsecret.txt",
        "/..\\secret.txt",
        "//etc/passwd",
        "/etc/passwd",
        "/data",
        "/data/",
        "/data/about.js/",
        "/data/about.js%00",
        "http://evil.example/data/about.js",
        "/" + "a" * 60_000,
    ],
    ids=lambda path: path[:40],
)
def test_a_path_leads_to_no_file_but_the_explorer_s(server, path) -> None:
    status, _, body = request(server, f"GET {path}")
    assert status == 404 and b"secret" not in body and b"root" not in body


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=-5", "bytes=99-", "bytes=0-1,3-4", "bytes=\xb2-", "lines=1-2"])
def test_a_range_that_there_is_not_gives_the_whole_file(server, asked) -> None:
    status, headers, body = request(server, "GET /data/about.js", Range=asked)
    assert (status, body) == (200, b"0123456789") and "Content-Range" not in headers


def test_a_range_gives_its_bytes(server) -> None:
    for asked, content in (("bytes=2-4", b"234"), ("bytes=7-", b"789"), ("bytes=8-99", b"89")):
        status, headers, body = request(server, "GET /data/about.js", Range=asked)
        assert (status, body) == (206, content)
        assert headers["Content-Range"] == f"bytes {asked[6]}-{int(asked[6]) + len(content) - 1}/10"


def test_a_sender_who_falls_silent_is_sent_away(server, monkeypatch) -> None:
    monkeypatch.setattr(_Handler, "timeout", 0.2)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as connection:
        head = f"POST /embed HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nX-Token: {server.token}\r\n"
        connection.sendall(f"{head}Content-Length: 100\r\n\r\nabc".encode())
        answer = connection.recv(2**16)
        assert b" 408 " in answer.split(b"\r\n")[0]
    assert works(server)


def test_many_silent_connections_do_not_lock_others_out_for_long(server, monkeypatch) -> None:
    monkeypatch.setattr(_Handler, "timeout", 0.2)
    silent = [socket.create_connection(("127.0.0.1", server.server_port), timeout=30) for _ in range(2 * CONNECTIONS)]
    for connection in silent:
        assert connection.recv(1) == b""  # closed by the server, and not by us
        connection.close()
    assert works(server)


def test_what_is_no_http_gets_an_answer_or_none_and_harms_nothing(server) -> None:
    for raw in (b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"PUT /embed HTTP/1.1\r\n\r\n", b"A" * 70_000):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(2**16)
    assert works(server)


def test_a_title_cannot_leave_its_place_in_the_page() -> None:
    written = page('"><script>alert(1)</script>{{ policy }}', token="").decode()
    assert "<script>alert" not in written and "&#34;&gt;&lt;script&gt;" in written
    assert written.count("default-src 'none'") == 1 and "unsafe" not in written
