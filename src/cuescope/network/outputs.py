"""Where the logits are in what a module gives, and what makes logits of it where it gives something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from cuescope.network import hooks

SUM = 1e-3
"""How far a row of probabilities may sum from 1: half precision has three digits."""
Place = tuple[Any, ...]
Sigmoid = Callable[[Place], bool | None]
WAYS_BACK = 4
"""Operations before the output among which a sigmoid is looked for: views and casts may follow it."""


class NoLogitsError(Exception):
    """What a module gives are no logits. The message says what it gives, as a clause."""


@dataclass(frozen=True)
class Reading:
    """How logits (B, K) are read from a module's output; `notes` say what was assumed."""

    place: Place = ()
    """The way to the tensor: keys, indices and names of fields."""
    convert: Callable[[Tensor], Tensor] | None = None
    notes: tuple[str, ...] = ()

    def __call__(self, output: Any) -> Tensor:
        """The logits of an output. Raises NoLogitsError where it is built otherwise than the one that was tried."""
        for step in self.place:
            try:
                output = getattr(output, step) if isinstance(step, _Field) else output[step]
            except (AttributeError, KeyError, IndexError, TypeError):
                raise NoLogitsError(f"it gives no '{step}' this time") from None
        tensor = _tensor(output)
        if tensor is None:
            raise NoLogitsError(f"it gives a {type(output).__name__}")
        return tensor if self.convert is None else self.convert(tensor)

    @property
    def plain(self) -> bool:
        """Whether the output is the logits already."""
        return not self.place and self.convert is None


class _Field(str):
    """The name of a field of an object."""


def read(output: Any, images: int, classes: int | None, sigmoid: Sigmoid) -> Reading:
    """How are the logits read from the output for so many images? `classes`: how many are named, if any.

    One tensor (B, K) is that; of several the field or key "logits", the only one with `classes` columns, or the first
    where all are as wide (auxiliary heads). Rows of probabilities become their logarithms. A single output is that of
    the second of two classes. `sigmoid(place)` says whether that output comes out of a sigmoid, None if not known.

    Raises NoLogitsError where none of that is there, and for whole numbers: classes are no logits.
    """
    place, tensor, notes = _chosen(output, images, classes)
    if not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise NoLogitsError(f"it gives whole numbers ({kind}), as of classes, and no logits")
    if tensor.isnan().any():
        raise NoLogitsError("it gives NaN")
    values = tensor.detach().double()
    if (values.ndim == 1 or values.shape[1] == 1) and classes != 1:
        return _of_one(place, values, notes, sigmoid)
    if bool((values >= 0).all()) and bool(((values.sum(1) - 1).abs() < SUM).all()):
        return Reading(place, log, (*notes, "its outputs are probabilities: their logarithms are taken as logits"))
    if bool(((values >= 0) & (values <= 1)).all()) and sigmoid(place):
        text = "its outputs come out of a sigmoid, each class for itself: the logits are taken as what went into it"
        return Reading(place, log_odds, (*notes, text))
    return Reading(place, None, notes)


def log(probabilities: Tensor) -> Tensor:
    """Logits of which these are the softmax.

    >>> log(torch.tensor([[0.25, 0.75]])).softmax(1)
    tensor([[0.2500, 0.7500]])
    """
    return probabilities.float().clamp_min(torch.finfo(torch.float32).tiny).log()


def log_odds(probabilities: Tensor) -> Tensor:
    """What went into the sigmoid that gave these."""
    p = probabilities.float().clamp(torch.finfo(torch.float32).tiny, 1 - torch.finfo(torch.float32).eps)
    return p.log() - (-p).log1p()


def of_two(logit: Tensor) -> Tensor:
    """One logit an image, (B,) or (B, 1), as those of two classes: 0 and itself."""
    logit = logit.reshape(len(logit), 1)
    return torch.cat([torch.zeros_like(logit), logit], 1)


def of_two_odds(probability: Tensor) -> Tensor:
    """The probability of the second of two classes as logits of both."""
    return of_two(log_odds(probability))


def ends_in_sigmoid(network: nn.Module, place: Place, images: Tensor) -> bool:
    """Whether a network's output comes out of a sigmoid, by the operation that autograd saw."""
    with torch.enable_grad():
        output = Reading(place)(network(images[:1].detach().clone().requires_grad_()))
        if output.grad_fn is None:
            # No gradient comes through whole numbers, but one comes from the weights.
            weights = [p for p in network.parameters() if p.is_floating_point() and not p.requires_grad]
            for weight in weights:
                weight.requires_grad_()
            output = Reading(place)(network(images[:1]))
            for weight in weights:
                weight.requires_grad_(False)
    node, names = output.grad_fn, []
    while node is not None and len(names) < WAYS_BACK:
        names.append(type(node).__name__)
        node = node.next_functions[0][0] if node.next_functions else None
    return any(name.startswith("SigmoidBackward") for name in names)


