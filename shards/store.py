"""Packed folders in an object store: s3, gs, az, http and https, by obstore, which is imported for URLs alone.

No client is safe as it comes: a body that stops waits for ever, a length that lies is believed, and retries are over in
seconds. So waits are bounded here, lengths are checked, and what fails is tried again by the clock. What an error says
is in our own words: the client's may hold a signed address.
"""

from __future__ import annotations

import configparser
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

SCHEMES = ("s3:", "gs:", "az:", "http:", "https:")
PART_BYTES = 16 * 2**20
PIECE_BYTES = 2**20  # that are hashed and written at once: they stay in the processor's cache
IN_FLIGHT = 4  # parts of an upload, and files
STALLED_SECONDS = 10.0  # without a byte; a wait of which people are told
PART_SECONDS = 300.0  # for 16 MB
TIMES_READ = 3  # of a file whose bytes are not the ones that they should be

T = TypeVar("T")


class Url(PosixPath):
    """The address of a folder in an object store, in the place of a path: `url / name` is an object's."""

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    def absolute(self) -> Url:
        """Itself."""
        return self


def place(folder: str | os.PathLike[str]) -> Path:
    """A `Url`, or a path on this machine; `s3:/bucket`, which a path makes of a URL, is taken as the URL."""
    path = Path(folder).expanduser()
    return Url(path) if path.parts and path.parts[0] in SCHEMES else path


class Waiting(UserWarning):
    """A store does not answer, and is asked again."""


class _Short(Exception):
    """Fewer bytes came than were said to come."""


class Store:
    """The objects under a URL, by their names relative to it. May be pickled; each process connects for itself.

    Everything here is tried again until AVC_STORE_PATIENCE seconds have passed (600 where it is not set), warns when
    that takes longer than 10 s, and then raises OSError in words; FileNotFoundError at once.
    """

    def __init__(self, url: Url) -> None:
        self.url = url
        self._patience = float(os.environ.get("AVC_STORE_PATIENCE", "600"))

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "_patience": self._patience}

    @cached_property
    def _client(self) -> tuple[Any, Any]:
        """The client's functions, and the store that they work on."""
        scheme, _, rest = str(self.url).partition("://")
        if "?" in rest or "@" in rest:
            raise ValueError(
                f"a {scheme} URL with a key or a password in it is not taken: it would end up in logs and settings. "
                "Give keys by the environment, or in ~/.aws/credentials"
            )
        try:
            import obstore
            from obstore.store import from_url
        except ImportError:
            raise ValueError(f"{self.url} needs the package obstore: pip install 'avcorr[store]'") from None
        config = {"checksum_algorithm": "SHA256"} | aws_profile() if scheme == "s3" else {}
        endpoint = config.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL", "") if scheme == "s3" else str(self.url)
        stalled = min(STALLED_SECONDS, self._patience / 4)
        client = {
            **{"connect_timeout": timedelta(seconds=stalled), "read_timeout": timedelta(seconds=stalled)},
            **{"timeout": timedelta(seconds=PART_SECONDS), "allow_http": endpoint.startswith("http://")},
        }
        backoff = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2}
        retries = {"max_retries": 5, "backoff": backoff, "retry_timeout": timedelta(seconds=stalled / 2)}
        try:
            return obstore, from_url(str(self.url), config=config or None, client_options=client, retry_config=retries)
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

    def parts(self, name: str, size: int) -> Iterator[bytes]:
        """An object of `size` bytes in pieces, from its start: in parts of 16 MB, anew from where one fails."""
        for start in range(0, size, PART_BYTES):
            yield from self._pieces(name, start, min(start + PART_BYTES, size))

    def _pieces(self, name: str, start: int, stop: int) -> Iterator[bytes]:
        obstore, store = self._client
        coming: Iterator[bytes] | None = None

        def once() -> bytes:
            nonlocal coming
            try:
                if coming is None:
                    found = obstore.get(store, name, options={"range": (start, stop)})
                    coming = iter(found.stream(min_chunk_size=PIECE_BYTES))
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
            found = obstore.get(store, name)
            size = int(found.meta["size"])
            if size > most:
                raise ValueError(f"{self.url / name} has {size:,} bytes of at most {most:,}")
            content = bytes(found.bytes())
            if len(content) != size:
                raise _Short(f"{len(content):,} bytes came of {size:,}")
            return content

        return self._until_done(name, once)

    def sizes(self) -> dict[str, int] | None:
        """Bytes of every object by its name; None over http, where nothing is listed."""
        if str(self.url).startswith("http"):
            return None
        obstore, store = self._client
        listed = self._until_done("", lambda: obstore.list(store).collect())
        return {each["path"]: each["size"] for each in listed}

    def fetch(self, name: str, into: BinaryIO, *, size: int, sha256: str) -> None:
        """Write an object to a file, held against its digest on the way; read again where its bytes are others."""
        for _ in range(TIMES_READ):
            into.seek(0)
            digest = hashlib.sha256()
            for part in self.parts(name, size):
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
        obstore, store = self._client
        found = self._until_done(name, lambda: obstore.get(store, name, options={"head": True}))
        digest: str | None = found.attributes.get("sha256")
        return digest

    def create(self, name: str, content: bytes) -> None:
        """Store an object that is not there. Raises FileExistsError where one is, as after an answer that was lost."""
        obstore, store = self._client
        self._until_done(name, lambda: obstore.put(store, name, content, mode="create", use_multipart=False))

    def _until_done(self, name: str, once: Callable[[], T]) -> T:
        begun, pause, said = time.monotonic(), 0.1, False
        while True:
            try:
                return once()
            except ValueError:
                raise
            except Exception as error:
                number = _NUMBERS.get(type(error).__name__, errno.EIO)
                reason, final = _reason(error)
            passed = time.monotonic() - begun
            if final or passed >= self._patience:
                waited = "" if final else f", and so for {passed:,.0f} s (AVC_STORE_PATIENCE)"
                raise OSError(number, f"{reason}{waited}", str(self.url / name)) from None
            if passed >= STALLED_SECONDS and not said:
                said = True
                warnings.warn(
                    f"{self.url} does not give what is asked for ({reason}), since {time.strftime('%H:%M')}; it is "
                    f"asked again for up to {self._patience:,.0f} s",
                    Waiting,
                    stacklevel=2,
                )
            time.sleep(min(pause, max(0.0, self._patience - passed)))
            pause = min(2 * pause, 5.0)


