"""For a model whose answer changes when the image moves (Zhang 2019; Azulay and Weiss 2019)."""

from cuescope.training.cure import Cure, Goal, Stage

CURE = Cure(
    "shift",
    """Blurs before the network subsamples, and crops of the image of many sizes: its answers stay where they are.

    BlurPool with filters of size 4, the weights carried over, where the network can be given them; else crops alone.
    The crops are of .3 to .8 of a photograph. Stimuli, which are seen whole, are learned whole half of the time, else
    as crops of .75 to 1.
    """,
    stages=(
        Stage(
            "steady",
            "blurpool-fine-tuned",
            {"epochs": 6, "learning_rate": 1e-3},
            remedy={"least": 0.3, "most": 0.8},
            stimuli={"least": 0.75, "most": 1.0, "whole": 0.5},
            without={"recipe": "imagenet"},
        ),
    ),
    judges=("accuracy", "shift_stability", "shift_consistency"),
    goal=Goal("shift_stability", "top1_change", "lower"),
    suffix="+blur4",
    # As many pairs as the authors' code takes: changes are rare.
    settings={"shift_stability.protocols": ("crop",), "shift_stability.pairs": 8},
    # A small part of a stimulus is nothing that it was ever shown: the windows are of the whole image, enlarged.
    of_stimuli={"shift_stability.scale_min": 1.0},
)
