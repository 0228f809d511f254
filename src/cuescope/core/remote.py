"""Objects at addresses such as s3://bucket/folder, through fsspec: each failure is an OSError, no wait is endless."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cuescope.core.errors import CueError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

TIMEOUT_S, BYTES_S = 30.0, 1 << 18
"""A request is given up after so many seconds, and one more for so many bytes."""
TOGETHER = 16
"""Requests at a time."""
DRIVERS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
"""The packages that fsspec takes for these addresses; without them obstore, which reads all."""
WEB = ("http", "https")

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?=[^/])(.+)", re.S)
_FORBIDDEN = re.compile(
    r"\b40[13]\b|AccessDenied|Access ?Denied|Forbidden|Permission|Unauthori[sz]ed|Unauthenticated|InvalidAccessKey"
    r"|SignatureDoesNotMatch|[Cc]redentials"
)
_ABSENT = re.compile(r"\b404\b|NoSuchBucket|NoSuchKey|NotFound|does not exist", re.I)
_NO_BUCKET = re.compile(r"NoSuchBucket|bucket does not exist", re.I)
_LATE = re.compile(r"timed out|(Read|Connect\w*)TimeoutError")

Item = TypeVar("Item")
Made = TypeVar("Made")


class Entry(NamedTuple):
    """An object below an address."""

    name: str
    """Its path below the address."""
    size: int
    tag: str
    """Changes with its bytes, where the store tells: its ETag, checksum or time of change."""


def address(value: Any) -> str:
    """The address that a text or a path is, without a slash at its end; "" where it is none, as for a local path.

    >>> address("s3://bucket/photos/"), address(Path("s3://bucket/photos")), address("C:/photos"), address("world:8")
    ('s3://bucket/photos', 's3://bucket/photos', '', '')
    """
    found = _ADDRESS.fullmatch(str(value)) if isinstance(value, str | Path) else None
    return f"{found[1]}://{found[2].rstrip('/')}" if found else ""


class Remote:
    """What lies at and below an address. Its methods raise OSError alone, of one kind for each cause.

    FileNotFoundError: it is not there; PermissionError: it may not be read; TimeoutError: no answer; FileExistsError;
    and OSError with the reason for all else. Safe in threads.
    """

    def __init__(self, url: str) -> None:
        """Raises CueError where no driver reads such addresses, or none is installed."""
        self.url = address(url)
        self.protocol, _, rest = self.url.partition("://")
        self._root = rest.strip("/")

    def __reduce__(self) -> tuple[type[Remote], tuple[str]]:
        """Another process has a driver of its own."""
        return Remote, (self.url,)

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self._root.rpartition("/")[2].partition("?")[0]

    @cached_property
    def _fs(self) -> AbstractFileSystem:
        return _file_system(self.protocol)

    def at(self, name: str) -> Remote:
        """What lies below it under this name."""
        return Remote(f"{self.url}/{name}") if name else self

    def _path(self, name: str) -> str:
        whole = f"{self._root}/{name}" if name else self._root
        return f"{self.protocol}://{whole}" if self.protocol in WEB else whole

    def _call(self, method: str, *args: Any, size: int = 0, **kwargs: Any) -> Any:
        """What a method of the file system gives, in time."""
        fs: Any = self._fs
        wait_s = TIMEOUT_S + size / BYTES_S
        try:
            if fs.async_impl and hasattr(fs, f"_{method}"):

                async def timed() -> Any:
                    return await asyncio.wait_for(getattr(fs, f"_{method}")(*args, **kwargs), wait_s)

                return asyncio.run_coroutine_threadsafe(timed(), fs.loop).result()
            return getattr(fs, method)(*args, **kwargs)
        except CueError:
            raise
        except Exception as error:  # each driver has its own kinds, few of them OSErrors
            raise _as_os_error(error) from None

    def read(self, name: str = "", start: int = 0, size: int | None = None) -> bytes:
        """So many bytes of an object, or all. Half of them is an OSError."""
        if size == 0:
            return b""
        span = {} if size is None else {"start": start, "end": start + size}
        data = self._call("cat_file", self._path(name), size=size or 0, **span)
        if size is not None and len(data) != size:
            raise OSError(errno.EIO, f"only {len(data):,} of {size:,} bytes came")
        return bytes(data)

    def info(self, name: str = "") -> Entry | None:
        """The object of this name; None where there is a folder. Raises FileNotFoundError where there is nothing."""
        found = self._call("info", self._path(name))
        return None if found["type"] == "directory" else _entry(name, found)

    def entries(self, folder: str = "") -> tuple[list[Entry], list[str]]:
        """The objects of a folder, "" or one that ends with a slash, and its folders by path, both by name."""
        found = self._call("ls", self._path(folder.rstrip("/")), detail=True)
        objects, folders = [], []
        for item in found:
            last = item["name"].rstrip("/").rpartition("/")[2]
            whole = item["name"].strip("/")
            if not last or whole == self._path(folder.rstrip("/")).strip("/"):
                continue  # some stores have an object for a folder itself
            if item["type"] == "directory":
                folders.append(f"{folder}{last}/")
            else:
                objects.append(_entry(f"{folder}{last}", item))
        return sorted(objects), sorted(folders)

    def walk(self, folder: str = "") -> Iterator[Entry]:
        """All objects below a folder, which may be absent, folder by folder; several folders are listed at a time."""
        waiting = [folder]
        while waiting:
            listed = list(together(self._entries_if, waiting))
            waiting = [inner for _, folders in listed for inner in folders]
            for objects, _ in listed:
                yield from objects

    def _entries_if(self, folder: str) -> tuple[list[Entry], list[str]]:
        try:
            return self.entries(folder)
        except FileNotFoundError:
            return [], []

    def write(self, name: str, data: bytes, *, new: bool = False) -> None:
        """Put an object, whole or not at all. `new`: FileExistsError where there is one, if the store can tell."""
        how = {"mode": "create"} if new else {}
        self._call("pipe_file", self._path(name), data, size=len(data), **how)

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._call("rm_file", self._path(name))

    def age_s(self, name: str) -> float:
        """How long ago an object was written, by the store's own clock. Writes another one to know what time it is."""
        probe = f".probe-{secrets.token_hex(4)}"
        self.write(probe, b"")
        try:
            now, then = (self._call("modified", self._path(one)) for one in (probe, name))
        finally:
            self.remove(probe)
        return (now - then).total_seconds()

    def error(self, error: OSError, wanted: str = "an address that can be read") -> CueError:
        """The failure of a request in words."""
        do = "check the address and the network, and try again"
        if isinstance(error, PermissionError):
            do = "check your credentials for it, and what they allow"
        elif isinstance(error, FileNotFoundError):
            do = "check the address"
        return CueError(f"'{self.url}': {error.strerror or error}", wanted=wanted, do=do)


