"""A bag of visual words: patches, the nearest word for each, a histogram, a linear classifier (Csurka et al. 2004)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from cuescope.core.classes import ClassSpace, from_stored, to_stored
from cuescope.core.errors import CueError
from cuescope.core.files import parsed
from cuescope.data.preprocessing import Preprocessing
from cuescope.models.saved import described
from cuescope.models.seeding import seeded

MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
"""What its input is normalized with, for pixels in 0..1: 64 of 255 gray levels are one unit."""
LUMA = (0.299, 0.587, 0.114)
"""Parts of red, green and blue in the gray of ITU-R BT.601."""
FLOOR = 1e-3
"""Added to a patch's variance: that of two gray levels, so that faint noise is not blown up to full contrast."""
PATCHES = 1024
"""That are compared with all words at once: a table that fits the cache, four times as fast as one that does not."""


class BagOfWords(nn.Module):
    """Which words does an image consist of, wherever they stand? Nothing is learned by gradients.

    Patches of `side_px`, `stride_px` apart, gray or with `color` of three channels, lose their mean and contrast, are
    whitened to `components` numbers, and become the nearest of `words` words, as scikit-learn's MiniBatchKMeans.predict
    says. The logits are a linear function of the share of the patches that each word has: exactly the mean over the
    map of `patch_logits`, as in a BagNet. Everything but the input stays in float32 whatever the precision, since
    which word is nearest can hang on the last bits.

    >>> net = BagOfWords(side_px=5, stride_px=2, components=6, words=7, classes=3)
    >>> tuple(net.patch_logits(torch.zeros(1, 3, 9, 11)).shape), tuple(net.words(torch.zeros(1, 3, 9, 11)).shape)
    ((1, 3, 3, 4), (1, 3, 4))
    """

    differentiable = False
    """The choice of a word is a step: no gradient says how to change the image."""

    mix: Tensor
    mean: Tensor
    whitening: Tensor
    codebook: Tensor

    def __init__(
        self,
        side_px: int = 9,
        stride_px: int = 4,
        components: int = 32,
        words: int = 1000,
        classes: int = 1000,
        color: bool = False,
    ) -> None:
        super().__init__()
        mix = torch.eye(3) if color else torch.tensor([LUMA])
        numbers = len(mix) * side_px**2
        self.register_buffer("mix", mix)
        self.register_buffer("step", torch.tensor(stride_px))
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("whitening", torch.randn(numbers, components) / numbers**0.5)
        self.register_buffer("codebook", torch.randn(words, components))
        self.fc = nn.Linear(words, classes)
        self.receptive_field_px, self.stride_px, self.vocabulary = side_px, stride_px, words

    def _apply(self, fn: Any, recurse: bool = True) -> BagOfWords:
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)

    def patches(self, x: Tensor) -> Tensor:
        """(B, h * w, D) float32: the patches of normalized images (B, 3, H, W), row by row, without mean and contrast.

        Raises CueError for images smaller than a patch.
        """
        side = self.receptive_field_px
        if min(x.shape[2:]) < side:
            found = f"images of {x.shape[2]} x {x.shape[3]} px are smaller than a patch of {side} px"
            raise CueError(found, wanted=f"at least {side} x {side} px", do="give larger images")
        channels = torch.einsum("dc,bchw->bdhw", self.mix, x.float())
        patches = F.unfold(channels, side, stride=self.stride_px).mT
        patches = patches - patches.mean(2, keepdim=True)
        return patches / (patches.square().mean(2, keepdim=True) + FLOOR).sqrt()

    def words(self, x: Tensor) -> Tensor:
        """(B, h, w) int64: the word nearest to each patch of normalized images (B, 3, H, W)."""
        height, width = ((size - self.receptive_field_px) // self.stride_px + 1 for size in x.shape[2:])
        whitened = ((self.patches(x) - self.mean) @ self.whitening).flatten(0, 1)
        # Half the square of the distance, less what is the same for all words.
        start = self.codebook.square().sum(1) / 2
        parts = [torch.addmm(start, part, self.codebook.T, alpha=-1).argmin(1) for part in whitened.split(PATCHES)]
        return torch.cat(parts).view(len(x), height, width)

    def histogram(self, x: Tensor) -> Tensor:
        """(B, words): the share of the patches that each word has."""
        words = self.words(x).flatten(1)
        counts = torch.zeros(len(words), self.vocabulary, device=x.device)
        return counts.scatter_add_(1, words, torch.ones_like(words, dtype=counts.dtype)) / words.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, K) logits of normalized images (B, 3, H, W): the mean of `patch_logits` over the map."""
        return self.fc(self.histogram(x))

    def patch_logits(self, x: Tensor) -> Tensor:
        """(B, K, h, w): the logits that each patch would get alone, bias included: those of its word."""
        return (F.embedding(self.words(x), self.fc.weight.T) + self.fc.bias).permute(0, 3, 1, 2)


def bow(classes: int = 1000, seed: int = 0) -> BagOfWords:
    """A bag of random words, untrained."""
    return seeded(seed, lambda: BagOfWords(classes=classes))


class Saved(NamedTuple):
    """A bag of words with what a classifier needs besides: its classes and the square its images are cut to."""

    network: BagOfWords
    classes: ClassSpace
    size_px: int


def preprocessing(size_px: int) -> Preprocessing:
    """How a bag of words fitted to images of this side sees them: short sides resized to it, the middle cut out."""
    return Preprocessing((size_px, size_px), size_px, "bilinear", MEAN, STD, source="as it was trained")


def to_bytes(saved: Saved) -> bytes:
    """A safetensors file of it, the same bytes each time."""
    return described(saved.network, "bag of words", {"size_px": saved.size_px, **to_stored(saved.classes)})


def from_file(path: str | Path, state: dict[str, Tensor]) -> Saved:
    """The bag of words in a file that `to_bytes` wrote, whose tensors are `state`. Raises CueError for another file."""
    try:
        with safe_open(path, "pt") as file:
            facts = parsed(file.metadata()["bag of words"])
        return Saved(_network(state), from_stored(facts), int(facts["size_px"]))
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError):
        wanted, do = "a file that `cuescope train bow` wrote", "cuescope train bow --images DIR --out FILE.safetensors"
        raise CueError(f"'{path}' holds no bag of words", wanted=wanted, do=do) from None


def _network(state: dict[str, Tensor]) -> BagOfWords:
    """The network whose state_dict this is."""
    (words, components), classes = state["codebook"].shape, len(state["fc.bias"])
    channels, stride = len(state["mix"]), int(state["step"])
    side = round((len(state["mean"]) / channels) ** 0.5)
    if side < 1 or stride < 1:
        raise ValueError("patches without a size")
    network = seeded(0, lambda: BagOfWords(side, stride, components, words, classes, color=channels == 3))
    network.load_state_dict(state)
    return network
