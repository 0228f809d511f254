"""The few images that a finding shows, as the clean forward pass saw them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.data.derived import derived, root_position
from cuescope.data.images import LARGE_BYTES, Batch, ImageSet, Sample


class Pictures:
    """Which images were seen, kept for those that a finding will show: it is known only when all rows are there.

    Of a small set the images stay in memory as far as there is room, and what is missing, as in a run that goes on, is
    seen again in the batch it was in: the same bits either way. Of a large set the shown images are decoded again.
    """

    SMALL = 512
    """Images of a small set."""
    BYTES = 2**28
    """Room for decoded images and what classifiers saw of them."""

    def __init__(self, images: ImageSet, batches: Sequence[np.ndarray[Any, Any]], *, small: bool) -> None:
        self.images, self.small = images, small
        self.group = {int(position): batch for batch in batches for position in batch} if small else {}
        self.samples: dict[int, Sample] = {}
        self.seen: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        """By classifier and position: pixels (3, H, W) uint8 and logits (K,)."""
        self.room = self.BYTES

    def keep(
        self, classifier: Classifier, samples: Mapping[int, Sample], seen: Batch, wanted: Collection[int] = ()
    ) -> None:
        """Keep the images of a batch, as far as there is room, and those that are wanted in any case.

        Pixels are whole steps of 1/255, so 8 bits hold them.
        """
        if not self.small or (self.room <= 0 and not wanted):
            return
        pixels = seen.pixels.mul(255).round_().to("cpu", torch.uint8)
        for at, (position, sample) in enumerate(samples.items()):
            if self.room <= 0 and position not in wanted:
                continue
            if position not in self.samples:
                self.samples[position] = sample
                # A large one is let go when its batch was used.
                self.room -= size if (size := sample.held_bytes) <= LARGE_BYTES else 0
            # A copy: a view would keep the whole batch.
            self.seen[id(classifier), position] = pixels[at].clone(), seen.logits[at].clone()
            self.room -= pixels[at].nbytes

    def of(self, classifier: Classifier, images: ImageSet, indices: Sequence[int]) -> tuple[Batch, list[Sample]] | None:
        """Images of `images` as the classifier sees them, with their samples; None where none can be read."""
        if not self.small:
            # One that was readable a moment ago and is no more is not shown.
            ((found, _),) = images.stream([indices])
            readable = [sample for _, sample in found]
            return (classifier.see(readable), readable) if readable else None
        positions = [root_position(images, i) for i in indices]
        for position in positions:
            if (id(classifier), position) not in self.seen:
                # See the batch again that the image was in.
                again = dict(next(self.images.stream([self.group[position].tolist()]))[0])
                self.keep(classifier, again, classifier.see(list(again.values())), positions)
        found = [p for p in positions if (id(classifier), p) in self.seen]
        samples = [derived(images, self.samples[p]) for p in found]
        if not samples:
            return None
        kept = [self.seen[id(classifier), p] for p in found]
        pixels = torch.stack([pixels for pixels, _ in kept]).to(classifier.device)
        pixels = pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        labels = torch.full((len(samples),), -1)
        return Batch(tuple(samples), pixels, torch.stack([logits for _, logits in kept]), labels), samples
