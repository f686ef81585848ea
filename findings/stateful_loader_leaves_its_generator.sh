#!/usr/bin/env bash
# torchdata's StatefulDataLoader resumes the epoch that it was in, and shuffles all later ones otherwise than the run that
# was not stopped, where it has a generator of its own and no workers. With a worker, or by torch's global generator, later
# epochs are right.
#
# Packages: torchdata 0.11.0, torch 2.13.0.
# Guess before it was run: the rest of the epoch and all later epochs are equal in each case.
# Seen: state_dict() after three of ten batches, loaded into a new loader of the same arguments; are they equal?
#
#   own generator, 0 workers: rest of the epoch yes, the next three no no no
#   own generator, 2 workers: rest of the epoch yes, the next three yes yes yes
#   global generator, 0 workers: rest of the epoch yes, the next three yes yes yes
#   global generator, 2 workers: rest of the epoch yes, the next three yes yes yes
#
# What it means: a test of resuming that looks at one epoch passes. Put the generator's state beside the loader's, and set it
# again when the epoch ends; or derive the order from seed and epoch.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check torchdata==0.11.0 torch==2.13.0 numpy==2.4.6
cat >"$scratch/orders.py" <<'PYTHON'
import torch
from torchdata.stateful_dataloader import StatefulDataLoader


def loader(own, workers):
    generator = torch.Generator().manual_seed(1) if own else None
    torch.manual_seed(1)
    return StatefulDataLoader(range(40), batch_size=4, shuffle=True, num_workers=workers, generator=generator)


def batches(iterable):
    return [batch.tolist() for batch in iterable]


def word(equal):
    return "yes" if equal else "no"


if __name__ == "__main__":
    for own in (True, False):
        for workers in (0, 2):
            whole = loader(own, workers)
            epoch = iter(whole)
            for _ in range(3):
                next(epoch)
            state = whole.state_dict()
            rest, later = batches(epoch), [batches(whole) for _ in range(3)]
            resumed = loader(own, workers)
            resumed.load_state_dict(state)
            same = word(batches(resumed) == rest)
            after = " ".join(word(batches(resumed) == one) for one in later)
            print(f"{'own' if own else 'global'} generator, {workers} workers: rest of the epoch {same}, the next three {after}")
PYTHON
expected="own generator, 0 workers: rest of the epoch yes, the next three no no no
own generator, 2 workers: rest of the epoch yes, the next three yes yes yes
global generator, 0 workers: rest of the epoch yes, the next three yes yes yes
global generator, 2 workers: rest of the epoch yes, the next three yes yes yes"
seen=$("$scratch/env/bin/python" -W ignore "$scratch/orders.py" 2>/dev/null)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
