"""Parts of a long computation that are done once: what a part gave lies in a file, and the file is all it takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")


def once(file: Path, kind: type[T], made_of: Mapping[str, Any], make: Callable[[], T]) -> T:
    """What `make` gives, a frozen dataclass of type `kind`; from `file` if it has been made before.

    made_of: plain values that decide the result. Raises ValueError where the file was made of others.
    """
    values = TypeAdapter(kind)
    asked = json.loads(json.dumps(made_of))
    if file.is_file():
        known = json.loads(file.read_text(encoding="utf-8"))
        if known["made_of"] != asked:
            differing = sorted(name for name in asked if known["made_of"].get(name) != asked[name])
            raise ValueError(
                f"{file} was measured with another {differing[0]}: give the settings that it was begun with, or "
                "another --folder"
            )
        return values.validate_python(known["result"])
    result = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(".aside")
    content = {"made_of": asked, "result": values.dump_python(result, mode="json")}
    aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    aside.replace(file)
    return result
