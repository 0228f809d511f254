"""What a classifier says of the parts of an image: logits of patches and positions, where its network has any."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.preprocessing import Preprocessing
from cuescope.network.dense import Dense, NoDenseError, find
from cuescope.network.executor import Executor, Function, trial

T = TypeVar("T")


class Patches:
    """The half of a Classifier that is asked about parts of images."""

    name: str
    classes: ClassSpace
    preprocessing: Preprocessing
    executor: Executor

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

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
