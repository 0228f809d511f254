"""Down from a unit to the pixels: what in this image excited it?

The deconvnet of Zeiler & Fergus 2014 (section 2.1) is the network's backward pass with other rules at its rectifiers
and normalizations, so it runs on the network's own code, with reused modules and in-place ReLUs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.methods.deconvnet.rules import VARIANTS, Backward, Variant, foreign
from cuescope.network import hooks
from cuescope.network.receptive import WHOLE

__all__ = ["CHOICES", "VARIANTS", "Variant", "project", "visible", "why_not"]

BATCH = 9
"""Images on the way down together, whose maps are all held: the nine of a unit."""

CHOICES = (
    "a max pool's switches send each value back to the place of its maximum; values that meet there are added",
    "rectifiers rectify the signal on its way down too; the ceiling of a ReLU6 is not a rectifier of its own",
    "at a sum, as in a residual block, the signal goes down every branch unchanged",
    "a batch norm is part of the filters before it; other normalizations are passed unchanged but for their scale",
    "biases are left out",
)
"""What the paper leaves open, or has no word on, as it is done here."""


class Projections(NamedTuple):
    """Of one unit an image: `maps` (B, 3, H, W), what of the normalized image excites it; float32 on the CPU.

    `values` are the units' activations, `rows` and `columns` their places on the layer's map; (B,) each.
    """

    maps: Tensor
    values: Tensor
    rows: Tensor
    columns: Tensor


def project(
    classifier: Classifier,
    pixels: Tensor,
    layer: str,
    channels: Sequence[int],
    *,
    places: Sequence[tuple[int, int]] | None = None,
    variant: Variant = "deconvnet",
) -> Projections:
    """What in each image excites this unit of a layer? The unit's activation alone, sent down to the pixels.

    `pixels` is (B, 3, H, W) in [0, 1] as `Classifier.prepare` gives them, `layer` one of the classifier's `layers` or
    `vectors`; image i shows channel `channels[i]`, at `places[i]` = (row, column) or where that channel is strongest.
    The deconvnet starts from the activation itself, guided backpropagation (Springenberg et al. 2015) and the gradient
    (Simonyan et al. 2014) from 1.

    Raises CueError for a black box, an unknown layer or channel, and, unless the plain gradient is asked for, for a
    layer below which there is anything but linear operations, rectifiers, pools and normalizations.

    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.ReLU(), torch.nn.Flatten())
    >>> from cuescope.data.preprocessing import Preprocessing
    >>> found = project(Classifier(net, preprocessing=Preprocessing((8, 8), 8)), torch.rand(2, 3, 8, 8), "1", [0, 4])
    >>> found.maps.shape, found.values.shape
    (torch.Size([2, 3, 8, 8]), torch.Size([2]))
    """
    if len(channels) != len(pixels) or (places is not None and len(places) != len(pixels)):
        raise ValueError(f"{len(pixels)} images need as many channels and places, one each")
    if not len(pixels):
        none = torch.zeros(0)
        return Projections(torch.zeros(0, *pixels.shape[1:]), none, none.long(), none.long())

    def down(start: int, stop: int) -> Projections:
        spots = None if places is None else places[start:stop]
        return _down(classifier, pixels[start:stop], layer, channels[start:stop], spots, variant)

    return Projections(*classifier.executor.parts(len(pixels), down, BATCH, gradients=True))


def why_not(classifier: Classifier, layer: str, variant: Variant = "deconvnet") -> str:
    """Why there is no such projection from this layer, or "" where there is one."""
    height, width = classifier.preprocessing.size
    try:
        project(classifier, torch.full((1, 3, height, width), 0.5), layer, [0], variant=variant)
    except CueError as error:
        return error.found
    return ""


def visible(
    classifier: Classifier, layer: str, places: Sequence[tuple[int, int]], pixels: Tensor
) -> list[tuple[slice, slice, slice]]:
    """What each place (row, column) of a layer's map can see of images (..., 3, H, W): an index into (3, H, W) each."""
    field, size = classifier.receptive_fields.get(layer, WHOLE), (pixels.shape[-2], pixels.shape[-1])
    windows = [field.window(row, column, size) for row, column in places]
    return [(slice(None), slice(top, bottom), slice(left, right)) for top, left, bottom, right in windows]


def _down(
    classifier: Classifier,
    pixels: Tensor,
    layer: str,
    channels: Sequence[int],
    places: Sequence[tuple[int, int]] | None,
    variant: Variant,
) -> Projections:
    image, maps = _up(classifier, pixels, layer, variant)
    if variant != "gradient" and (others := foreign(maps)):
        without = f"below it there is {', '.join(others[:3])}, which it has no rule for"
        raise CueError(
            f"{classifier.name} has no {variant} at layer '{layer}': {without}",
            wanted="a network of linear layers, ReLUs, pools and normalizations",
            do="ask for the variant 'gradient', or for a layer below",
        )
    if wrong := [k for k in channels if not 0 <= k < maps.shape[1]]:
        found = f"layer '{layer}' of {classifier.name} has no channel {wrong[0]}"
        raise CueError(found, wanted=f"0 to {maps.shape[1] - 1}", do="choose another")
    at = torch.arange(len(maps), device=maps.device), torch.as_tensor(channels, device=maps.device)
    chosen = maps.detach()[at]
    if places is None:
        spot = chosen.flatten(1).argmax(1)
        rows, columns = spot // chosen.shape[2], spot % chosen.shape[2]
    else:
        rows, columns = torch.tensor(places, device=maps.device).T
    values = chosen[at[0], rows, columns]
    seed = torch.zeros_like(maps, memory_format=torch.preserve_format)
    seed[*at, rows, columns] = values if variant == "deconvnet" else torch.ones_like(values)
    # What no pixel reaches, a unit of a constant layer, say, is excited by none of them.
    with hooks.evaluating():
        (down,) = torch.autograd.grad(maps, image, seed, materialize_grads=True, allow_unused=True)
    return Projections(*(t.detach().cpu() for t in (down.float(), values.float(), rows, columns)))


def _up(classifier: Classifier, pixels: Tensor, layer: str, variant: Variant) -> tuple[Tensor, Tensor]:
    """The normalized images, and the layer's maps with the variant's way down."""
    network, where = classifier.network, classifier.layer(layer)
    assert network is not None
    # Not in inference mode, whose tensors have no way down.
    with torch.inference_mode(False), torch.enable_grad(), hooks.evaluating(network):
        image = classifier.normalize(pixels.detach().clone()).requires_grad_()
        with Backward(variant):
            # A copy: the network may write to what it is given.
            maps = hooks.capture(network, image.clone(), [where])[layer]
    return image, maps
