"""What learns from the user's own labeled images: a bag of visual words."""

from cuescope.training.recipe import Recipe, later
from cuescope.training.settings import WordSettings

RECIPES = (
    Recipe(
        "bow",
        """A bag of visual words on your own labeled images: the classical baseline, in minutes, without a GPU.

        It knows which small patches an image consists of and nothing else, so what it gets right needs no shape.
        """,
        WordSettings(),
        later("cuescope.training.bow:fit_words"),
        needs=frozenset({"label"}),
    ),
)
