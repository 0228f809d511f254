"""Weights that a file holds in parts: weight norm, spectral norm, low-rank adapters. They are put together."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from cuescope.core.errors import CueError
from cuescope.core.files import parsed

CONFIG = "adapter_config.json"
"""What PEFT writes beside a file of adapters."""
PARTS = re.compile(r"\.parametrizations\.|_orig$|_g$|\.base_layer\.|\.modules_to_save\.|\.?lora_")
NEW = re.compile(r"(.*?)parametrizations\.(\w+)\.original(0?)$")
ADAPTER = re.compile(r"(.*?)\.?lora_A(?:\.(\w+))?(?:\.weight)?$")


def merged(state: Mapping[str, Tensor], own: Iterable[str], path: str | Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors with those that are held in parts put together, and notes of what was done.

    A network whose `own` names have such parts takes them as they are. Raises CueError for adapters without the weights
    that they change, or of an unknown scale.
    """
    if any(PARTS.search(name) for name in own) or not any(PARTS.search(name) for name in state):
        return dict(state), []
    tensors, notes = dict(state), []
    weight, spectral = _weight_norm(tensors), _spectral_norm(tensors)
    notes += [f"weight norm of {weight} tensors put together: g v / |v|"] if weight else []
    notes += [f"spectral norm of {spectral} tensors put together"] if spectral else []
    adapted = _adapters(tensors, Path(path))
    return tensors, [*notes, *([adapted] if adapted else [])]


def _weight_norm(tensors: dict[str, Tensor]) -> int:
    """Salimans and Kingma 2016: the old keys weight_g and weight_v, the new ones original0 and original1."""
    found = 0
    for key in list(tensors):
        if (match := NEW.match(key)) and match[3] == "0":
            gain, direction, name = key, key[:-1] + "1", match[1] + match[2]
        else:
            gain, direction, name = key, key.removesuffix("_g") + "_v", key.removesuffix("_g")
        if gain == name or direction not in tensors:
            continue
        g, v = tensors.pop(gain), tensors.pop(direction)
        axes = [axis for axis in range(v.ndim) if not g.ndim or g.shape[axis] == 1]
        tensors[name] = g * v / v.norm(2, axes, keepdim=bool(g.ndim))
        found += 1
    return found


def _spectral_norm(tensors: dict[str, Tensor]) -> int:
    """Miyato et al. 2018: weight_orig, weight_u and weight_v, or parametrizations.weight.original and .0._u, .0._v."""
    found = 0
    for key in list(tensors):
        if (match := NEW.match(key)) and not match[3]:
            stem, name = key.removesuffix("original"), match[1] + match[2]
            u, v = stem + "0._u", stem + "0._v"
        else:
            name = key.removesuffix("_orig")
            u, v = name + "_u", name + "_v"
        if name == key or u not in tensors or v not in tensors:
            continue
        weight, left, right = tensors.pop(key), tensors.pop(u), tensors.pop(v)
        axis = 0 if len(left) == len(weight) else 1
        matrix = weight.movedim(axis, 0).flatten(1)
        tensors[name] = weight / (left @ (matrix @ right))
        found += 1
    return found


def _adapters(tensors: dict[str, Tensor], path: Path) -> str:
    """Hu et al. 2022: W + scale B A, by PEFT's names or loralib's; heads that were trained beside them."""
    for key in list(tensors):
        if ".original_module." in key:
            del tensors[key]
        elif ".base_layer." in key or ".modules_to_save." in key:
            tensors[re.sub(r"\.base_layer|\.modules_to_save\.\w+", "", key)] = tensors.pop(key)
    scales = set()
    pairs = {key: match for key in tensors if (match := ADAPTER.match(key))}
    if len({match[2] for match in pairs.values() if match[2] != "weight"}) > 1:
        raise _unmerged(path, "holds several adapters", "one", "merge the one that is meant, and save the model")
    for key, match in pairs.items():
        stem, other = match[1], key.replace("lora_A", "lora_B")
        if other not in tensors or f"{stem}.weight" not in tensors:
            found = f"holds adapters (LoRA) without the weights that they change, such as {stem}.weight"
            raise _unmerged(path, found, "a whole network", "merge them, as with model.merge_and_unload(), and save it")
        weight, down, up = tensors[f"{stem}.weight"], tensors.pop(key), tensors.pop(other)
        alpha = next((tensors.pop(k) for k in (f"{stem}.alpha", f"{stem}.lora_alpha") if k in tensors), None)
        scale = float(alpha) / len(down) if alpha is not None else _scale(path, len(down))
        change = up.flatten(1) @ down.flatten(1)
        if change.numel() != weight.numel():
            found = f"has adapters for {stem}.weight that do not fit it"
            raise _unmerged(path, found, "W + scale B A", "merge them yourself, and save the model")
        tensors[f"{stem}.weight"] = weight + scale * change.reshape(weight.shape)
        scales.add(scale)
    if left := next((key for key in tensors if "lora_" in key), ""):
        raise _unmerged(path, f"holds '{left}'", "adapters W + scale B A", "merge them yourself, and save the model")
    return f"{len(pairs)} adapters (LoRA) merged, scale {', '.join(f'{s:g}' for s in sorted(scales))}" if pairs else ""


def _scale(path: Path, rank: int) -> float:
    """The scale alpha / r from PEFT's file. Raises CueError where it is not there, or says more than that."""
    file = path.parent / CONFIG
    try:
        facts = parsed(file.read_text(encoding="utf-8"))
        odd = [k for k in ("use_dora", "fan_in_fan_out", "alpha_pattern", "rank_pattern") if facts.get(k)]
        alpha = float(facts["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        found = f"holds adapters (LoRA) of rank {rank} whose scale is not known"
        raise _unmerged(path, found, f"{CONFIG} beside it, with lora_alpha", "put it there, or merge them") from None
    if odd:
        raise _unmerged(path, f"has adapters with {odd[0]}", "W + scale B A", "merge them yourself, and save the model")
    return alpha / (math.sqrt(rank) if facts.get("use_rslora") else rank)


def _unmerged(path: Path, found: str, wanted: str, do: str) -> CueError:
    return CueError(f"'{path}' {found}", wanted=wanted, do=do)
