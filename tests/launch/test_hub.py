"""A network by its name on the hub: huggingface_hub itself, and a server here that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import soundfile

from tests.avc.networks import saved

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")

NAME = "lab/ave"
NOBODY = "http://127.0.0.1:9"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """The files of one repository, and what was asked for."""

    folder: Path
    address: str = ""
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> tuple[bytes, str] | None:
        """Content and kind of a page; None where the hub has none."""
        self.asked.append(path)
        files = sorted(self.folder.iterdir())
        if path.startswith(f"/api/models/{NAME}/revision/"):
            listed = {"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": file.name} for file in files]}
            return json.dumps(listed).encode(), "application/json"
        if path == f"/api/models/{NAME}/tree/{COMMIT}":
            tree = [{"type": "file", "path": file.name, "size": file.stat().st_size, "oid": COMMIT} for file in files]
            return json.dumps(tree).encode(), "application/json"
        if path.startswith(f"/{NAME}/resolve/{COMMIT}/"):
            return (self.folder / path.rpartition("/")[2]).read_bytes(), "application/octet-stream"
        return None


@pytest.fixture
def hub(tmp_path) -> Iterator[Hub]:
    hub = Hub(saved(tmp_path / "uploaded"))
    (hub.folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")  # what a stranger may have put beside it

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = hub.answer(self.path.partition("?")[0])
            content, kind = answer or (b'{"error": "Repository not found"}', "application/json")
            self.send_response(200 if answer else 404)
            if not answer:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: what was asked is noted."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield hub
        server.shutdown()
        thread.join()


def embed(file: Path, out: Path, run: str | Path, hub: str) -> subprocess.CompletedProcess[str]:
    """`avc embed`, whose hub is at an address and keeps what it has fetched beside the outputs."""
    command = [sys.executable, "-m", "launch.cli", "embed", file, "--run", run, "--out", out, "--workers", "1"]
    env = os.environ | {"HF_HOME": str(out.parent / "cache"), "HF_ENDPOINT": hub}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_a_network_is_fetched_by_its_name_once_and_without_what_lies_beside_it(hub, tmp_path) -> None:
    sound = np.random.default_rng(0).standard_normal(2 * 48_000) / 8
    soundfile.write(tmp_path / "noise.wav", sound, 48_000)
    embeddings = []
    for number, (run, address) in enumerate([(hub.folder, NOBODY), (NAME, hub.address), (NAME, NOBODY)]):
        done = embed(tmp_path / "noise.wav", tmp_path / f"out-{number}", run, address)
        assert done.returncode == 0, done.stderr
        with np.load(tmp_path / f"out-{number}" / "noise.wav.npz") as file:
            embeddings.append(file["embedding"])
    assert len(embeddings[0]) and all(np.array_equal(embeddings[0], other) for other in embeddings[1:])
    fetched = {path.name for path in (tmp_path / "cache").rglob("snapshots/*/*")}
    assert fetched == {"README.md", "config.yaml", "model.safetensors"}
    assert not any("pytorch_model" in path for path in hub.asked)


def test_a_name_that_the_hub_does_not_have_ends_in_one_paragraph(hub, tmp_path) -> None:
    soundfile.write(tmp_path / "noise.wav", np.zeros(48_000), 48_000)
    done = embed(tmp_path / "noise.wav", tmp_path / "out", "lab/other", hub.address)
    assert done.returncode == 2
    assert "lab/other is no folder here, and the hub does not give it" in done.stderr
    assert "Traceback" not in done.stderr and "\n\n" not in done.stderr.strip()
