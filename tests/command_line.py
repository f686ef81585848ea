"""`avc` in this very process, where torch is imported once for all commands; test_cli.py starts programs."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest import mock

from launch.cli import main


@dataclass(frozen=True)
class Done:
    """A command's exit status and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def avc(*arguments: object) -> Done:
    """What `avc ARGUMENTS` does; an error that a user would see as a traceback is raised."""
    return called(main, "avc", *arguments)


def called(program: Callable[[], None], *words: object) -> Done:
    """What a program does that was called by these words."""
    status = 0
    with (
        mock.patch.object(sys, "argv", list(map(str, words))),
        redirect_stdout(io.StringIO()) as output,
        redirect_stderr(io.StringIO()) as errors,
    ):
        try:
            program()
        except SystemExit as end:
            status = int(end.code or 0)
    return Done(status, output.getvalue(), errors.getvalue())
