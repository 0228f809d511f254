"""Weights from a model hub: an error soon, and one that helps, where it cannot be reached."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from cuescope.core.errors import CueError

PATIENCE_S = 8.0
"""How long a connection may take to answer."""


@contextlib.contextmanager
def fetching(name: str) -> Iterator[None]:
    """Turn the failure of a download into a CueError that says how to give a local file."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE_S)
    try:
        yield
    except CueError:
        raise
    except Exception as error:
        # Each client has its own exceptions: urllib's, httpx's, huggingface_hub's.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CueError(
            f"the weights of {name} could not be fetched: {reason}",
            wanted="a connection to the model hub, or the weights in a file",
            do=f"give a local file, as in {name}@weights.safetensors, or {name}@random for an untrained network",
        ) from error
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def without_retries() -> Iterator[None]:
    """Where Hugging Face's hub does not answer once, look in its cache only: its client would retry for 47 s."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    before = constants.HF_HUB_OFFLINE
    if not before:
        try:
            get_session().head(constants.ENDPOINT, timeout=PATIENCE_S)
        except Exception:  # the client's exceptions changed with its HTTP library; any of them means no answer
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
