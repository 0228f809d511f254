"""The curves of a training for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FOLDER = "tensorboard"


class Board:
    """Event files in a training's folder, of the same numbers as its metrics; of a training after `done` steps.

    What an interrupted run has written of later steps is not shown.
    """

    def __init__(self, training: Path, done: int) -> None:
        # Not before it is asked for: tensorboard is an extra, and slow to import.
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(training / FOLDER), purge_step=done + 1)

    def add(self, row: Mapping[str, float | int | None]) -> None:
        """A row of the metrics, by its step; what was not measured is left out."""
        step = int(row["step"] or 0)
        for name, value in row.items():
            if name != "step" and value is not None:
                self.writer.add_scalar(name, value, step)

    def flush(self) -> None:
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
