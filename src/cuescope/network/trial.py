"""A network is tried before it is used: how it takes images, where its logits are, whether they are the same twice."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from cuescope.core.errors import RAISED, CueError
from cuescope.data.preprocessing import Preprocessing
from cuescope.network import hooks, inputs, outputs, parametrizations, signatures, wrappers
from cuescope.network.batchnorm_folding import difference, fold, norms
from cuescope.network.executor import PRECISIONS, Executor, Function, out_of_memory, probes

STEADY = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""By precision: how far an image's logits may move between two passes, as a share of the largest: rounding."""
SWAYED = 5e-2
"""A classifier whose logits move farther than this with the other images of a batch is refused."""
CONSTANT = 1e-6
"""Of the largest logit: what differs less between noise and patches of color may be no answer to them."""
HALF = "weights in float16, run in float32"
"""A note that no longer holds where the network takes half precision alone."""


def start(
    module: nn.Module,
    how: Preprocessing,
    name: str,
    *,
    classes: int | None,
    device: torch.device,
    batch_size: int,
    precision: str,
    compile: bool,
    folding: bool,
    owned: bool,
) -> Executor:
    """An executor for a network of `classes` classes (None: not named), tried on the `probes`.

    Raises CueError where it cannot be run, gives no logits, or where an image's logits are random or depend on the
    other images of a batch.
    """
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        do = "load its weights before it is given, or make it outside of torch.device('meta')"
        raise CueError(f"{name} has weights on 'meta': none", wanted="a network with its weights", do=do)
    network = module if owned else _copied(module, name)
    _evaluated(network)
    network.requires_grad_(False)
    if kinds := wrappers.quantized(network):
        note = f"quantized ({', '.join(kinds)}): run as a black box on the CPU, without layers and gradients"
        found = start_function(network, how, name, classes=classes, device=torch.device("cpu"), batch_size=batch_size)
        found.assumed.insert(0, note)
        return found
    network.to(device)
    executor = Executor.of(network, how, device, batch_size)
    executor.network = network
    executor.assumed += _prepared(network)
    try:
        # Not in inference mode: no gradient could ever pass through weights that were created there.
        with torch.no_grad(), hooks.evaluating(network):
            images = executor.normalize(probes(how))
            plain, starved = None, False
            try:
                plain = _run(executor, images, classes, folding)
            except outputs.NoLogitsError:
                raise
            except RAISED as error:
                starved = isinstance(error, RuntimeError) and out_of_memory(error)
            # Here, past the except clause, what the failed pass held is free.
            if plain is None and not starved and _fed_otherwise(executor, images, how, classes):
                plain = _run(executor, images, classes, folding)
            if plain is None and not starved:
                _one_by_one(executor, images, classes)
                return examined(executor, how, name)
            plain = _run(executor, images[:1], classes, folding) if plain is None else plain
    except outputs.NoLogitsError as error:
        raise _no_logits(name, network, error) from error
    except RAISED as error:
        if isinstance(error, RuntimeError) and out_of_memory(error):
            raise executor.starved() from error
        raise _unfit(name, network, how, error) from error
    network = executor.network
    # A single convolution cuts patches for a transformer, which gains nothing; ConvNeXt neither gains nor loses.
    if sum(isinstance(part, nn.Conv2d) for part in network.modules()) > 1:
        executor.notes.append(_channels_last(executor, network, probes(how)[: len(plain)], plain))
    if precision != "float32":
        network.to(PRECISIONS[precision])
        executor.dtype = PRECISIONS[precision]
        try:
            with torch.inference_mode():
                gap = difference(executor.once(probes(how)[: len(plain)]), plain)
        except RuntimeError as error:
            found = f"{name} cannot be run in {precision}: {error}"
            raise CueError(found, wanted="a module without fixed float32 tensors", do="use float32") from error
        executor.notes.append(f"{precision}: logits of noise within {gap:.1e} of the largest in float32")
    examined(executor, how, name)
    if compile:
        executor.run, executor.fixed_batch = torch.compile(network), True
        executor.notes.append("compiled")
    return executor


