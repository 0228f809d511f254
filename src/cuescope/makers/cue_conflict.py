"""Images of one class's shape in another's texture: a cue-conflict set, of anyone's own classes."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from cuescope.core.class_names import folded
from cuescope.core.errors import CueError
from cuescope.core.seeds import seed_of
from cuescope.data.images import ImageSet, Sample, Skipped
from cuescope.data.ops.convert import as_bytes
from cuescope.data.ops.encode import encoded
from cuescope.makers.base import SIDE_PX, Maker, Output, Piece, Tools, Work, at_least, listed, share
from cuescope.makers.synthesis.originals import Judged, judged
from cuescope.makers.synthesis.styles import Styles, batch_of, stylizer_of
from cuescope.makers.synthesis.transfer import Transfer
from cuescope.models.adain import SMALLEST_PX


@dataclass(frozen=True)
class CueConflict(Maker):
    """The shape of one class in the texture of another, equally many of each pair of classes."""

    what: ClassVar[str] = "the shape of each class in the texture of every other"
    reference: ClassVar[str] = "Geirhos et al. 2019, section 2 and appendix A.6; Gatys, Ecker and Bethge 2016"
    version: ClassVar[int] = 1

    textures: str
    """Folder of texture images in folders of the same classes, or world:texture-only[:COUNT]."""
    method: Literal["adain", "gatys"] = "adain"
    """A stylizer in one pass; or a variant of the published search, its losses relative, by --network: far slower."""
    pairs: int = 5
    """Images of each class of shapes in each class of textures, the same class included, as published."""
    judges: str = ""
    """Classifiers, separated by commas. An original that one of them misreads is left out, as in the paper."""
    stylizer: str = "embedded"
    """embedded; or a folder with vgg_normalised.pth and decoder.pth; or two such files, ENCODER,DECODER."""
    alpha: float = 1.0
    """How much of the texture, from 0 to 1."""
    network: str = ""
    """Of the search, as in torchvision/vgg19@FILE."""
    content_layer: str = ""
    """Of the search; relu4_2 where the network is a VGG of torchvision."""
    style_layers: str = ""
    """Of the search, separated by commas; relu1_1, 2_1, 3_1, 4_1 and 5_1 of such a VGG."""
    style_weight: float = 10.0
    """Of the search: the texture's weight against the shape's, both relative to the originals."""
    steps: int = 300
    """Of the search, by L-BFGS."""
    size_px: int | None = None
    """Side of the images: a shape image's short side is resized to 8/7 of it, the middle cut out. 224; a stimulus keeps
    its own."""
    texture_px: int = SIDE_PX
    """Side to which the largest middle square of a texture image is reduced, if it is larger."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the stylizer's convolutions."""
    seed: int = 0
    """Of which shapes meet which textures."""

    def __post_init__(self) -> None:
        at_least(0, seed=self.seed, style_weight=self.style_weight)
        at_least(1, pairs=self.pairs, steps=self.steps)
        at_least(SMALLEST_PX, size_px=self.size_px, texture_px=self.texture_px)
        share("texture", self.alpha)
        if (self.method == "gatys") != bool(self.network):
            found = "the method gatys without a network" if self.method == "gatys" else "a network without the search"
            do = "give --method gatys --network torchvision/vgg19@FILE"
            raise CueError(found, wanted="both or none of them", do=do)

    def start(self, images: ImageSet, tools: Tools) -> "_Conflicts":
        stylizer = stylizer_of(self.stylizer, self.precision, tools.device)
        textures = Styles(tools.images(self.textures), stylizer, self.texture_px)
        search = None
        if self.network:
            network, styles = tools.load(self.network), listed(self.style_layers)
            search = Transfer(network, self.content_layer, styles, style_weight=self.style_weight)
        return _Conflicts(self, textures, search, judged(images, textures.images, listed(self.judges), tools.load))


