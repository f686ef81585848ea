"""Edit lists of mp4 and QuickTime files: which parts of a track are shown, and when.

libav obeys them too, but not to the moment: it leaves out the picture on show where an edit begins, moves the pictures
after it there, and does not know how long the last one is held. Here an edit begins inside a picture if it says so.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from shards.media.decoding import Record
    from shards.media.pictures import TimedPicture

MAX_BOXES = 10_000  # that are looked at in one file
MAX_EDITS = 1_000
# A list that shows the last picture for longer than this after its own end is a broken one.
LONGEST_HOLD_SECONDS = 3600

Place = tuple[int, int]  # in a file, bytes: from and to


@dataclass(frozen=True)
class Edit:
    """A part of a track: its beginning and end (None: the track's), when it is shown, and the list's rounding.

    All in units of the track's stamps.
    """

    begins: int
    ends: int | None
    shown_at: int
    rounding: int

    @property
    def shift(self) -> int:
        """What is added to the track's stamps."""
        return self.shown_at - self.begins


def edits_of(content: BinaryIO, *, track: int, unit: Fraction) -> list[Edit]:
    """The edits of a track by its number; `unit` of its stamps in seconds.

    Empty where it has none, or has what only libav's own way can show: a part that is shown again, or at another speed.
    """
    try:
        scale, entries = _list_of(content, track)
    except (struct.error, OSError, ValueError):
        return []
    edits: list[Edit] = []
    shown_at = Fraction(0)
    for number, (lasts, begins, speed) in enumerate(entries):
        seconds = Fraction(lasts, scale) / unit
        if begins != -1:
            open_ended = not lasts and number == len(entries) - 1
            again = edits and (edits[-1].ends is None or begins < edits[-1].ends)
            if begins < 0 or speed != 1 << 16 or again:
                return []
            ends = None if open_ended else begins + round(seconds)
            edits.append(Edit(begins, ends, round(shown_at), -(-Fraction(1, scale) // unit)))
        shown_at += seconds
    return edits


def stored_at(edits: list[Edit], time: int) -> int:
    """The stamp in the track of what is shown at a time; that of the first edit's beginning before all of them."""
    edit = next((edit for edit in reversed(edits) if edit.shown_at <= time), None)
    return edits[0].begins if edit is None else time - edit.shift


def edited(pictures: Iterable[TimedPicture], edits: list[Edit], record: Record) -> Iterator[TimedPicture]:
    """The pictures as the edits show them; one that an edit begins or ends in is shown for the rest of its time.

    `record` counts those that none shows.
    """
    last = edits[-1]
    for picture, following in pairwise(chain(pictures, [None])):
        assert picture is not None
        until = following.stamp if following else _end_of(picture, last)
        if last.ends is not None and picture.stamp >= last.ends:
            record.hidden += 1
            return
        shown = False
        for edit in edits:
            begins = max(picture.stamp, edit.begins)
            ends = until if edit.ends is None or until <= edit.ends + edit.rounding else edit.ends
            if begins < ends:
                yield type(picture)(picture.frame, picture.unit, begins + edit.shift, ends - begins)
                shown = True
        record.hidden += not shown


def _end_of(picture: TimedPicture, edit: Edit) -> int:
    """When the last picture of a track ends: at the end of the edit if that is later by more than rounding.

    Where pictures are stored in another order than they are shown, the table of durations does not hold the last one's.
    """
    own = picture.stamp + picture.lasts
    if edit.ends is None or not edit.rounding < edit.ends - own <= LONGEST_HOLD_SECONDS / picture.unit:
        return own
    return edit.ends


def _list_of(content: BinaryIO, track: int) -> tuple[int, list[tuple[int, int, int]]]:
    """Units of durations in a second, and the entries of the track's list: duration, beginning, speed (16.16)."""
    left = [MAX_BOXES]
    scale, found = 1, []
    file = (0, content.seek(0, os.SEEK_END))
    movie = next((place for name, place in _boxes(content, file, left) if name == b"moov"), (0, 0))
    for name, place in _boxes(content, movie, left):
        if name == b"mvhd":
            scale = _field(content, place, 12, 20)
        elif name == b"trak":
            inner = dict(_boxes(content, place, left))
            if b"tkhd" in inner and b"edts" in inner and _field(content, inner[b"tkhd"], 12, 20) == track:
                lists = dict(_boxes(content, inner[b"edts"], left))
                found = _entries(content, lists[b"elst"]) if b"elst" in lists else []
    return scale or 1, found


def _boxes(content: BinaryIO, place: Place, left: list[int]) -> Iterator[tuple[bytes, Place]]:
    """Names and contents of the boxes at a place in the file; `left` bounds how many are looked at in all."""
    at, end = place
    while at + 8 <= end:
        left[0] -= 1
        if left[0] < 0:
            raise ValueError("too many boxes")
        content.seek(at)
        head = content.read(16)
        size, name = struct.unpack_from(">I4s", head)
        inner = at + 8
        if size == 1:
            [size], inner = struct.unpack_from(">Q", head, 8), at + 16
        after = at + size if size else end
        if not inner <= after <= end:
            raise ValueError("a box larger than what it is in")
        yield name, (inner, after)
        at = after


def _field(content: BinaryIO, place: Place, short: int, long: int) -> int:
    """A number of 32 bits in a box; where it lies depends on the box's version."""
    content.seek(place[0])
    box = content.read(min(place[1] - place[0], long + 4))
    number: int = struct.unpack_from(">I", box, long if box[:1] == b"\1" else short)[0]
    return number


def _entries(content: BinaryIO, place: Place) -> list[tuple[int, int, int]]:
    content.seek(place[0])
    box = content.read(min(place[1] - place[0], 8 + 20 * MAX_EDITS))
    form = struct.Struct(">Qqi" if box[:1] == b"\1" else ">Iii")
    [count] = struct.unpack_from(">I", box, 4)
    if count > MAX_EDITS:
        raise ValueError("too many edits")
    return [form.unpack_from(box, 8 + number * form.size) for number in range(count)]
