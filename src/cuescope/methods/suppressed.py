"""What is said of images from which one cue is taken away, change by change (Burgert et al. 2025)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core.classes import SIXTEEN, category_scores
from cuescope.data.images import Batch
from cuescope.data.ops.convert import as_bytes
from cuescope.data.ops.suppression import PUBLISHED, Change, fine_structure, suppress
from cuescope.data.ops.tilings import Rule, resized

Frame = Literal["own", "squash"]
Decision = Literal["own", "sixteen"]
Levels = Literal["named", "some", "all"]

CUES: tuple[str, ...] = ("global_shape", "local_shape", "texture", "color")
CONTROLS = {
    "rotation": Change("rotation", 6),
    "gaussian": PUBLISHED["gaussian"][4],
    "channels": Change("channels"),
    "noise": Change("noise", 4),
    "global_cuts": Change("cuts", 3),
    "local_cuts": Change("cuts", 6),
}
"""Other ways to take away shape, texture and color; noise that takes none away; and tiles cut, but hardly moved."""
SOME = {"shuffle": (2, 4, 8), "bilateral": (6, 14)}
"""Points of the curves beside the named conditions, where not all published ones are asked for."""
_CATEGORY = {index: number for number, members in enumerate(SIXTEEN.values()) for index in members}


class Answers(NamedTuple):
    """What is said of the images of a batch that have a label.

    `label` and `predicted` (B,) are classes, or numbers of the 16 categories; `clean` (B,) and `right` (B, changes)
    say whether the answers are right; `texture_left` (B,) is what smoothing has left of the fine structure, NaN for an
    image without any; `chroma` (B,) how far channels are from their mean, in 0..1, on average.
    """

    id: list[str]
    label: NDArray[np.int64]
    predicted: NDArray[np.int64]
    clean: NDArray[np.bool_]
    right: NDArray[np.bool_]
    texture_left: NDArray[np.float64]
    chroma: NDArray[np.float64]


@dataclass(frozen=True)
class Suppression:
    """How cues are taken away, and what counts as right. The fields are those of the instrument cue_suppression."""

    levels: Levels = "some"
    rule: Rule = "published"
    frame: Frame = "own"
    decision: Decision = "own"
    window_px: int = 12
    sigma_color: float = 170.0
    seed: int = 0

    @property
    def named(self) -> dict[str, Change]:
        """What takes away each cue.

        >>> Suppression().named["texture"]
        Change(transform='bilateral', level=12, sigma=170.0)
        """
        smoothing = Change("bilateral", self.window_px, self.sigma_color)
        changes = Change("shuffle", 3), Change("shuffle", 6), smoothing, Change("greyscale", 1)
        return dict(zip(CUES, changes, strict=True))

    @property
    def changes(self) -> list[Change]:
        """All that is done to an image, each once: what takes a cue away, the controls, further points of curves."""
        known = [change for each in PUBLISHED.values() for change in each]
        more = [c for c in known if self.levels == "all" or c.level in SOME.get(c.transform, ())]
        return list(
            dict.fromkeys([*self.named.values(), *CONTROLS.values(), *(more if self.levels != "named" else ())])
        )

    @property
    def most_tiles(self) -> int:
        """Along a side, in any of the changes."""
        return max(int(change.level) for change in self.changes if change.transform in ("shuffle", "rotation"))

    def answers(self, classifier: Classifier, batch: Batch) -> Answers | None:
        """The answers to a batch, None where no image of it has a label that can be right."""
        labels = [_CATEGORY.get(k, -1) if self.decision == "sixteen" else k for k in batch.labels.tolist()]
        if not (places := [i for i, label in enumerate(labels) if label >= 0]):
            return None
        batch, wanted = batch.select(places), torch.tensor([labels[i] for i in places])
        clean = self.framed(classifier, batch)
        logits = batch.logits if self.frame == "own" else classifier.logits(clean.float() / 255)
        predicted, right = self._judged(logits, wanted)
        texture_left, every = np.full(len(batch), np.nan), []
        for change in self.changes:
            changed = self.view(clean, change, batch.ids)
            every.append(self._judged(classifier.logits(changed.float() / 255), wanted)[1])
            if change == self.named["texture"]:
                texture_left = _left(clean, changed)
        gray = clean.float().mean(1, keepdim=True)
        chroma = (clean.float() - gray).abs().mean((1, 2, 3)).cpu().double().numpy() / 255
        return Answers(batch.ids, wanted.numpy(), predicted, right, np.stack(every, 1), texture_left, chroma)

    def framed(self, classifier: Classifier, batch: Batch) -> Tensor:
        """The images before anything is taken away, (B, 3, H, W) uint8 on the device."""
        if self.frame == "own":
            return as_bytes(batch.pixels)
        size = classifier.preprocessing.size
        return torch.cat([resized(sample.pixels[None], size) for sample in batch.samples]).to(batch.pixels.device)

    def view(self, clean: Tensor, change: Change, ids: Sequence[str]) -> Tensor:
        """Framed images under a change, (B, 3, H, W) uint8."""
        return suppress(clean, change, ids, self.seed, self.rule)

    def _judged(self, logits: Tensor, labels: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
        """What is said, (B,), and whether it is right."""
        scores = category_scores(logits, SIXTEEN, "sum") if self.decision == "sixteen" else logits
        said = scores.argmax(1)
        right = scores.gather(1, labels[:, None])[:, 0] > 0.5 if self.decision == "sixteen" else said == labels
        return said.numpy(), right.numpy()


def _left(clean: Tensor, changed: Tensor) -> NDArray[np.float64]:
    """The harmonic mean of what is left of local variance and of fine energy, (B,)."""
    before, after = (fine_structure(pixels).cpu().numpy() for pixels in (clean, changed))
    with np.errstate(invalid="ignore", divide="ignore"):
        variance, energy = (after / before).T
        return 2 * variance * energy / (variance + energy)
