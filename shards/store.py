"""Packed folders in an object store: s3, gs, az, http and https, by obstore, which is imported for URLs alone.

No client is safe as it comes: a body that stops waits for ever, a length that lies is believed, and retries are over in
seconds. So waits are bounded here, lengths are checked, and what fails is tried again by the clock. What an error says
is in our own words: the client's may hold a signed address.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cached_property
from pathlib import Path, PosixPath
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

SCHEMES = ("s3:", "gs:", "az:", "http:", "https:")
PART_BYTES = 16 * 2**20
PIECE_BYTES = 2**20  # that are hashed and written at once: they stay in the processor's cache
IN_FLIGHT = 4  # parts of an upload, and files
STALLED_SECONDS = 10.0  # without a byte; a wait of which people are told
FIRST_SECONDS = 10.0  # for which a store that no request has reached is asked, where nobody has asked for patience:
PATIENT = {"AVC_STORE_PATIENCE", "RANK", "SLURM_JOB_ID"}  # the user, torchrun, SLURM
ANSWER_SECONDS = 300.0  # after which what is missing of it is asked for anew
TIMES_READ = 3  # of a file whose bytes are not the ones that they should be

T = TypeVar("T")


class Url(PosixPath):
    """The address of a folder in an object store, in the place of a path: `url / name` is an object's."""

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    def absolute(self) -> Url:
        """Itself."""
        return self


def as_url(text: str | os.PathLike[str]) -> Url | None:
    """The URL that a text is, if it is one; `s3:/bucket`, which a path makes of a URL, is taken as the URL.

    Raises ValueError where there is a key in it.
    """
    url = Url(text)
    if not url.parts or url.parts[0] not in SCHEMES:
        return None
    if "@" in "".join(url.parts[1:2]) or (url.parts[0].startswith("http") and "?" in str(url)):
        raise ValueError(
            f"a {url.parts[0]} URL with a key or a password in it is not taken: it would end up in logs and settings. "
            "Give keys by the environment, or in ~/.aws/credentials"
        )
    return url


def place(folder: str | os.PathLike[str]) -> Path:
    """A `Url`, or a path on this machine. Raises ValueError as `as_url`."""
    return as_url(folder) or Path(folder).expanduser()


