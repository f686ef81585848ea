"""Networks that are given to others: a folder of weights, settings and a model card, and the hub that has such folders.

A card says what the network is, what it was trained on and how well it does, from its settings and its metrics.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jinja2 import Environment
from torch import Tensor

from avc.config import dump_config
from avc.extras import require_package
from avc.networks import NETWORKS, network_of
from avc.runs.attempt import CONFIG, METRICS, WEIGHTS
from avc.runs.weights import about, as_bytes
from avc.settings import Config
from shards.atomic import write_whole

CARD = "README.md"

AnyConfig = TypeVar("AnyConfig", bound=Config)
PAPERS = {
    "l3": "1705.08168",
    "supervised": "1705.08168",
    "ave": "1712.06651",
    "ave_mf": "1712.06651",
    "ave_of": "1712.06651",
    "avol": "1712.06651",
    "ave_nce": "1712.06651",
}


def without_paths(config: AnyConfig) -> AnyConfig:
    """The settings with the paths of the machine that it was trained on set back to their defaults."""
    sections = {}
    for name in type(config).model_fields:
        section = getattr(config, name)
        paths = {
            field: info.default
            for field, info in type(section).model_fields.items()
            if isinstance(getattr(section, field), Path)
        }
        sections[name] = section.model_copy(update=paths)
    return config.model_copy(update=sections)


def model_card(config: Config, metrics: Mapping[str, float], *, parameters: int) -> str:
    """README.md of a network: YAML that the hub indexes, then the same for people. metrics: of its best validation."""
    name, row = config.model.name, network_of(config.model.name)
    front: dict[str, Any] = {
        "library_name": "avc",
        "tags": ["audio-visual", "self-supervised", "embeddings", name],
        "pipeline_tag": "feature-extraction",
    }
    if (accuracy := metrics.get("accuracy")) is not None:
        result = {
            "task": {"type": "feature-extraction", "name": "audio-visual correspondence"},
            "dataset": {"type": "videos", "name": f"{config.validation.split} split of the training videos"},
            "metrics": [{"type": "accuracy", "value": round(accuracy, 4)}],
        }
        front["model-index"] = [{"name": row.title, "results": [result]}]
    template = Environment(keep_trailing_newline=True).from_string(files("avc").joinpath("model_card.md").read_text())
    return template.render(
        front=yaml.safe_dump(front, sort_keys=False),
        row=row,
        name=name,
        config=config,
        metrics=metrics,
        parameters=parameters,
        paper=PAPERS.get(name),
    )


def write_pretrained(folder: Path, state: Mapping[str, Tensor], config: Config, *, origin: Path | None) -> None:
    """Write weights, settings without this machine's paths, and a card. origin: the weights' file, of a run or other.

    Raises ValueError where the folder cannot be written, and for encoders of a program and towers over other weights,
    which it would not hold.
    """
    if config.model.name not in NETWORKS:
        raise ValueError(f"{config.model.name} comes from a program, which a folder of weights would not hold")
    if (begins := getattr(config.model, "image", None)) is not None:
        raise ValueError(
            f"the towers begin with {begins} and {getattr(config.model, 'audio', None)}, without which nobody could "
            "load what is written: hand on the folder of the run and these"
        )
    notes, metrics = _record(origin) if origin is not None else ({"model": config.model.name}, {})
    weights = {name: tensor.cpu() for name, tensor in state.items()}
    counted = sum(
        tensor.numel() for name, tensor in weights.items() if tensor.is_floating_point() and "running" not in name
    )
    config = without_paths(config)
    contents = {
        WEIGHTS: as_bytes(weights, notes),
        CONFIG: dump_config(config).encode(),
        CARD: model_card(config, metrics, parameters=counted).encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_whole(folder / name, content)
    except OSError as error:
        raise ValueError(f"{folder} cannot be written: {error}") from None


def _record(weights: Path) -> tuple[dict[str, str], dict[str, float]]:
    """What the file of the weights notes of them, and the validation of the run that they were chosen by."""
    notes = about(weights)
    metrics: dict[str, float] = {}
    with suppress(OSError, ValueError, TypeError, KeyError):  # a folder without metrics, or with others
        for line in (weights.parent / METRICS).read_text().splitlines():
            row = json.loads(line)
            if row.pop("kind") == "validation" and str(row["step"]) == notes.get("step"):
                metrics = {name: value for name, value in row.items() if isinstance(value, int | float)}
    return notes, metrics


def located(run: str | Path) -> Path:
    """A path that exists, or what the hub has under this name, downloaded. Raises ValueError where there is neither."""
    path = Path(run).expanduser()
    if path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(run)) or path.parent.is_dir():
        return path
    require_package("huggingface_hub", extra="hub", purpose=f"there is no folder {run} here, and a name on the hub")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(run), allow_patterns=[CONFIG, WEIGHTS, CARD]))
    except Exception as error:  # of a dozen kinds: names, connections, permissions, disks
        raise ValueError(f"{run} is no folder here, and the hub does not give it: {error}") from None
