"""What a run goes on from, and what must be as it was for that.

digests            of the shards, the soft labels, the labels
resume             the newest whole checkpoint, held against the settings and the digests
refuse_unfit       and against the network and the optimizer
"""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avc.runs.attempt import checkpoints, newest_folder, refuse_foreign_links
from avc.runs.checkpoint import Checkpoint, DamagedCheckpoint, read, refuse_damaged
from avc.settings import Config
from shards.read import Shards

DAMAGED = ".damaged"  # a file that cannot be gone on from carries this suffix, until the next start

# Everything that is not named here is refused when it changes: it decides what is learnt.
_WITHOUT_A_WORD = {  # no number depends on them; the content of files is compared, micro-batches are in the log
    *("run.dir", "data.shards", "data.teachers", "data.labels", "data.num_workers", "optim.micro_batch_pairs"),
    *("data.cache", "data.cache_gb"),
    *("training.process_group_timeout_seconds", "training.first_step_timeout_seconds"),
    "training.heartbeat_timeout_seconds",
    *("checkpoint.every_steps", "checkpoint.every_minutes", "checkpoint.keep"),
    *("log.every_steps", "log.wandb", "log.wandb_project", "log.group", "log.tags", "log.notes", "log.media"),
}
_SAID = {  # how long, the last bits, and which weights count as the best
    *("training.steps", "training.device", "training.compile", "training.deterministic"),
    *("validation.every_steps", "validation.split", "validation.passes", "validation.batch_pairs"),
    *("validation.evaluators", "validation.labels", "validation.max_time_share"),
}
_HYPERPARAMETERS = ("betas", "eps", "weight_decay", "amsgrad", "maximize")  # the learning rate is set at each step


