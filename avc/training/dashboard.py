"""A run on W&B: its numbers, held-out pairs to look at and listen to, what it was made from, and what it made.

    dataset (the shards' manifest) ──► run ──► checkpoint, weights        artifacts, by reference and digest: no uploads

One thread does all of it in the order in which it is asked for, so that the training waits for nothing; a failure is
one line, for a dashboard must not stop a training. W&B's own files lie in the run's folder, whether it is online or
not.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from avc.extras import is_installed, require_package
from avc.runs.attempt import CHECKPOINTS, WEIGHTS, Attempt
from avc.settings import Config, LogSettings
from avc.tasks.task import Examples
from shards.format import MANIFEST
from shards.store import Url

MOST_BYTES = 256 * 10**6  # of pictures and sounds in one attempt; what comes after has numbers alone
COLUMNS = ["frame_of", "sound_of", "frame", "spectrogram", "sound", "together", "score", "right"]
TABLE = "validation/held_out_pairs"


def require_wandb(log: LogSettings) -> None:
    """Raise ValueError where the settings ask for a dashboard and W&B is not installed."""
    if log.wandb in ("online", "offline"):
        require_package("wandb", extra="wandb", purpose=f"log.wandb={log.wandb}")


def open_run(config: Config, wandb_id: str) -> Any:
    """The W&B run under its id, new or going on; offline where there is no account or no network; None if disabled.

    By default a run needs no W&B: where it is not installed, that is None too.
    """
    log = config.log
    mode: Any = os.environ.get("WANDB_MODE", "auto") if log.wandb == "auto" else log.wandb
    if mode == "disabled":
        return None
    if log.wandb == "auto" and not is_installed("wandb"):
        sys.stdout.write("no dashboard: W&B is not installed here (pip install 'avcorr[wandb]')\n")
        return None
    import wandb  # takes a second, and is not needed above

    os.environ.setdefault("WANDB_DATA_DIR", str((config.run.dir / "wandb").absolute()))  # of files for artifacts
    for attempt in dict.fromkeys((mode, "offline")):
        try:
            if attempt == "auto":
                attempt = "online" if wandb.login(prompt=False, verify=False) else "offline"
            run = wandb.init(
                project=log.wandb_project,
                id=wandb_id,
                name=config.run.dir.name,
                dir=config.run.dir,
                config=config.model_dump(mode="json"),
                group=log.group,
                tags=log.tags,
                notes=log.notes,
                resume="allow",
                mode=attempt,
                settings=wandb.Settings(silent=True),
            )
            run.define_metric("*", step_metric="step")
            return run
        except Exception as error:  # whatever W&B raises
            sys.stdout.write(f"W&B ({attempt}) does not start: {error}\n")
    return None


def last_words(text: str) -> None:
    """Send word of what ends the training; nothing where this process has no W&B run."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        with suppress(Exception):  # whatever W&B raises
            wandb.run.alert("The training has ended", text, level=wandb.AlertLevel.ERROR)


