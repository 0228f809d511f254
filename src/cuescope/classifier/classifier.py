"""A classifier: what turns pixels into logits. It owns its resize, crop, normalization, device and precision."""

import copy
import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cuescope.classifier import output_classes
from cuescope.classifier.layers import Layers, Watch, peak
from cuescope.core.classes import ClassSpace, misfit, read_classes
from cuescope.core.errors import CueError, unknown
from cuescope.data.images import Batch, Sample
from cuescope.data.preprocessing import Preprocessing, frame
from cuescope.network import identity, own_steps, wrappers
from cuescope.network.dense import Dense, NoDenseError, find
from cuescope.network.executor import PRECISIONS, Function, find_device, trial
from cuescope.network.hooks import Layer
from cuescope.network.receptive import Field
from cuescope.network.trial import start, start_function

__all__ = ["Classifier", "Preprocessing", "Watch", "peak"]

T = TypeVar("T")
Classes = ClassSpace | Sequence[str] | str | Path


class Classifier:
    """What are the logits of these images, and what do the layers and the patches see on the way?

    `module` is an nn.Module that takes normalized images (B, 3, H, W) and gives logits (B, K), or any function
    that does so (a black box, without layers and gradients). `classes` names the K classes: a ClassSpace, a
    list of names, "imagenet-1k" or a text or JSON file; without it they are numbered, or ImageNet's for a
    network of timm, torchvision or cuescope with 1,000 outputs. Without `preprocessing` it is ImageNet's usual one.

    The module is left as it is: a private copy in evaluation mode runs, with its batch norms folded, channels-last
    and on `device` where that helps (see `notes`). `owned=True` gives the module away instead and saves the copy.
    `fold=False` keeps every layer's weights and output as they were trained. `precision` is "float32" or "bfloat16"
    (weights and activations; logits are always float32). `batch_size` is the most images in one pass, on a CPU at
    most 8, or 16 small ones. `code` is a hash of the file that the module comes from. What was assumed of its outputs
    (network/outputs.py) or done to run it stands in `notes`.

    Raises CueError for classes that do not fit, an unknown device or precision, a module that cannot be copied or
    run on images of the input size, that gives no logits, and whose answer to an image is random or depends on others.

    >>> net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> toy = Classifier(net, classes=["red", "green", "blue"], preprocessing=Preprocessing((8, 8), 8))
    >>> toy.logits(torch.rand(5, 3, 8, 8)).shape, sorted(toy.capabilities)
    (torch.Size([5, 3]), ['dense_logits', 'features', 'gradients', 'logits'])
    """

    def __init__(
        self,
        module: nn.Module | Function,
        *,
        classes: Classes | None = None,
        preprocessing: Preprocessing | None = None,
        name: str = "",
        device: str | torch.device = "auto",
        precision: str = "float32",
        batch_size: int = 32,
        compile: bool = False,
        fold: bool = True,
        owned: bool = False,
        notes: Sequence[str] = (),
        code: str = "",
    ) -> None:
        if batch_size < 1:
            raise CueError(f"batch size {batch_size}", wanted="at least 1", do="correct it")
        self.device, self.precision = find_device(device), precision
        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        self.name = name or getattr(module, "__name__", type(module).__name__)
        space = None if classes is None else read_classes(classes)
        module, wrapped = wrappers.unwrapped(module)
        self.preprocessing = preprocessing or wrappers.assumed(module)
        how: dict[str, Any] = {"classes": len(space) if space else None, "device": self.device}
        if isinstance(module, nn.Module):
            if space is None and wrappers.headless(wrappers.core(module)):
                do = "load it with its head, or name what its outputs stand for with classes="
                raise CueError(f"{self.name} has no head: it gives features", wanted="a classifier", do=do)
            self.module: nn.Module | None = module
            self.parameters: int | None = sum(p.numel() for p in module.parameters())
            core = identity.of_module(module)
            how |= {"precision": precision, "owned": owned, "compile": compile, "folding": fold}
            self.executor = start(module, self.preprocessing, self.name, batch_size=batch_size, **how)
        else:
            core, self.parameters, self.module = identity.of_function(module), None, None
            self.executor = start_function(module, self.preprocessing, self.name, batch_size=batch_size, **how)
        self.executor.assumed[:0] = [*notes, *wrapped, *own_steps.twice(module, self.preprocessing)]
        self._known: dict[Any, Any] = {}
        self.classes, guessed = output_classes.of(self.name, space, self.answers.shape[1], module)
        self.executor.assumed += guessed
        settings = [precision, f"folded {bool(self.executor.folded)}", f"compiled {compile}", self.device.type, code]
        self.digest = identity.digest(core, self.preprocessing, self.classes, settings)
        self._given: dict[str, Any] = {
            **{"module": module, "classes": self.classes, "preprocessing": self.preprocessing, "name": self.name},
            **{"device": self.device, "precision": precision, "batch_size": batch_size, "compile": compile},
            **{"fold": fold, "owned": owned, "notes": notes, "code": code},
        }

    def under(self, **settings: Any) -> "Classifier":
        """The same under other arguments of `Classifier`: a new one, or itself where none differs.

        Raises CueError where its module was given away (`owned`) and so is no longer as it was given.
        """
        if "device" in settings:
            settings["device"] = find_device(settings["device"])
        if settings.get("classes") is not None:
            settings["classes"] = read_classes(settings["classes"])
        other = {key: value for key, value in settings.items() if value != self._given[key]}
        if other.keys() <= {"name"}:
            renamed = copy.copy(self) if other else self
            if other:
                vars(renamed).pop("_layers", None)
                renamed.name = other["name"]
            return renamed
        if self._given["owned"] and self.module is not None:
            found = f"{self.name} owns its network, which cannot be prepared anew with other {', '.join(other)}"
            raise CueError(found, wanted="the name or the module it was made of", do="load that with these settings")
        return Classifier(**{**self._given, **other})

    @property
    def capabilities(self) -> frozenset[str]:
        """What can be asked of it, of "logits", "features", "gradients", "dense_logits", "patch_logits" and "words"."""
        network = self.executor.network
        found = {"logits"} | {name for name in ("patch_logits", "words") if callable(getattr(network, name, None))}
        found |= {"dense_logits"} if self.dense else set()
        inside = network is not None and getattr(network, "differentiable", True)
        return frozenset(found | ({"features", "gradients"} if inside else set()))

    @property
    def network(self) -> nn.Module | None:
        """The private copy that runs on what `normalize` gives: never to be changed; None for a black box."""
        return self.executor.network

    @property
    def batch_size(self) -> int:
        """The most images in one pass; it falls where memory does not suffice."""
        return self.executor.batch_size

    @property
    def answers(self) -> Tensor:
        """(2, K) logits of two images of noise, as when it was made: those of another classifier differ."""
        return self.executor.answers

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the network to run it, and what was assumed of it."""
        return (*self.executor.assumed, *self.executor.notes)

    @property
    def assumed(self) -> tuple[str, ...]:
        """What was taken of it that is not certain: of its preprocessing, its outputs, its classes."""
        source = self.preprocessing.source
        found = [f"preprocessing: {source}"] if "assumed" in source else []
        found += ["photographs are black beyond what they are resized to"] if self.preprocessing.black else []
        return (*found, *self.executor.assumed)

    def prepare(self, samples: Sequence[Sample]) -> Tensor:
        """Decoded images of any size as (B, 3, H, W) float32 in [0, 1] on the device, not normalized yet.

        A photograph is resized and center-cropped as torchvision and timm do, bit for bit; a stimulus is only resized.
        """
        pixels = self.executor.upload(frame(samples, self.preprocessing))
        return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)

    def logits(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, K) float32 on the CPU, in batches that fit the device's memory."""
        if not len(pixels):
            return torch.zeros(0, len(self.classes))
        logits = self._all(pixels)
        if logits.shape != (len(pixels), len(self.classes)):
            raise misfit(self.name, str(tuple(logits.shape[1:])), self.classes)
        return logits

    def see(self, samples: Sequence[Sample], labels: Sequence[int] | None = None, watch: Sequence[Watch] = ()) -> Batch:
        """Images with pixels, clean logits and what `watch` keeps; `labels` index its own classes, -1 for none."""
        pixels = self.prepare(samples)
        known = torch.full((len(samples),), -1) if labels is None else torch.as_tensor(list(labels), dtype=torch.long)
        if not watch or not samples:
            return Batch(tuple(samples), pixels, self.logits(pixels), known)
        logits, kept = self._layers.watch(pixels, watch)
        return Batch(tuple(samples), pixels, logits, known, watched=kept)

    def watch(self, batch: Batch, wanted: Sequence[Watch]) -> Mapping[Watch, Tensor]:
        """What these reductions keep of their layers: from the batch where it was watched, else in one more pass.

        A Watch is a layer's name and a function from its maps (B, C, h, w), on the device, to a tensor (B, ...),
        which is kept as float32 on the CPU. Raises CueError for an unknown layer, with the nearest names.
        """
        missing = [watch for watch in dict.fromkeys(wanted) if watch not in batch.watched]
        found = {**batch.watched, **(self._layers.watch(batch.pixels, missing)[1] if missing else {})}
        return {watch: found[watch] for watch in wanted}

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, K) in one pass on the device, with gradients. CueError for a black box."""
        return self.executor.once(pixels, self.torch_network("gradients")).float()

    def normalize(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] as the module takes them: less the mean, by the std, in its precision."""
        return self.executor.normalize(pixels)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that give maps over the image, in the order they are computed; none for a black box."""
        return tuple(self._layers.maps) if self.network is not None else ()

    @property
    def vectors(self) -> tuple[str, ...]:
        """The layers after the last map that give one vector an image, in their order; the last is the answer."""
        return tuple(self._layers.vectors) if self.network is not None else ()

    def stages(self, wanted: Sequence[str] = ()) -> tuple[str, ...]:
        """These layers, or by default the last of each map size, at most five, from fine to coarse.

        Raises CueError for an unknown layer, with the nearest names, and for a black box.
        """
        return tuple(dict.fromkeys(self.layer(name).name for name in wanted)) or self._layers.stages

    @property
    def last_layer(self) -> str:
        """The layer that gives the logits. Raises CueError for a black box."""
        return self._layers.last

    def layer(self, name: str) -> Layer:
        """What is known of one of the `layers` or `vectors`. Raises CueError with the nearest names."""
        return self._layers.find(name)

    def features(self, pixels: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
        """What do these layers give for the pixels? Maps {name: (B, C, h, w) float32 on the CPU}.

        Channels come first whatever the network's own layout; class and register tokens are left out; one of the
        `vectors` gives (B, C, 1, 1). The network runs no farther than the last of them. Raises CueError for an
        unknown layer, with the nearest names.

        >>> net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> Classifier(net, preprocessing=Preprocessing((8, 8), 8)).features(torch.rand(2, 3, 8, 8), ["1"])["1"].shape
        torch.Size([2, 5, 6, 6])
        """
        return self._layers.features(pixels, layers)

    @property
    def receptive_fields(self) -> Mapping[str, Field]:
        """Which pixels can reach one position of each of the `layers`? Raises CueError for a black box."""
        return self._layers.fields

    def known(self, key: Hashable, find: Callable[[], T]) -> T:
        """What `find` finds out about this classifier, found once for each key."""
        if key not in self._known:
            self._known[key] = find()
        return self._known[key]

    def torch_network(self, what: str) -> nn.Module:
        """The network, for `what` it is needed for. Raises CueError for a black box."""
        if self.executor.network is None:
            do = "give the network itself, as an nn.Module or file.py:factory"
            raise CueError(f"{self.name} is a black box without {what}", wanted="a torch network", do=do)
        return self.executor.network

    @property
    def dense(self) -> Dense | None:
        """What its logits at each position are worth, or None: `why_not_dense` says why. Tried once, when asked."""
        return found if isinstance(found := self.known("dense", self._find_dense), Dense) else None

    @property
    def why_not_dense(self) -> str:
        """Why it has no `dense_logits`, to stand after "it has no dense head:"; "" where it has them."""
        return found if isinstance(found := self.known("dense", self._find_dense), str) else ""

    def dense_logits(self, pixels: Tensor) -> Tensor:
        """(B, K, h, w) float32 on the CPU: the logits at each position of the map that the head averages.

        They are those of patches only where `dense.local` says so, and add up only where `dense.additive` does (class
        activation, Zhou et al. 2016, section 2). Raises CueError for a network whose head averages no map.
        """
        network, dense = self.torch_network("dense logits"), self.dense
        if dense is None:
            found = f"{self.name} has no dense head: {self.why_not_dense}"
            raise CueError(found, wanted="a network that averages its last map, as ResNets do", do="choose another")
        if not len(pixels):
            return torch.zeros(0, len(self.classes), *dense.size)
        return self._all(pixels, functools.partial(dense.run, network))

    def patch_logits(self, pixels: Tensor) -> Tensor:
        """(B, K, h, w) float32 on the CPU: the logits of each patch, whose mean over the map are the logits.

        Raises CueError where the network's head does not average the logits of patches.
        """
        return self._all(pixels, self._own("patch_logits", "patch logits", "a BagNet"))

    def words(self, pixels: Tensor) -> Tensor:
        """(B, h, w) int64 on the CPU: the visual word of each patch, on the map of `patch_logits`.

        Raises CueError where the network does not sort patches into words.
        """
        run = self._own("words", "visual words", "a bag of words, which `cuescope train bow` makes")
        return self._all(pixels, run).long()

    def display_logits(self, pixels: Tensor, targets: Sequence[int]) -> Tensor:
        """(B, H, W) float32 on the CPU: at every pixel the logit of each image's target class from the patch about it.

        The display heatmap of Brendel & Bethge 2019: patches at stride 1 with zeros beyond the border of the normalized
        image; `patch_logits` is what adds up to the answer. Raises CueError for a network other than a BagNet.
        """
        run = self._own("display_logits", "display heatmap", "a BagNet")
        pairs = zip(pixels, targets, strict=True)
        maps = [self._all(image[None], functools.partial(run, targets=[k])) for image, k in pairs]
        return torch.cat(maps) if maps else pixels.new_zeros(pixels[:, 0].shape)

    @property
    def patch_geometry(self) -> tuple[int, int]:
        """Side of a patch and distance of neighboring patches in px, for `patch_logits`. Raises CueError without."""
        network = self.torch_network("patches")
        field, stride = (getattr(network, name, None) for name in ("receptive_field_px", "stride_px"))
        if not isinstance(field, int) or not isinstance(stride, int):
            wanted = "the attributes receptive_field_px and stride_px on its module"
            raise CueError(f"the patches of {self.name} have no known size", wanted=wanted, do="add them")
        return field, stride

    def _find_dense(self) -> Dense | str:
        if self.executor.network is None:
            return "it is a black box without layers"
        try:
            return find(self.executor.network, self.executor.normalize(trial(self.preprocessing, 2)))
        except NoDenseError as error:
            return str(error)

    def _all(self, pixels: Tensor, run: Function | None = None) -> Tensor:
        return self.executor.batches(pixels, lambda part: (self.executor.once(part, run),))[0]

    def _own(self, method: str, what: str, wanted: str) -> Any:
        """Something that only some networks can do. Raises CueError for the others."""
        function = getattr(self.torch_network(what), method, None)
        if function is None:
            raise CueError(f"{self.name} has no {what}", wanted=wanted, do="see `cuescope list models`")
        return function

    def __repr__(self) -> str:
        return f"<Classifier {self.name}: {len(self.classes)} classes, {self.precision} on {self.device}>"

    @cached_property
    def _layers(self) -> Layers:
        return Layers(self.name, self.torch_network("layers"), self.executor, self.preprocessing)
