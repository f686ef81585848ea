"""The `avc` command.

Every command imports what it needs inside its function: `avc --help` must answer at once, and reading videos must not
wait for a framework that trains networks. A user's mistake is a ValueError wherever it is found; `main` is the one
place that turns it into a paragraph and exit status 2.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from launch.commands import audit, embed, evaluate, explore, pack, runs, settings, teach, weights
from launch.user_errors import user_errors

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; exit status 0, 1 (something is wrong with the data or the machine) or 2 (a mistake).

    A training that was asked to stop ends with 128 and the signal's number.
    """
    with user_errors(" ".join(["avc", *[word for word in sys.argv[1:2] if not word.startswith("-")]])):
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
    *(settings.settings, runs.train, runs.submit, runs.sweep, runs.status),
    *(teach.teach, embed.embed, weights.export, explore.explore, explore.localize),
):
    app.command()(command)


def demo() -> None:
    """Named `python -m workshop.demo` now."""
    raise ValueError("it is `python -m workshop.demo` in a checkout now, with the same options, or `make demo`")


anything = {"allow_extra_args": True, "ignore_unknown_options": True}
app.command("submit-pack", hidden=True, context_settings=anything)(pack.submit_pack)
app.command("demo", hidden=True, context_settings=anything)(demo)
app.command("import")(weights.import_weights)
app.command("visualize", hidden=True, context_settings=evaluate.ANYTHING)(evaluate.visualize)
app.add_typer(evaluate.evaluations, name="eval")
app.add_typer(audit.audit, name="audit")


if __name__ == "__main__":
    main()
