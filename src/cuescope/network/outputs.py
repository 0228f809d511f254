"""Where the logits are in what a module gives, and what makes logits of it where it gives something else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cuescope.network import hooks
from cuescope.network.batchnorm_folding import difference
from cuescope.network.origins import Origin, origin

SUM = 1e-3
"""How far a row of probabilities may sum from 1: half precision has three digits."""
SAME = 1e-4
"""Of the largest: how far what a last module gives may move where it is taken out and done again."""
MAIN = ("output", "out", "pred", "preds", "prediction", "predictions", "scores", "main")
"""Keys of the output that is meant, where several are as wide."""
CHOOSE = "return the logits alone, or under the key 'logits', or name the classes where their number tells"
DEEP = 6
"""Containers within containers that are looked into."""
Place = tuple[Any, ...]
Told = Callable[[Place], Origin | None]
"""What the output at a place came out of; None where that is not known."""


class NoLogitsError(Exception):
    """What a module gives are no logits. The message says what it gives, as a clause, and `do` what to do about it."""

    def __init__(self, found: str, do: str = "return them from the module, alone or as its field 'logits'") -> None:
        self.do = do
        super().__init__(found)


@dataclass(frozen=True)
class Reading:
    """How logits (B, K) are read from a module's output; `notes` say what was assumed."""

    place: Place = ()
    """The way to the tensor: keys, indices and names of fields."""
    convert: Callable[[Tensor], Tensor] | None = None
    notes: tuple[str, ...] = ()
    flat: bool = False
    """It is a map of one position, (B, K, 1, 1)."""

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
        tensor = tensor.flatten(1) if self.flat else tensor
        return tensor if self.convert is None else self.convert(tensor)

    @property
    def plain(self) -> bool:
        """Whether the output is the logits already."""
        return not self.place and self.convert is None and not self.flat


class _Field(str):
    """The name of a field of an object."""


def read(output: Any, images: int, classes: int | None, told: Told) -> Reading:
    """How are the logits read from the output for so many images? `classes`: how many are named, if any.

    One tensor (B, K) is that, or (B, K, 1, 1); of several the field or key "logits", the only one with `classes`
    columns, the one that is called as the main output, or the first of a tuple (auxiliary heads). Rows of probabilities
    become their logarithms, those of a sigmoid what went into it. A single output is that of the second of two classes.
    `told(place)` says what that output came out of, None if not known.

    Raises NoLogitsError where none of that is there, for whole numbers (classes are no logits), complex ones, NaN,
    infinite ones, and for probabilities that sum to 1 over the images.
    """
    place, tensor, notes = _chosen(output, images, classes)
    flat = tensor.ndim > 2
    if flat:
        notes = (*notes, f"its outputs (B, {', '.join(map(str, tensor.shape[1:]))}) are taken as one vector an image")
        tensor = tensor.flatten(1)
    _numbers(tensor)
    values = tensor.detach().double()
    binary = (values.ndim == 1 or values.shape[1] == 1) and classes != 1
    convert, note = (_of_one if binary else _of_several)(values, lambda: told(place))
    return Reading(place, convert, (*notes, note) if note else notes, flat)