def start_function(
    function: Function, how: Preprocessing, name: str, *, classes: int | None, device: torch.device, batch_size: int
) -> Executor:
    """An executor for a black box. Raises CueError as `start` does, and for what the function itself raises."""
    executor = Executor.of(function, how, device, batch_size)
    try:
        with torch.no_grad(), hooks.evaluating():
            images = executor.normalize(probes(how))
            try:
                executor.run = _read(executor, function, images, classes)
            except (CueError, outputs.NoLogitsError):
                raise
            except RAISED:
                way = inputs.found(function, images, how, classes)
                if way is None:
                    _one_by_one(executor, images, classes)
                else:
                    executor.assumed.append(way.note)
                    executor.run = _read(executor, _fed(function, way), images, classes)
    except outputs.NoLogitsError as error:
        raise _no_logits(name, None, error) from error
    except CueError:
        raise
    except RAISED as error:
        raise _unfit(name, function, how, error) from error
    return examined(executor, how, name)


def examined(executor: Executor, how: Preprocessing, name: str) -> Executor:
    """The executor with its `answers`, the same each time and whatever images stand beside. Else CueError."""
    images, allowed = probes(how), STEADY[executor.dtype]
    with torch.inference_mode():
        alone = executor.once(images[:1]).float().cpu()
    if alone.ndim == 1:
        _one_row(executor)
        alone = alone[None]
    with torch.inference_mode():
        both, again = (executor.batches(images, lambda x: (executor.once(x),))[0] for _ in range(2))
    executor.answers = both
    if len(both) > 1 and difference(both[1:], both[:1]) <= CONSTANT:
        executor.assumed.append("gives both images that it was tried on the same logits: it may not look at the image")
    change, sway = difference(again, both), difference(alone, both[:1])
    if max(change, sway) <= allowed:
        return executor
    if change > allowed:
        found = f"{name} answers the same image differently each time: its logits move by {_size(change)}"
        do = "switch off what is random, as in F.dropout(x, training=self.training)"
        raise CueError(found, wanted="a classifier that is a function of the image", do=do)
    if sway > SWAYED:
        found = f"the answer of {name} to an image depends on the other images of its batch: its logits move by "
        do = "use batch norms with running statistics, or run it one image at a time: --batch-size 1"
        raise CueError(f"{found}{_size(sway)}", wanted="an answer to each image for itself", do=do)
    executor.assumed.append(f"logits of an image move by up to {sway:.1%} with the other images of its batch")
    return executor


def _one_row(executor: Executor) -> None:
    """Give the logits of one image the axis of the batch again, which a network's squeeze took away too."""

    def row(logits: Tensor) -> Tensor:
        return logits[None] if logits.ndim == 1 else logits

    if executor.network is not None:
        hooks.changed(executor.network, output=row)
    else:
        run = executor.run
        executor.run = lambda images: row(run(images))
    executor.assumed.append("gives the logits of a single image without the axis of the batch: it is put back")


def _size(change: float) -> str:
    return f"{change:.0%} of the largest" if change < 1 else "as much as they are large"


def _prepared(network: nn.Module) -> list[str]:
    """Effective weights in float32; what was done."""
    notes = parametrizations.removed(network)
    kinds = {tensor.dtype for tensor in (*network.parameters(), *network.buffers()) if tensor.is_floating_point()}
    if others := sorted(str(kind).removeprefix("torch.") for kind in kinds - {torch.float32}):
        network.float()
        notes.append(f"weights in {', '.join(others)}, run in float32")
    return notes


def _run(executor: Executor, images: Tensor, classes: int | None, folding: bool) -> Tensor:
    """The logits of normalized images; from now on the network's output is its logits, whatever it was."""
    network = executor.network
    assert network is not None
    if any(isinstance(part, nn.Softmax | nn.Sigmoid) for part in network.modules()):
        executor.assumed += outputs.without_last(network, images)
    found: list[outputs.Reading] = []

    def logits(output: Any) -> Tensor:
        if not found:
            found.append(outputs.read(output, len(images), classes, outputs.origin_in(network, images)))
        return found[0](output)

    if folding and norms(network):
        plain, executor.folded, note = fold(network, images, logits)
        executor.notes += [note] if note else []
    else:
        plain = network(images)
    plain = logits(plain)
    executor.assumed += found[0].notes
    if not found[0].plain:
        hooks.changed(network, output=found[0])
    return plain