@dataclass(frozen=True)
class Resumption:
    """What a run goes on from. path, checkpoint: None where nothing was saved yet; tensors are mapped.

    damaged: names of newer files that are not whole. remarks: what is to be said about it, a line each.
    """

    path: Path | None = None
    checkpoint: Checkpoint | None = None
    damaged: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def digests(shards: Shards, files: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256, hexadecimal, of what a run learns from: the manifest of its shards, and its task's other files by name.

    Raises OSError where a file cannot be read.
    """
    others = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    return {"shards": shards.digest} | others


def resume(config: Config, inputs: dict[str, str]) -> Resumption:
    """The newest whole checkpoint of the run in `run.dir`. inputs: the digests of what this start learns from.

    A newer one that is damaged is passed over, and said to be, where there is an older one. Raises ValueError where
    none is whole, for one that is another run's, and for settings or inputs that must be as they were.
    """
    run = config.run.dir
    refuse_foreign_links(run)
    folder = newest_folder(run)
    damaged: list[DamagedCheckpoint] = []
    saved = checkpoints(folder) if folder is not None else []
    for number in reversed(range(len(saved))):
        path, older = saved[number], saved[:number]
        way_out = f"move it elsewhere to go on from {older[-1].name}" if older else "choose another run.dir"
        try:
            refuse_damaged(path)
            checkpoint = read(path, mapped=True)
        except FileNotFoundError:  # an attempt that is still alive has saved newer ones, and deleted this one
            return resume(config, inputs)
        except DamagedCheckpoint as error:
            damaged.append(error)
            continue
        except ValueError as error:
            raise ValueError(f"{error}. Restore the file from a copy, or {way_out}") from None
        remarks = [
            f"{error}. GOES ON FROM {path.name}, the newest that is whole. The disk may be failing; the damaged file "
            f"stays beside it as *{DAMAGED} until the next start"
            for error in damaged
        ]
        remarks += _refuse_other_settings(checkpoint, config)
        remarks += _refuse_other_inputs(checkpoint, config, inputs)
        remarks += _refuse_fewer_steps(checkpoint, config)
        return Resumption(path, checkpoint, tuple(one.name for one in saved[number + 1 :]), tuple(remarks))
    if damaged:
        raise ValueError(
            f"{run} cannot go on, as no checkpoint in it is whole: {'; '.join(map(str, damaged))}. Restore one from a "
            "copy, or choose another run.dir; the best weights of a run are in its model.safetensors"
        )
    return Resumption()


def set_aside(folder: Path, names: Iterable[str]) -> None:
    """Take their names from the damaged checkpoints in an attempt's folder, and leave the files."""
    expected = set(names)
    for path in checkpoints(folder):
        if path.name in expected:
            path.rename(path.with_name(path.name + DAMAGED))


def refuse_unfit(path: Path, checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError unless a checkpoint's tensors are those of the network and the optimizer, by name and shape."""
    expected: dict[str, object] = {f"the network's {name}": _form(part) for name, part in model.state_dict().items()}
    stored: dict[str, object] = {f"the network's {name}": _form(part) for name, part in checkpoint.model.items()}
    groups, states = checkpoint.optimizer.get("param_groups"), checkpoint.optimizer.get("state")
    expected["the optimizer's settings"] = [_about(group) for group in optimizer.state_dict()["param_groups"]]
    stored["the optimizer's settings"] = [_about(group) for group in groups] if isinstance(groups, list) else groups
    parameters = dict(enumerate((part, group) for group in optimizer.param_groups for part in group["params"]))
    for number, state in states.items() if isinstance(states, dict) else ():
        part, group = parameters.get(number, (None, {}))
        form = _form(part)
        place = f"the optimizer's state of parameter {number!r:.20}"
        adam = {"step": "float32 ()", "exp_avg": form, "exp_avg_sq": form}
        expected[place] = {"momentum_buffer": form} if "momentum" in group else adam
        stored[place] = {key: _form(part) for key, part in state.items()} if isinstance(state, dict) else state
    if checkpoint.step and not states:
        expected["the optimizer's state"] = "there"
    for place in [*expected, *stored]:
        if expected.get(place) != stored.get(place):
            raise ValueError(
                f"{path} is of another network: {place} is {stored.get(place, 'missing')!s:.99} there and "
                f"{expected.get(place, 'missing')!s:.99} in this run. Restore the file from a copy, or choose another "
                "run.dir"
            )


def _form(part: Any) -> str:
    """Type and shape, which for what is no ordinary tensor of numbers fits none."""
    if not isinstance(part, Tensor) or part.layout != torch.strided:
        return f"no tensor ({type(part).__name__})"
    return f"{str(part.dtype).removeprefix('torch.')} {tuple(part.shape)}"


def _about(group: Any) -> Any:
    return {key: group.get(key) for key in ("params", *_HYPERPARAMETERS)} if isinstance(group, dict) else None


def _refuse_other_settings(checkpoint: Checkpoint, config: Config) -> list[str]:
    """What to say about settings that may change. Raises ValueError where others have."""
    now, default = _flat(config.model_dump(mode="json")), _flat(type(config)().model_dump(mode="json"))
    before = default | _flat(checkpoint.config)  # a setting that was not there when the run began had its default
    changed = [
        (name, f"{name} was {reprlib.repr(before.get(name))} and is now {value!r}")
        for name, value in now.items()
        if before.get(name) != value and name not in _WITHOUT_A_WORD
    ]
    refused = [words for name, words in changed if name not in _SAID]
    if refused:
        raise ValueError(
            f"{config.run.dir} holds a run with other settings: {'; '.join(refused)}. "
            "Choose another run.dir, or give the old settings to go on with it"
        )
    return [words for _, words in changed]


def _refuse_other_inputs(checkpoint: Checkpoint, config: Config, inputs: dict[str, str]) -> list[str]:
    remarks = []
    for name, digest in inputs.items():
        before = checkpoint.inputs.get(name)
        if before is None:
            remarks.append(f"the checkpoint has no digest of its {name}: whether they are the same cannot be checked")
        elif before != digest:
            raise ValueError(
                f"{config.run.dir} holds a run on other {name}: their digest was {before:.12} and is now {digest:.12}. "
                + (
                    f"Videos may have been added to {' or '.join(str(each.path) for each in config.data.sets)}, "
                    "which numbers its clips anew, or sets, their "
                    "weights or their order be others. Give the shards as they were, and pack new videos into a folder "
                    "of their own"
                    if name == "shards"
                    else f"Give {'model' if name in ('image', 'audio') else 'data'}.{name} as they were"
                )
                + "; or choose another run.dir to begin a new run"
            )
    return remarks


def _refuse_fewer_steps(checkpoint: Checkpoint, config: Config) -> list[str]:
    done, steps = checkpoint.step, config.training.steps
    if done > steps:
        raise ValueError(
            f"{config.run.dir} holds a run that is at step {done:,} already, and training.steps is {steps:,}: give "
            "more steps to go on, or use the run as it is; its best weights are in model.safetensors"
        )
    return [f"all {done:,} steps are done already; more training.steps go on from here"] if done == steps else []


def _flat(sections: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()}
