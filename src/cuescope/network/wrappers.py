"""Modules around a network that change nothing of its answers: taken off, so that what is inside can be looked at."""

import hashlib
import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cuescope.core.errors import CueError
from cuescope.data.preprocessing import Preprocessing
from cuescope.network import hooks, identity, own_steps

ASSUMED = "assumed: ImageNet's usual"
"""The source of a preprocessing of which nothing is known."""
MOST_OUTSIDE = 0.02
"""Share of the parameters that may lie outside of the network that a module is said to consist of."""


def unwrapped(module: Any) -> tuple[Any, tuple[str, ...]]:
    """The network inside wrappers that change nothing, and what was taken off.

    A torch.compile'd module, DataParallel, DistributedDataParallel, a Sequential of one; an exported program and
    TorchScript become functions. Raises CueError for a class in place of a module.

    >>> unwrapped(nn.Sequential(nn.DataParallel(nn.Flatten())))
    (Flatten(start_dim=1, end_dim=-1), ('run without its Sequential, DataParallel',))
    """
    if isinstance(module, type):
        found = f"{module.__name__} is a class"
        raise CueError(found, wanted="a network of it, with its weights", do=f"call it: {module.__name__}()")
    off: list[str] = []
    while True:
        if isinstance(module, torch.export.ExportedProgram):
            return exported(module)
        if isinstance(module, torch.jit.ScriptModule):
            found = Scripted(_copied(module), type(module).__name__, _identity(module))
            return found, ("TorchScript: a black box", *found.notes)
        kind, inner = _inside(module)
        if inner is None:
            return module, ((f"run without its {', '.join(off)}",) if off else ())
        if hooks.is_changed(module):
            found, notes = unwrapped(inner)
            return (_with_hooks(found, module), notes) if isinstance(found, nn.Module) else (module, ())
        off.append(kind)
        module = inner


def _inside(module: Any) -> tuple[str, nn.Module | None]:
    """What a wrapper is, and the network in it; None where it is no wrapper, or one with a way to run of its own."""
    if isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
        return "torch.compile", inner
    if not isinstance(module, nn.Module) or "forward" in vars(module):
        return "", None
    kinds = nn.DataParallel, nn.parallel.DistributedDataParallel
    if isinstance(module, kinds) and type(module).forward in [kind.forward for kind in kinds]:
        return type(module).__name__, module.module
    if type(module) is nn.Sequential and len(module) == 1:
        return "Sequential", module[0]
    return "", None


def _with_hooks(network: nn.Module, wrapper: nn.Module) -> nn.Module:
    """The network with what hooks on its wrapper do to its input and its output."""
    holder = nn.Sequential(network).train(wrapper.training)
    for name in vars(wrapper):
        if name.startswith(("_forward_hooks", "_forward_pre_hooks")):
            setattr(holder, name, getattr(wrapper, name).copy())
    return holder


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


def quantized(network: nn.Module) -> list[str]:
    """The kinds of layers of a network that compute with whole numbers, by torch.ao or with its tensors."""
    kinds = {type(part).__name__ for part in network.modules() if ".quantized" in type(part).__module__}
    kinds |= {
        type(t).__name__ for t in network.parameters() if t.is_quantized or type(t).__module__.startswith("torchao")
    }
    return sorted(kinds)


def assumed(module: Any) -> Preprocessing:
    """The preprocessing where nothing is known of it: ImageNet's usual, less what the module does by itself."""
    steps = own_steps.find(module)
    if steps is None:
        return Preprocessing(source=ASSUMED)
    return steps.outside(Preprocessing(source=f"{ASSUMED} resize and crop" if steps.normalizes else ASSUMED))


def _known(module: nn.Module) -> bool:
    library = type(module).__module__.partition(".")[0]
    return library != "torch" and (
        hasattr(module, "pretrained_cfg") or hasattr(module, "config") or library in ("torchvision", "timm", "cuescope")
    )


def in_parts(run: Callable[[Tensor], Any], batch: int | None) -> Callable[[Tensor], Any]:
    """A function of images that takes exactly `batch` of them, as one of any number; itself where it takes any.

    >>> in_parts(lambda x: x.sum(1) + 10 * len(x), 2)(torch.ones(3, 4))
    tensor([24., 24., 24.])
    """
    if batch is None:
        return run

    def parts(images: Tensor) -> Any:
        missing = -len(images) % batch
        # The last part is filled up with its last image.
        full = torch.cat([images, images[-1:].expand(missing, *images.shape[1:])]) if missing else images
        return _joined([run(part) for part in full.split(batch)], batch, len(images))

    return parts


