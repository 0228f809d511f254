"""Why a module or a function does not take one batch of color images: what its signature and its layers say."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn


class Why(NamedTuple):
    """What was found, as a clause, and what to do about it."""

    found: str
    do: str


def why_not(run: Callable[..., Any]) -> Why | None:
    """What speaks against images as its only input; None where nothing does.

    >>> why_not(lambda image, mask: image).found
    'it takes 2 inputs (image, mask)'
    """
    inside = isinstance(run, nn.Module)
    needed, keywords, takes = _inputs(run.forward if inside else run)
    subject = "its forward" if inside else "it"
    wrap = "wrap it in one that takes the image alone"
    if keywords and not needed:
        given = ", ".join([f"{keywords[0]}=x", *(f"{name}=..." for name in keywords[1:])])
        return Why(f"{subject} takes its input by keyword only ({', '.join(keywords)})", f"{wrap}: f(x, {given})")
    if len(needed) + len(keywords) > 1:
        names = [*needed, *keywords]
        return Why(f"{subject} takes {len(names)} inputs ({', '.join(names)})", f"{wrap}, and gives the others itself")
    if not takes:
        return Why(f"{subject} takes no input", "call it, where it is a factory, and give what it returns")
    channels = _channels(run) if inside else None
    if channels not in (None, 1, 3):
        return Why(
            f"its first convolution takes {channels} channels", f"{wrap} of red, green and blue and makes {channels}"
        )
    return None


def required(run: Callable[..., Any]) -> list[str]:
    """The names of the arguments that a function cannot be called without."""
    positional, keywords, _ = _inputs(run)
    return [*positional, *keywords]


def _inputs(run: Callable[..., Any]) -> tuple[list[str], list[str], bool]:
    """What it must be given by place, and by name, and whether it takes anything by place."""
    try:
        given = inspect.signature(run).parameters.values()
    except (TypeError, ValueError):  # code without a signature
        return [], [], True
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [one for one in given if one.default is one.empty]
    positional = [one.name for one in needed if one.kind in by_place]
    keywords = [one.name for one in needed if one.kind is inspect.Parameter.KEYWORD_ONLY]
    return positional, keywords, any(one.kind in (*by_place, inspect.Parameter.VAR_POSITIONAL) for one in given)


def _channels(network: nn.Module) -> int | None:
    first = next((part for part in network.modules() if isinstance(part, nn.Conv2d)), None)
    return None if first is None else first.in_channels
