"""A real object store on this machine, SeaweedFS, and a proxy before it that spoils answers."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

KEY, SECRET = "AKIDOFTHETESTS", "a-secret-of-the-tests"
BUCKET = "shelf"
WEED = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
CONFIG = f"""{{"identities": [{{"name": "tests", "credentials": [{{"accessKey": "{KEY}", "secretKey": "{SECRET}"}}],
"actions": ["Admin", "Read", "Write", "List", "Tagging"]}}]}}"""


class Server:
    """SeaweedFS on a folder, on the loopback interface alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "s3.json").write_text(CONFIG)
        self._process: subprocess.Popen[bytes] | None = None
        self._take_ports()

    def _take_ports(self) -> None:
        self._ports = free_ports(4)
        self.port, self.filer = self._ports[0], self._ports[1]

    def start(self) -> None:
        """Start it, until a bucket can be made; at the first start on other ports where one was lost meanwhile."""
        first = not (self.folder / "log").exists()
        for _ in range(5 if first else 1):
            self._launch()
            while self.is_there():
                if self._made_bucket():
                    return
                time.sleep(0.1)
            if first:
                self._take_ports()
        raise AssertionError(self.said())

    def _launch(self) -> None:
        assert WEED is not None
        s3, filer, master, volume = self._ports
        ports = [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}"]
        grpc = free_ports(4)
        ports += [
            f"-{part}.port.grpc={port}" for part, port in zip(("master", "volume", "filer", "s3"), grpc, strict=True)
        ]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL"),  # ends with the thread that started it
                    *(WEED, "server", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *ports),
                    *("-filer", "-s3", f"-s3.config={self.folder / 's3.json'}", "-s3.iam=false"),
                    *("-s3.port.iceberg=0", "-s3.port.lance=0"),
                    *(f"-filer.localSocket={self.folder}/filer.sock", f"-s3.localSocket={self.folder}/s3.sock"),
                    *("-master.telemetry=false", "-master.volumeSizeLimitMB=64"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _made_bucket(self) -> bool:
        with suppress(OSError):
            make = urllib.request.Request(f"http://127.0.0.1:{self.filer}/buckets/{BUCKET}/", method="POST")
            with suppress(urllib.error.HTTPError):  # it is there already
                urllib.request.urlopen(make, timeout=5).close()
            with suppress(urllib.error.HTTPError):  # who asks without a key is refused
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{BUCKET}", timeout=5).close()
            return True
        return False

    def is_there(self) -> bool:
        """Whether it runs: it may have lost a port to another process."""
        return self._process is not None and self._process.poll() is None

    def said(self) -> str:
        """The end of its log."""
        return (self.folder / "log").read_text()[-2000:]

    def kill(self) -> None:
        """SIGKILL to all of its processes."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    start: int | None  # of its range
    count: int  # of requests before it


@dataclass
class Proxy:
    """Hands requests on to a port of this machine. `fault` names what happens to the answer: one of

    503, 410 is the answer                  cut     half of the body, and the connection ends
    silent   nothing is answered            lie     half of the body, and its length says so
    stall    half of the body, no more      flip    one bit of the body is another
    down     the connection ends at once    slow    the body, over 8 s
    """

    to: int
    fault: Callable[[Request], str | None] = lambda request: None
    requests: list[Request] = field(default_factory=list)
    port: int = 0  # or any that is free

    def __post_init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self.port = self._socket.getsockname()[1]
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def got(self, ending: str = "") -> list[str]:
        """The names of the objects that were read, one for each request."""
        return [
            one.target.rpartition("/")[2]
            for one in self.requests
            if one.method == "GET" and one.target.endswith(ending)
        ]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._socket.accept()[0],), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            data = b""
            while b"\r\n\r\n" not in data:
                if not (more := client.recv(65536)):
                    return
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            while len(body) < int(headers.get("content-length", 0)):
                body += client.recv(1 << 20)
            method, target, _ = lines[0].split(" ")
            first = headers.get("range", "").removeprefix("bytes=").partition("-")[0]
            with self._lock:
                request = Request(method, target, int(first) if first else None, len(self.requests))
                self.requests.append(request)
            self._answer(client, lines, body, self.fault(request))

    def _answer(self, client: socket.socket, lines: list[str], body: bytes, fault: str | None) -> None:
        if fault == "down":
            return
        if fault == "silent":
            client.recv(1)  # until the client gives up
            return
        if fault in ("503", "410"):
            client.sendall(f"HTTP/1.1 {fault} No\r\n".encode() + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
            return
        answer = bytearray(self._ask("\r\n".join([*lines, "Connection: close"]).encode() + b"\r\n\r\n" + body))
        head, _, content = bytes(answer).partition(b"\r\n\r\n")
        half = len(content) // 2
        if fault == "flip" and content:
            answer[len(head) + 4 + half] ^= 1
        if fault in ("stall", "cut", "lie"):
            if fault == "lie":
                head = re.sub(rb"(?i)content-length: \d+", b"Content-Length: %d" % half, head)
            answer = bytearray(head + b"\r\n\r\n" + content[:half])
        for place in range(0, len(answer), len(answer) // 16 + 1) if fault == "slow" else ():
            client.sendall(answer[place : place + len(answer) // 16 + 1])
            time.sleep(0.5)
        client.sendall(answer if fault != "slow" else b"")
        if fault == "stall":
            client.recv(1)

    def _ask(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.to)) as server:
            server.sendall(request)
            answer = b"".join(iter(lambda: server.recv(1 << 20), b""))
        return answer


def free_ports(count: int) -> list[int]:
    """Ports of this machine, outside of those that outgoing connections take."""
    ports: set[int] = set()
    while len(ports) < count:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port := 10_000 + secrets.randbelow(22_000)))
            ports.add(port)
    return list(ports)
