"""Processes that decode files ahead: one file each at a time, replaced when one crashes or takes too long."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import time
from collections.abc import Generator, Iterator
from multiprocessing.connection import wait
from typing import Any

from avc.files.decoding import Piece, Wanted, serve
from shards.format import Reason
from shards.sources import Source

MOST_CRASHES = 20
"""So many processes in a row that end by themselves are no fault of the files."""
Refused = tuple[Reason, str]


class _Decoder:
    """A process, this end of its pipe, and which source it is at."""

    def __init__(self, wanted: Wanted) -> None:
        # Spawned, not forked: this process has threads, and a fork would copy their locks as they happen to be.
        context = multiprocessing.get_context("spawn")
        self.pipe, its_end = context.Pipe()
        self.process = context.Process(target=serve, args=(its_end, wanted), daemon=True)
        self.process.start()
        its_end.close()
        self.number = -1
        self.waited_seconds = 0.0

    def stop(self) -> str:
        """End the process, if it has not ended, and say how it did."""
        self.pipe.close()
        self.process.join(0.5)
        self.process.kill()
        self.process.join()
        status = self.process.exitcode or 0
        return f"signal {-status}" if status < 0 else f"exit status {status}"


def decode(
    sources: Iterator[tuple[int, Source]], wanted: Wanted, *, processes: int, time_limit_seconds: float
) -> Generator[tuple[int, Piece | Refused | None], None, None]:
    """The pieces of each source as they come, by the source's number; at its end None, or why it ends before.

    A process waits until its piece is taken: however long a file is, one piece of it is in memory. Close the generator,
    and the processes are gone. Raises ChildProcessError where they cannot be kept running.
    """
    decoders: list[_Decoder] = []
    crashes = 0
    waiting = next(sources, None)
    try:
        while waiting is not None or any(decoder.number >= 0 for decoder in decoders):
            while waiting is not None:
                idle = next((decoder for decoder in decoders if decoder.number < 0), None)
                if idle is None and len(decoders) == processes:
                    break
                if idle is None:
                    idle = _Decoder(wanted)
                    decoders.append(idle)
                idle.number, idle.waited_seconds = waiting[0], 0.0
                with contextlib.suppress(OSError):  # it has ended, as reading from it will tell
                    idle.pipe.send(waiting[1])
                waiting = next(sources, None)
            busy = {decoder.pipe: decoder for decoder in decoders if decoder.number >= 0}
            began = time.monotonic()
            ready: list[Any] = wait(list(busy), timeout=min(1.0, time_limit_seconds))
            passed = time.monotonic() - began
            for pipe, decoder in busy.items():
                number = decoder.number
                if pipe in ready:
                    decoder.waited_seconds = 0.0
                    try:
                        message = pipe.recv()
                    except (EOFError, OSError):
                        crashes += 1
                        decoders.remove(decoder)
                        how = decoder.stop()
                        if crashes == MOST_CRASHES:
                            raise ChildProcessError(
                                errno.ECHILD,
                                f"{crashes} decoding processes in a row ended with {how} (out of memory, or killed "
                                "from outside?). What is written is kept: run the same command again",
                            ) from None
                        yield number, (Reason.DECODER_CRASHED, f"its process ended with {how}")
                        continue
                    crashes = 0
                    if message is None or isinstance(message[0], Reason):
                        decoder.number = -1
                    yield number, message
                    continue
                decoder.waited_seconds += passed
                if decoder.waited_seconds > time_limit_seconds:
                    decoders.remove(decoder)
                    decoder.process.kill()
                    decoder.stop()
                    yield number, (Reason.TIMED_OUT, f"nothing came of it within {time_limit_seconds:g} s")
    finally:
        for decoder in decoders:
            decoder.process.kill()
            decoder.stop()