def _numbers(tensor: Tensor) -> None:
    """Raise NoLogitsError for numbers that cannot be logits."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_complex():
        raise NoLogitsError(f"it gives complex numbers ({kind})", "give real ones, such as their sizes")
    if not tensor.is_floating_point():
        do = "give the numbers that the class is chosen by, from before the argmax"
        raise NoLogitsError(f"it gives whole numbers ({kind}), as of classes, and no logits", do)
    if tensor.isnan().any():
        raise NoLogitsError("it gives NaN", "mend its weights or its input")
    if tensor.isinf().any():
        raise NoLogitsError("it gives infinite values", "mend its weights, or give finite numbers in place of them")


def _of_several(values: Tensor, told: Callable[[], Origin | None]) -> tuple[Callable[[Tensor], Tensor] | None, str]:
    """What makes logits of so many classes of the values (B, K), and what is said of it."""
    if not bool((values >= 0).all()):
        return None, ""
    if bool(((values.sum(1) - 1).abs() < SUM).all()):
        return log, "its outputs are probabilities: their logarithms are taken as logits"
    if not bool((values <= 1).all()):
        return None, ""
    kind = told()
    if len(values) > 1 and kind in ("softmax", None) and bool(((values.sum(0) - 1).abs() < SUM).all()):
        found = "its outputs sum to 1 over the images of a batch: a softmax over dimension 0, not 1"
        raise NoLogitsError(found, "use softmax(dim=1), or leave it out")
    if kind == "softmax":
        return log, "its outputs are some of those of a softmax: the logarithms of these are taken as logits"
    if kind == "sigmoid":
        return log_odds, (
            "its outputs come out of a sigmoid, each class for itself: the logits are taken as what went into it"
        )
    if kind == "hardsigmoid":
        return log_odds, "its outputs come out of a hardsigmoid, each class for itself: their log odds are the logits"
    return None, "its outputs lie between 0 and 1: they are taken as logits nevertheless"


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


def origin_in(run: Callable[[Tensor], Any], images: Tensor) -> Told:
    """What tells of an output of `run` where it came from, by one more pass for one image when it is asked."""
    return lambda place: origin(run, images[:1], Reading(place))


def without_last(network: nn.Module, images: Tensor) -> tuple[str, ...]:
    """Take out, in place, a softmax or sigmoid that is the last module of a network, which loses no digits; say so.

    It stays where the network without it is another one: it is called elsewhere too, or changed by hooks.
    """
    calls: list[tuple[str, Any]] = []  # outputs are held: the id of one that is gone may be another's

    def note(name: str, _inputs: tuple[Any, ...], output: Any) -> None:
        calls.append((name, output))

    output = hooks.watched_pass(network, images, note, kinds=(nn.Softmax, nn.Sigmoid))
    name, last = calls[-1] if calls else ("", None)
    if output is not last or not isinstance(output, Tensor) or output.ndim != 2:
        return ()
    old = network.get_submodule(name)
    if isinstance(old, nn.Softmax):
        if output.shape[1] == 1:
            return ()
        new, again = nn.LogSoftmax(1), Tensor.exp
        text = "its outputs are probabilities: its last module, a softmax, gives their logarithms instead"
    else:
        new, again = nn.Identity(), torch.sigmoid
        text = "its outputs come out of a sigmoid, which is left out: what goes into it are the logits"
    network.set_submodule(name, new)
    if difference(again(network(images)), output) <= SAME:
        return (text,)
    network.set_submodule(name, old)
    return ()


def _of_one(values: Tensor, told: Callable[[], Origin | None]) -> tuple[Callable[[Tensor], Tensor] | None, str]:
    """A binary classifier: its single output is a probability behind a sigmoid or a softmax, else a logit."""
    inside = bool(((values >= 0) & (values <= 1)).all())
    kind = told() if inside else ""
    if kind == "softmax" and bool((values == 1).all()):
        found = "its only output comes out of a softmax over one class, which is always 1"
        raise NoLogitsError(found, "use a sigmoid, or give the logits of all classes")
    if kind != "":
        why = f"out of a {kind}" if kind else "which lies between 0 and 1"
        return of_two_odds, f"one output, {why}: taken as the probability of the second of two classes"
    return of_two, "one output: taken as the logit of the second of two classes"


def _chosen(output: Any, images: int, classes: int | None) -> tuple[Place, Tensor, tuple[str, ...]]:
    """The tensor that may hold logits, the way to it, and what was assumed."""
    given = dict(_tensors(output))
    found = {place: tensor for place, tensor in given.items() if _fits(tensor, images)}
    if not found:
        shapes = [f"{tuple(tensor.shape)}" for tensor in given.values()]
        what = f"tensors of the shapes {', '.join(shapes)}" if len(shapes) > 1 else f"shape {''.join(shapes)}"
        raise NoLogitsError(f"it gives {what if shapes else f'a {type(output).__name__}'}, and no (B, K)")
    if () in found:
        return (), found[()], ()
    # Beside matrices a vector is a loss or a score of each image, and a map of one position holds features.
    for axes in (2, 3, 4):
        matrices = {place: tensor for place, tensor in found.items() if tensor.ndim == axes}
        if matrices:
            found = matrices
            break
    # The outermost: an auxiliary head inside may call its own so too.
    named = {place: depth for place in found if (depth := _depth_of_logits(place)) is not None}
    outermost = min(named.values(), default=0)
    several = {place: found[place] for place, depth in named.items() if depth == outermost} or found
    if len(several) == 1:
        return *next(iter(several.items())), ()
    shown = ", ".join(f"{_called(p)} {tuple(t.shape)[1:]}" for p, t in found.items())
    fitting = {place: tensor for place, tensor in several.items() if classes and _columns(tensor) == classes}
    why = f"the only one with {classes} columns" if len(fitting) == 1 else ""
    several = fitting or several
    if len({_columns(tensor) for tensor in several.values()}) > 1:
        raise NoLogitsError(f"it gives several outputs ({shown}), and none is called logits", CHOOSE)
    place = next(iter(several))
    if len(several) > 1:
        main = [place for place in several if str(place[-1]).lower() in MAIN]
        if len(main) == 1:
            place, why = main[0], "by its name"
        elif all(type(step) is int or isinstance(step, _Field) for p in several for step in p):
            why = "the first"
        else:
            raise NoLogitsError(f"it gives several outputs as wide ({shown}), and none is called logits", CHOOSE)
    return place, several[place], (f"of its outputs ({shown}), {_called(place)} is taken as the logits: {why}",)


def _depth_of_logits(place: Place) -> int | None:
    """How many containers lie about the one that is called logits."""
    return next((depth for depth, step in enumerate(place) if str(step).lower() == "logits"), None)


def _columns(tensor: Tensor) -> int:
    return tensor[0].numel()


def _fits(tensor: Tensor, images: int) -> bool:
    """Whether it has one number or one vector for each image; a map of one position is a vector."""
    if tensor.ndim == 0 or len(tensor) != images or tensor.numel() == 0:
        return False
    return tensor.ndim <= 2 or (tensor.ndim <= 4 and tensor.numel() == images * max(tensor.shape[1:]))


def _called(place: Place) -> str:
    return ".".join(str(step) for step in place) or "the output"


def _tensors(output: Any, place: Place = ()) -> Iterator[tuple[Place, Tensor]]:
    """Every tensor in an output, with the way to it, in its order."""
    tensor = _tensor(output)
    if tensor is not None:
        yield place, tensor
        return
    inside: Iterable[tuple[Any, Any]] = ()
    if isinstance(output, Mapping):
        inside = output.items()
    elif isinstance(output, list | tuple):
        names = getattr(output, "_fields", ())
        inside = ((_Field(names[i]) if names else i, value) for i, value in enumerate(output))
    elif dataclasses.is_dataclass(output):
        inside = ((_Field(field.name), getattr(output, field.name)) for field in dataclasses.fields(output))
    elif hasattr(output, "logits"):
        inside = ((_Field("logits"), output.logits),)
    for step, value in inside if len(place) < DEEP else ():
        yield from _tensors(value, (*place, step))


def _tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    return torch.from_numpy(np.ascontiguousarray(output)) if isinstance(output, np.ndarray) else None
