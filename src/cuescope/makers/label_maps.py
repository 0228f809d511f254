"""Label maps: what each part of an image shows, as a classifier has it, for training and for correcting labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, Sample
from cuescope.data.label_maps import (
    FILE,
    Header,
    PublishedLabelMaps,
    label_map_bytes,
    open_label_maps,
    pack_label_maps,
    published_bytes,
)
from cuescope.data.label_maps.corrected import relabel, write_relabeled
from cuescope.data.label_maps.layout import Arrays
from cuescope.data.preprocessing import covering, resize
from cuescope.makers.base import Maker, OneEach, Output, Piece, Tools, Work, alike, at_least
from cuescope.makers.output_folder import PARTS
from cuescope.methods.patch_annotator import Annotator

SHARD = 32
"""Images whose maps are made and written together; always the same ones, so that their company never changes."""
INTERPOLATION = "bilinear"
"""As in the authors' code, whatever the annotator's own evaluation takes."""


@dataclass(frozen=True)
class LabelMaps(Maker):
    """The k highest logits of an annotator at each position of each image, as they are, without a softmax."""

    what: ClassVar[str] = "label maps: the classes that each part of an image shows, and corrected labels of the images"
    reference: ClassVar[str] = "Yun et al. 2021, Re-labeling ImageNet, section 3.1"
    version: ClassVar[int] = 1

    model: str = ""
    """The annotator, as in timm/resnet50.a1_in1k: a network that averages its last map, or its patch tokens."""
    k: int = 5
    """Classes kept at each position, the highest first. The paper keeps 5."""
    size_px: int | None = None
    """Side of the annotator's input; its own size by default. The paper's annotator sees 475 px."""
    keep_aspect: bool = False
    """Resize the short side only, in place of squashing the image to the annotator's input as the paper does."""
    layout: Literal["indexed", "published"] = "indexed"
    """One indexed file for all images, or the paper's: a .pt file of float32 for each."""
    bits: int = 8
    """Of a score in the indexed file: 8 or 16, between the lowest and the highest of its map and rank."""
    axes: Literal["yx", "xy"] = "yx"
    """Of the published layout: rows first, or columns first, as the authors' own pooling takes them."""

    def __post_init__(self) -> None:
        at_least(1, k=self.k, size_px=self.size_px)
        if self.bits not in (8, 16):
            raise CueError(f"bits is {self.bits}", wanted="8 or 16", do="correct bits")

    def start(self, images: ImageSet, tools: Tools) -> "_Annotating":
        if not self.model:
            do = "give --model, as in --model timm/resnet50.a1_in1k"
            raise CueError("no annotator", wanted="a classifier that says what the parts show", do=do)
        return _Annotating(self, Annotator.of(tools.load(self.model)), images, tools.device)


class _Annotating(Work):
    """LabelMaps, ready to run: the annotator is loaded and was tried on images of the sizes to come."""

    outputs = "label maps"
    labeled = False

    def __init__(self, how: LabelMaps, annotator: Annotator, images: ImageSet, device: torch.device) -> None:
        self.how, self.annotator, self.images, self.device = how, annotator, images, device
        classifier = annotator.classifier
        self.size = classifier.preprocessing.size if how.size_px is None else (how.size_px, how.size_px)
        self._try(classifier)
        self.about = {
            "annotator": {"name": classifier.name, "digest": classifier.digest, "classes": classifier.classes.name},
            "input": {"size": list(self.size), "interpolation": INTERPOLATION},
            "positions": annotator.description,
        }
        self.header = self._header(classifier)
        self.indexed = how.layout == "indexed"
        if self.indexed:
            starts = range(0, len(images), SHARD)
            name = f"{PARTS}/{{:07d}}.safetensors"
            self.pieces = [Piece(at, name.format(at // SHARD), min(SHARD, len(images) - at)) for at in starts]
            self.result = FILE
        else:
            self.pieces, self.batch = OneEach(images, ".pt"), SHARD

    def make(self, pieces: Sequence[Piece], samples: Sequence[Sample]) -> list[Output]:
        maps = self._maps(samples)
        if self.indexed:
            named = ((sample.id, scores, ids) for sample, (scores, ids) in zip(samples, maps, strict=True))
            return [Output(label_map_bytes(self.header, named), {})]
        return [Output(published_bytes(scores, ids, axes=self.how.axes), {}) for scores, ids in maps]

    def finish(self, folder: Path, entries: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]] | None:
        if not entries:
            found = f"no image of {self.images.name} could be read"
            raise CueError(found, wanted="images", do="see skipped.csv, or choose other images")
        classes = self.annotator.classifier.classes
        if not self.indexed:
            maps = PublishedLabelMaps(folder, axes=self.how.axes, classes=classes)
            write_relabeled(folder, relabel(maps, self.images, without={s.id for s in self.skipped}))
            return None
        if [entry["file"] for entry in entries] != [FILE]:
            pack_label_maps(folder / FILE, [folder / entry["file"] for entry in entries])
        packed = open_label_maps(folder / FILE)
        write_relabeled(folder, relabel(packed, self.images))
        return [{"file": FILE, "images": len(packed)}]

    def _maps(self, samples: Sequence[Sample]) -> list[Arrays]:
        maps: dict[int, Arrays] = {}
        images = {i: self.frame(sample) for i, sample in enumerate(samples)}
        for which in alike(images):
            pixels = torch.stack([images[i] for i in which]).to(self.device).float() / 255
            top = self.annotator.logits(pixels).topk(self.how.k, 1)
            maps |= {i: (top.values[j].numpy(), top.indices[j].numpy()) for j, i in enumerate(which)}
        return [maps[i] for i in range(len(samples))]

    def frame(self, sample: Sample) -> Tensor:
        """(3, H, W) uint8: the whole image, squashed or with its aspect."""
        pixels = np.ascontiguousarray(sample.pixels.permute(1, 2, 0).numpy())
        shape = covering((pixels.shape[0], pixels.shape[1]), min(self.size)) if self.how.keep_aspect else self.size
        return torch.from_numpy(np.array(resize(pixels, shape, INTERPOLATION))).permute(2, 0, 1)

    def _try(self, classifier: Classifier) -> None:
        """Raises now what would be raised after an hour."""
        high, wide = self.size
        shapes = [(high, wide), (high, wide * 3 // 2)] if self.how.keep_aspect else [(high, wide)]
        for shape in shapes:
            try:
                self.annotator.logits(torch.zeros(1, 3, *shape, device=self.device))
            except Exception as error:  # a network's own code meets a size that it was not made for
                own = "{} x {}".format(*classifier.preprocessing.size)
                line = (str(error).splitlines() or [""])[0][:120]
                found = f"{classifier.name} cannot annotate images of {shape[0]} x {shape[1]} px ({line})"
                wanted = f"a size that it takes, such as its own {own} px"
                do = "leave out --size-px and --keep-aspect, or choose another annotator"
                raise CueError(found, wanted=wanted, do=do) from error

    def _header(self, classifier: Classifier) -> Header:
        framing = "aspect kept" if self.how.keep_aspect else "squashed"
        names = (self.images.name, self.images.digest, classifier.name, classifier.digest)
        try:
            return Header(classifier.classes, self.how.k, self.how.bits, *names, framing=framing, about=self.about)
        except ValueError as error:
            raise CueError(f"{classifier.name}: {error}", wanted="other parameters", do="correct them") from None
