"""For a model that goes by texture (Geirhos et al. 2019)."""

from cuescope.training.cure import Cure, Goal, Stage

CURE = Cure(
    "shape_bias",
    """Images in the textures of others beside the images themselves, then the images alone: it learns shapes.

    Recipe C of the authors (SIN + IN, then IN): in the stylized images only the shape tells the class.
    """,
    stages=(
        Stage(
            "mixed",
            "stylized-b",
            # The rate of a training from scratch: at a third of it texture is hardly unlearned (docs/training.md).
            {"epochs": 8, "optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 1e-4, "average": 0.995},
            without={"recipe": "imagenet"},
            sees=3,
            made="stylized",
        ),
        Stage("clean", "stylized-c", {"epochs": 6, "optimizer": "sgd", "learning_rate": 0.03, "weight_decay": 1e-4}),
    ),
    judges=("accuracy", "shape_bias", "shift_stability"),
    goal=Goal("shape_bias", "shape_bias"),
    makes="stylized",
    times=2,
    settings={"shift_stability.protocols": ("crop",)},
)
