"""Of several processes of one job, as torchrun and accelerate launch start them: which one is this?"""

import os


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