def user_cache() -> Path:
    """Folder for what can be made again: $XDG_CACHE_HOME/avc, or ~/.cache/avc."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "avc"


class Waiting(UserWarning):
    """A store does not answer, and is asked again."""


class _Short(Exception):
    """Fewer bytes came than were said to come."""


class Store:
    """The objects under a URL, by their names relative to it. May be pickled; each process connects for itself.

    Everything here is tried again until AVC_STORE_PATIENCE seconds have passed, warns when that takes longer than 10 s,
    and then raises OSError in words; FileNotFoundError at once. Where it is not set, these are 600 s, and outside of a
    job of a cluster 10 s until a request has reached the store. reached: whether one has before.
    """

    def __init__(self, url: Url, *, reached: bool = False) -> None:
        self.url = url
        self._patience = float(os.environ.get("AVC_STORE_PATIENCE", "600"))
        self._reached = reached or not PATIENT.isdisjoint(os.environ)

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "_patience": self._patience, "_reached": self._reached}

    @cached_property
    def _client(self) -> tuple[Any, Any]:
        """The client's functions, and the store that they work on."""
        scheme = str(self.url).partition("://")[0]
        as_url(self.url)
        try:
            import obstore
            from obstore.store import from_url

            from shards.aws import aws_profile
        except ImportError:
            raise ValueError(f"{self.url} needs the package obstore: pip install 'avcorr[store]'") from None
        config = {"checksum_algorithm": "SHA256"} | aws_profile() if scheme == "s3" else {}
        endpoint = config.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL", "") if scheme == "s3" else str(self.url)
        stalled = min(STALLED_SECONDS, self._patience / 4)
        client = {
            "connect_timeout": timedelta(seconds=stalled),
            "read_timeout": timedelta(seconds=stalled),
            "timeout": timedelta(seconds=ANSWER_SECONDS),
            "allow_http": endpoint.startswith("http://"),
        }
        backoff = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2}
        retries = {"max_retries": 5, "backoff": backoff, "retry_timeout": timedelta(seconds=stalled / 2)}
        try:
            # The names of a store's folders are not written as in a URL: `take #2`, `50%`.
            url = str(self.url) if scheme.startswith("http") else quote(str(self.url), safe="/:")
            return obstore, from_url(url, config=config or None, client_options=client, retry_config=retries)
        except Exception as error:
            raise ValueError(f"{self.url} cannot be opened: {_reason(error)[0]}") from None

    def read(self, name: str, offset: int, size: int) -> Any:
        """`size` bytes of an object from `offset`, as a buffer."""
        obstore, store = self._client

        def once() -> Any:
            data = obstore.get_range(store, name, start=offset, length=size)
            if len(data) != size:
                raise _Short(f"{len(data):,} bytes came of {size:,}")
            return data

        return self._until_done(name, once) if size else b""

    def pieces(
        self, name: str, size: int, *, offset: int = 0, listed: tuple[int | None, int] | None = None
    ) -> Iterator[bytes]:
        """`size` bytes of an object from `offset`, by one request, and one more from wherever an answer fails.

        listed: its facts, the bytes where they are known. Raises ValueError where it has other ones now.
        """
        obstore, store = self._client
        start, stop = offset, offset + size
        coming: Iterator[bytes] | None = None

        def once() -> bytes:
            nonlocal coming
            try:
                if coming is None:
                    response = obstore.get(store, name, options={"range": (start, stop)})
                    now = _facts(response.meta)
                    if listed is not None and (listed[0] not in (None, now[0]) or now[1] > listed[1] + 10**9):
                        raise ValueError("it was stored anew since it was listed")
                    coming = iter(response.stream(min_chunk_size=PIECE_BYTES))
                piece = next(coming, b"")
                if not 0 < len(piece) <= stop - start:
                    raise _Short(f"{len(piece):,} bytes came of {stop - start:,}")
            except Exception:
                coming = None
                raise
            return piece

        while start < stop:
            piece = self._until_done(name, once)
            start += len(piece)
            yield piece

    def whole(self, name: str, *, most: int) -> bytes:
        """All of a small object. Raises ValueError where it has more than `most` bytes."""
        obstore, store = self._client

        def once() -> bytes:
            response = obstore.get(store, name)
            size = int(response.meta["size"])
            if size > most:
                raise ValueError(f"{self.url / name} has {size:,} bytes of at most {most:,}")
            content = bytes(response.bytes())
            if len(content) != size:
                raise _Short(f"{len(content):,} bytes came of {size:,}")
            return content

        return self._until_done(name, once)

    def listed(self) -> dict[str, tuple[int, int]] | None:
        """Bytes of every object, and when it was stored (ns), by its name; None over http, where nothing is listed."""
        if str(self.url).startswith("http"):
            return None
        obstore, store = self._client
        return {each["path"]: _facts(each) for each in self._until_done("", lambda: obstore.list(store).collect())}

    def sizes(self) -> dict[str, int] | None:
        """Bytes of every object by its name; None over http."""
        listed = self.listed()
        return None if listed is None else {name: size for name, (size, _) in listed.items()}

    def facts(self, name: str) -> tuple[int, int]:
        """As `listed` has them, of one object."""
        return _facts(self._head(name).meta)

    def fetch(self, name: str, into: BinaryIO, *, size: int, sha256: str) -> None:
        """Write an object to a file, held against its digest on the way; read again where its bytes are others."""
        for _ in range(TIMES_READ):
            into.seek(0)
            digest = hashlib.sha256()
            for part in self.pieces(name, size):
                digest.update(part)
                into.write(part)
            if digest.hexdigest() == sha256:
                return
        raise OSError(errno.EIO, f"its SHA-256 is not the manifest's, {TIMES_READ} times in turn", str(self.url / name))

    def upload(self, path: Path, name: str, *, sha256: str) -> None:
        """Store a file, with its digest beside it. Raises ValueError where the file is not of that digest."""
        obstore, store = self._client

        def once() -> None:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                content = _hashed(file, sha256)
                more = {"use_multipart": size > PART_BYTES, "max_concurrency": IN_FLIGHT}
                obstore.put(store, name, content, chunk_size=PART_BYTES, attributes={"sha256": sha256}, **more)

        self._until_done(name, once)

    def uploaded(self, name: str) -> str | None:
        """The digest with which an object was uploaded here, if it was."""
        digest: str | None = self._head(name).attributes.get("sha256")
        return digest

    def _head(self, name: str) -> Any:
        obstore, store = self._client
        return self._until_done(name, lambda: obstore.get(store, name, options={"head": True}))

    def create(self, name: str, content: bytes) -> None:
        """Store an object that is not there. Raises FileExistsError where one is, as after an answer that was lost."""
        obstore, store = self._client
        self._until_done(name, lambda: obstore.put(store, name, content, mode="create", use_multipart=False))

    def _until_done(self, name: str, once: Callable[[], T]) -> T:
        begun, pause, said = time.monotonic(), 0.1, False
        while True:
            try:
                result = once()
                self._reached = True
                return result
            except ValueError:
                raise
            except Exception as error:
                reason, final = _reason(error)
                without_keys = reason.startswith(NO_KEYS)
                number = errno.EACCES if without_keys else _NUMBERS.get(type(error).__name__, errno.EIO)
                answered = "status code: " in str(error) and not without_keys
                self._reached |= answered or isinstance(error, _Short)
            passed, patience = time.monotonic() - begun, self._patience if self._reached else FIRST_SECONDS
            if final or passed >= patience:
                waited = "" if final else f", and so for {passed:,.0f} s (AVC_STORE_PATIENCE)"
                waited += "" if final or self._reached else ": check the URL, AWS_ENDPOINT_URL and the network"
                raise OSError(number if final else errno.ETIMEDOUT, f"{reason}{waited}", str(self.url / name)) from None
            if passed >= STALLED_SECONDS and not said:
                said = True
                warnings.warn(
                    f"{self.url} does not give what is asked for ({reason}), since {time.strftime('%H:%M')}; it is "
                    f"asked again for up to {self._patience:,.0f} s",
                    Waiting,
                    stacklevel=2,
                )
            time.sleep(min(pause, max(0.0, patience - passed)))
            pause = min(2 * pause, 5.0)


