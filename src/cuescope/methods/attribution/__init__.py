"""Heatmaps of what speaks for a class: gradients, integrated gradients, DeepLift and Grad-CAM, by captum."""

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.methods.attribution.rescale import rescalable
from cuescope.methods.incremental.graph import UntraceableError
from cuescope.network import hooks
from cuescope.network.batchnorm_folding import tensor_of
from cuescope.network.executor import out_of_memory

KINDS = ("saliency", "integrated gradients", "DeepLift", "Grad-CAM")
"""The heatmaps of `Attributions`. The first and the last are never negative."""

INTERNAL_BATCH = 8
"""Steps of integrated gradients that go through the network together."""


@dataclass(frozen=True, eq=False)
class Attributions:
    """Heatmaps of what speaks for a class, by each of `KINDS`, and what of the network they all need.

    The absolute gradient (Simonyan et al. 2014); integrated gradients (Sundararajan et al. 2017) and DeepLift by its
    rescale rule (Shrikumar et al. 2017), both against an image of the classifier's mean pixel; Grad-CAM at the last
    convolutional map (Selvaraju et al. 2017), stretched over the image.
    """

    classifier: Classifier
    network: nn.Module
    plain: nn.Module
    rescalable: nn.Module | str
    """As DeepLift needs it, or why it cannot be had."""
    last_map: nn.Module | str
    """The layer whose output is the last convolutional map, or why there is none."""

    @classmethod
    def of(cls, classifier: Classifier) -> "Attributions":
        """Raises CueError for a black box."""
        network = classifier.torch_network("gradients")
        try:
            with hooks.evaluating(network):
                ready: nn.Module | str = _Logits(rescalable(network))
        except UntraceableError as error:
            ready = str(error)
        last = classifier.layer(classifier.layers[-1]) if classifier.layers else None
        fits = last is not None and last.layout == "NCHW" and last.intermediate is None
        last_map = network.get_submodule(last.name) if last and fits else "its last map is not a convolutional one"
        return cls(classifier, network, _Logits(network), ready, last_map)

    def maps(self, pixels: Tensor, target: int, steps: int) -> dict[str, Tensor | str]:
        """Which pixels speak for a class? A map (H, W) float32 on the CPU for each kind, or why there is none.

        `pixels` is (3, H, W) in [0, 1] as `Classifier.prepare` gives them, `target` a class, `steps` those of
        integrated gradients. Each map is summed over the colors.
        """
        with hooks.evaluating(self.network), warnings.catch_warnings():
            # captum warns of each hook it sets, and its import of what it could not import; that takes seconds.
            warnings.simplefilter("ignore")
            from captum import attr

            image = self.classifier.normalize(pixels[None]).detach()
            fitted = functools.partial(self.classifier.executor.fitted, gradients=True)
            with torch.enable_grad():

                def ask(method: Any, **settings: Any) -> Tensor:
                    found = method.attribute(image.clone().requires_grad_(), target=target, **settings)
                    return found[0].detach().float().cpu()

                def integrated(at_once: int) -> Tensor:
                    return ask(attr.IntegratedGradients(self.plain), n_steps=steps, internal_batch_size=at_once)

                ways: dict[str, tuple[nn.Module | str, Callable[[Any], Tensor]]] = {
                    "DeepLift": (self.rescalable, lambda net: ask(attr.DeepLift(net)).sum(0)),
                    "Grad-CAM": (self.last_map, lambda layer: _grad_cam(attr, self.plain, layer, ask, pixels)),
                }
                return {
                    "saliency": fitted(lambda _: ask(attr.Saliency(self.plain)).sum(0), 1)[0],
                    "integrated gradients": fitted(integrated, INTERNAL_BATCH)[0].sum(0),
                    **{kind: fitted(lambda _, way=way: _attempt(*way), 1)[0] for kind, way in ways.items()},
                }


class _Logits(nn.Module):
    """A network whose output is nothing but its logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return tensor_of(self.network(pixels)).float()


def _attempt(subject: nn.Module | str, run: Any) -> Tensor | str:
    if isinstance(subject, str):
        return subject
    try:
        return run(subject)
    except Exception as error:  # captum's hooks meet networks of any kind
        if isinstance(error, RuntimeError) and out_of_memory(error):
            raise
        return f"captum cannot: {type(error).__name__}: {error}"


def _grad_cam(attr: Any, network: nn.Module, layer: nn.Module, ask: Any, pixels: Tensor) -> Tensor:
    small = ask(attr.LayerGradCam(network, layer), relu_attributions=True)
    return F.interpolate(small[None], pixels.shape[-2:], mode="bilinear")[0, 0]
