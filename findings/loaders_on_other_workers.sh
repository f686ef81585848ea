#!/usr/bin/env bash
# Does a loader give the same batches with another number of workers, and does what it saved go on with another number?
# Four loaders answer in four ways. A state that cannot be used is refused by a bare AssertionError, without a word.
#
# Packages: torchdata 0.11.0, litdata 0.2.76, mosaicml-streaming 0.13.0, megatron-energon 7.4.1, torch 2.13.0. The second
# and third import torchvision and transformers for what is not used here: stand-ins take their place.
# No guess was written down: it is a comparison. What surprised: torchdata's shuffle is another without workers than with
# one, and litdata, whose batches depend on the workers, resumes on others all the same.
# Seen: 40 rows in batches of 5; whether the epoch is the same without workers and with one, with one and with two; and
# what becomes of a state of 2 workers after 3 batches, on 2 and on 1: exact (the batches that would have come), or the error.
#
#   torchdata other same exact AssertionError
#   litdata same other exact exact
#   mosaicml same same exact exact
#   energon same other exact AssertionError
#
# What it means: keep the number of workers, in all of a run's attempts, where the loader is not one of the middle two;
# and ask of "resumable" on how many.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
pip() { "$scratch/env/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip torch==2.13.0 numpy==2.4.6 torchdata==0.11.0 megatron-energon==7.4.1 boto3==1.44.8 brotli==1.2.1 zstd==1.5.7.2 \
    xxhash==4.1.0 python-snappy==0.7.3 lightning-utilities==0.15.3 tifffile==2026.3.3 obstore==0.12.1 catalogue==2.0.10
pip --no-deps litdata==0.2.76 mosaicml-streaming==0.13.0
cat >"$scratch/loaders.py" <<'PYTHON'
import io
import subprocess
import sys
import tarfile
import types
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")


class StandIn(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional",
             "torchvision.io", "transformers", "transformers.feature_extraction_utils",
             "transformers.tokenization_utils_base", "transformers.models", "transformers.models.auto",
             "transformers.models.auto.tokenization_auto"):
    sys.modules[name] = StandIn(name)
import torch

ROWS, BATCH = 40, 5


def torchdata(workers):
    from torchdata.stateful_dataloader import StatefulDataLoader

    torch.manual_seed(0)
    return StatefulDataLoader(range(ROWS), batch_size=BATCH, shuffle=True, num_workers=workers)


def litdata(workers):
    import litdata

    if not Path("lit").exists():
        litdata.optimize(fn=int, inputs=list(range(ROWS)), output_dir="lit", chunk_size=5, num_workers=1, verbose=False)
    rows = litdata.StreamingDataset("lit", shuffle=True, seed=7)
    return litdata.StreamingDataLoader(rows, batch_size=BATCH, num_workers=workers, shuffle=True)


def mosaicml(workers):
    import streaming

    streaming.base.util.clean_stale_shared_memory()
    if not Path("mds").exists():
        with streaming.MDSWriter(out="mds", columns={"row": "int"}, size_limit=256) as writer:
            for row in range(ROWS):
                writer.write({"row": row})
    rows = streaming.StreamingDataset(local="mds", shuffle=True, shuffle_seed=7, batch_size=BATCH, num_canonical_nodes=1)
    return streaming.StreamingDataLoader(rows, batch_size=BATCH, num_workers=workers)


def energon(workers):
    from megatron import energon

    if not Path("energon").exists():
        Path("energon").mkdir()
        for shard in range(4):
            with tarfile.open(f"energon/{shard}.tar", "w") as tar:
                for row in range(10 * shard, 10 * shard + 10):
                    member = tarfile.TarInfo(f"{row:03}.txt")
                    member.size = 2
                    tar.addfile(member, io.BytesIO(b"%02d" % row))
        prepare = [Path(sys.executable).with_name("energon"), "prepare", "energon", "--non-interactive"]
        options = ["--split-ratio", "1,0,0", "--sample-type", "CrudeWebdataset"]
        subprocess.run([*prepare, *options], check=True, stdout=subprocess.DEVNULL)

    @energon.stateless
    def cook(sample):
        return energon.TextSample(**energon.basic_sample_keys(sample), text=sample["txt"])

    class Encoder(energon.DefaultTaskEncoder):
        cookers = [energon.Cooker(cook)]

        @energon.stateless
        def encode_sample(self, sample):
            return sample

        @energon.stateless
        def batch(self, samples):
            return [int(sample.text) for sample in samples]

        @energon.stateless
        def encode_batch(self, batch):
            return batch

    form = energon.WorkerConfig(rank=0, world_size=1, num_workers=workers)
    options = {"shuffle_buffer_size": None, "max_samples_per_sequence": None, "repeat": False}
    rows = energon.get_train_dataset("energon", worker_config=form, batch_size=BATCH, task_encoder=Encoder(), **options)
    return energon.get_savable_loader(rows)


def batches(loader):
    return [[int(row) for row in (batch["row"] if isinstance(batch, dict) else batch)] for batch in loader]


def resumed(make, workers, whole):
    loader = make(2)
    rows = iter(loader)
    first = batches(next(rows) for _ in range(3))
    state = loader.save_state_rank() if make is energon else loader.state_dict()
    del rows, loader
    loader = make(workers)
    try:
        loader.restore_state_rank(state) if make is energon else loader.load_state_dict(state)
        return "exact" if first + batches(loader) == whole else "other"
    except Exception as error:
        return type(error).__name__


if __name__ == "__main__":  # litdata starts processes that import this file
    make = globals()[sys.argv[1]]
    none, one, two = (batches(make(workers)) for workers in range(3))
    assert sorted(sum(one, [])) == sorted(sum(two, [])) == list(range(ROWS))
    same = ["same" if a == b else "other" for a, b in ((none, one), (one, two))]
    print(sys.argv[1], *same, *(resumed(make, workers, two) for workers in (2, 1)))
PYTHON
expected="torchdata other same exact AssertionError
litdata same other exact exact
mosaicml same same exact exact
energon same other exact AssertionError"
seen=$(
    cd "$scratch"
    for loader in torchdata litdata mosaicml energon; do
        env/bin/python loaders.py "$loader" 2>>"$scratch/errors" | tail -1
    done
)
echo "$seen"
[[ $seen == "$expected" ]] || { tail -20 "$scratch/errors" >&2; echo "expected:"; echo "$expected"; exit 1; } >&2