class _Conflicts(Work):
    """CueConflict, ready to run: originals judged, shapes and textures paired."""

    def __init__(self, how: CueConflict, textures: Styles, search: Transfer | None, originals: Judged) -> None:
        self.how, self.textures, self.search, self.size_px = how, textures, search, how.size_px
        self.originals = originals
        serving = {name: [n for n in numbers if textures.serves(n)] for name, numbers in originals.textures.items()}
        self.pieces = paired(originals.shapes, serving, how.pairs, how.seed)
        self.batch = 1 if search else batch_of(textures.stylizer.device, how.size_px or SIDE_PX)
        used = textures.about("textures")
        if search:
            used = {"network": search.about, "textures": used["textures"]}
        self.about = {**used, "classes": sorted(originals.shapes), "judges": originals.verdicts}

    @property
    def skipped(self) -> list[Skipped]:
        return [*self.originals.skipped, *self.textures.skipped]

    def unfit(self, sample: Sample) -> str:
        height, width = sample.pixels.shape[1:]
        keeps = sample.framing == "stimulus" and self.size_px is None
        small = keeps and min(height, width) < SMALLEST_PX
        return f"{width} x {height} px; shapes have sides of at least {SMALLEST_PX} px" if small else ""

    def apply(self, pieces: Sequence[Piece], samples: Sequence[Sample], images: list[Tensor]) -> list[Output]:
        numbers = [piece.key for piece in pieces]
        if self.search is None:
            found = self.textures.applied(torch.stack(images), numbers, self.how.alpha)
        else:
            found = self._searched(self.search, images, numbers)
        return [
            Output(partial(encoded, image), {"texture": self.textures.images.id(number)})
            for number, image in zip(numbers, found, strict=True)
        ]

    def _searched(self, search: Transfer, shapes: list[Tensor], numbers: list[int]) -> Tensor:
        device, found = search.classifier.device, []
        for shape, number in zip(shapes, numbers, strict=True):
            texture = self.textures.pixels(number)
            assert texture is not None
            found.append(search(shape.to(device).float() / 255, texture.to(device), steps=self.how.steps))
        return as_bytes(torch.stack(found)).cpu()


def paired(shapes: dict[str, list[int]], textures: dict[str, list[int]], pairs: int, seed: int) -> list[Piece]:
    """Which shape meets which texture? Of each two classes equally many, each original about as often as the others.

    `shapes` and `textures` are the numbers of the images by class; the key of a piece is the number of its texture.
    Files are named as the published ones are, `cat/cat3-dog1.png`: the third shape of the cats in the first texture of
    the dogs. Raises CueError where a class is left without an image.

    >>> found = paired({"cat": [0, 1], "dog": [2, 3]}, {"cat": [0], "dog": [1, 2]}, pairs=2, seed=0)
    >>> len(found), sorted(piece.file for piece in found)[0]
    (8, 'cat/cat1-cat1.png')
    """
    for what, found in (("shape", shapes), ("texture", textures)):
        if empty := [name for name, numbers in found.items() if not numbers]:
            wanted = "at least one for each class, that can be read and that the judges read rightly"
            do = "give more images of it, or other judges"
            raise CueError(f"no {what} image of the class '{empty[0]}' is left", wanted=wanted, do=do)
    names = sorted(shapes)
    files = file_names(names)
    order = {
        (kind, name): np.random.default_rng(seed_of(seed, f"{kind} {name}")).permutation(len(found[name]))
        for kind, found in (("shape", shapes), ("texture", textures))
        for name in names
    }
    pieces = []
    for s, shape in enumerate(names):
        for t, texture in enumerate(names):
            a, b = order["shape", shape], order["texture", texture]
            cycle = math.lcm(len(a), len(b))
            for k in range(min(pairs, len(a) * len(b))):
                # Both repeat; after a whole cycle one is shifted, so that no two meet twice.
                i = int(a[(t * pairs + k) % len(a)])
                j = int(b[(s * pairs + k + k // cycle) % len(b)])
                file = f"{files[shape]}/{files[shape]}{i + 1}-{files[texture]}{j + 1}.png"
                pieces.append(Piece(shapes[shape][i], file, key=textures[texture][j]))
    return pieces


def file_names(classes: Sequence[str]) -> dict[str, str]:
    """The classes as they can stand in a file's name, before a number and a hyphen. Raises CueError for two alike.

    >>> file_names(["cat", "Class 1", "T-shirt"])
    {'cat': 'cat', 'Class 1': 'class_1_', 'T-shirt': 't_shirt'}
    """
    found: dict[str, str] = {}
    for name in classes:
        text = re.sub(r"[ -]+", "_", folded(name)).strip("_")
        text = text + "_" if text[-1:].isdigit() else text
        if not text or text in found.values():
            others = "".join(f" from '{known}'" for known, own in found.items() if own == text)
            why = f"the class '{name}' cannot be distinguished in a file's name{others}"
            raise CueError(why, wanted="classes that differ in letters or digits", do="rename the folders")
        found[name] = text
    return found
