"""A zero-shot classifier (Radford et al. 2021): an image tower, and a fixed linear head made of prompts."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PROMPTS = 256
"""Encoded in one pass."""


class UnitLength(nn.Module):
    """(B, C) to vectors of length 1."""

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(features, dim=-1)


class ZeroShot(nn.Module):
    """Which prompt is nearest to the image? Images (B, 3, H, W) to logits (B, K).

    `image` gives features (B, C), whose cosines with the rows of the `head`, times its scale, are the logits.
    """

    def __init__(self, image: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.image, self.unit_length, self.head = image, UnitLength(), head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.unit_length(self.image(images)))


def head_of_prompts(
    encode: Callable[[list[str]], Tensor],
    names: Sequence[str],
    templates: Sequence[str],
    *,
    scale: float = 1.0,
    bias: float | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> nn.Linear:
    """A linear layer of the prompts' embeddings: for each class the mean over its templates, of length `scale`.

    `encode` gives embeddings (N, C) of N texts. Each template holds {} once, where the name goes. `progress` is told
    how many classes are done.

    >>> head_of_prompts(lambda texts: torch.eye(2), ["cat", "dog"], ["a {}"], scale=3.0).weight.tolist()
    [[3.0, 0.0], [0.0, 3.0]]
    """
    rows = []
    at_once = max(1, PROMPTS // len(templates))
    for start in range(0, len(names), at_once):
        some = names[start : start + at_once]
        with torch.no_grad():
            found = encode([template.replace("{}", name) for name in some for template in templates]).float()
        mean = F.normalize(found, dim=-1).unflatten(0, (len(some), len(templates))).mean(1)
        rows.append(F.normalize(mean, dim=-1) * scale)
        progress(start + len(some))
    weight = torch.cat(rows)
    head = nn.Linear(weight.shape[1], len(weight), bias=bias is not None)
    with torch.no_grad():
        head.weight.copy_(weight)
        if bias is not None:
            head.bias.fill_(bias)
    return head
