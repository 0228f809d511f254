"""The built-in world's networks: which network learns from which drawn images. See `training.world` for the images.

Each result is a function of the code, the settings, the machine and its number of threads (of scikit-learn's version
for world-bow). What is said of shipped weights was measured on 960 images of each kind from seed 0.
"""

from dataclasses import replace
from typing import Any

from cuescope.training.recipe import Recipe, later
from cuescope.training.settings import Blurred, Relabeled, Settings, Stylized, WordSettings

FROM_SCRATCH: dict[str, Any] = {
    **{"steps": 500, "batch": 64, "optimizer": "adamw", "learning_rate": 4e-3, "warmup_steps": 50},
    **{"weight_decay": 0.02, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)},
}
FIT = "cuescope.training.world:"

RECIPES = (
    Recipe(
        "world-congruent",
        """A small ResNet on congruent images: shape and texture both tell the class, as in photographs.

        It finds texture enough, as networks do on photographs. Shipped: congruent .993, texture alone .941, shape alone
        .0625 (chance); of the conflict images it says the texture of .915 and the shape of .014: shape bias .015.
        32,000 images in 208 s on one core of a busy machine.
        """,
        Settings(**FROM_SCRATCH),
        later(f"{FIT}fit_unseen"),
    ),
    Recipe(
        "world-shape",
        """The same small ResNet on crossed images: every shape wears every texture, so only shape tells the class.

        Shipped: congruent 1.000, shape alone 1.000, texture alone .056 (chance is .0625); of the conflict images it
        says the shape of every one: shape bias 1.000. 32,000 images in 150 s on one core of a busy machine.
        """,
        Settings(**FROM_SCRATCH),
        later(f"{FIT}fit_unseen", model="world-shape", variant="crossed"),
    ),
    Recipe(
        "world-bagnet",
        """A small BagNet on congruent images: it sees 9 px at a time, less than any silhouette, so texture must do.

        Shipped: congruent .989, texture alone .940, shape alone .0625 (chance); of the conflict images it says the
        texture of .941 and the shape of .003: shape bias .003. The patch that speaks most for the label lies on the
        object in all of 960 congruent images. 32,000 images in 300 s on one core of a busy machine.
        """,
        Settings(**FROM_SCRATCH),
        later(f"{FIT}fit_unseen", model="world-bagnet"),
    ),
    Recipe(
        "world-bow",
        """A bag of visual words on congruent images: patches of 9 px, as those of the world's BagNet, found by k-means.

        Shipped: congruent .977, texture alone .896, shape alone .083 (chance is .0625); of the conflict images it says
        the texture of .879 and the shape of .023: shape bias .025. The patch that speaks most for the label lies on the
        object in .591 of the congruent images: one word says little, it is their number that counts. Fitted to 5,400
        images in 26 s on one core.
        """,
        WordSettings(size_px=64, stride_px=2, patches=120_000, images=6000),
        later(f"{FIT}fit_words"),
    ),
    Recipe(
        "world-photographer",
        "The world's congruent network trained on centered images alone, as if a photographer had taken them all.",
        Settings(**FROM_SCRATCH),
        later(f"{FIT}fit_unseen", placement="centered"),
    ),
    Recipe(
        "world-blur",
        """The world's congruent network made to blur before it subsamples (Zhang 2019), and trained on for a little.

        Its weights are carried over. With filter_size=1 the same network is trained on as it is: what blurs are to be
        compared with.
        """,
        replace(Blurred(**FROM_SCRATCH), steps=200, learning_rate=1e-3, warmup_steps=20),
        later(f"{FIT}fit_blurred"),
    ),
    Recipe(
        "world-annotator",
        """A small ResNet that learned from images of several objects what lies at each position: a strong annotator.

        It knows what the label of an image does not tell: where each object lies. Its map of an image it has never seen
        is what the recipe world-relabel takes its targets from.
        """,
        Settings(**FROM_SCRATCH),
        later(f"{FIT}fit_annotator"),
    ),
    Recipe(
        "world-relabel",
        """A small ResNet on random crops of the world's images of several objects, with label maps or one label an
        image.

        A crop of such an image often shows another object than the largest, whose class is the image's label. The maps
        are made once, by an annotator that has learned from other images (Yun et al. 2021): that of the recipe
        world-annotator. With targets="label" the same network learns from the same crops of the same images with the
        image's label: what the maps are to be compared with.
        """,
        Relabeled(**FROM_SCRATCH),
        later(f"{FIT}fit_relabeled"),
    ),
    Recipe(
        "world-stylized",
        """A small ResNet on congruent images and stylized ones, which have the texture of others (Geirhos et al. 2019).

        Texture alone solves the congruent images. In the stylized ones the texture is that of an image of any class,
        and only the shape tells the class. With share=0 the same network learns from congruent images alone, for as
        long: what it is to be compared with.
        """,
        replace(Stylized(**FROM_SCRATCH), steps=1500),
        later(f"{FIT}fit_stylized"),
    ),
)
