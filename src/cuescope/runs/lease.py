"""One process at a time in a run folder at an address, where no file can be locked: an object that is kept fresh."""

from __future__ import annotations

import json
import os
import secrets
import socket
from contextlib import suppress
from datetime import datetime

from cuescope.core.errors import CueError
from cuescope.core.files import parsed
from cuescope.core.remote import Remote

NAME = ".lock"
BEAT_S, STALE_S = 20.0, 90.0
"""Seconds between two signs of life, and without one after which a process is taken for dead."""


class Lease:
    """The lock of an address. Two cannot begin at once where the store can put an object only where there is none."""

    def __init__(self, remote: Remote) -> None:
        self.remote, self._token = remote, secrets.token_hex(8)
        now = datetime.now().astimezone().isoformat(" ", "seconds")
        who = f"process {os.getpid()} on {socket.gethostname()} since {now}"
        self._data = json.dumps({"who": who, "token": self._token}).encode()

    def take(self) -> None:
        """Hold it. Raises CueError that says who does, and OSError where the store cannot be written to."""
        if holder := self._holder():
            if not self._is_dead(holder["who"]):
                raise self._in_use(holder)
            self.remote.remove(NAME)
        with suppress(FileExistsError):
            self.remote.write(NAME, self._data, new=True)
        holder = self._holder()
        if not holder or holder["token"] != self._token:
            raise self._in_use(holder)

    def beat(self) -> bool:
        """Give a sign of life; whether it is still ours."""
        holder = self._holder()
        if not holder or holder["token"] != self._token:
            return False
        self.remote.write(NAME, self._data)
        return True

    def leave(self) -> None:
        """Give it back, if it is ours."""
        with suppress(OSError):  # It is taken for dead later.
            holder = self._holder()
            if holder and holder["token"] == self._token:
                self.remote.remove(NAME)

    def _holder(self) -> dict[str, str] | None:
        try:
            found = parsed(self.remote.read(NAME))
        except FileNotFoundError:
            return None
        except ValueError:
            found = None
        known = found if isinstance(found, dict) else {}
        return {key: str(known.get(key, "")) for key in ("who", "token")}

    def _is_dead(self, who: str) -> bool:
        """Whether its process is gone, as far as this machine knows, or has given no sign of life for long."""
        words = who.split()
        if words[:1] == ["process"] and words[3:4] == [socket.gethostname()] and words[1].isdecimal():
            try:
                os.kill(int(words[1]), 0)
            except ProcessLookupError:
                return True
            except (OSError, OverflowError):
                pass
        try:
            return self.remote.age_s(NAME) > STALE_S
        except FileNotFoundError:
            return True

    def _in_use(self, holder: dict[str, str] | None) -> CueError:
        who = (holder or {}).get("who") or "another process"
        do = f"wait for it, stop it (its lock ends {STALE_S:.0f} s after it), or choose another --out"
        return CueError(f"'{self.remote.url}' is in use by {who}", wanted="one audit at a time in a folder", do=do)
