"""The `avc` command.

Every command imports what it needs inside its function: `avc --help` must answer at once, and reading videos must not
wait for a framework that trains networks. A user's mistake is a ValueError wherever it is found; `main` is the one
place that turns it into a paragraph and exit status 2.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Annotated

from launch.user_errors import user_errors

RESUMED = ("pack", "copy", "teach", "embed", "train")  # which go on when they are given again


def _errors() -> AbstractContextManager[None]:
    words = sys.argv[1:]
    command = [word for word in words[:1] if not word.startswith("-")]
    return user_errors(" ".join(["avc", *command]), resumes=words[:1] in [[each] for each in RESUMED])


with _errors():  # an interrupt may come while these are imported
    import typer

    from launch.commands import audit, embed, evaluate, explore, pack, runs, settings, teach, weights

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; exit status 0, 1 (something is wrong with the data or the machine) or 2 (a mistake).

    What was interrupted ends with 130, and a training that was asked to stop with 128 and the signal's number.
    """
    with _errors():
        app()


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"avc {version('avcorr')}")
        raise typer.Exit


@app.callback()
def avc(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Learn to see and hear from unlabeled video: pack videos, train L3-Net and AVE-Net, evaluate them.

    Start with **avc pack VIDEOS --out FOLDER**. Every command has its own --help.
    """


for command in (
    *(pack.pack, pack.merge, pack.copy, pack.verify),
    *(settings.settings, runs.train, runs.submit, runs.status),
    *(teach.teach, embed.embed, weights.export, explore.explore, explore.localize),
):
    app.command(context_settings=evaluate.ANYTHING if command in (runs.train, runs.submit) else None)(command)


app.command("import")(weights.import_weights)
app.add_typer(evaluate.evaluations, name="eval")
app.add_typer(audit.audit, name="audit")


if __name__ == "__main__":
    main()
