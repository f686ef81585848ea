"""`avc` for a shell, by a process that has torch imported: a fork for each command instead of five seconds of imports.

    python -m tests.docs.server SOCKET      prints "ready" and serves until it is ended

`CLIENT` is the program that a shell starts as `avc`. Trainings are cut to a few steps of a small network, and packing
to small frames: a page says what a reader would give.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

SHORT = (
    *("model.width=0.0625", "data.image_size=28", "data.num_workers=0", "negatives.block=4", "optim.batch_pairs=16"),
    *("optim.micro_batch_pairs=8", "training.steps=2", "training.precision=fp32", "training.device=cpu"),
    *("validation.every_steps=2", "validation.passes=1", "checkpoint.every_steps=2", "log.every_steps=1"),
    "log.wandb=disabled",
)
SMALL = {"--side": "64", "--workers": "1", "--split": "1,0,0"}

CLIENT = """#!{python} -SE
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({path!r})
asked = dict(words=sys.argv[1:], folder=os.getcwd(), environment=dict(os.environ))
socket.send_fds(server, [json.dumps(asked).encode()], [0, 1, 2])
sys.exit((server.recv(1) or b"\\x01")[0])
"""
TORCHRUN = """#!/bin/sh
exec {python} -m torch.distributed.run "$@" {short}
"""


def shortened(words: list[str]) -> list[str]:
    """The command as the tests run it."""
    if words[:1] == ["train"] and "--help" not in words:
        from avc.config import load_config, settings_of
        from launch.train import find_config

        known = settings_of(load_config(find_config(words[1]), words[2:]).model.name)
        return [*words, *(setting for setting in SHORT if setting.split("=")[0] in known)]
    if words[:1] == ["pack"] and "--help" not in words:
        small = [word for option, value in SMALL.items() if option not in words for word in (option, value)]
        for split in ("validation", "test"):  # by name: a hash of the content differs from encoder to encoder
            if not any(word.startswith(f"{split}=") for word in words):
                small += ["--split-list", f"{split}={Path.home() / f'{split}-names.txt'}"]
        return [*words, *small]
    return words


def run(words: list[str]) -> int:
    """What `avc WORDS` does; its exit status."""
    from launch.cli import main

    sys.argv = ["avc", *shortened(words)]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def reap(*_: object) -> None:
    """Take leave of the forks that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def serve(path: Path) -> None:
    """Run what clients ask for, each in a fork."""
    for module in ("launch.train", "avc.evaluation.probes", "avc.evaluation.retrieval", "avc.teachers.label_shards"):
        __import__(module)
    for module in ("sklearn.svm", "librosa", "matplotlib.pyplot", "av", "cv2"):
        __import__(module)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, reap)
    while True:
        client, _ = server.accept()
        if os.fork():
            client.close()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        server.close()
        message, descriptors, _, _ = socket.recv_fds(client, 2**20, 3)
        asked = json.loads(message)
        for own, given in enumerate(descriptors):
            os.dup2(given, own)
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        status = 1
        try:
            status = run(asked["words"])
        except BaseException:
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
        client.send(bytes([status & 255]))
        os._exit(status)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
