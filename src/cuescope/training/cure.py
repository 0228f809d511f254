"""What a cure is: which data to make, which fine-tunings, and what judges them. Without torch, as recipes are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cuescope.core.errors import unknown
from cuescope.training.recipes import find

FINE: dict[str, Any] = {
    **{"batch": 64, "optimizer": "adamw", "learning_rate": 3e-4, "warmup_epochs": 0.25, "schedule": "cosine"},
    **{"weight_decay": 0.02, "decay_all": False, "least": 0.35, "average": 0.99},
}
"""A short fine-tuning of a trained network; its averaged weights are what comes of it."""


@dataclass(frozen=True)
class Stage:
    """One fine-tuning, by a recipe with other settings, from the weights that the one before it left."""

    name: str
    recipe: str
    settings: Mapping[str, Any]
    """Of the recipe, for the cure and the control; what is not named here is as in FINE."""
    remedy: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the cure alone."""
    stimuli: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the cure alone, where classifiers see the images whole."""
    without: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the control alone, and its recipe as "recipe"."""
    sees: int = 1
    """How many images an epoch sees for each image to learn from: the control sees as many."""
    made: str = ""
    """The setting that names the folders of what was made."""

    def configured(self, **more: Any) -> Any:
        """The recipe's settings. Raises CueError for a setting that it does not have and for a value that cannot be."""
        values = {**FINE, **self.settings, **self.remedy, **more}
        return find(self.recipe).configured(values, values.pop("seed", 0))

    def given(self, values: Mapping[str, Any]) -> Stage:
        """The same with these settings, text converted. Raises CueError as `configured` does."""
        settings = self.configured(**values)
        new = {key: getattr(settings, key) for key in values}
        mine = {key: new.pop(key) for key in values if key in self.remedy}
        return replace(self, settings={**self.settings, **new}, remedy={**self.remedy, **mine})

    @property
    def seen_whole(self) -> Stage:
        """The same for stimuli, which classifiers see whole: no crops, which show them too large, but as a remedy."""
        return replace(self, settings={"least": 1.0, **self.settings}, remedy={**self.remedy, **self.stimuli})

    @property
    def control(self) -> Stage:
        """The same fine-tuning without the remedy."""
        settings = {**self.settings, "epochs": self.settings["epochs"] * self.sees, **self.without}
        recipe = settings.pop("recipe", self.recipe)
        return Stage(f"control-{self.name}", recipe, settings)


@dataclass(frozen=True)
class Goal:
    """The measure that is to change, and which way."""

    instrument: str
    measure: str
    better: Literal["higher", "lower"] = "higher"


@dataclass(frozen=True)
class Cure:
    """A way to a better model. A file of `cures/` holds each as CURE."""

    name: str
    about: str
    """What it does. The first paragraph is its line in the report."""
    stages: tuple[Stage, ...]
    judges: tuple[str, ...]
    """The instruments that are asked before and after, on images held out."""
    goal: Goal
    makes: str = ""
    """The maker of what is learned from beside the images, "" for none."""
    times: int = 1
    """How often it makes something of each image, each time from another seed."""
    suffix: str = ""
    """Of the network to train, as in "+blur4"."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the judges, as "instrument.parameter"."""
    of_stimuli: Mapping[str, Any] = field(default_factory=dict)
    """Of the judges too, where classifiers see the images whole."""

    @property
    def what(self) -> str:
        """One line on it."""
        return " ".join(self.about.partition("\n\n")[0].split())

    @property
    def seen_whole(self) -> Cure:
        """The same for stimuli."""
        stages = tuple(stage.seen_whole for stage in self.stages)
        return replace(self, stages=stages, settings={**self.settings, **self.of_stimuli})

    def with_settings(self, settings: Mapping[str, Any]) -> Cure:
        """The same with settings "stage.key". Raises CueError for what there is not, and for a value that cannot be."""
        given: dict[str, dict[str, Any]] = {stage.name: {} for stage in self.stages}
        for key, value in settings.items():
            stage, _, name = key.rpartition(".")
            if stage not in given:
                raise unknown("stage", stage or key, given)
            given[stage][name] = value
        return replace(self, stages=tuple(stage.given(given[stage.name]) for stage in self.stages))
