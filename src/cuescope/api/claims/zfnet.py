"""Zeiler & Fergus 2014: what layers respond to, what occlusion hides, which layers are needed, what transfers."""

from cuescope.api.claims.benches import INSIDE, LAYERS, MOVED, SMALL, UNITS
from cuescope.api.claims.claim import CONGRUENT, MOBILE, RANDOM, SHAPE, SQUEEZE, Claim, Source, Trial, apart, gap, of
from cuescope.api.claims.pages import TRAINED, more, without
from cuescope.api.claims.work import PARAMETERS

CALTECH = "Caltech's images are not here; `cuescope transfer probe MODEL --images FOLDER` and `few-shot` would do it"
IMAGENET = "needs training on ImageNet"

CLAIMS = (
    Claim(
        "zfnet-edges",
        "section 4, figure 2; source 001",
        "Layer 1 looks for edges and colors, layer 2 for corners.",
        untried="there is no number for it; docs/units.md draws it for SqueezeNet 1.1",
    ),
    Claim(
        "zfnet-semantic",
        "section 4, figure 2; source 001",
        "The higher the layer, the more its units stand for things: the strongest images of one are of a class.",
        (Trial(UNITS, of("top_units.purity", CONGRUENT), low=0.5, unless=of("top_units.purity", RANDOM)),),
    ),
    Claim(
        "zfnet-projection",
        "section 2.1, figure 2; source 001",
        "Projected down to the pixels, a unit shows what of the image it learned to look for: the object.",
        (
            Trial(
                UNITS,
                gap("deconvnet.on_object", CONGRUENT, RANDOM),
                low=0,
                why="more of it than with random weights",
            ),
        ),
    ),
    Claim(
        "zfnet-not-random",
        "section 6; source 001",
        "What projections show was learned; it is far from random: they do not look as those of random weights.",
        (
            Trial(
                UNITS,
                of("picture_sanity.deconvnet", CONGRUENT),
                high=0.5,
                unless=of("picture_sanity.deconvnet", RANDOM),
            ),
            Trial(INSIDE, of("picture_sanity.deconvnet", SQUEEZE), high=0.5),
            Trial(INSIDE, of("picture_sanity.deconvnet", MOBILE), high=0.5),
        ),
    ),
    Claim(
        "zfnet-evolution",
        "section 4, figure 4; source 001",
        "Lower layers settle within a few epochs, higher ones only after many.",
        untried="needs a training of many epochs; `cuescope audit runs/mine --only evolution` tells it of any",
    ),
    Claim(
        "zfnet-low-changes",
        "section 4, figure 5; source 001",
        "A small shift changes the first layer's features greatly: most of what a large one does.",
        (
            Trial(UNITS, of("invariance.rise_low", CONGRUENT), low=0.5, unless=of("invariance.rise_high", CONGRUENT)),
            Trial(MOVED, of("invariance.rise_low", SQUEEZE), low=0.5, unless=of("invariance.rise_high", SQUEEZE)),
        ),
    ),
    Claim(
        "zfnet-invariance",
        "section 4, figure 5; source 001",
        "Higher layers are more invariant: a small shift moves them less than the first.",
        (
            Trial(UNITS, apart("invariance.high_vertical", "invariance.low_vertical", CONGRUENT), high=0),
            Trial(MOVED, apart("invariance.high_vertical", "invariance.low_vertical", SQUEEZE), high=0),
            Trial(MOVED, apart("invariance.high_vertical", "invariance.low_vertical", MOBILE), high=0),
        ),
    ),
    Claim(
        "zfnet-stable-shift",
        "section 4, figure 5; source 001",
        "Answers hardly mind translation.",
        (
            Trial(
                UNITS,
                of("invariance.stays_far_vertical", CONGRUENT),
                low=0.75,
                unless=of("invariance.stays_far_scale", CONGRUENT),
            ),
            Trial(MOVED, of("invariance.stays_far_vertical", SQUEEZE), low=0.75),
            Trial(MOVED, of("invariance.stays_far_vertical", MOBILE), low=0.75),
        ),
    ),
    Claim(
        "zfnet-stable-scale",
        "section 4, figure 5; source 001",
        "Answers hardly mind scale.",
        (
            Trial(
                UNITS,
                of("invariance.stays_far_scale", CONGRUENT),
                low=0.75,
                unless=of("invariance.stays_far_scale", SHAPE),
            ),
            Trial(MOVED, of("invariance.stays_far_scale", SQUEEZE), low=0.75),
            Trial(MOVED, of("invariance.stays_far_scale", MOBILE), low=0.75),
        ),
    ),
    Claim(
        "zfnet-rotation",
        "section 4, figure 5; source 001",
        "They do mind rotation, more than translation.",
        (
            Trial(
                UNITS,
                apart("invariance.stays_far_rotation", "invariance.stays_far_vertical", SHAPE),
                high=0,
                why="learned from images at every turn",
            ),
            Trial(MOVED, apart("invariance.stays_far_rotation", "invariance.stays_far_vertical", SQUEEZE), high=0),
            Trial(MOVED, apart("invariance.stays_far_rotation", "invariance.stays_far_vertical", MOBILE), high=0),
        ),
    ),
    Claim(
        "zfnet-occlusion",
        "section 4.2, figure 7; source 001",
        "A network looks at the object, not at its surroundings: hiding it lowers the probability of the class most.",
        (Trial(UNITS, of("occlusion.above_chance", SHAPE), low=0.2, unless=of("occlusion.above_chance", RANDOM)),),
    ),
    Claim(
        "zfnet-occlusion-answer",
        "section 4.2, figure 7; source 001",
        "Where the square hides its key part, the answer becomes another.",
        (Trial(UNITS, of("occlusion.label_flips", SHAPE), low=0.02, unless=of("occlusion.label_flips", CONGRUENT)),),
    ),
    Claim(
        "zfnet-correspondence",
        "section 4.3, table 1; source 001",
        "Hiding the same part of different objects changes features alike, more than hiding random parts.",
        tuple(
            Trial(
                UNITS,
                of(f"correspondence.difference_{layer}", SHAPE),
                high=0,
                unless=of(f"correspondence.shuffling_{layer}", SHAPE),
            )
            for layer in ("low", "high")
        ),
    ),
    Claim(
        "zfnet-correspondence-part",
        "section 4.3; source 001",
        "So it relates parts without being told: more alike than another part of the object, too.",
        (
            Trial(
                UNITS,
                of("correspondence.difference_other_part_high", SHAPE),
                high=-0.05,
                unless=of("correspondence.difference_other_part_high", RANDOM),
            ),
        ),
    ),
    Claim(
        "zfnet-correspondence-deep",
        "section 4.3, table 1; source 001",
        "In the highest layer random parts are as near as the same one, since it tells classes and not parts.",
        (Trial(UNITS, apart("correspondence.difference_high", "correspondence.difference_low", SHAPE), low=0),),
    ),
    Claim(
        "zfnet-dead",
        "section 4.1, figure 6; source 001",
        "Filters of 11 px at a stride of 4 leave more of them dead than 7 px at 2.",
        (more(TRAINED, "The network of 2012 has more dead filters than ZFNet"),),
    ),
    Claim(
        "zfnet-aliasing-1",
        "section 4.1, figure 6; source 001",
        "And they alias more in layer 1.",
        (more(TRAINED, "The network of 2012 aliases more than ZFNet: layer 1"),),
    ),
    Claim(
        "zfnet-aliasing-2",
        "section 4.1, figure 6; source 001",
        "And in layer 2.",
        (more(TRAINED, "The network of 2012 aliases more than ZFNet: layer 2"),),
    ),
    Claim(
        "zfnet-better",
        "section 5.1, table 2; source 001",
        "Smaller filters and stride are more accurate: top-5 error 16.5 against 18.1 %.",
        untried=IMAGENET,
    ),
    Claim(
        "zfnet-ten-crops",
        "table 2",
        "The mean of ten crops errs less than one.",
        (more(TRAINED, "ZFNet: ten crops against one"),),
    ),
    Claim(
        "zfnet-ensemble",
        "section 5.1, table 2; source 001",
        "Several networks together err less: 38.4 to 36.7 %.",
        (more(TRAINED, "ZFNet: all seeds as an ensemble against one"),),
    ),
    Claim(
        "zfnet-ensemble-best",
        "section 5.1, table 2; source 001",
        "Networks and crops together least: 36.0 %.",
        (more(TRAINED, "ZFNet: ensemble with ten crops against one network, one crop"),),
    ),
    Claim(
        "zfnet-148",
        "section 5.1, table 2; source 001",
        "14.8 % top-5 error on ImageNet 2012's test set.",
        untried=IMAGENET,
    ),
    Claim(
        "zfnet-without-7",
        "section 5.1, table 3; source 001",
        "Without fully connected layer 7 it errs little more: 18.1 to 18.4 % top-5.",
        (without("without layer 7", high=0.05),),
    ),
    Claim(
        "zfnet-without-67",
        "section 5.1, table 3; source 001",
        "Without both fully connected layers it errs little more: 18.1 to 22.4 % top-5, which the paper calls slight.",
        (without("without layers 6, 7", high=0.05),),
    ),
    Claim(
        "zfnet-without-34",
        "section 5.1, table 3; source 001",
        "Without two of the middle convolutions it errs little more: 18.1 to 22.1 %.",
        (without("without layers 3, 4", high=0.05),),
    ),
    Claim(
        "zfnet-depth",
        "section 5.1, table 3; source 001",
        "Without all four it is far worse, 50.1 %: depth is what matters.",
        (without("without layers 3, 4, 6, 7", low=0),),
    ),
    Claim(
        "zfnet-fc-width",
        "section 5.1, table 3; source 001",
        "The width of the fully connected layers matters little.",
        (without("layers 6, 7: 2048 units", -0.05, 0.05),),
    ),
    Claim(
        "zfnet-conv-width",
        "section 5.1, table 3; source 001",
        "Wider middle convolutions help: 16.5 to 16.0 %.",
        (without("layers 3, 4, 5: 512, 1024, 512 maps", high=0),),
    ),
    Claim(
        "zfnet-overfit",
        "section 5.1, table 3; source 001",
        "Both widened together overfit: training error 10 %.",
        untried="is not among the variants that scripts/ablate_zfnet.py trains",
    ),
    Claim(
        "zfnet-parameters",
        "section 5.1; source 001",
        "Most parameters are in the fully connected layers.",
        (Trial(PARAMETERS, of("zfnet"), low=0.5, unless=of("resnet50")),),
    ),
    Claim("zfnet-dropout", "section 1; source 001", "Dropout keeps large networks from overfitting.", untried=IMAGENET),
    Claim(
        "zfnet-transfer",
        "section 5.2, tables 4, 5; source 001",
        "Learned features tell other classes than those they were learned for, random weights do not: Caltech-101 "
        "86.5 against 46.5 %.",
        (
            Trial(SMALL, of("layer_probe.learned", MOBILE), low=0.1, why="CIFAR-10, weights shuffled"),
            Trial(SMALL, of("layer_probe.learned", SQUEEZE), low=0.1, why="CIFAR-10, weights shuffled"),
            Trial(LAYERS, of("layer_probe.learned", CONGRUENT), low=0.1, unless=of("layer_probe.learned", RANDOM)),
        ),
    ),
    Claim(
        "zfnet-few",
        "section 5.2, figure 9; source 001",
        "Six images of a class are enough to beat what was best before, from sixty (Caltech-256).",
        (
            Trial(SMALL, of("few_shot.ahead_6", MOBILE), low=0, why="CIFAR-10, against shuffled weights from most"),
            Trial(SMALL, of("few_shot.ahead_6", SQUEEZE), low=0, why="the same"),
            Trial(LAYERS, of("few_shot.ahead_6", CONGRUENT), low=0, unless=of("few_shot.ahead_6", RANDOM)),
        ),
    ),
    Claim(
        "zfnet-caltech-101",
        "section 5.2, table 4; source 001",
        "86.5 % on Caltech-101 from 30 images a class.",
        untried=CALTECH,
    ),
    Claim(
        "zfnet-caltech-256",
        "section 5.2, table 5; source 001",
        "74.2 % on Caltech-256 from 60 images a class.",
        untried=CALTECH,
    ),
    Claim(
        "zfnet-overlap",
        "section 5.2",
        "44 images of Caltech-101 and 243 of -256 are ImageNet's too.",
        untried=f"{CALTECH.partition(';')[0]}; `--only near_duplicates --training-images FOLDER`",
    ),
    Claim(
        "zfnet-voc",
        "section 5.2, table 6; source 001",
        "On PASCAL VOC 2012 it is 3 points behind the best, as images there show several things: 79.0 %.",
        untried="VOC is not here",
    ),
    Claim(
        "zfnet-deeper-better",
        "section 5.3, table 7; source 001",
        "The deeper the layer, the more its features tell: 44.8 to 85.5 % on Caltech-101.",
        (
            Trial(LAYERS, of("layer_probe.deeper", CONGRUENT), low=0, unless=of("layer_probe.deeper", RANDOM)),
            Trial(SMALL, of("layer_probe.deeper", SQUEEZE), low=0, why="CIFAR-10"),
            Trial(SMALL, of("layer_probe.deeper", MOBILE), low=0, why="CIFAR-10"),
        ),
    ),
    Claim(
        "zfnet-winner",
        "source 001",
        "ZFNet won ImageNet's challenge of 2013, and is of Krizhevsky and Sutskever at Microsoft.",
        untried="a matter of record, and wrong: it is by Zeiler and Fergus of New York University, and "
        "the winner was Clarifai, Zeiler's company, with an average of other networks",
    ),
)

SOURCE = Source(
    "zfnet",
    "ZFNet and its visualizations",
    "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks; source 001 retells it.",
    CLAIMS,
)