class Object:
    """An object, for reading by position as a `Descriptor`."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`."""
        return bytes(self._store.read(self._name, offset, size))


_NUMBERS = {
    **{"FileNotFoundError": errno.ENOENT, "AlreadyExistsError": errno.EEXIST},
    **{"PermissionDeniedError": errno.EACCES, "UnauthenticatedError": errno.EACCES},
}
_AGAIN = ("408", "429", "BadDigest", "RequestTimeout", "XAmzContentSHA256Mismatch")  # of what is the client's fault


def _reason(error: Exception) -> tuple[str, bool]:
    """What went wrong, without an address or a header in it, and whether asking again is of no use."""
    if isinstance(error, _Short):
        return str(error), False
    text = str(error)
    status = re.search(r"status code: (\d{3})", text)
    code = re.search(r"<Code>(\w+)</Code>", text)
    kinds = {"TimedOut": "no answer in time", "kind: Connect": "no connection", "kind: Timeout": "no answer in time"}
    words = [part[1] for part in (status, code) if part]
    words = words or [kind for sign, kind in kinds.items() if sign in text][:1] or ["no whole answer"]
    final = type(error).__name__ in _NUMBERS or (bool(status) and words[0].startswith("4"))
    return f"the store answers {' '.join(words)}" if status else words[0], final and not set(words) & {*_AGAIN}


def _hashed(file: BinaryIO, sha256: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    while part := file.read(PART_BYTES):
        digest.update(part)
        yield part
    if digest.hexdigest() != sha256:  # before the object is complete
        raise ValueError(f"{file.name} is not what the manifest says (SHA-256): `avc verify` lists what is wrong")


def aws_profile() -> dict[str, str]:
    """Keys, region and endpoint of the profile AWS_PROFILE (`default`) in ~/.aws, where the environment has no keys.

    Raises ValueError for a profile that is named and is not there, or gets its keys from a program or a login.
    """
    if "AWS_ACCESS_KEY_ID" in os.environ:
        return {}
    name = os.environ.get("AWS_PROFILE", "default")
    found: dict[str, str] = {}
    for variable, file, section in (
        ("AWS_CONFIG_FILE", "config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name),
    ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(os.environ.get(variable) or Path.home() / ".aws" / file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):  # whose words would hold a line of the file
            raise ValueError(f"the file {file} of ~/.aws cannot be read as such (profile {name})") from None
        found |= dict(parser[section]) if parser.has_section(section) else {}
    if not found and "AWS_PROFILE" in os.environ:
        raise ValueError(f"AWS_PROFILE is {name}, and there is no such profile in ~/.aws")
    if "aws_access_key_id" not in found and {"sso_session", "sso_start_url", "credential_process", "role_arn"} & {
        *found
    }:
        raise ValueError(
            f"the profile {name} in ~/.aws has no keys of its own: "
            f'eval "$(aws configure export-credentials --profile {name} --format env)" gives them to this shell'
        )
    names = {"region": "region"} if "AWS_REGION" not in os.environ else {}
    names |= {"endpoint_url": "endpoint"} if "AWS_ENDPOINT_URL" not in os.environ else {}
    names |= {f"aws_{key}": key for key in ("access_key_id", "secret_access_key", "session_token")}
    return {ours: found[theirs] for theirs, ours in names.items() if theirs in found}
