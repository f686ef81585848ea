"""Writes and reads the dataset on disk. Imports media and tar libraries, never torch."""

from collections.abc import Callable

Report = Callable[[int, int, str], None]  # progress callback: number done, total, a name
