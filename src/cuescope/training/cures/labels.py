"""For a model that learned from wrong labels, or from one label for several things (Yun et al. 2021)."""

from cuescope.training.cure import Cure, Goal, Stage

CURE = Cure(
    "labels",
    """What an annotator's label maps say of each crop, in place of the image's label.

    The annotator is the model itself unless `--annotator` names a stronger one.
    """,
    stages=(
        Stage(
            "relabeled",
            "relabel",
            {"epochs": 6, "learning_rate": 1e-3},
            without={"targets": "label"},
            made="label_maps",
        ),
    ),
    judges=("accuracy", "label_errors", "multi_label"),
    goal=Goal("accuracy", "top1"),
    makes="label-maps",
)
