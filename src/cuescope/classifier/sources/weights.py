"""Files of weights: read without running anything that is in them, fitted to a network key by key."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cuescope.classifier.sources.known import weights_file
from cuescope.classifier.sources.merging import merged
from cuescope.core.errors import CueError
from cuescope.core.zips import check_packed


class State(dict[str, Tensor]):
    """Tensors by name, and notes of what was taken of a file that holds more."""

    def __init__(self, tensors: Mapping[str, Tensor], notes: Sequence[str] = ()) -> None:
        super().__init__(tensors)
        self.notes = list(notes)


AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
"""Where a checkpoint holds averaged weights beside the raw ones: they are what is evaluated."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""What DataParallel, torch.compile and training frameworks put before every key."""
INNER = re.compile(r"\.(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")
"""What wrappers around parts of a network put into keys, as in PyTorch's example of training on ImageNet."""
BESIDE = ("n_averaged", "criterion.", "loss.", "loss_fn.")
"""What averaging and training frameworks keep beside the network."""
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
SHORT = (torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
WHOLE = (torch.int8, torch.uint8, torch.int16, torch.int32)
"""Quantized weights, which mean nothing without their scales."""
BEST = re.compile(r"(?:^|[._])(?:ema|swa|averaged)(?:[._]|$)|teacher|encoder_q")
WORST = re.compile(r"student|encoder_k|momentum")
"""Of several networks of one shape in a file: the averaged ones (of self-distillation too), and MoCo's queries."""

SPREAD = 1 << 26
"""Bytes of a tensor that need not all be stored."""

SAVE = "torch.save(model.state_dict(), 'weights.pth')"
SHOWN = 4


def read(path: str | Path) -> State:
    """The tensors of a .safetensors or .pth file by name. Nothing is unpickled but tensors.

    Raises CueError for a missing or broken file, for one that is no file of weights, and for one that needs code.
    """
    path = weights_file(path)
    with path.open("rb") as file:
        start = file.read(64)
    _refuse_text(path, start)
    # By what is in it: files are renamed.
    state = _safetensors(path) if path.suffix == ".safetensors" or start[8:9] == b"{" else _pickled(path)
    return _unwrapped(state, path)


def fit(
    build: Callable[[int | None], nn.Module], state: State, path: str | Path, optional: tuple[str, ...] = ()
) -> tuple[nn.Module, tuple[str, ...]]:
    """The network with these weights, and notes of what was taken of them.

    `build` makes it with a number of classes (None: its own).
    Where nothing but the last layer's number of classes differs, the network is built with the file's.
    Missing keys that start with one of `optional` are passed over. Raises CueError that names the keys.
    """
    network = build(None)
    own = network.state_dict()
    tensors, notes = merged(state, own, path)
    state = _under_prefix(State(tensors, [*state.notes, *notes]), own, optional)
    rows = list(own.values())[-1].shape[:1]
    shapes = [(own[k].shape, state[k].shape) for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
    counts = {b[0] for a, b in shapes if a[:1] == rows and a[1:] == b[1:]}
    if len(counts) == 1:
        network = build(counts.pop())
    _check(network, state, path, optional)
    network.load_state_dict(state, strict=False)
    return network, tuple(state.notes)


def _under_prefix(state: State, own: Mapping[str, Tensor], optional: tuple[str, ...]) -> State:
    """The tensors under the prefix under which all of the network's own are there; as they are where there is none.

    Wrappers put prefixes in any order. Of several such sets that of averaged weights is taken, which is what is
    evaluated. What lies outside of the prefix is left out, and noted.
    """
    needed = [k for k in own if not k.endswith("num_batches_tracked") and not k.startswith(optional)]
    prefixes = {key.removesuffix(needed[0]) for key in state if f".{key}".endswith(f".{needed[0]}")} if needed else ()
    whole = [prefix for prefix in prefixes if all(prefix + key in state for key in needed)]
    if not whole and any(map(INNER.search, state)) and not any(map(INNER.search, own)):
        inner = sorted({match[0] + "." for key in state for match in INNER.finditer(key)})
        note = f"'{', '.join(inner)}' taken out of the names of the file's tensors"
        plain = {INNER.sub("", key): tensor for key, tensor in state.items()}
        return _under_prefix(State(plain, [*state.notes, note]), own, optional)
    if not whole:
        return _with_head(state, own, needed)
    best = min(whole, key=lambda p: (not BEST.search(p.lower()), bool(WORST.search(p.lower())), len(p), p))
    others = tuple(prefix for prefix in whole if prefix and prefix != best)
    left_out = [k for k in state if not k.startswith(best) or k.startswith(BESIDE) or (others and k.startswith(others))]
    found = {key.removeprefix(best): tensor for key, tensor in state.items() if key not in left_out}
    notes = [f"of the file's tensors those under '{best}' are taken"] if best else []
    notes += [listed("beside them left out", left_out)] if left_out else []
    return State(found, [*state.notes, *notes])


def _with_head(state: State, own: Mapping[str, Tensor], needed: list[str]) -> State:
    """The tensors of a backbone under its prefix, and the only layer beside it as the last one; else as they are."""
    last = needed[-1].rpartition(".")[0] + "." if needed else ""
    body, ends = (
        [k for k in needed if not k.startswith(last)],
        {k.removeprefix(last) for k in own if k.startswith(last)},
    )
    prefixes = {key.removesuffix(body[0]) for key in state if key.endswith(f".{body[0]}")} if body else ()
    whole = [prefix for prefix in prefixes if all(prefix + key in state for key in body)]
    if len(whole) != 1:
        return state
    beside = [key for key in state if not key.startswith((whole[0], *BESIDE)) and key not in BESIDE]
    stems = {key.rpartition(".")[0] + "." for key in beside}
    if len(stems) != 1 or {key.rpartition(".")[2] for key in beside} != ends:
        return state
    (head,) = stems
    found = {key.removeprefix(whole[0]): tensor for key, tensor in state.items() if key.startswith(whole[0])}
    found |= {last + end: state[head + end] for end in ends}
    note = f"of the file's tensors those under '{whole[0]}' are taken, and '{head}' as '{last}'"
    return State(found, [*state.notes, note])


def _check(network: nn.Module, state: State, path: str | Path, optional: tuple[str, ...]) -> None:
    own = network.state_dict()
    needed = [k for k in own if not k.endswith("num_batches_tracked") and not k.startswith(optional)]
    missing, unexpected = [k for k in needed if k not in state], [k for k in state if k not in own]
    shapes = {k: (tuple(state[k].shape), tuple(own[k].shape)) for k in own if k in state}
    other = [f"{k} {given} in place of {wanted}" for k, (given, wanted) in shapes.items() if given != wanted]
    whole = [k for k in needed if k in state and state[k].dtype in WHOLE and own[k].is_floating_point()]
    faults = [listed("missing", missing), listed("unexpected", unexpected), listed("of another shape", other)]
    faults.append(listed("of whole numbers without their scales", whole))
    if any(faults):
        found = f"the weights in '{path}' do not fit {type(network).__name__}: " + "; ".join(filter(None, faults))
        do = "check that the architecture is the one the weights were trained in"
        raise CueError(found, wanted=f"the {len(own)} tensors of its state_dict", do=do)


def listed(what: str, keys: list[str]) -> str:
    """How many keys are missing, unexpected ..., and the first of them; "" for none.

    >>> listed("missing", ["fc.weight", "fc.bias"])
    '2 missing: fc.weight, fc.bias'
    """
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
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                check_packed(archive.infolist())
        with warnings.catch_warnings():
            # Of other pickle protocols, before it refuses them.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        found, wanted = "holds more than tensors, and to open it would run whatever code is in it", "tensors only"
        do = f"where you trust it, save it again: {SAVE} or as .safetensors"
    except Exception as error:  # whatever a damaged file makes torch's reader of pickles stumble over
        found, do = f"cannot be read as weights: {_reason(error)}", f"get it again, or save it again as {SAVE}"
        wanted = "a file that torch.save wrote of a state_dict, or .safetensors"
    raise CueError(f"'{path}' {found}", wanted=wanted, do=do)


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "TorchScript" in text:
        return "it is TorchScript, a program of its own, which is audited by its path alone"
    # Of a file that is no pickle torch tells the number of an operation it does not know, or a bare key.
    return "it is no file that torch.save wrote" if isinstance(error, KeyError) or text.strip("'").isdigit() else text


def _refuse_text(path: Path, start: bytes) -> None:
    if start.startswith(b"version https://git-lfs"):
        raise CueError(f"'{path}' is a Git LFS pointer, not weights", wanted="weights", do="run `git lfs pull`")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CueError(f"'{path}' is a web page, not weights", wanted="weights", do="download the file itself")


def _unwrapped(state: Any, path: Path) -> State:
    notes: list[str] = []
    for key in (*AVERAGED, *WRAPPERS):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            notes += [f"averaged weights ('{key}') of the file are taken"] if key in AVERAGED else []
            state = state[key]
            break
    named = state.items() if isinstance(state, dict) else ()
    tensors = {k: v for k, v in named if isinstance(k, str) and isinstance(v, Tensor)}
    tensors = tensors or dict(_flat(state))
    if spread := next((key for key, tensor in tensors.items() if _is_spread(tensor)), ""):
        found = f"'{path}' holds '{spread}' of more numbers than are stored"
        raise CueError(found, wanted="tensors that are stored whole", do=f"save it again as {SAVE}")
    if not tensors:
        raise CueError(f"'{path}' holds no state_dict", wanted="tensors by name", do=f"save it as {SAVE}")
    if "n_averaged" in tensors:
        del tensors["n_averaged"]
        notes.append("averaged weights (torch's AveragedModel)")
    off = ""
    while any(all(key.startswith(one := prefix) for key in tensors) for prefix in PREFIXES):
        tensors = {key.removeprefix(one): tensor for key, tensor in tensors.items()}
        off += one
    notes += [f"'{off}' taken off the names of the file's tensors"] if off else []
    short = {str(t.dtype).removeprefix("torch.") for t in tensors.values() if t.dtype in SHORT}
    if short:
        tensors = {key: t.float() if t.dtype in SHORT else t for key, t in tensors.items()}
        notes.append(f"the file's weights are in {', '.join(sorted(short))}: read as float32")
    return State(tensors, notes)


def _is_spread(tensor: Tensor) -> bool:
    """Whether a tensor repeats a few numbers without end: a copy of it could fill the memory."""
    size = tensor.numel() * tensor.element_size()
    return size > SPREAD and (tensor.layout != torch.strided or size > tensor.untyped_storage().nbytes())


def _flat(state: Any, prefix: str = "", depth: int = 3) -> Iterator[tuple[str, Tensor]]:
    """The tensors of several networks in one file, by names that begin with what each is called."""
    if isinstance(state, dict) and depth:
        for key, value in state.items():
            if isinstance(key, str) and isinstance(value, Tensor):
                yield prefix + key, value
            elif isinstance(key, str):
                yield from _flat(value, f"{prefix}{key}.", depth - 1)
