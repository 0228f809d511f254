"""What a recipe is, and what comes of it. Without torch, so that a mistyped name is reported at once."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from cuescope.core import stats
from cuescope.core.errors import CueError, unknown
from cuescope.core.findings import Measure
from cuescope.core.parameters import convert, parameters
from cuescope.core.progress import Progress

if TYPE_CHECKING:
    from torch import nn

    from cuescope.data.images import Skipped


class Trained(NamedTuple):
    """A trained model, and how often it is right on images that it did not learn from.

    The network is on the CPU, in evaluation mode; `model` is what `load` calls it, without "cuescope/"; `weights` the
    .safetensors file; `learned` and `held_out` count the images it learned from and was tried on.
    """

    network: nn.Module
    model: str
    weights: bytes
    correct: int
    held_out: int
    learned: int
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    waited: float = 0.0
    """The share of the time in which the loop waited for images."""

    @property
    def accuracy(self) -> Measure:
        """The share of the held-out images that it is right on."""
        if not self.held_out:
            why = "fewer than ten images: none was held out"
            return Measure("held_out_accuracy", None, "share", why=why)
        share, interval = self.correct / self.held_out, stats.wilson(self.correct, self.held_out)
        return Measure("held_out_accuracy", share, "share", self.held_out, interval, count=self.correct)


Fit = Callable[..., Trained]
"""From settings, images and a progress callback; the images are None where the recipe needs none."""


def later(function: str, **fixed: Any) -> Fit:
    """The function "module:name" with some arguments fixed, imported when it is called: what fits imports torch."""
    module, _, name = function.partition(":")

    def fit(settings: Any, images: Any, progress: Progress, **given: Any) -> Trained:
        return getattr(importlib.import_module(module), name)(settings, images, progress, **fixed, **given)

    return fit


LABELED = frozenset({"label"})
"""What recipes need that learn from the user's images."""
SMALL: dict[str, Any] = {
    **{"model": "cuescope/world-congruent@random", "epochs": 8, "batch": 64, "optimizer": "adamw"},
    **{"learning_rate": 4e-3, "warmup_epochs": 1.0, "schedule": "cosine", "weight_decay": 0.02, "decay_all": False},
    "least": 0.35,
}
"""A network of the built-in world, as its own recipes train it: half a minute on one core for 2,000 images."""


@dataclass(frozen=True)
class Recipe:
    """How to train one model. A file of `recipes/` lists one or more as RECIPES; a new recipe needs nothing else."""

    name: str
    about: str
    """What it trains. The first paragraph is its line in `cuescope list recipes`."""
    settings: Any
    """A frozen dataclass; the user may set each of its fields, `seed` by an option of its own."""
    fit: Fit
    needs: frozenset[str] = frozenset()
    """What must be known of the user's images, such as "label"; empty for a recipe that draws its own."""
    small: Any = None
    """Settings that train in minutes on two cores, on images of 64 px such as the built-in world's; None for none."""
    in_folder: bool = False
    """It trains in a folder, where it goes on after it was stopped: `fit` takes `out` and `held_out` too."""

    @property
    def what(self) -> str:
        """One line on it."""
        return " ".join(self.about.partition("\n\n")[0].split())

    @property
    def more(self) -> list[str]:
        """The other paragraphs: the paper, its constants and results."""
        return [" ".join(text.split()) for text in self.about.split("\n\n")[1:]]

    @property
    def smaller(self) -> dict[str, Any]:
        """The small version's settings by name; empty where there is none."""
        return {} if self.small is None else {key: getattr(self.small, key) for key in self.options}

    @property
    def options(self) -> dict[str, tuple[Any, Any, str]]:
        """What `--set` may change: type, default and meaning by name; its own before what it inherits."""
        own = inspect.get_annotations(type(self.settings))
        known = sorted(parameters(type(self.settings)).items(), key=lambda item: item[0] not in own)
        set_ = {field.name for field in dataclasses.fields(self.settings) if field.init} - {"seed"}
        return {k: (kind, getattr(self.settings, k), meaning) for k, (kind, _, meaning) in known if k in set_}

    def configured(self, given: Mapping[str, Any], seed: int, small: bool = False) -> Any:
        """The settings, or the small ones, with these values, text converted; a key may carry the recipe's name, as in
        "bow.words".

        Raises CueError for an unknown key, for a value that cannot be, and where there are no small settings.
        """
        if small and self.small is None:
            raise CueError(f"{self.name} has no small version", wanted="a recipe that has one", do="leave it out")
        known, values = self.options, {"seed": seed}
        for key, value in given.items():
            key = key.removeprefix(f"{self.name}.")
            if key not in known:
                raise unknown(f"{self.name} setting", key, known)
            values[key] = convert(self.name, key, value, known[key][0])
        return dataclasses.replace(self.small if small else self.settings, **values)
