"""What loaders, launchers and metrics do, as docs/facts.md says with versions, and what is made of it here."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import sklearn.cross_decomposition
import sklearn.metrics
import torch
import webdataset

from avc.evaluation.cca import fit_cca
from shards.format import PackSettings
from shards.pack import pack
from shards.read import BadRecord, Shards
from shards.sources import list_sources
from tests.small_videos import render_folder


def tar(path: Path, names: list[str], *, size: int = 700) -> Path:
    with tarfile.open(path, "w") as file:
        for number, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = size
            file.addfile(member, io.BytesIO(bytes([number]) * size))
    return path


def samples(path: Path) -> list[tuple[str, list[str]]]:
    """Keys and endings of what webdataset streams from a tar."""
    stream = webdataset.WebDataset(str(path), shardshuffle=False)
    return [(one["__key__"], sorted(name for name in one if not name.startswith("__"))) for one in stream]


def test_webdataset_streams_what_is_left_of_a_cut_shard_and_here_it_is_an_error_with_its_name(tmp_path) -> None:
    render_folder(tmp_path / "videos", videos=3)
    pack([tmp_path / "videos"], tmp_path / "shards", PackSettings(side=32, split=(1, 0, 0)), workers=1)
    (path,) = (tmp_path / "shards").glob("*.tar")
    whole = samples(path)
    assert [endings for _, endings in whole] == [["json", "mjpeg", "wav"]] * 3
    packed = Shards(tmp_path / "shards")
    with tarfile.open(path) as file:
        last = [member.offset for member in file if member.name.endswith(".wav")][-1]
    os.truncate(path, last + 100)  # inside the header of a member
    assert samples(path) == [*whole[:-1], (whole[-1][0], ["json", "mjpeg"])]  # without a word
    with pytest.raises(BadRecord, match=path.name):
        [packed.sound(clip, 0, 1920) for clip in range(len(packed))]


def test_webdataset_takes_members_that_do_not_lie_together_for_records_of_their_own_and_packing_each_video(
    tmp_path,
) -> None:
    path = tar(tmp_path / "x.tar", ["v1.5/a.mp4", "v1.5/b.c.mp4", "v1.5/a.json", "v1.5/b.c.json", "v1.5/alone.mp4"])
    assert samples(path) == [
        *[("v1.5/a", ["mp4"]), ("v1.5/b", ["c.mp4"]), ("v1.5/a", ["json"]), ("v1.5/b", ["c.json"])],
        ("v1.5/alone", ["mp4"]),
    ]
    assert [source.inside for source in list_sources([path])] == ["v1.5/a.mp4", "v1.5/alone.mp4", "v1.5/b.c.mp4"]


def test_names_of_more_than_a_hundred_bytes_are_read_whole(tmp_path) -> None:
    names = [f"{'é' * 80}{number}.mp4" for number in range(2)]
    path = tar(tmp_path / "x.tar", names)
    assert [key for key, _ in samples(path)] == [name.removesuffix(".mp4") for name in names]
    assert [source.inside for source in list_sources([path])] == names


def test_webdataset_s_batches_depend_on_the_number_of_workers(tmp_path) -> None:
    for shard in range(4):
        tar(tmp_path / f"{shard}.tar", [f"{shard}{number}.txt" for number in range(6)])
    urls = [str(path) for path in sorted(tmp_path.glob("*.tar"))]

    def batches(workers: int) -> list[list[str]]:
        rows = webdataset.WebDataset(urls, shardshuffle=False, seed=1).shuffle(10, seed=1).batched(6)
        loader = webdataset.WebLoader(rows, batch_size=None, num_workers=workers)
        return [list(batch["__key__"]) for batch in loader]

    one, two = batches(1), batches(2)
    assert sorted(chain(*one)) == sorted(chain(*two)) and len(one) == len(two) == 4
    assert one != two and {frozenset(batch) for batch in one} != {frozenset(batch) for batch in two}


def test_a_data_loader_draws_indices_ahead_of_the_batches_that_it_has_given() -> None:
    class Counted(torch.utils.data.Sampler[int]):
        drawn = 0

        def __iter__(self):
            for index in range(100):
                self.drawn += 1
                yield index

    for workers, ahead in ((0, 12), (2, 28)):
        sampler = Counted()
        batches = iter(torch.utils.data.DataLoader(range(100), batch_size=4, sampler=sampler, num_workers=workers))
        for _ in range(3):
            next(batches)
        assert sampler.drawn == ahead
        del batches


WORKER = """
import signal, sys, time
def note(number, frame):
    print(signal.Signals(number).name, flush=True)
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, note)
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""


def test_torchrun_forwards_the_signal_that_it_got_and_kills_after_thirty_seconds(tmp_path) -> None:
    """Hence the time that README and docs/torchrun.md give it by TORCH_ELASTIC_SHUTDOWN_TIMEOUT."""
    (tmp_path / "worker.py").write_text(WORKER)
    environment = {name: value for name, value in os.environ.items() if name != "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"}
    seconds = {}
    for sent, limit in ((signal.SIGHUP, None), (signal.SIGTERM, "3")):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "worker.py"]
        more = {} if limit is None else {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": limit}
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment | more
        ) as agent:
            assert agent.stdout is not None and agent.stdout.readline() == "ready\n"
            began = time.monotonic()
            agent.send_signal(sent)
            assert agent.stdout.readline() == f"{sent.name}\n"
            assert agent.stdout.read() == ""  # the worker is gone, without another signal that it could note
            seconds[sent] = time.monotonic() - began
            assert agent.wait() == 1
    assert 29 < seconds[signal.SIGHUP] < 90
    assert 2.5 < seconds[signal.SIGTERM] < 25


def test_normalized_mutual_information_depends_on_which_mean_of_the_entropies_normalizes_it() -> None:
    classes, clusters = [0, 0, 1, 1, 2, 2], [1, 1, 0, 0, 2, 3]
    means = ("min", "geometric", "arithmetic", "max")
    values = [sklearn.metrics.normalized_mutual_info_score(classes, clusters, average_method=mean) for mean in means]
    assert values == pytest.approx([1, 0.9090, 0.9049, 0.8262], abs=1e-4)
    assert sklearn.metrics.normalized_mutual_info_score(classes, clusters) == values[2]  # what `eval kinds` prints


def test_with_more_columns_than_rows_correlations_are_one_and_scikit_learn_s_iteration_finds_less() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 40)).astype(np.float32), rng.normal(size=(60, 30)).astype(np.float32)
    fresh = rng.normal(size=(60, 40)).astype(np.float32), rng.normal(size=(60, 30)).astype(np.float32)
    ours = fit_cca(x, y, components=3)
    assert ours.correlations == pytest.approx(np.ones(3), abs=1e-4)  # of noise
    of_fresh = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours.of_x(fresh[0]).T, ours.of_y(fresh[1]).T, strict=True)]
    assert np.abs(of_fresh).max() < 0.5
    a, b = sklearn.cross_decomposition.CCA(n_components=3).fit(x, y).transform(x, y)
    theirs = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(3)]
    assert min(theirs) < 0.99
    assert any(later > earlier for earlier, later in pairwise(theirs)) or theirs[2] < 0.99
