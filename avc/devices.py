"""Devices by the names that people give them."""

from __future__ import annotations

import torch


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