def together(make: Callable[[Item], Made], items: Iterable[Item], most: int = TOGETHER) -> Iterator[Made]:
    """What `make` gives of each, in order, so many at a time."""
    pool = ThreadPoolExecutor(most, thread_name_prefix="remote")
    try:
        yield from pool.map(make, items)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _entry(name: str, found: dict[str, Any]) -> Entry:
    keys = ("ETag", "e_tag", "etag", "md5Hash", "content_settings", "blob_id", "mtime", "created", "last_modified")
    tag = next((str(found[key]) for key in keys if found.get(key)), "")
    return Entry(name, int(found.get("size") or 0), tag.strip('"'))


def _as_os_error(error: Exception) -> OSError:
    """The kind of failure, whatever driver tells it, with a reason of one line."""
    text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    what = f"{type(error).__name__} {error}"
    if isinstance(error, FileExistsError) or "AlreadyExists" in what:
        return FileExistsError(errno.EEXIST, "it is there already")
    if isinstance(error, asyncio.TimeoutError):
        return TimeoutError(errno.ETIMEDOUT, f"no answer within {TIMEOUT_S:.0f} s")
    if isinstance(error, PermissionError) or (_FORBIDDEN.search(what) and not isinstance(error, FileNotFoundError)):
        return PermissionError(errno.EACCES, f"no permission ({text[:160]})")
    if isinstance(error, FileNotFoundError) or _ABSENT.search(what):
        why = "there is no such bucket" if _NO_BUCKET.search(what) else "it is not there"
        return FileNotFoundError(errno.ENOENT, why)
    if _LATE.search(what):
        return TimeoutError(errno.ETIMEDOUT, f"no answer in time ({text[:160]})")
    return OSError(errno.EIO, text[:200])


@cache
def _file_system(protocol: str) -> AbstractFileSystem:
    import fsspec

    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError:
        return _by_obstore(protocol)
    except ValueError:
        wanted, do = "an address that fsspec knows, such as s3://, gs://, az:// or hf://", "correct it"
        raise CueError(f"nothing reads {protocol}://", wanted=wanted, do=do) from None
    try:
        # Listings are large, and old ones would be wrong.
        return fsspec.filesystem(protocol, **{} if protocol in WEB else {"use_listings_cache": False})
    except Exception as error:
        wanted, do = f"what the driver of {protocol}:// needs", "check its configuration"
        raise CueError(f"{protocol}:// cannot be used: {error}", wanted=wanted, do=do) from None


def _by_obstore(protocol: str) -> AbstractFileSystem:
    """The file system of obstore. Raises CueError where it is not installed or has no such addresses."""
    package = DRIVERS.get(protocol, "the package that fsspec names for it")
    do = f"pip install {package}"
    try:
        from cuescope.core.remote_obstore import PROTOCOLS, file_system

        if protocol in PROTOCOLS:
            return file_system(protocol)
    except ImportError:
        do = f"pip install 'cuescope[remote]', or {do}"
    raise CueError(f"no driver for {protocol}:// is installed", wanted="a package that reads it", do=do)
