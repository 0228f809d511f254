"""Modules around a network that change nothing of its answers: taken off, so that what is inside can be looked at."""

from typing import Any

import torch
from torch import nn

from cuescope.data.preprocessing import Preprocessing
from cuescope.network import hooks

ASSUMED = "assumed: ImageNet's usual"
"""The source of a preprocessing of which nothing is known."""
MOST_OUTSIDE = 0.02
"""Share of the parameters that may lie outside of the network that a module is said to consist of."""


def unwrapped(module: Any) -> tuple[Any, tuple[str, ...]]:
    """The network inside wrappers that change nothing, and what was taken off.

    A torch.compile'd module, DataParallel, DistributedDataParallel, a Sequential of one, an exported program.

    >>> unwrapped(nn.Sequential(nn.DataParallel(nn.Flatten())))
    (Flatten(start_dim=1, end_dim=-1), ('run without its Sequential, DataParallel',))
    """
    off: list[str] = []
    while True:
        if isinstance(module, torch.export.ExportedProgram):
            return _exported(module), ("an exported program: a black box",)
        if isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            off.append("torch.compile")
        elif isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = module.module
            off.append(type(module).__name__)
        elif type(module) is nn.Sequential and len(module) == 1 and not hooks.is_changed(module):
            inner = module[0]
            off.append("Sequential")
        else:
            return module, ((f"run without its {', '.join(off)}",) if off else ())
        module = inner


def core(module: Any) -> Any:
    """The network that a module is little else than: where its library, preprocessing and classes are known.

    >>> core(nn.Sequential(nn.Identity(), nn.Linear(3, 2)))
    Linear(in_features=3, out_features=2, bias=True)
    """
    while isinstance(module, nn.Module) and not _known(module):
        total = sum(p.numel() for p in module.parameters())
        most = (1 - MOST_OUTSIDE) * total
        inner = [child for child in module.children() if total and sum(p.numel() for p in child.parameters()) > most]
        if not inner:
            return module
        module = inner[0]
    return module


def headless(module: nn.Module) -> bool:
    """Whether a network of a known kind ends with features: its head was taken off.

    >>> headless(nn.Linear(3, 2))
    False
    """
    if getattr(module, "num_classes", None) == 0:
        return True
    heads = (getattr(module, name, None) for name in ("fc", "head", "heads", "classifier"))
    return any(isinstance(head, nn.Identity) for head in heads)


def assumed(module: Any) -> Preprocessing:
    """The preprocessing where nothing is known of it: ImageNet's usual, less a normalization in the module itself."""
    kinds = [type(part) for part in module.modules()] if isinstance(module, nn.Module) else []
    if not any(kind.__name__ == "Normalize" and kind.__module__.startswith("torchvision.") for kind in kinds):
        return Preprocessing(source=ASSUMED)
    source = "assumed: ImageNet's usual resize and crop; the module normalizes by itself"
    return Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), source=source)


def _known(module: nn.Module) -> bool:
    library = type(module).__module__.partition(".")[0]
    return library != "torch" and (
        hasattr(module, "pretrained_cfg") or hasattr(module, "config") or library in ("torchvision", "timm", "cuescope")
    )


def _exported(program: "torch.export.ExportedProgram") -> Any:
    network = program.module()

    def exported(images: torch.Tensor) -> Any:
        return network(images)

    return exported
