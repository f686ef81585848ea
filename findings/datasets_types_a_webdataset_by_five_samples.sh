#!/usr/bin/env bash
# datasets takes the types of a WebDataset from its first five samples. Later members and keys that these had not are left out,
# and numbers lose their fractions where the first five happen to be whole, without a word.
#
# Packages: datasets 5.2.0.
# Guess before it was run: an error at the first sample that is otherwise.
# Seen: a tar of ten samples, five of the first kind, then five of the second; what load_dataset("webdataset") gives for the
# last one, as a table and as a stream:
#
#   json {"start": 2}, then {"start": 2.5}: table {'start': 2}, stream {'start': 2}
#   json {"a": 1}, then {"a": 1, "b": 2}: table {'a': 1}, stream {'a': 1}
#   json {"a": null}, then {"a": 2}: table DatasetGenerationError, stream {'a': 2}
#   json alone, then json and cls: table left out, stream left out
#
# What it means: times in seconds, scores and labels of most of a set are wrong if its first clips begin at whole seconds. Write
# 2.0, not 2, and all members and keys from the first sample on; or give features= to load_dataset.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 numpy==2.4.6
cat >"$scratch/read.py" <<'PYTHON'
import io
import tarfile

import datasets

CASES = {
    'json {"start": 2}, then {"start": 2.5}': ({"json": '{"start": 2}'}, {"json": '{"start": 2.5}'}),
    'json {"a": 1}, then {"a": 1, "b": 2}': ({"json": '{"a": 1}'}, {"json": '{"a": 1, "b": 2}'}),
    'json {"a": null}, then {"a": 2}': ({"json": '{"a": null}'}, {"json": '{"a": 2}'}),
    "json alone, then json and cls": ({"json": '{"a": 1}'}, {"json": '{"a": 1}', "cls": "3"}),
}


def last(path, streaming):
    try:
        return list(datasets.load_dataset("webdataset", data_files=path, split="train", streaming=streaming))[-1]
    except Exception as error:
        return type(error).__name__


for number, (name, (first, second)) in enumerate(CASES.items()):
    path = f"{number}.tar"
    with tarfile.open(path, "w") as tar:
        for sample in range(10):
            for member, text in (first if sample < 5 else second).items():
                info = tarfile.TarInfo(f"{sample:04d}.{member}")
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
    said = []
    for way, streaming in (("table", False), ("stream", True)):
        sample = last(path, streaming)
        if not isinstance(sample, str):
            sample = sample["json"] if "cls" not in second else sample.get("cls", "left out")
        said.append(f"{way} {sample}")
    print(f"{name}: {', '.join(said)}")
PYTHON
expected=$(sed -n 's/^#   //p' "$0")
seen=$(cd "$scratch" && HF_HUB_OFFLINE=1 HF_HOME="$scratch/home" env/bin/python -W ignore read.py 2>/dev/null)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
