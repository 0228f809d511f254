"""Presets: which instruments an audit asks when none are named, and on how many images."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from cuescope.core.errors import unknown
from cuescope.instruments.names import names, others

PresetName = Literal["quick", "standard", "full"]


class Preset(NamedTuple):
    """What is asked where no instrument is named. What an instrument's parameters are else is their default."""

    asks: tuple[str, ...] | None
    """Names of instruments; None for all that are installed."""
    settings: Mapping[str, Any]
    """Parameters by "instrument.parameter"; the user's own come before them."""
    limit: int | None = None
    """Images of each set, spread evenly over it."""


HEADLINES = (
    "accuracy",
    "label_errors",
    "shape_bias",
    "cue_suppression",
    "human_agreement",
    "distortion_curves",
    "shift_stability",
    "interaction",
)
"""The lines of the cue profile."""
PICTURES = ("occlusion", "evidence")
"""Which parts of an image made the answer."""
FREE = ("cue_sensitivity", "error_agreement")
"""Read from forward passes that are run anyway."""
OF_INPUTS = (
    "multi_label",
    "cue_accuracy",
    "scramble",
    "stylized",
    "typicality",
    "crop_supervision",
    "correspondence",
    "evolution",
)
"""Asked of an input that is given for their sake: label maps, boxes, parts, checkpoints and the like."""

PRESETS: Mapping[PresetName, Preset] = {
    "quick": Preset(
        HEADLINES,
        {
            "cue_suppression.images": 96,
            "cue_suppression.levels": "named",
            "shift_stability.protocols": ("crop",),
            "interaction.images": 64,
            "interaction.sizes": "largest",
        },
        limit=500,
    ),
    # Parts of one size on many images: an interval that can lie within the margin takes some eighty of them.
    "standard": Preset(
        (*HEADLINES, *FREE, *PICTURES, *OF_INPUTS), {"interaction.images": 96, "interaction.sizes": "largest"}
    ),
    "full": Preset(None, {}),
}


def find(name: PresetName) -> Preset:
    """The preset of this name. Raises CueError where there is none."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]


def asked(preset: PresetName) -> list[str]:
    """The instruments that a preset asks, by name: those of other packages too, but for quick.

    Raises CueError where there is no such preset.

    >>> "occlusion" in asked("standard"), "occlusion" in asked("quick")
    (True, False)
    """
    chosen = find(preset).asks
    also = others().names if preset != "quick" else ()
    return names() if chosen is None else [name for name in names() if name in chosen or name in also]


def left_out(preset: PresetName) -> list[str]:
    """The instruments that a preset does not ask, by name."""
    chosen = asked(preset)
    return [name for name in names() if name not in chosen]
