"""Ctrl-C in a training: the step under way is finished first, so that what is kept is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Was Ctrl-C pressed? The first time is noted; the second one interrupts at once, as ever.

    >>> interrupt = Interrupt()
    >>> with interrupt.noted():
    ...     steps = sum(range(10))
    >>> interrupt.pressed
    False
    """

    def __init__(self) -> None:
        self.pressed = False

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note it meanwhile. Only the main thread of Python can; elsewhere, and where it is ignored, all stays."""
        before = signal.getsignal(signal.SIGINT)
        if not callable(before) or threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: FrameType | None) -> None:
            self.pressed = True
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