def without_last(network: nn.Module, images: Tensor) -> tuple[str, ...]:
    """Take out, in place, a softmax or sigmoid that is the last module of a network, which loses no digits; say so."""
    last: tuple[str, Any] = ("", None)

    def note(name: str, _inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal last
        last = (name, output)  # held: the id of one that is gone may be another's

    output = hooks.watched_pass(network, images, note, kinds=(nn.Softmax, nn.Sigmoid))
    name = last[0]
    if output is not last[1] or not isinstance(output, Tensor) or output.ndim != 2:
        return ()
    if isinstance(network.get_submodule(name), nn.Softmax):
        network.set_submodule(name, nn.LogSoftmax(1))
        return ("its outputs are probabilities: its last module, a softmax, gives their logarithms instead",)
    network.set_submodule(name, nn.Identity())
    return ("its outputs come out of a sigmoid, which is left out: what goes into it are the logits",)


def _of_one(place: Place, values: Tensor, notes: tuple[str, ...], sigmoid: Sigmoid) -> Reading:
    """A binary classifier: its single output is a probability behind a sigmoid, else a logit."""
    inside = bool(((values >= 0) & (values <= 1)).all())
    known = sigmoid(place) if inside else False
    if known or (known is None and inside):
        why = "out of a sigmoid" if known else "which lies between 0 and 1"
        text = f"one output, {why}: taken as the probability of the second of two classes"
        return Reading(place, of_two_odds, (*notes, text))
    return Reading(place, of_two, (*notes, "one output: taken as the logit of the second of two classes"))


def _chosen(output: Any, images: int, classes: int | None) -> tuple[Place, Tensor, tuple[str, ...]]:
    """The tensor that may hold logits, the way to it, and what was assumed."""
    found = {place: tensor for place, tensor in _tensors(output) if _fits(tensor, images)}
    if not found:
        given = [f"{tuple(tensor.shape)}" for _, tensor in _tensors(output)]
        what = f"tensors of the shapes {', '.join(given)}" if len(given) > 1 else "".join(given) and f"shape {given[0]}"
        raise NoLogitsError(f"it gives {what or f'a {type(output).__name__}'}, and no (B, K)")
    if () in found:
        return (), found[()], ()
    # Beside matrices a vector is a loss or a score of each image.
    found = {place: tensor for place, tensor in found.items() if tensor.ndim == 2} or found
    for place, tensor in found.items():
        if str(place[-1]) == "logits":
            return place, tensor, ()
    fitting = {place: tensor for place, tensor in found.items() if classes and _columns(tensor) == classes}
    several = fitting or found
    place, tensor = next(iter(several.items()))
    shown = ", ".join(f"{_called(p)} {tuple(t.shape)[1:]}" for p, t in found.items())
    if len({_columns(t) for t in several.values()}) > 1:
        raise NoLogitsError(f"it gives several outputs ({shown}), and none is called logits")
    if len(found) == 1:
        return place, tensor, ()
    return place, tensor, (f"of its outputs ({shown}), {_called(place)} is taken as the logits",)


def _columns(tensor: Tensor) -> int:
    return tensor.shape[1] if tensor.ndim == 2 else 1


def _fits(tensor: Tensor, images: int) -> bool:
    return tensor.ndim in (1, 2) and len(tensor) == images and tensor.numel() > 0


def _called(place: Place) -> str:
    return ".".join(str(step) for step in place) or "the output"


def _tensors(output: Any, place: Place = ()) -> Iterator[tuple[Place, Tensor]]:
    """Every tensor in an output, with the way to it, in its order."""
    tensor = _tensor(output)
    if tensor is not None:
        yield place, tensor
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from _tensors(value, (*place, key))
    elif isinstance(output, list | tuple):
        names = getattr(output, "_fields", ())
        for index, value in enumerate(output):
            yield from _tensors(value, (*place, _Field(names[index]) if names else index))
    elif isinstance(getattr(output, "logits", None), Tensor | np.ndarray):
        yield (*place, _Field("logits")), cast(Tensor, _tensor(output.logits))


def _tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    return torch.from_numpy(np.ascontiguousarray(output)) if isinstance(output, np.ndarray) else None