def preprocessing_for(sides: Sequence[int | None], what: str) -> Preprocessing:
    """ImageNet's usual preprocessing at the input size of a program, 224 px where it is free.

    The sides are (B, 3, H, W), or (B, H, W, 3).

    >>> preprocessing_for([None, 64, 96, 1], "it").size
    (64, 96)
    """
    last = sides[1] not in (1, 3, None) and sides[3] in (1, 3)
    height, width = (side or 224 for side in (sides[1:3] if last else sides[2:]))
    resize = round(height * 256 / 224) if height == width else (height, width)
    return Preprocessing((height, width), resize, source=f"size from {what}, the rest assumed: ImageNet's usual")


class Scripted:
    """TorchScript as a function of normalized images. `module` is its own; `notes` say what was done to it."""

    def __init__(self, module: torch.jit.ScriptModule, name: str, identity: bytes) -> None:
        self.__name__, self.identity = name, identity
        self.module, self.device = module.eval(), torch.device("cpu")
        tensors = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
        others = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors} - {"float32"})
        self.notes = (f"weights in {', '.join(others)}, run in float32",) if others else ()
        if others:
            module.float()

    def __call__(self, images: Tensor) -> Any:
        if images.device != self.device:
            self.module.to(images.device)
            self.device = images.device
        return self.module(images)


def exported(program: "torch.export.ExportedProgram") -> tuple[Callable[[Tensor], Any], tuple[str, ...]]:
    """An exported program as a function of normalized images, and what is said of it."""
    network, sides = program.module(), exported_sides(program)
    batch = sides[0] if sides else None
    taken = _exported_input(program)

    def run(images: Tensor) -> Any:
        # A program for whole numbers runs on others too, and gives something else.
        if taken is not None and images.is_floating_point() != taken.is_floating_point():
            raise ValueError(f"it takes {str(taken.dtype).removeprefix('torch.')}")
        return network(images)

    function = in_parts(run, batch)
    core = identity.of_module(network) + program.graph_module.code.encode()
    function.identity = hashlib.blake2b(core, digest_size=16).digest()  # pyright: ignore[reportFunctionMemberAccess]
    fixed = (f"takes {batch} {'image' if batch == 1 else 'images'} at a time: run in such parts",) if batch else ()
    return function, ("an exported program: a black box", *fixed)


def exported_sides(program: Any) -> list[int | None]:
    """The sides of an exported program's input, None where one is free; empty for all that takes no images alone."""
    taken = _exported_input(program) if isinstance(program, torch.export.ExportedProgram) else None
    return [] if taken is None else [side if isinstance(side, int) else None for side in taken.shape]


def _exported_input(program: "torch.export.ExportedProgram") -> Tensor | None:
    """What stands for the images in an exported program; None where that is not its only input."""
    wanted = program.graph_signature.user_inputs
    metas = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in wanted]
    return metas[0] if len(metas) == 1 and isinstance(metas[0], Tensor) and metas[0].ndim == 4 else None


def _copied(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            torch.jit.save(module, buffer)
            buffer.seek(0)
            return torch.jit.load(buffer, map_location="cpu")
    except RuntimeError as error:
        do = "give the module it was made from, or export it as ONNX"
        found = f"a TorchScript module cannot be copied: {str(error).splitlines()[-1]}"
        raise CueError(found, wanted="one that torch.jit.save can save", do=do) from None


def _identity(module: torch.jit.ScriptModule) -> bytes:
    hasher = hashlib.blake2b(identity.of_module(module), digest_size=16)
    for part in module.modules():
        hasher.update(str(getattr(part, "code", "")).encode())
    return hasher.digest()


def _joined(found: Sequence[Any], batch: int, count: int) -> Any:
    """The outputs of several parts as those of one: tensors joined, in whatever they are held."""
    first = found[0]
    if isinstance(first, Tensor):
        return torch.cat(list(found))[:count] if first.ndim and len(first) == batch else first
    if isinstance(first, dict):
        return {key: _joined([one[key] for one in found], batch, count) for key in first}
    if isinstance(first, list | tuple):
        return [_joined(column, batch, count) for column in zip(*found, strict=True)]
    return first
