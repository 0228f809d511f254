"""Logits as evidence for a class against the others: less their mean over the classes."""

from torch import Tensor


def relative(logits: Tensor, raw: bool = False) -> Tensor:
    """What do logits (..., K, h, w) or (B, K) say for each class, against the mean of all classes? The same shape.

    What is added to all logits of an image or of a patch, a constant or its brightness, changes no answer, and the
    evidence is the same without it. With `raw`, or of a single class, the logits are given as they are.

    >>> import torch
    >>> relative(torch.tensor([[5.0, 4.0, 0.0]])).tolist()
    [[2.0, 1.0, -3.0]]
    """
    axis = -3 if logits.ndim > 2 else -1
    if raw or logits.shape[axis] == 1:
        return logits
    return logits - logits.mean(axis, keepdim=True)
