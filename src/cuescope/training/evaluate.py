"""How often is a network right on images that it did not learn from?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, Skipped, UnreadableError
from cuescope.data.preprocessing import Preprocessing, frame
from cuescope.training.loop import normalized
from cuescope.training.settings import Settings

BATCH = 64


class Right(NamedTuple):
    """Of `tried` images it is right on `correct`; of a detector that is its mean average precision times as many."""

    correct: float
    tried: int

    @property
    def share(self) -> float:
        return self.correct / self.tried if self.tried else float("nan")


class HeldOut:
    """Images that are kept back, framed as a classifier frames them: `at` their indices, `labels` the outputs."""

    def __init__(self, images: ImageSet, at: NDArray[np.int64], labels: NDArray[np.int64], how: Preprocessing) -> None:
        self.images, self.at, self.labels, self.how = images, at, labels, how
        self.skipped: dict[str, Skipped] = {}

    def __len__(self) -> int:
        return len(self.at)

    def check(self) -> None:
        """Raise CueError where none of them can be read: found out before the first step, not after an epoch."""
        for index in self.at.tolist():
            try:
                # Of large images the pixels may be decoded only when they are asked for.
                _ = self.images.read(index).pixels
                return
            except UnreadableError as error:
                self.skipped[self.images.id(index)] = Skipped(self.images.id(index), str(error))
        if self.skipped:
            raise self._none("check the files")

    def _none(self, do: str) -> CueError:
        why = next(iter(self.skipped.values()))
        found = f"none of the {len(self.at):,} images held out of {self.images.name} can be read: {why.id}: {why.why}"
        return CueError(found, wanted="images to try the network on", do=do)

    def right(self, network: nn.Module, settings: Settings, accelerator: Any) -> Right:
        """How often the network is right, as all processes together find it out; it stays in training mode.

        Raises CueError where there are images, but none can be read any more.
        """
        mine = self.at[accelerator.process_index :: accelerator.num_processes]
        labels = self.labels[accelerator.process_index :: accelerator.num_processes]
        groups = [list(range(i, min(i + BATCH, len(mine)))) for i in range(0, len(mine), BATCH)]
        label_of = dict(zip(mine.tolist(), labels.tolist(), strict=True))
        correct = count = 0
        network.eval()
        try:
            streamed = self.images.stream([mine[group].tolist() for group in groups])
            for samples, lost in streamed:
                self.skipped |= {one.id: one for one in lost}
                if not samples:
                    continue
                logits = self._logits(network, [sample for _, sample in samples], settings, accelerator)
                wanted = torch.tensor([label_of[index] for index, _ in samples])
                correct += int((logits.argmax(1) == wanted).sum())
                count += len(samples)
        finally:
            network.train()
        both = torch.tensor([correct, count], device=accelerator.device)
        correct, count = accelerator.reduce(both, "sum").tolist()
        if len(self.at) and not count:
            raise self._none("check the files, and run the same command again: it goes on from the last checkpoint")
        return Right(correct, count)

    def _logits(self, network: nn.Module, samples: Sequence[Any], settings: Settings, accelerator: Any) -> Tensor:
        with torch.inference_mode(), accelerator.autocast():
            output = network(normalized(frame(samples, self.how), settings, accelerator.device))
        return (output if isinstance(output, Tensor) else output[0]).float().cpu()
