"""Brendel & Bethge 2019: small patches alone nearly solve ImageNet, and other networks behave much like that."""

from cuescope.api.claims.benches import CUES, INSIDE, MANY, PATCHES, PHOTOGRAPHS, SEVERAL, TEXTURIZED
from cuescope.api.claims.claim import (
    BAGNET,
    BOW,
    CONGRUENT,
    MOBILE,
    RANDOM,
    SHAPE,
    SQUEEZE,
    Claim,
    Source,
    Trial,
    apart,
    gap,
    less,
    of,
    pair,
)
from cuescope.api.claims.work import APART, FIELDS, RUNTIMES

WEIGHTS = "no weights and no validation images here; `cuescope get weights bagnet33` and `cuescope audit` would do it"
PEOPLE = "needs people"

OWN_MAP = "masking_sensitivity.area_patches_of_world_bagnet"

CLAIMS = (
    Claim(
        "bagnets-accuracy",
        "abstract, accuracy on ImageNet; sources 000, 003",
        "What small patches say, added up without their places, tells the class: 70 to 87 % top-5 on ImageNet.",
        (Trial(MANY, of("accuracy.top1", BAGNET), low=0.7, unless=of("accuracy.top1", RANDOM)),),
    ),
    Claim(
        "bagnets-close",
        "accuracy on ImageNet; source 000",
        "A BagNet with patches of 33 px is at most 7 points behind a network that sees everything (86 to 87.6 % "
        "against 93 % top-5).",
        (
            Trial(
                MANY,
                less("accuracy.top1", BAGNET, CONGRUENT),
                low=-0.07,
                unless=less("accuracy.top1", RANDOM, CONGRUENT),
            ),
        ),
    ),
    Claim(
        "bagnets-patch-size",
        "accuracy on ImageNet; source 000",
        "Larger patches tell more: top-5 70, 80 and 86 % for 9, 17 and 33 px.",
        untried=WEIGHTS,
    ),
    Claim(
        "bagnets-alexnet",
        "accuracy on ImageNet; source 003",
        "Patches of 17 px are enough for the accuracy of AlexNet.",
        untried=WEIGHTS,
    ),
    Claim(
        "bagnets-fields",
        "architecture; sources 000, 003",
        "A position of a BagNet's last layer sees 9, 17 or 33 px and nothing else.",
        tuple(Trial(FIELDS, of(f"bagnet{px}"), px - 0.5, px + 0.5, unless=of("resnet50")) for px in (9, 17, 33)),
    ),
    Claim(
        "bagnets-resnet-field",
        "source 000",
        "ResNet-50 sees more than 400 px, which is all of the image.",
        (Trial(FIELDS, of("resnet50"), low=400, unless=of("bagnet33")),),
    ),
    Claim(
        "bagnets-exact",
        "explaining decisions; source 003",
        "Its heatmaps are no approximation: they are what each part contributed to the decision.",
        (Trial(APART, of("bagnet"), high=1e-3, unless=of("congruent")),),
    ),
    Claim(
        "bagnets-no-order",
        "architecture; sources 000, 003",
        "It cannot know how patches lie to each other: tiles of the image may trade places, but for those cut.",
        (
            Trial(
                CUES,
                of("cue_suppression.left_global_shape", BAGNET),
                low=0.85,
                unless=of("cue_suppression.left_global_shape", SHAPE),
                why="3 x 3 tiles, whose cuts cost it patches",
            ),
        ),
    ),
    Claim(
        "bagnets-object",
        "explaining decisions; source 000",
        "Patches on the object contribute most, background is hardly minded.",
        (Trial(PATCHES, of("evidence.pointing_game", BAGNET), low=0.9, unless=of("evidence.pointing_game", RANDOM)),),
    ),
    Claim(
        "bagnets-misleading",
        "most informative patches; sources 000, 003",
        "The most convincing patches of some classes lie in images of other ones, and explain its errors.",
        (Trial(PATCHES, of("top_patches.misled", BAGNET), low=0, unless=of("top_patches.misled", CONGRUENT)),),
    ),
    Claim(
        "bagnets-fingers",
        "most informative patches; sources 000, 003",
        "Tench is told by fingers on green.",
        untried=WEIGHTS,
    ),
    Claim(
        "bagnets-keys",
        "most informative patches; source 000",
        "Keys of typewriters speak for the laptop.",
        untried=WEIGHTS,
    ),
    Claim(
        "bagnets-letters",
        "most informative patches; source 000",
        "Letters on colored ground speak for the book.",
        untried=WEIGHTS,
    ),
    Claim(
        "bagnets-no-shape",
        "accuracy on ImageNet; source 003",
        "Shapes, and how parts lie to each other, are not needed and are not learned.",
        (
            Trial(CUES, of("cue_accuracy.silhouettes", BAGNET), high=0.2, unless=of("cue_accuracy.silhouettes", SHAPE)),
            Trial(MANY, of("accuracy.top1", BAGNET), low=0.9, unless=of("accuracy.top1", RANDOM)),
        ),
    ),
    Claim(
        "bagnets-classical",
        "source 003",
        "The bag of words from before deep learning is less accurate than networks.",
        (Trial(MANY, less("accuracy.top1", BOW, CONGRUENT), high=0),),
    ),
    Claim(
        "bagnets-runtime",
        "source 003",
        "A BagNet takes about 2.5 times as long as ResNet-50 (the paper's own images a second say 3.7).",
        (Trial(RUNTIMES, of("ratio"), 2, 3, unless=of("same")),),
    ),
    Claim(
        "bagnets-logits",
        "comparison with VGG-16, logits; source 000",
        "Its logits correlate with those of a network that sees everything: .70 to .88 for VGG-16.",
        (
            Trial(
                CUES,
                pair("logit_correlation.averaged", CONGRUENT, BAGNET),
                low=0.7,
                unless=pair("logit_correlation.averaged", SHAPE, BAGNET),
            ),
        ),
    ),
    Claim(
        "bagnets-logits-grow",
        "comparison with VGG-16, logits",
        "The correlation grows with the patches: .70, .79, .88.",
        untried=WEIGHTS,
    ),
    Claim(
        "bagnets-texturized",
        "scrambled images; sources 000, 003",
        "Networks keep most of their accuracy on images whose shapes are scrambled: VGG-16 90.1 to 79.4 % top-5.",
        (
            Trial(
                TEXTURIZED,
                of("scramble.kept", CONGRUENT),
                low=0.7,
                unless=of("scramble.kept", SHAPE),
                why="features of random filters",
            ),
        ),
    ),
    Claim("bagnets-people", "scrambled images", "People find such images much harder.", untried=PEOPLE),
    Claim(
        "bagnets-adds-up",
        "spatial sensitivity; source 003",
        "What masked parts take away one by one adds up to what they take together, as in a bag of patches.",
        (
            Trial(
                PATCHES,
                of("interaction.residual", CONGRUENT),
                high=0.1,
                unless=of("interaction.residual", SHAPE),
                why="at most a tenth amiss",
            ),
            Trial(INSIDE, of("interaction.correlation", SQUEEZE), low=0.8),
        ),
    ),
    Claim(
        "bagnets-adds-up-less",
        "spatial sensitivity; source 003",
        "The deeper the network, the less it adds up, as parts act together over longer distances.",
        (Trial(INSIDE, gap("interaction.correlation", MOBILE, SQUEEZE), high=0, why="53 layers, and 18"),),
    ),
    Claim(
        "bagnets-shape-adds-up-less",
        "spatial sensitivity",
        "Where shape decides, parts act together: their losses do not add up.",
        (Trial(PATCHES, gap("interaction.residual", SHAPE, CONGRUENT), low=0),),
    ),
    Claim(
        "bagnets-errors",
        "errors; source 000",
        "Networks err on the images that BagNets err on.",
        (
            Trial(
                SEVERAL,
                pair("error_agreement.kappa", CONGRUENT, BAGNET),
                low=0.15,
                unless=pair("error_agreement.kappa", SHAPE, BAGNET),
                why="on images of several objects",
            ),
        ),
    ),
    Claim(
        "bagnets-masking",
        "sensitivity to masking; sources 000, 003",
        "What a BagNet's heatmap ranks highest is what another network needs, more than a random order would find.",
        (
            Trial(
                PATCHES,
                apart(OWN_MAP, "masking_sensitivity.area_random", CONGRUENT),
                high=0,
            ),
        ),
    ),
    Claim(
        "bagnets-masking-deeplift",
        "sensitivity to masking; source 003",
        "It finds that better than DeepLIFT, which looks into the network itself.",
        (
            Trial(
                PATCHES,
                apart(OWN_MAP, "masking_sensitivity.area_deeplift", CONGRUENT),
                high=0,
            ),
        ),
    ),
    Claim(
        "bagnets-masking-vgg",
        "sensitivity to masking",
        "VGG-16 loses most when these parts are masked, deeper networks less.",
        untried="weights of VGG-16 and of deep ResNets are not here; `cuescope audit ... --only masking_sensitivity`",
    ),
    Claim(
        "bagnets-stickers",
        "discussion; source 003",
        "A confusing patch works wherever it is pasted, as a sticker does, and more than a random one.",
        (
            Trial(PATCHES, of("stickers.gain", CONGRUENT), low=0, unless=of("stickers.gain", RANDOM)),
            Trial(INSIDE, of("stickers.gain", SQUEEZE), low=0),
        ),
    ),
    Claim(
        "bagnets-shuffle",
        "discussion; source 003",
        "Networks hardly mind when parts of the image trade places.",
        (
            Trial(
                CUES,
                of("cue_suppression.left_global_shape", CONGRUENT),
                low=0.75,
                unless=of("cue_suppression.left_global_shape", SHAPE),
            ),
            Trial(PHOTOGRAPHS, of("cue_suppression.left_global_shape", SQUEEZE), low=0.75),
            Trial(
                PHOTOGRAPHS,
                of("cue_suppression.left_global_shape", MOBILE),
                low=0.75,
                unless=of("cue_suppression.left_local_shape", MOBILE),
            ),
        ),
    ),
    Claim(
        "bagnets-adversarial",
        "source 003",
        "It may explain adversarial perturbations.",
        untried="it says no number and no direction that a measurement could contradict",
    ),
    Claim(
        "bagnets-other-tasks",
        "source 003",
        "It is probably so in other tasks and senses too.",
        untried="tasks other than classifying images are beyond what is built here",
    ),
)

SOURCE = Source(
    "bagnets",
    "BagNets",
    "Brendel & Bethge 2019, Approximating CNNs with bag-of-local-features models works surprisingly well on ImageNet; "
    "sources 000 and 003 retell it.",
    CLAIMS,
)
