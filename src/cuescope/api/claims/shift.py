"""Azulay & Weiss 2019, and Zhang 2019: a pixel changes answers, subsampling is why, and blurs help in part."""

from cuescope.api.claims.benches import INSIDE, PHOTOGRAPHS, SHIFTED
from cuescope.api.claims.claim import CONGRUENT, MOBILE, SQUEEZE, Claim, Source, Trial, apart, gap, less, of
from cuescope.api.claims.pages import BLURRED, CENTERED, TRAINED, fewer, more

BLUR, APS = f"{CONGRUENT}+blur4", f"{CONGRUENT}+aps"
CROP, BLACK, PAINTED, SIZE = (f"shift_stability.top1_change{name}" for name in ("", "_embed", "_inpaint", "_size"))


def both(name: str, low: float) -> tuple[Trial, ...]:
    """Of both networks on photographs, and not of one that no whole shift of a small image on black changes."""
    still = {"unless": of(BLACK, APS), "elsewhere": SHIFTED}
    return tuple(Trial(PHOTOGRAPHS, of(name, model), low=low, **still) for model in (SQUEEZE, MOBILE))


CLAIMS = (
    Claim(
        "shift-crop",
        "section 2, table 1; source 004",
        "One pixel of shift changes the answer to some crops: 6 % of the networks of table 1, 5 to 14 % in Keras.",
        (
            Trial(SHIFTED, of(CROP, CONGRUENT), low=0.01, unless=of("shift_stability.top1_change_embed", APS)),
            *both(CROP, 0.01),
        ),
    ),
    Claim(
        "shift-black",
        "section 2, table 1; source 004",
        "Of small images on black, 11 to 29 %.",
        both(BLACK, 0.11),
    ),
    Claim(
        "shift-painted",
        "section 2, figure 2; source 004",
        "Painting the black from its borders does not cure it.",
        both(PAINTED, 0.05),
    ),
    Claim(
        "shift-size",
        "section 2, figure 2; source 004",
        "A pixel more in size changes answers as well.",
        both(SIZE, 0.05),
    ),
    Claim(
        "shift-worst",
        "abstract; source 004",
        "By one pixel the answer changes in up to 30 %, not more.",
        tuple(
            Trial(PHOTOGRAPHS, of(BLACK, model), high=0.3, unless=of(PAINTED, CONGRUENT), elsewhere=SHIFTED)
            for model in (SQUEEZE, MOBILE)
        ),
    ),
    Claim(
        "shift-mac",
        "section 2, table 1; source 004",
        "Its probability moves by .027 to .058 on crops, by .03 to .093 on black.",
        (
            Trial(SHIFTED, of("shift_stability.mac", CONGRUENT), low=0.02, unless=of("shift_stability.mac_embed", APS)),
            *both("shift_stability.mac", 0.02),
            *both("shift_stability.mac_embed", 0.02),
        ),
    ),
    Claim(
        "shift-untypical",
        "section 4; source 004",
        "Small images on a canvas, unlike those of training, are less stable than crops.",
        tuple(Trial(PHOTOGRAPHS, apart(BLACK, CROP, model), low=0) for model in (SQUEEZE, MOBILE)),
    ),
    Claim(
        "shift-convolution",
        "section 3; source 004",
        "Convolutions do not make a network invariant: pooled features move by a pixel of shift.",
        (
            Trial(
                SHIFTED,
                of("shiftability.aliasing_layer3", CONGRUENT),
                low=1e-3,
                unless=of("shiftability.aliasing_layer3", APS),
            ),
            *(Trial(INSIDE, of("shiftability.energy_last", model), low=1e-3) for model in (SQUEEZE, MOBILE)),
        ),
    ),
    Claim(
        "shift-deeper",
        "section 3; source 004",
        "Deeper layers, which are subsampled more, move more.",
        (
            Trial(
                SHIFTED,
                apart("shiftability.aliasing_layer3", "shiftability.aliasing_layer1", CONGRUENT),
                low=0,
                unless=apart("shiftability.aliasing_layer3", "shiftability.aliasing_layer1", APS),
            ),
        ),
    ),
    Claim(
        "shift-subsampling",
        "section 3; source 004",
        "Subsampling is why: one that keeps the same samples of a shifted map, with the same weights, moves less.",
        (Trial(SHIFTED, gap("shiftability.energy_last", APS, CONGRUENT), high=0),),
    ),
    Claim(
        "shift-pooling",
        "section 3; source 004",
        "Global pooling makes features invariant only where they are sampled finely enough: a bag of patches four "
        "pixels apart moves less.",
        (Trial(SHIFTED, less("shift_stability.mac", "cuescope/world-bagnet", CONGRUENT), high=0),),
    ),
    Claim(
        "shift-nonlinearity",
        "section 5; source 004",
        "After a blur, nonlinearities bring back detail that cannot be sampled.",
        (
            Trial(
                SHIFTED, of("nonlinearity.made", CONGRUENT), low=0.01, unless=of("shiftability.aliasing_layer3", APS)
            ),
            *(Trial(INSIDE, of("nonlinearity.made", model), low=0.01) for model in (SQUEEZE, MOBILE)),
        ),
    ),
    Claim(
        "shift-blur-helps",
        "section 5; source 004; Zhang 2019",
        "Networks that blur before they subsample change their answers less, once trained so.",
        (
            fewer(BLURRED, "P(top-1 change), an image and its eight neighbors, 16,000 images"),
            fewer(BLURRED, "P(top-1 change), windows of the enlarged image, 2,000 images"),
        ),
    ),
    Claim(
        "shift-blur-features",
        "section 5; Zhang 2019",
        "Blurs make the pooled features move less, even untrained.",
        (Trial(SHIFTED, gap("shiftability.energy_last", BLUR, CONGRUENT), high=0),),
    ),
    Claim(
        "shift-blur-partial",
        "section 5; source 004",
        "It is a solution in part: some answers still change.",
        (Trial(SHIFTED, of(CROP, BLUR), low=0, unless=of("shift_stability.top1_change_embed", APS)),),
    ),
    Claim(
        "shift-blur-scratch",
        "Zhang 2019, accuracy and consistency",
        "Trained from the start with blurs, two crops agree more: ResNet-50 89.2 to 91.3 %.",
        (more(TRAINED, "BlurPool from scratch: consistency"),),
    ),
    Claim(
        "shift-blur-accuracy",
        "Zhang 2019, accuracy and consistency",
        "And accuracy rises: ResNet-18 69.7 to 71.5 %.",
        (more(TRAINED, "BlurPool from scratch: accuracy"), more(BLURRED, "accuracy, the same")),
    ),
    Claim(
        "shift-blur-tuned",
        "Zhang's repository",
        "Fine-tuning a trained network with blurs is enough for that.",
        (more(TRAINED, "BlurPool fine-tuned: consistency"),),
    ),
    Claim(
        "shift-crops",
        "section 5; source 004",
        "Stronger crops in training help, in part.",
        (more(TRAINED, "Crops of .3 to .8 against .08 to 1: consistency"),),
    ),
    Claim(
        "shift-augmented",
        "section 4; source 004",
        "Having seen objects at every place does not make a network stable.",
        (
            Trial(
                SHIFTED,
                of("shift_stability.top1_change_inpaint", CONGRUENT),
                low=0.01,
                unless=of("shift_stability.top1_change_embed", APS),
                why="learned from objects at all places",
            ),
        ),
    ),
    Claim(
        "shift-photographer",
        "section 4; source 004",
        "Networks learn invariance for images framed as those they learned from: others are less stable.",
        (
            more(CENTERED, "the least typical third of all less the most typical"),
            more(CENTERED, "objects scattered less centered, the same images"),
        ),
    ),
    Claim(
        "shift-photographer-all",
        "section 4; source 004",
        "A network that learned from objects anywhere has no such bias.",
        (
            Trial(
                SHIFTED,
                of("typicality.excess", CONGRUENT),
                -0.02,
                0.02,
                unless=of("shift_stability.top1_change_inpaint", CONGRUENT),
            ),
        ),
    ),
    Claim(
        "shift-accuracy",
        "Zhang's repository, issue 52",
        "Being right more often alone makes crops agree more: they agree more where it is right.",
        tuple(
            Trial(
                PHOTOGRAPHS, apart("shift_consistency.consistency_right", "shift_consistency.consistency", model), low=0
            )
            for model in (SQUEEZE, MOBILE)
        ),
    ),
    Claim(
        "shift-keypoints",
        "section 4",
        "ImageNet's terriers stand in the middle, upright and of one size.",
        untried="needs key points of a class of ImageNet; `--only typicality` tells places and sizes of boxes",
    ),
    Claim(
        "shift-inception",
        "section 2, figure 2; source 004",
        "InceptionResNetV2 changes its answer too, as modern networks do more than VGG-16.",
        untried="its weights are not here; `cuescope audit keras/... --only shift_stability`",
    ),
    Claim(
        "shift-unsolved",
        "abstract; source 004",
        "Invariance and accuracy together remain unsolved.",
        untried="says what is not known",
    ),
)

SOURCE = Source(
    "shift",
    "Small shifts, and blurs before subsampling",
    "Azulay & Weiss 2019, Why do deep convolutional networks generalize so poorly to small image transformations?; "
    "Zhang 2019, Making convolutional networks shift-invariant again; source 004 retells the first.",
    CLAIMS,
)