def _fed_otherwise(executor: Executor, images: Tensor, how: Preprocessing, classes: int | None) -> bool:
    """Whether the network takes its images in another way than the usual one: from now on it is given them so."""
    network = executor.network
    assert network is not None
    way = inputs.found(network, images, how, classes)
    if way is None and any(HALF in note for note in executor.assumed):
        # It casts its input to the precision of its weights itself.
        network.half()
        if (way := inputs.found(network, images, how, classes)) is not None:
            executor.assumed = [note.replace(HALF, "weights in float16") for note in executor.assumed]
    if way is None:
        network.float()
        return False
    hooks.changed(network, image=way.change)
    executor.assumed.append(way.note)
    if not way.differentiable:
        network.differentiable = False  # pyright: ignore[reportArgumentType]
    return True


def _fed(function: Function, way: inputs.Way) -> Function:
    return lambda images: function(way.change(images))


def _channels_last(executor: Executor, network: nn.Module, images: Tensor, plain: Tensor) -> str:
    """Lay weights and images out channels-last, unless the network cannot be run so or gives other logits; a note."""
    executor.channels_last = True
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    try:
        with torch.inference_mode():
            gap = difference(executor.once(images), plain)
        why = "" if gap <= STEADY[torch.float32] else f"its logits would move by {_size(gap)}"
    except RAISED as error:  # a module's own code, which may look at how a tensor lies in memory
        why = f"it cannot be run so: {type(error).__name__}"
    if not why:
        return "channels-last"
    executor.channels_last = False
    network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    return f"not channels-last: {why}"


def _one_by_one(executor: Executor, images: Tensor, classes: int | None) -> None:
    """Run it on one image at a time, as a black box: it takes no two."""
    one = _read(executor, executor.run, images[:1], classes)
    executor.run = lambda x: torch.cat([one(x[i : i + 1]) for i in range(len(x))])
    executor.network = None
    executor.assumed.append("takes one image at a time: run as a black box")


def _read(executor: Executor, function: Function, images: Tensor, classes: int | None) -> Function:
    """The function, its output for these images read as logits."""
    output, count = function(images), len(images)
    reading = outputs.read(output, count, classes, outputs.origin_in(function, images))
    executor.assumed += reading.notes
    return function if reading.plain and isinstance(output, Tensor) else lambda x: reading(function(x))


def _evaluated(network: nn.Module) -> None:
    """Put it into evaluation mode for good, also where its `train` is code of its own that does not do it."""
    with suppress(*RAISED):
        network.eval()
    for module in network.modules():
        module.training = False


def _copied(module: nn.Module, name: str) -> nn.Module:
    try:
        return copy.deepcopy(module, parametrizations.computed(module))
    except RAISED as error:
        do = "give a factory instead, as in file.py:make_model, or owned=True"
        found = f"{name} cannot be copied: {type(error).__name__}: {error}"
        raise CueError(found, wanted="a module that copy.deepcopy can copy", do=do) from error


def _no_logits(name: str, network: nn.Module | None, why: outputs.NoLogitsError) -> CueError:
    state = network.state_dict().items() if network is not None else ()
    tensors = {key: tensor for key, tensor in state if isinstance(tensor, Tensor) and tensor.is_floating_point()}
    found = f"{name} gives no logits of classes: {why}"
    do = why.do
    if broken := [key for key, tensor in tensors.items() if tensor.isnan().any()]:
        found, do = f"{found}; NaN stands in its {', '.join(broken[:3])}", "mend the weights"
    return CueError(found, wanted="logits (B, K) of K classes", do=do)


def _unfit(name: str, run: Function, how: Preprocessing, error: BaseException) -> CueError:
    wanted = "a module that takes normalized images (B, 3, H, W) and gives logits (B, K)"
    raised = f"{type(error).__name__}: {error}"
    if (why := signatures.why_not(run)) is not None:
        return CueError(f"{name} cannot be run on images: {why.found}; {raised}", wanted=wanted, do=why.do)
    return CueError(
        f"{name} cannot be run on images of {how.size[0]} x {how.size[1]} px: {raised}",
        wanted=wanted,
        do="give another size (--size, in Python preprocessing=Preprocessing(size=...)), or mend the module",
    )
