"""What happens inside a network: the only file that touches hooks."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

MOST_PREFIX_TOKENS = 16
"""Class and register tokens before the tokens of the patches; DINOv2 has 1 + 4."""

KEEP_SHAPE = (nn.Identity, nn.Dropout, nn.LayerNorm, nn.Softmax, nn.ConstantPad2d)
"""What these give has the size of what went in, but for zeros about it: of a map, or of a matrix of attention."""

Layout = Literal["NCHW", "NHWC", "tokens", "vector"]


@dataclass(frozen=True)
class Layer:
    """A layer whose output is a map over the image, or one vector for all of it: what is known of it."""

    name: str
    layout: Layout
    size: tuple[int, int]
    """(h, w) of the map; (1, 1) of a vector."""
    intermediate: int | None = None
    """Its number among timm's forward_intermediates, where those are the way to get it."""
    inner: str = ""
    """The layer inside it whose output it passes on, where it is a container."""


@contextmanager
def evaluating(network: nn.Module | None = None) -> Iterator[None]:
    """The network in evaluation mode, its products in full float32 (no TF32); flags come back as they were."""
    training = [module for module in network.modules() if module.training] if network is not None else []
    backends: Any = torch.backends
    products = backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn
    before = [product.fp32_precision for product in products]
    for module in training:
        module.training = False
    for product in products:
        product.fp32_precision = "ieee"
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for product, precision in zip(products, before, strict=True):
            product.fp32_precision = precision


