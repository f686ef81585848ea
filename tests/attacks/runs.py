"""Commands on the folder of a run, and what is expected of them."""

from pathlib import Path

from tests.command_line import Done, avc


def train(config: Path, run: Path, *overrides: str, steps: int = 2) -> Done:
    return avc("train", config, f"run.dir={run}", f"training.steps={steps}", *overrides)


def refused(done: Done) -> str:
    """The one paragraph of a command that ended with status 2."""
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("avc "), done.stderr
    return done.stderr


def newest(run: Path) -> Path:
    return (run / "checkpoints" / "step-00000002.pt").resolve()


def untouched(folder: Path) -> bool:
    return [path.read_text() for path in folder.rglob("*") if path.is_file()] == ["mine"] * 4
