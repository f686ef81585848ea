"""`avc embed`: embeddings of files, with time stamps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.commands import refuse_unwritable


def embed(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILES...", help="Sounds, videos, pictures; folders, .txt lists, tars; URLs."),
    ],
    run: Annotated[str, typer.Option(help="A run, a folder of save_pretrained, a hub's name, or FILE.py:NAME.")],
    out: Annotated[Path, typer.Option(help="Folder for a .npz a file; or one .parquet for all.")] = Path("embeddings"),
    content: Annotated[str, typer.Option(help="audio, or image: pictures, and the frames of videos.")] = "audio",
    hop: Annotated[float, typer.Option(help="Seconds from one embedding to the next.")] = 0.1,
    center: Annotated[
        bool, typer.Option(help="An embedding is of the second around its time, or else of the one that begins there.")
    ] = True,
    batch: Annotated[int, typer.Option(min=1, max=4096, help="Seconds, or pictures, computed at once.")] = 32,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that decode ahead.", show_default="one a core")
    ] = None,
    devices: Annotated[
        str, typer.Option(help="Such as cpu, or cuda:0,cuda:1.", show_default="every GPU, or else the CPU")
    ] = "auto",
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds that a decoder may be silent.")] = 300,
    task: Annotated[
        str | None, typer.Option(metavar="N/TASKS", help="Embed the N-th share of TASKS only, beside the others'.")
    ] = None,
) -> None:
    """Embed files: an embedding every 0.1 s, of the second of sound (or of the frame) at that time.

    Sound of any rate, length and number of channels, out of any container that `avc pack` takes; a long recording is
    read piece by piece. `recording.wav` becomes `recording.wav.npz` with `embedding`, float32 (T, D), and `seconds`,
    float64 (T,), from where a player starts. Called again after a kill, it goes on where it was and ends with the same
    bytes. A file that cannot be read is listed in `rejected.tsv` with its reason, and tried again by the next call.

    **Examples**

        avc embed recordings --run runs/ave --out embeddings
        avc embed *.wav *.mp4 --run mine.py:encoder --hop 0.5 --out embeddings.parquet
        avc embed photos films --run runs/ave --content image --hop 1
        avc embed 's3://raw/2026/*.mp4' --task 3/16 --run runs/ave --out embeddings
    """
    import os
    import shutil

    from avc.encoders.load import load, named_devices
    from avc.files.embed import embed_files
    from avc.files.output import require_parquet, write_parquet
    from avc.files.settings import Settings, targets_in
    from launch.progress import printable, progress
    from shards.atomic import refuse_special
    from shards.tasks import parse_task
    from shards.text import counted

    if content not in ("audio", "image"):
        raise ValueError(f"--content is {content!r} and must be audio or image")
    chosen = None if task is None else parse_task(task)
    out = out.expanduser()
    if chosen and out.suffix == ".parquet":
        out = out.with_stem(f"{out.stem}.{chosen.name}")
    rejected = f"rejected.{chosen.name}.tsv" if chosen else "rejected.tsv"
    parquet = out.suffix == ".parquet"
    if out.suffix in (".csv", ".tsv", ".npz", ".npy", ".json", ".jsonl"):
        raise ValueError(f"--out: {out.name} is called as a file is, and embeddings go to a folder or to a .parquet")
    folder = out.with_name(f"{out.name}.parts") if parquet else out
    refuse_unwritable(folder, "--out", folder=True)
    if parquet:
        require_parquet()
        refuse_special(out)
    networks = [load(run, device=str(device)) for device in named_devices(devices)]
    settings = Settings("audio" if content == "audio" else "image", hop, center, batch)
    listed = targets_in(folder, files, content=settings.content)
    if not listed:
        raise ValueError(f"there are no files in {', '.join(map(str, files))}")
    if chosen:
        # By the names of what is written: recordings of one length are of one size.
        listed = [(source, target) for source, target in listed if chosen.owns(os.fsencode(target.relative_to(folder)))]
        if not listed:
            return print(f"none of the files is of the share {task}")
    with progress("embedding", unit="files") as report:
        result = embed_files(
            networks,
            listed,
            folder,
            settings,
            processes=workers or len(os.sched_getaffinity(0)),
            time_limit_seconds=time_limit,
            report=report,
            rejected_name=rejected,
        )
    table = out.with_name(f"{out.name}.rejected.tsv") if parquet else folder / rejected
    if parquet:
        refused = {name for name, _, _ in result.rejected}
        write_parquet(out, [(source.name, npz) for source, npz in listed if source.name not in refused])
        (folder / rejected).replace(table)
        shutil.rmtree(folder)
    there = f", {result.before:,} of them were there" if result.before else ""
    print(f"{out}: {counted(result.written, 'files')}{there}; {counted(result.windows, 'embeddings')} computed")
    if result.rejected:
        print(f"{counted(len(result.rejected), 'files')} rejected, see {table}:")
        for name, reason, detail in result.rejected[:10]:
            print(f"  {printable(name)}: {printable(reason)}, {printable(detail)}")
    if not result.written and not chosen:  # a share may be of such files alone, and would be tried again for ever
        raise typer.Exit(1)