@contextmanager
def hooked(
    modules: Mapping[str, nn.Module],
    seen: Callable[[str, tuple[Any, ...], Any], None],
    entered: Callable[[str, tuple[Any, ...]], None] = lambda _name, _inputs: None,
) -> Iterator[None]:
    """Call `entered(name, inputs)` before and `seen(name, inputs, output)` after each call of these modules."""
    handles = []
    for name, module in modules.items():
        handles.append(module.register_forward_hook(lambda _m, inputs, output, name=name: seen(name, inputs, output)))
        handles.append(module.register_forward_pre_hook(partial(lambda name, _m, inputs: entered(name, inputs), name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def named(network: nn.Module, kinds: Any = nn.Module) -> dict[str, nn.Module]:
    """The modules of these kinds inside a network, by name."""
    return {name: module for name, module in network.named_modules() if name and isinstance(module, kinds)}


def watched_pass(
    network: nn.Module,
    pixels: Tensor,
    seen: Callable[[str, tuple[Any, ...], Any], None],
    entered: Callable[[str, tuple[Any, ...]], None] = lambda _name, _inputs: None,
    kinds: Any = nn.Module,
) -> Any:
    """The network's output for normalized pixels, in evaluation mode and without gradients, its modules `hooked`."""
    with torch.no_grad(), evaluating(network), hooked(named(network, kinds), seen, entered):
        return network(pixels)


@contextmanager
def bypassed(first: nn.Module, last: nn.Module) -> Iterator[None]:
    """While it lasts, what `first` is given comes out of `last`, untouched: the modules from one to the other are gone.

    The two may be the same module. Each must be called once in a pass, with a tensor as its first argument.
    """
    given: list[Tensor] = []

    def keep(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        given[:] = inputs[:1]
        # A copy to work on: a module that begins with an in-place ReLU would change what goes past it.
        return (inputs[0].clone(), *inputs[1:])

    handles = [first.register_forward_pre_hook(keep), last.register_forward_hook(lambda *_: given.pop())]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def changed(
    network: nn.Module,
    output: Callable[[Any], Any] | None = None,
    image: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """From now on the network gets `image` of its input, and gives `output` of its output. Of a private copy alone."""
    if image is not None:
        network.register_forward_pre_hook(lambda _, given: (image(given[0]), *given[1:]))
    if output is not None:
        network.register_forward_hook(lambda _module, _inputs, given: output(given))


def is_changed(network: nn.Module) -> bool:
    """Whether hooks change what goes into a network or comes out of it, which its code does not show."""
    return bool(network._forward_hooks or network._forward_pre_hooks)


def pair(value: Any) -> tuple[int, int]:
    """A setting of a layer, for rows and columns."""
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[-1]))


class _EnoughError(Exception):
    """All that was wanted is captured: the rest of the network need not run."""


@dataclass(frozen=True)
class HookPoint:
    """A tensor inside a network: what a module gives, or with `before` the first thing it is given."""

    name: str
    before: bool = False


@contextmanager
def captured(
    network: nn.Module, points: Iterable[HookPoint], enough: bool = False
) -> Iterator[dict[HookPoint, Tensor]]:
    """Copies of what passes these points, of the first call of each; with `enough` the block stops once all are there.

    >>> net = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    >>> with torch.no_grad(), captured(net, [HookPoint("1", before=True), HookPoint("1")]) as found:
    ...     _ = net(torch.tensor([-1.0, 1.0]))
    >>> [tensor.tolist() for tensor in found.values()]
    [[-1.0, 1.0], [0.0, 1.0]]
    """
    wanted = set(points)
    found: dict[HookPoint, Tensor] = {}

    def keep(point: HookPoint, tensor: Any) -> None:
        tensor = main(tensor)
        if point in wanted and point not in found and tensor is not None:
            # A copy: the next layer may be an in-place ReLU.
            found[point] = tensor.clone()
            if enough and len(found) == len(wanted):
                raise _EnoughError

    def seen(name: str, _inputs: tuple[Any, ...], output: Any) -> None:
        keep(HookPoint(name), output)

    def entered(name: str, inputs: tuple[Any, ...]) -> None:
        keep(HookPoint(name, before=True), inputs[0] if inputs else None)

    modules = {point.name: network.get_submodule(point.name) for point in wanted}
    with suppress(_EnoughError), hooked(modules, seen, entered):
        yield found


def main(output: Any) -> Tensor | None:
    """The tensor that a module passes on: its output, or the first of several, as of transformers' blocks.

    >>> main((torch.ones(2), None))
    tensor([1., 1.])
    """
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, Tensor) else None


def survey(network: nn.Module, pixels: Tensor) -> dict[str, Layer]:
    """Which layers give maps over the image, and how are they laid out? In the order they are computed.

    `pixels` are two normalized images. Layers called more than once are left out, as are maps of a single position.
    """
    calls, inner = _calls(network, pixels)
    names = [name for name, _ in calls]
    layers: dict[str, Layer] = {}
    grid: tuple[int, int] | None = None
    sizes: set[tuple[int, int]] = set()
    # Counts of tokens so far: an attention matrix comes after its tokens. Windows of a map, of which there are more
    # than images, have a count of their own.
    token_counts: set[int] = set()
    for name, shape in calls:
        if shape is not None and len(shape) == 3:
            token_counts |= {shape[1]} if shape[0] == len(pixels) else set()
            grid = next((size for size in sizes if size[0] * size[1] == shape[1]), grid)
        found = None if shape is None else layout_of(shape, pixels.shape, grid, token_counts)
        if found is None or (found[1] not in sizes and isinstance(network.get_submodule(name), KEEP_SHAPE)):
            continue
        grid = found[1]
        sizes.add(grid)
        if names.count(name) == 1:
            layers[name] = Layer(name, *found, inner=inner.get(name, ""))
    return layers | _intermediates(network, pixels, layers)


def vectors(network: nn.Module, pixels: Tensor, maps: Iterable[str]) -> dict[str, Layer]:
    """Which layers give one vector an image, (B, C) or (B, C, 1, 1), after the last of the `maps`? In their order.

    `pixels` are two normalized images. The answer is among them. Layers that are called more than once are left out.
    """
    calls, inner = _calls(network, pixels)
    names, known = [name for name, _ in calls], set(maps)
    after = max((i for i, name in enumerate(names) if name in known), default=-1) + 1
    found: dict[str, Layer] = {}
    for name, shape in calls[after:]:
        if shape is None or names.count(name) > 1 or len(shape) not in (2, 4):
            continue
        if shape[0] == len(pixels) and shape.numel() == shape[0] * shape[1]:
            found[name] = Layer(name, "vector", (1, 1), inner=inner.get(name, ""))
    return found


def _calls(network: nn.Module, pixels: Tensor) -> tuple[list[tuple[str, torch.Size | None]], dict[str, str]]:
    """Every call of a module, with its output's shape; and which containers pass on the output of one inside them."""
    calls: list[tuple[str, torch.Size | None]] = []
    inner: dict[str, str] = {}
    last: tuple[str, Any] = ("", None)

    def note(name: str, _inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal last
        tensor = main(output)
        calls.append((name, None if tensor is None else tensor.shape))
        if tensor is last[1] and last[0].startswith(f"{name}."):
            inner[name] = last[0]
        last = (name, tensor)

    watched_pass(network, pixels, note)
    return calls, inner


def layout_of(
    shape: torch.Size, pixels: torch.Size, grid: tuple[int, int] | None, token_counts: Iterable[int] = ()
) -> tuple[Layout, tuple[int, int]] | None:
    """How a layer's output lies over the image, judged by shape alone; None where it is no map.

    The sides of a map have the aspect ratio of the image; tokens (B, N, C) follow the map seen last (`grid`), or are
    the quarter of them that Swin and LeViT merge them to. An (N, N) as long as the tokens is an attention matrix.

    >>> layout_of(torch.Size((2, 197, 192)), torch.Size((2, 3, 224, 224)), (14, 14))
    ('tokens', (14, 14))
    """
    if shape[0] != pixels[0]:
        return None
    height, width = pixels[2:]
    if len(shape) == 3 and grid is not None and shape[2] > 1:
        extra = shape[1] - grid[0] * grid[1]
        if 0 <= extra <= MOST_PREFIX_TOKENS:
            return "tokens", grid
        half = ((grid[0] + 1) // 2, (grid[1] + 1) // 2)
        return ("tokens", half) if shape[1] == half[0] * half[1] > 1 else None
    if len(shape) != 4 or shape[2:] == (1, 1):
        return None
    options: list[tuple[float, Layout, tuple[int, int]]] = []
    candidates: tuple[tuple[Layout, torch.Size], ...] = (("NCHW", shape[2:]), ("NHWC", shape[1:3]))
    for layout, (h, w) in candidates:
        skew = abs(h - w * height / width)
        if h * w > 1 and h <= height and w <= width and skew <= 1 and not (h == w and h in token_counts):
            options.append((skew, layout, (h, w)))
    return min(options, key=lambda option: option[0])[1:] if options else None


def capture(network: nn.Module, pixels: Tensor, layers: Iterable[Layer]) -> dict[str, Tensor]:
    """The maps (B, C, h, w) of these layers for normalized pixels. The network runs no farther than needed."""
    layers = list(layers)
    points = {HookPoint(layer.name): layer for layer in layers if layer.intermediate is None}
    numbers = {layer.name: layer.intermediate for layer in layers if layer.intermediate is not None}
    found: dict[str, Tensor] = {}
    if points:
        with captured(network, points, enough=True) as outputs:
            network(pixels)
        found = {point.name: as_map(output, points[point]) for point, output in outputs.items()}
    if numbers:
        maps = _run_intermediates(network, pixels, sorted(set(numbers.values())))
        found |= {name: maps[number] for name, number in numbers.items()}
    return {layer.name: found[layer.name] for layer in layers}


Reduction = Callable[[Tensor], Tensor]
"""Of the maps (B, C, h, w) of a layer, what is to be kept of them: any tensor (B, ...)."""


@contextmanager
def watched(network: nn.Module, wanted: Iterable[tuple[Layer, Reduction]], found: list[Tensor]) -> Iterator[None]:
    """Reduce the maps of these layers while the network runs, into `found`, in the order of `wanted`."""
    wanted = list(wanted)
    found[:] = [torch.empty(0)] * len(wanted)

    def keep(name: str, _inputs: tuple[Any, ...], output: Any) -> None:
        for i, (layer, reduce) in enumerate(wanted):
            if layer.name == name:
                found[i] = reduce(as_map(output[0] if isinstance(output, tuple) else output, layer))

    with hooked({layer.name: network.get_submodule(layer.name) for layer, _ in wanted}, keep):
        yield


def as_map(output: Tensor, layer: Layer) -> Tensor:
    """A layer's output as (B, C, h, w): channels first, tokens that belong to no place left out, vectors 1 x 1."""
    if layer.layout == "vector":
        return output.flatten(1)[:, :, None, None]
    if layer.layout == "NCHW":
        return output
    if layer.layout == "NHWC":
        return output.permute(0, 3, 1, 2)
    h, w = layer.size
    return output[:, -h * w :].transpose(1, 2).unflatten(2, (h, w))


def _intermediates(network: nn.Module, pixels: Tensor, layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """What timm itself gives as maps, where a hook gives no channels-first map: its ViT, Swin and the like."""
    info = getattr(network, "feature_info", None)
    if not isinstance(info, list) or not hasattr(network, "forward_intermediates"):
        return {}
    modules = dict(network.named_modules())
    # Some of its names are of no module: those of HRNet, Twins and MViTv2.
    names = {i: entry["module"] for i, entry in enumerate(info) if entry["module"] in modules}
    if all(name in layers and layers[name].layout == "NCHW" for name in names.values()):
        return {}
    try:
        maps = _run_intermediates(network, pixels, names)
    except Exception:  # a network's own code, which may not know how
        return {}
    known = ((i, name, maps[i].shape) for i, name in names.items())
    return {name: Layer(name, "NCHW", (s[2], s[3]), intermediate=i) for i, name, s in known if len(s) == 4}


def _run_intermediates(network: Any, pixels: Tensor, indices: Iterable[int]) -> dict[int, Tensor]:
    indices = list(indices)
    how = {"intermediates_only": True, "output_fmt": "NCHW", "stop_early": True}
    return dict(zip(indices, network.forward_intermediates(pixels, indices=indices, **how), strict=True))
