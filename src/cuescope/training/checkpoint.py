"""Where a training is: weights, averaged weights, the optimizer's state and the step, in one safetensors file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cuescope.core.errors import CueError
from cuescope.core.files import parsed

KEY = "training"
"""The metadata: the step, and what a training must have in common with it to go on from it."""


def packed(network: nn.Module, average: nn.Module | None, optimizer: Any, facts: Mapping[str, Any]) -> bytes:
    """The file of a checkpoint."""
    tensors = {f"network/{key}": value for key, value in network.state_dict().items()}
    if average is not None:
        tensors |= {f"average/{key}": value for key, value in average.state_dict().items()}
    for group, key, values in _states(network, optimizer):
        tensors |= {f"optimizer/{group}/{key}/{name}": value for name, value in values.items()}
    whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    return safetensors.torch.save(whole, {KEY: json.dumps(facts)})


def facts_of(path: Path) -> dict[str, Any] | None:
    """What `packed` was told of a checkpoint; None where there is no file. Raises CueError for one that is broken."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            return parsed((file.metadata() or {})[KEY])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise broken(path, str(error)) from None


def broken(path: Path, why: str) -> CueError:
    """The error for a file that is no checkpoint, or damaged."""
    do = "remove it: the training begins anew"
    return CueError(f"'{path}' is no checkpoint: {why}", wanted="one that a training wrote", do=do)


def not_finite(network: nn.Module) -> str | None:
    """The name of weights, or of averages of a batch norm, that are not all finite; None where all are.

    >>> layer = nn.Linear(2, 2)
    >>> layer.bias.data[1] = float("nan")
    >>> not_finite(layer)
    'bias'
    """
    for name, value in network.named_parameters():
        if not value.isfinite().all():
            return name
    # A buffer may hold infinity on purpose, as masks do.
    return next((name for name, value in network.named_buffers() if value.isnan().any()), None)


def restore(path: Path, network: nn.Module, average: nn.Module | None, optimizer: Any) -> None:
    """Put a checkpoint into a network and an optimizer of its parameters. Raises CueError where they do not fit.

    Tensors keep the memory layout that they would have without the interruption, on which the last digit hangs.
    """
    try:
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise broken(path, str(error)) from None
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = value
    try:
        network.load_state_dict(parts["network"])
        if average is not None:
            average.load_state_dict(parts["average"])
    except (RuntimeError, KeyError) as error:
        why = str(error).splitlines()[-1].strip()
        do = "choose another --out"
        raise CueError(f"'{path}' is of another network: {why}", wanted="a checkpoint of this one", do=do) from None
    named = dict(network.named_parameters())
    saved = parts.get("optimizer", {})
    for key, value in saved.items():
        _, _, rest = key.partition("/")
        name, _, field = rest.partition("/")
        if name not in named or not field:
            raise broken(path, f"it holds '{key}'")
        parameter = named[name]
        held = torch.zeros_like(parameter) if value.shape == parameter.shape else torch.zeros_like(value)
        optimizer.state[parameter][field] = held.copy_(value)


def _states(network: nn.Module, optimizer: Any) -> list[tuple[int, str, dict[str, Tensor]]]:
    """Of each parameter that has a state: the number of its group, its name, its tensors."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = []
    for number, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            values = {k: v for k, v in optimizer.state.get(parameter, {}).items() if isinstance(v, Tensor)}
            found.append((number, names[id(parameter)], values))
    return found