class Object:
    """An object, for reading by position as a `Descriptor`."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`."""
        return bytes(self._store.read(self._name, offset, size))


_NUMBERS = {
    "FileNotFoundError": errno.ENOENT,
    "AlreadyExistsError": errno.EEXIST,
    "PermissionDeniedError": errno.EACCES,
    "UnauthenticatedError": errno.EACCES,
}
NO_CONNECTION, NO_KEYS = "no connection", "no keys are given"  # what has not reached the store
_AGAIN = ("408", "429", "BadDigest", "RequestTimeout", "XAmzContentSHA256Mismatch")  # of what is the client's fault


def _facts(meta: dict[str, Any]) -> tuple[int, int]:
    return meta["size"], int(meta["last_modified"].timestamp()) * 10**9


def _reason(error: Exception) -> tuple[str, bool]:
    """What went wrong, without an address or a header in it, and whether asking again is of no use."""
    if isinstance(error, _Short):
        return str(error), False
    text = str(error)
    if "Range request not supported" in text:
        return "its server does not answer ranges of bytes, by which all is read here: take one that does", True
    status = re.search(r"status code: (\d{3})", text)
    code = re.search(r"<Code>(\w+)</Code>", text)
    kinds = {"TimedOut": "no answer in time", "kind: Connect": NO_CONNECTION, "kind: Timeout": "no answer in time"}
    words = [part[1] for part in (status, code) if part]
    words = words or [kind for sign, kind in kinds.items() if sign in text][:1] or ["no whole answer"]
    final = type(error).__name__ in _NUMBERS or (bool(status) and words[0].startswith(("4", "501")))
    said = f"the store answers {' '.join(words)}" if status else words[0]
    if any(service in text for service in ("//169.254.", "//metadata.google")):
        said = f"{NO_KEYS}, and this machine has none of its own ({words[0]}): docs/stores.md says where they go"
    return said, final and not set(words) & {*_AGAIN}


def _hashed(file: BinaryIO, sha256: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    while part := file.read(PART_BYTES):
        digest.update(part)
        yield part
    if digest.hexdigest() != sha256:  # before the object is complete
        raise ValueError(f"{file.name} is not what the manifest says (SHA-256): `avc verify` lists what is wrong")