class Dashboard:
    """What a training tells W&B. wandb: the run, as of `open_run`. inputs: digests, as of `avc.runs.resuming`."""

    def __init__(self, config: Config, attempt: Attempt, wandb: Any, *, inputs: dict[str, str]) -> None:
        self._attempt, self._run = attempt, wandb
        self._media, self._bytes = attempt.folder / "media", 0  # the next attempt clears it away
        self._written: list[tuple[Any, Any, Any]] = []
        self._newest: tuple[int, Examples] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dashboard")
        self._do(self._used, [each.path.absolute() / MANIFEST for each in config.data.sets], inputs["shards"])

    def log(self, values: dict[str, float]) -> None:
        """Draw numbers, of which one is `step`, which W&B's own count follows: it rises over restarts."""
        self._do(self._log, values)

    def show(self, step: int, examples: Examples) -> None:
        """The held-out pairs as a table; those that still wait for their turn give way."""
        self._newest = step, examples
        self._do(self._show, step)

    def saved(self, written: Future[None], *, step: int, resumable: bool, weights: bool) -> None:
        """A checkpoint is being written (`avc.runs.checkpoint.CheckpointWriter`), and its step's numbers are drawn."""
        # W&B keeps a step's numbers until a later one comes; a resumed run would not draw these again.
        self._do(self._run.log, {"step": step}, step, True)
        self._do(self._saved, written, step, resumable, weights)

    def alert(self, title: str, text: str) -> None:
        """Send word to whoever watches the run."""
        self._do(self._run.alert, title, text)

    def close(self) -> None:
        """Finish what has been asked for, and end the W&B run."""
        self._thread.shutdown()
        self._run.finish()
        shutil.rmtree(self._media, ignore_errors=True)

    def _do(self, work: Callable[..., object], *arguments: Any) -> None:
        def quietly() -> None:
            try:
                work(*arguments)
            except Exception as error:  # whatever W&B raises
                sys.stdout.write(f"W&B has not taken it: {error}\n")

        self._thread.submit(quietly)

    def _log(self, values: dict[str, Any]) -> None:
        self._run.log(values, step=int(values["step"]))

    def _used(self, manifests: list[Path], digest: str) -> None:
        artifact = self._artifact(f"shards-{digest[:12]}", "dataset", *manifests, sha256=digest)
        # As `use_artifact`, which refuses to work offline.
        self._run._log_artifact(artifact, aliases=[], is_user_created=True, use_after_commit=True)

    def _saved(self, written: Future[None], step: int, resumable: bool, weights: bool) -> None:
        if written.exception() is not None:  # the training itself raises it
            return
        made = [("weights", WEIGHTS, ["best", "latest"])] if weights else []
        if resumable:
            made.append(("checkpoint", f"{CHECKPOINTS}/step-{step:08d}.pt", ["latest"]))
        for kind, name, aliases in made:
            # By the run's own names, which stay when a later attempt takes the files over, where there are links.
            folders = (self._attempt.run.absolute(), self._attempt.folder.absolute())
            path = next((folder / name for folder in folders if (folder / name).exists()), None)
            if path is None:
                continue  # by now newer ones have taken its place
            artifact = self._artifact(f"{kind}-{self._attempt.record.wandb_id}", "model", path, step=step)
            self._run.log_artifact(artifact, aliases=aliases)

    def _artifact(self, name: str, kind: str, *paths: Path, **metadata: Any) -> Any:
        import wandb

        artifact = wandb.Artifact(name, kind, metadata=metadata)
        for number, path in enumerate(paths):
            at_url = isinstance(path, Url)  # of which W&B would ask the store
            name = f"{number}/{path.name}" if len(paths) > 1 else ""
            artifact.add_reference(str(path) if at_url else path.as_uri(), name=name or None, checksum=not at_url)
        return artifact

    def _show(self, step: int) -> None:
        assert self._newest is not None
        newest, examples = self._newest
        # Of a later step, its own turn comes: W&B leaves out what comes after it.
        if newest == step and self._bytes < MOST_BYTES:
            self._log({TABLE: self._table(examples), "step": step})

    def _table(self, examples: Examples) -> Any:
        import wandb

        from avc.training.media import write_map, write_pairs

        pairs, maps = examples.pairs, examples.maps
        if not self._written:
            self._media.mkdir()
            for frame, spectrogram, sound in write_pairs(pairs, self._media):
                pictures = wandb.Image(str(frame)), wandb.Image(str(spectrogram))
                self._written.append((*pictures, wandb.Audio(str(sound))))
        table = wandb.Table(columns=COLUMNS if maps is None else [*COLUMNS, "map"])
        for row, (media, score) in enumerate(zip(self._written, examples.score.tolist(), strict=True)):
            together = bool(pairs.label[row])
            values = [pairs.frame[row], pairs.sound[row], *media, together, score, (score > 0.5) == together]
            if maps is not None:
                path = self._media / f"{row:02}-map.jpg"
                write_map(pairs.images[row], maps[row], path)
                values.append(wandb.Image(str(path)))
            table.add_data(*values)
        # Offline, W&B keeps a copy of all of them for each table; online it sends what is new.
        self._bytes += sum(path.stat().st_size for path in self._media.iterdir())
        return table
