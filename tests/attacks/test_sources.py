"""Inputs that somebody made to stop a packing: tar files above all, and lists and folders."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shards.build_index import merge
from shards.sources import list_sources
from shards.split import Splitter
from shards.tasks import parse_task

LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9))
from shards.build_index import merge
from shards.sources import list_sources
from shards.split import Splitter
from shards.tasks import parse_task
for source in list_sources(sys.argv[1:]):
    print(ascii(source.name[:300]), source.offset, source.size, ascii(source.problem), sep="\\t")
"""


def listed(*inputs: Path) -> list[list[str]]:
    """Name, offset, size and problem of each input, as listed by a process with 10 s and 1 GB."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, inputs)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [line.split("\t") for line in done.stdout.splitlines()]


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, *, raw_size: bytes = b"") -> bytes:
    """A header block with a sum that holds, whatever the size is."""
    member = tarfile.TarInfo(name)
    member.type = kind
    block = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = raw_size or (b"\x80" if size >= 0 else b"\xff") + (size % 256**11).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    return header(name, len(content), kind) + content + bytes(-len(content) % 512)


def record(keyword: bytes, value: bytes) -> bytes:
    """A record of a pax header."""
    rest = len(keyword) + len(value) + 3
    length = next(n for n in range(rest, rest + 12) if len(str(n)) + rest == n)
    return b"%d %s=%s\n" % (length, keyword, value)


def pax(*records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return member("pax", b"".join(records), kind)


EVIL = {
    "a negative size": header("evil.mp4", -512),
    "a negative size that leads to the first header": header("evil.mp4", -2048),
    "a negative size in octal digits": header("evil.mp4", 0, raw_size=b"-0000001000\0"),
    "a size of 2^63": header("evil.mp4", 2**63),
    "a size of 2^86": header("evil.mp4", 2**86),
    "a size beyond the end": header("evil.mp4", 10**6),
    "a negative size of what is no video": header("evil.json", -512),
    "a pax size below 0": pax(record(b"size", b"-1")) + header("evil.mp4", 0),
    "a pax size of 4000 digits": pax(record(b"size", b"9" * 4000)) + header("evil.mp4", 0),
    "a pax size that is no number": pax(record(b"size", b"\xff\xfe")) + header("evil.mp4", 0),
    "a pax header of a negative size": header("pax", -512, tarfile.XHDTYPE) + header("evil.mp4", 0),
    "a pax header of 2^62 bytes": header("pax", 2**62, tarfile.XHDTYPE) + header("evil.mp4", 0),
    "a pax header without spaces": pax(b"1" * 200_000) + header("evil.mp4", 0),
    "a pax header of digits and spaces": pax(b"1 " * 100_000) + header("evil.mp4", 0),
    "a pax record of length 0": pax(b"0 path=x\n") + header("evil.mp4", 0),
    "a pax record longer than its header": pax(b"999 path=x\n") + header("evil.mp4", 0),
    "a chain of 5,000 pax headers": pax(record(b"comment", b"x")) * 5000,
    "a chain of 5,000 GNU long names": member("long", b"x" * 300, tarfile.GNUTYPE_LONGNAME) * 5000,
    "a GNU long name of 2^62 bytes": header("long", 2**62, tarfile.GNUTYPE_LONGNAME),
    "a GNU long name of 1 MB": member("long", b"n/" * 500_000 + b".mp4", tarfile.GNUTYPE_LONGNAME) + header("e", 0),
    "a map of a sparse file without end": header("e.mp4", 0, tarfile.GNUTYPE_SPARSE)[:482] + b"\1" + b"\1" * 20_000,
    "a block of noise": random.Random(1).randbytes(512),
    "half a header": header("evil.mp4", 0)[:100],
}


@pytest.mark.parametrize("name", EVIL)
def test_an_evil_tar_is_one_named_problem_and_keeps_the_members_before_it(tmp_path: Path, name: str) -> None:
    content = EVIL[name]
    if name.startswith("a map"):  # its header must hold for the map to be followed
        content = _summed(content[:512]) + content[512:]
    path = tmp_path / "evil.tar"
    path.write_bytes(member("good.mp4", b"good" * 300) + content)
    good, *_, evil = sorted(listed(path), key=lambda row: row[1] == "None")
    assert good == [ascii(f"{path}::good.mp4"), "512", "1200", "''"]
    assert evil[0] == ascii(str(path)) and "the tar file cannot be read to its end: " in evil[3]


def _summed(block: bytes) -> bytes:
    changed = bytearray(block)
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed)
    return bytes(changed)


def test_a_pax_header_of_many_records_takes_no_longer_than_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "many.tar"
    records = record(b"comment", b"x") * 50_000 + record(b"GNU.sparse.map", b"1," * 20_000) + record(b"path", b"a.mp4")
    path.write_bytes((pax(records) + member("x", b"content")) * 4)
    assert [row[0] for row in listed(path)] == [ascii(f"{path}::a.mp4")] * 4


def test_a_hundred_thousand_members_are_listed_in_time(tmp_path: Path) -> None:
    path = tmp_path / "many.tar"
    path.write_bytes(member("a.mp4", b"x") * 100_000)
    assert len(listed(path)) == 100_000


def _tars() -> Iterator[tuple[list[tuple[str, bytes]], bytes]]:
    """Members and the tar file that Python makes of them, in each format that can hold them."""
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        members = [("a.mp4", b"a" * 700), ("d/" * 60 + "b.webm", b"b" * 512), ("e.mp4", b"")]
        if form != tarfile.USTAR_FORMAT:
            members += [("ünï/" * 80 + "é.mp4", b"c" * 10), ("x" * 3000 + ".mp4", b"l" * 1500)]
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=form, pax_headers={"comment": "of all"}) as archive:
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size, info.mtime = len(content), 1
                if form == tarfile.GNU_FORMAT:
                    info.uid = 2**40  # in base 256
                archive.addfile(info, io.BytesIO(content))
        yield members, stream.getvalue()


def test_tar_files_of_each_format_are_read_as_they_were_written(tmp_path: Path) -> None:
    for members, data in _tars():
        path = tmp_path / "good.tar"
        path.write_bytes(data)
        found = {s.name.partition("::")[2]: data[s.offset : (s.offset or 0) + s.size] for s in list_sources([path])}
        assert found == dict(members)


def test_sparse_files_of_each_kind_are_named_and_what_follows_them_is_found(tmp_path: Path) -> None:
    with (tmp_path / "sparse.mp4").open("wb") as file:
        for number in range(30):  # more than a header holds
            file.seek(number * 1_000_000)
            file.write(b"data")
    (tmp_path / "z.mp4").write_bytes(b"z" * 600)
    for kind in ("--format=gnu", "--format=oldgnu", *(f"--sparse-version={n}" for n in ("0.0", "0.1", "1.0"))):
        command = ["tar", "-S", kind, *(["--format=pax"] if "version" in kind else []), "-cf", "s.tar"]
        subprocess.run([*command, "sparse.mp4", "z.mp4"], cwd=tmp_path, check=True)
        sparse, last = list_sources([tmp_path / "s.tar"])
        assert sparse.name.endswith("::sparse.mp4") and "special" in sparse.problem, kind
        data = (tmp_path / "s.tar").read_bytes()
        assert not last.problem and data[last.offset : (last.offset or 0) + last.size] == b"z" * 600, kind


def test_no_mutation_of_a_tar_raises_or_leads_out_of_the_file(tmp_path: Path) -> None:
    rng = random.Random(3)
    seeds = [data for _, data in _tars()]
    path = tmp_path / "m.tar"
    for _ in range(1500):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 3)):
            start = rng.randrange(0, len(data), 512)
            place = start + rng.choice([rng.randrange(512), rng.randrange(124, 136), 156])
            if place < len(data):
                data[place] = rng.choice([0, 0x80, 0xFF, *b"0123457xgLKS-", rng.randrange(256)])
            if rng.random() < 0.7 and len(data) >= start + 512:
                data[start : start + 512] = _summed(bytes(data[start : start + 512]))
        del data[rng.choice([len(data), rng.randrange(len(data))]) :]
        path.write_bytes(data)
        sources = list_sources([path])
        assert sources
        assert all(s.offset is None or 0 < s.offset <= s.offset + s.size <= len(data) for s in sources)


def test_a_folder_two_thousand_deep_is_walked() -> None:
    with tempfile.TemporaryDirectory() as name:
        here = os.open(name, os.O_RDONLY)
        for _ in range(2000):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open("a.mp4", os.O_CREAT, dir_fd=here))
        os.close(here)
        try:
            [row] = listed(Path(name))
        finally:
            subprocess.run(["rm", "-r", Path(name) / "d"], check=True)  # shutil.rmtree recurses
    assert row[2:] == ["0", "''"]


def test_a_list_with_an_impossible_line_counts_it_and_keeps_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "list.txt").write_bytes(b"nul\0.mp4\n" + b"l" * 5000 + b"\na.mp4\n" + b"m/" * 30_000 + b"\n")
    rows = listed(tmp_path / "list.txt")
    assert [row[3] for row in rows if "a.mp4" in row[0]] == ["''"]
    assert sum("holds a NUL" in row[3] for row in rows) == 1
    assert sum("File name too long" in row[3] for row in rows) == 2


def test_a_list_that_is_no_text_is_refused_by_its_first_line_without_reading_it(tmp_path: Path) -> None:
    with (tmp_path / "list.txt").open("wb") as file:
        file.truncate(4 * 10**9)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "list.txt"], capture_output=True, text=True, check=False
    )
    assert "line 1 of " in done.stderr.splitlines()[-1] and "ValueError" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "task", ["0/0", "-1/8", "9/8", f"1/{10**30}", f"{10**30}/{10**30}", "1/8\n", "1/", "٣/٨", "9" * 5000]
)
def test_a_task_that_cannot_be_is_refused(task: str) -> None:
    with pytest.raises(ValueError, match="must be NUMBER/TASKS"):
        parse_task(task)


def test_a_list_of_a_split_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="line 1 of /dev/zero is longer than"):
        Splitter((1.0, 0.0, 0.0), {"test": Path("/dev/zero")})


def test_a_folder_named_as_one_of_endless_tasks_is_refused_by_a_merge(tmp_path: Path) -> None:
    (tmp_path / f"task-0001-of-{10**20}").mkdir()
    with pytest.raises(ValueError, match="there is no task 1 of 1000"):
        merge(tmp_path)
