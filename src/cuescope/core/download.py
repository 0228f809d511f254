"""A file from an address: continued where it stopped, bounded in size, without a trace on the process."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from cuescope.core.errors import CueError

BLOCK = 1 << 20
REPORT_MB = 16
"""Megabytes between two reports of progress."""


def download(
    url: str,
    part: Path,
    *,
    do: str,
    largest: int = 16 << 30,
    timeout_s: float = 60,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Fetch the bytes at `url` into the file `part`, after those of it that are there if the server has the same still.

    `do` says what to do without a network, `progress` is called with "3 MB" every now and then. The server's tag is
    kept beside the file, with the suffix .tag. Raises CueError where the server does not answer or refuses, the file is
    larger than `largest` bytes, or incomplete.
    """
    tag = part.with_suffix(".tag")
    have = part.stat().st_size if part.is_file() and tag.is_file() else 0
    headers = {"User-Agent": "cuescope"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag.read_text()}
    too_large = CueError(f"what {url} gives is too large", wanted=f"at most {largest >> 20} MB", do="check the address")
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_s) as answer:
            have = have if answer.status == http.client.PARTIAL_CONTENT else 0
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length and length.isdecimal() else None
            if (total or 0) > largest:
                raise too_large
            # Only a strong tag says that the bytes are the same ones.
            if (etag := answer.headers.get("ETag")) and not etag.startswith("W/"):
                tag.write_text(etag)
            else:
                tag.unlink(missing_ok=True)
            with part.open("ab" if have else "wb") as file:
                reported = 0
                while block := answer.read(BLOCK):
                    have += file.write(block)
                    if have > largest:
                        raise too_large
                    if have >> 20 >= reported:
                        reported = (have >> 20) + REPORT_MB
                        progress(f"{have >> 20} MB")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:  # else all of it is here
            raise CueError(f"{url} answers {error.code} {error.reason}", wanted="the file", do=do) from None
        total = None
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        why = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise CueError(f"{url} cannot be read: {why}", wanted="a network", do=do) from None
    if total is not None and have != total:
        found = f"the download stopped at {have:,} of {total:,} bytes"
        raise CueError(found, wanted="all of it", do="run it again, it goes on if the server can")
