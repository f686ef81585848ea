"""Trained networks by where they lie: a run, a file of `avc import`, a folder or the hub, a name, FILE.py:NAME."""

from __future__ import annotations

import hashlib
import os
import runpy
from pathlib import Path

import torch
from safetensors import SafetensorError

from avc.config import load_config
from avc.encoders.encoder import AudioEncoder, ImageEncoder
from avc.encoders.trained import Trained, trained
from avc.models import build
from avc.models.released import load_soundnet
from avc.networks import ENCODERS, resolve
from avc.pretrained import located
from avc.runs import weights as weights_file
from avc.runs.attempt import CONFIG, WEIGHTS, history, place
from avc.settings import Config, ModelSettings
from avc.sound_settings import SoundNetConfig

RUN_CODE = "AVC_RUN_CODE"  # of FILE.py:NAME, and the hub, in the settings of a run


def load(run: str | Path, *, device: str = "cpu") -> Trained:
    """A network: the best weights of a run's folder, what `save_pretrained` wrote, or what FILE.py:NAME makes.

    Raises ValueError where there are no finished weights, weights that do not fit their settings, or those of a network
    that only takes audio, which `load_any` loads. Nothing in the files is executed; what is FILE.py:NAME is.
    """
    loaded = load_any(run, device=device)
    if loaded.hears is not None and "embedding" not in loaded.hears.layers:
        raise ValueError(f"{loaded.title} only hears; what is asked for needs a pair of towers")
    return loaded


def load_any(source: str | Path, *, device: str = "cpu", as_tower: bool = False) -> Trained:
    """As `load`, and networks that only take audio as well.

    Also what `named_encoder` takes. An owner/name that is no path here is taken from the Hugging Face hub, where
    huggingface_hub is installed. device: as of `named_device`. as_tower: another network's tower begins with it. Raises
    ValueError as `load` does.
    """
    where = named_device(device)
    if str(source).endswith(".py"):
        raise ValueError(f"{source} is a program: name what in it makes the encoder, as in {source}:encoder")
    encoder = named_encoder(str(source))
    if encoder is not None:
        return trained(encoder, Config(model=ModelSettings(name=encoder.name)), device=where)
    weights = located(source)
    if len(weights.parts) == 1 and not weights.exists():
        raise ValueError(
            f"there is no {source}: give the run.dir of `avc train`, a file of `avc import`, FILE.py:NAME or one of "
            + ", ".join(ENCODERS)
        )
    if weights.suffix == ".safetensors" and not (weights.name == WEIGHTS and (weights.parent / CONFIG).is_file()):
        released = load_soundnet(weights)
        return trained(released, SoundNetConfig(model=released.settings), device=where)
    config, weights = read_run(weights)
    _refuse_towers(config, weights.parent, as_tower=as_tower)
    model = build(config.model)
    try:
        model.load_state_dict(weights_file.read(weights))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{weights} does not hold the weights of {config.model.name}: {error}") from None
    return trained(model, config, device=where, weights=weights)


def _refuse_towers(config: Config, folder: Path, *, as_tower: bool) -> None:
    """Raises ValueError for what settings that lie with weights, and may be another's, must not bring about.

    They run no program and fetch nothing from the hub, unless the environment says so, and lead to other weights once.
    """
    for name in ("image", "audio"):
        begins = getattr(config.model, name, None)
        if begins is not None and as_tower:
            raise ValueError(f"{folder}: its own towers begin with other weights (model.{name} is {begins})")
        if begins is None or begins in ENCODERS or os.environ.get(RUN_CODE) == "1":
            continue
        if ".py:" in begins or not Path(begins).expanduser().exists():  # the hub would be asked for what is not here
            what = "loading it would run that program" if ".py:" in begins else "there is nothing of that name here"
            raise ValueError(
                f"{folder}: its model.{name} is {begins}, and {what}. Where it is your own run, put it back, "
                f"or set {RUN_CODE}=1 in the environment"
            )


def read_run(run: str | Path) -> tuple[Config, Path]:
    """The settings of a run, given as its folder or weights, and the file of these. Raises ValueError without any."""
    given = Path(run).expanduser()
    folder = given.parent if given.suffix == ".safetensors" else given
    settings, weights = place(folder, CONFIG), place(folder, WEIGHTS)
    if not settings.is_file():
        wanted = ", or of released weights what `avc import` makes of them" if given.is_file() else ""
        raise ValueError(f"there is no run at {given}, nor a {CONFIG} there. Give the run.dir of `avc train`{wanted}")
    config = load_config(settings, of_run=True)
    if not weights.is_file():
        awaited = "first validation" if config.validation.every_steps else "next checkpoint"
        end = attempts[-1].end if (attempts := history(folder)) else None
        if end is not None:
            saved = f"is saved at step {end.step:,}" if end.step else "nothing of it is saved"
            mended = "Once that is mended, give" if end.why.startswith("failed: ") else "Give"
            raise ValueError(
                f"{folder} has no {WEIGHTS}: it ended before its {awaited} ({end.why}), and {saved}. {mended} the same "
                f"`avc train` command again{': it goes on there' if end.step else ''}"
            )
        raise ValueError(
            f"{folder} has no {WEIGHTS} yet: its {awaited} is still to come. If it was killed, give the same "
            "`avc train` command again: it goes on"
        )
    return config, weights


def shards_of(config: Config, source: str | Path) -> Path:
    """The shards that a run was trained on. Raises ValueError for imported weights, which come without any."""
    if config.data.shards == Config().data.shards:
        raise ValueError(f"{source} does not say which shards it was trained on: give --shards")
    if len(config.data.sets) > 1:
        raise ValueError(f"{source} was trained on several sets: give one of them with --shards")
    return config.data.sets[0].path


def named_encoder(source: str) -> AudioEncoder | ImageEncoder | None:
    """What FILE.py:NAME makes, called without arguments, or a name of `avc.networks.ENCODERS`; None for other sources.

    The file is run. Raises ValueError where there is no such file or name, and where no encoder comes of it.
    """
    file, _, name = source.partition(".py:")
    if source in ENCODERS:
        return resolve(ENCODERS[source])()  # type: ignore[no-any-return]
    if not name:
        return None
    path = Path(f"{file}.py").expanduser()
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    program = hashlib.sha256(path.read_bytes()).hexdigest()
    names = runpy.run_path(str(path))
    if name not in names:
        raise ValueError(f"{path} has nothing of the name {name}")
    made = names[name]()
    if not isinstance(made, AudioEncoder | ImageEncoder):
        raise ValueError(f"{source} makes a {type(made).__name__}, and no AudioEncoder or ImageEncoder")
    made.program = program
    return made


def named_device(name: str, *, option: str = "--device") -> torch.device:
    """auto (a GPU where there is one), cpu, cuda or one of several, as cuda:1. Raises ValueError for any other."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{option} is {name!r} and must name a device, such as cpu, cuda or cuda:1") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"{option} names {device}, and networks run on cpu and cuda alone")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"{option} names {device}, and there are {torch.cuda.device_count()} GPUs here")
    return device


def named_devices(names: str, *, option: str = "--devices") -> list[torch.device]:
    """The devices of a list such as cuda:0,cuda:1; `auto` is every GPU, or else the CPU.

    Raises ValueError for what is no device, or not here.
    """
    if names == "auto":
        count = torch.cuda.device_count()
        return [torch.device("cuda", number) for number in range(count)] or [torch.device("cpu")]
    return [named_device(name, option=option) for name in names.split(",")]
