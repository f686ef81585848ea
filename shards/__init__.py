"""The dataset on disk: its format, writing it, reading it. Knows media and tar files; never torch, never ranks."""

from collections.abc import Callable

Report = Callable[[int, int, str], None]  # what is told of progress: done, of how many, and a note beside them
