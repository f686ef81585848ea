"""What every group of settings is: a frozen object that refuses unknown names and wrong types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

from shards.store import place


def _path(value: object) -> object:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("a path cannot hold the character NUL")
    try:
        return place(value) if isinstance(value, str) else value
    except RuntimeError as error:  # ~nobody
        raise ValueError(str(error)) from None


FilePath = Annotated[Path, BeforeValidator(_path)]


class Section(BaseModel):
    """A frozen group of settings; names that it does not know are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
