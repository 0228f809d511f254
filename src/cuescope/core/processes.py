"""Of several processes of one job, as torchrun and accelerate launch start them: which one is this?"""

import os
import re

from cuescope.core.errors import CueError

Shard = tuple[int, int]
"""(i, n): the i-th of n parts of some work, i from 1 to n."""


def rank() -> int:
    """The number of this process, 0 for the first and for one that is alone.

    >>> rank()
    0
    """
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this is the process that prints and writes.

    >>> is_first()
    True
    """
    return rank() == 0


def shard_of(text: str | None) -> Shard | None:
    """A part as `--shard` has it, None for all. Raises CueError for what is no part.

    >>> shard_of("2/4")
    (2, 4)
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise CueError(f"--shard {text}", wanted="i/n, the i-th of n parts, i from 1 to n", do="as in --shard 1/4")
    return int(found[1]), int(found[2])
