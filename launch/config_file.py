"""Where the configuration files that come with the project are."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent
# A wheel has them beside this file, a checkout at its root.
CONFIGS = HERE / "configs" if (HERE / "configs").is_dir() else HERE.parent / "configs"


def find_config(name: str | Path) -> Path:
    """The file of settings at a path, or the one of that name in configs/. Raises ValueError where there is neither."""
    path = Path(name).expanduser()
    if path.suffix or path.exists() or len(path.parts) > 1:
        return path
    shipped = CONFIGS / f"{name}.yaml"
    if not shipped.exists():
        names = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
        raise ValueError(f"there is no configuration {name}: give the path of a YAML file, or one of {names}")
    return shipped
