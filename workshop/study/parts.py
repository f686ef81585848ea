"""Parts of a long computation that are done once: what a part gave lies in a file, and the file is all it takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from launch.report.results import write_json

T = TypeVar("T")
EDITION = 3  # of the study's code; raised where the same settings give other figures


def once(file: Path, kind: type[T], made_of: Mapping[str, Any], make: Callable[[], T]) -> T:
    """What `make` gives, a frozen dataclass of type `kind`; from `file` if it has been made before.

    made_of: plain values that decide the result. Raises ValueError where the file was made of others.
    """
    values = TypeAdapter(kind)
    made_of = json.loads(json.dumps({"edition of the study": EDITION} | dict(made_of)))
    if not file.is_file():
        result = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"made_of": made_of, "result": values.dump_python(result, mode="json")})
        return result
    stored = json.loads(file.read_text(encoding="utf-8"))
    for name, value in made_of.items():
        if stored["made_of"].get(name) != value:
            raise ValueError(
                f"{file} was measured with another {name}: give the settings that it was begun with, or another "
                "--folder"
            )
    return values.validate_python(stored["result"])
