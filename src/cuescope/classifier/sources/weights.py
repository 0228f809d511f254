"""Files of weights: read without running anything that is in them, fitted to a network key by key."""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cuescope.classifier.sources.known import weights_file
from cuescope.core.errors import CueError

State = dict[str, Tensor]

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and training frameworks put before every key."""

SAVE = "torch.save(model.state_dict(), 'weights.pth')"
SHOWN = 4


def read(path: str | Path) -> State:
    """The tensors of a .safetensors or .pth file by name. Nothing is unpickled but tensors.

    Raises CueError for a missing or broken file, for one that is no file of weights, and for one that needs code.
    """
    path = weights_file(path)
    with path.open("rb") as file:
        _refuse_text(path, file.read(64))
    state = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    return _unwrapped(state, path)


def fit(
    build: Callable[[int | None], nn.Module], state: State, path: str | Path, optional: tuple[str, ...] = ()
) -> nn.Module:
    """The network with these weights. `build` makes it with a number of classes (None: its own).

    Where nothing but the last layer's number of classes differs, the network is built with the file's.
    Missing keys that start with one of `optional` are passed over. Raises CueError that names the keys.
    """
    network = build(None)
    own = network.state_dict()
    rows = list(own.values())[-1].shape[:1]
    shapes = [(own[k].shape, state[k].shape) for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
    counts = {b[0] for a, b in shapes if a[:1] == rows and a[1:] == b[1:]}
    if len(counts) == 1:
        network = build(counts.pop())
    _check(network, state, path, optional)
    network.load_state_dict(state, strict=False)
    return network


def _check(network: nn.Module, state: State, path: str | Path, optional: tuple[str, ...]) -> None:
    own = network.state_dict()
    needed = [k for k in own if not k.endswith("num_batches_tracked") and not k.startswith(optional)]
    missing, unexpected = [k for k in needed if k not in state], [k for k in state if k not in own]
    shapes = {k: (tuple(state[k].shape), tuple(own[k].shape)) for k in own if k in state}
    other = [f"{k} {given} in place of {wanted}" for k, (given, wanted) in shapes.items() if given != wanted]
    faults = [_listed("missing", missing), _listed("unexpected", unexpected), _listed("of another shape", other)]
    if any(faults):
        found = f"the weights in '{path}' do not fit {type(network).__name__}: " + "; ".join(filter(None, faults))
        do = "check that the architecture is the one the weights were trained in"
        raise CueError(found, wanted=f"the {len(own)} tensors of its state_dict", do=do)


def _listed(what: str, keys: list[str]) -> str:
    more = f", ... ({len(keys) - SHOWN} more)" if len(keys) > SHOWN else ""
    return f"{len(keys)} {what}: " + ", ".join(keys[:SHOWN]) + more if keys else ""


def _safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise CueError(f"'{path}' is broken: {error}", wanted="a safetensors file", do="get it again") from None


def _pickled(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # Of other pickle protocols, before it refuses them.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        found, wanted = "holds more than tensors, and to open it would run whatever code is in it", "tensors only"
        do = f"where you trust it, save it again: {SAVE} or as .safetensors"
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        found, do = f"cannot be read as weights: {_reason(error)}", f"get it again, or save it again as {SAVE}"
        wanted = "a file that torch.save wrote of a state_dict, or .safetensors"
    raise CueError(f"'{path}' {found}", wanted=wanted, do=do)


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    # Of a file that is no pickle torch tells the number of an operation it does not know, or a bare key.
    return "it is no file that torch.save wrote" if isinstance(error, KeyError) or text.strip("'").isdigit() else text


def _refuse_text(path: Path, start: bytes) -> None:
    if start.startswith(b"version https://git-lfs"):
        raise CueError(f"'{path}' is a Git LFS pointer, not weights", wanted="weights", do="run `git lfs pull`")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CueError(f"'{path}' is a web page, not weights", wanted="weights", do="download the file itself")


def _unwrapped(state: Any, path: Path) -> State:
    for key in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
            break
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(state, dict) else {}
    if not tensors:
        raise CueError(f"'{path}' holds no state_dict", wanted="tensors by name", do=f"save it as {SAVE}")
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return tensors
