"""`avc` in this very process, where torch is imported once for all commands; test_cli.py starts programs."""

from __future__ import annotations

import io
import sys
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
    status = 0
    with (
        mock.patch.object(sys, "argv", ["avc", *map(str, arguments)]),
        redirect_stdout(io.StringIO()) as output,
        redirect_stderr(io.StringIO()) as errors,
    ):
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
    return Done(status, output.getvalue(), errors.getvalue())
