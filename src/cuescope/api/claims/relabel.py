"""Yun et al. 2021: ImageNet's single labels mislead training on crops, and label maps mend it."""

from cuescope.api.claims.benches import PHOTOGRAPHS, SEVERAL, SINGLE
from cuescope.api.claims.claim import CONGRUENT, MOBILE, RANDOM, SHAPE, Claim, Source, Trial, of
from cuescope.api.claims.pages import RELABELED, TRAINED, more
from cuescope.api.claims.work import REAL_LABELS

IMAGENET = "needs training on ImageNet, for hundreds of hours of a GPU"

CLAIMS = (
    Claim(
        "relabel-several",
        "section 1; source 002",
        "Many images show things of several classes, though each has one label.",
        (
            Trial(REAL_LABELS, of("several"), low=0.1, unless=of("none"), why="of ImageNet's validation images"),
            Trial(PHOTOGRAPHS, of("label_map.several", MOBILE), low=0.1, why="by the network's own map"),
        ),
    ),
    Claim(
        "relabel-misjudged",
        "sections 1, 2; source 002",
        "Single labels misjudge networks: answers that are called wrong name another thing in the image.",
        (Trial(SEVERAL, of("multi_label.no_errors", CONGRUENT), low=0.25, unless=of("multi_label.no_errors", RANDOM)),),
    ),
    Claim(
        "relabel-crops-miss",
        "section 1, figure 2; source 002",
        "Of random crops 8 % do not show the object of the label.",
        (
            Trial(
                SEVERAL,
                of("crop_supervision.missing", CONGRUENT),
                low=0.02,
                unless=of("crop_supervision.missing", CONGRUENT),
                elsewhere=SINGLE,
                why="images of several objects",
            ),
        ),
    ),
    Claim(
        "relabel-crops-overlap",
        "section 1, figure 2; source 002",
        "Only 23.5 % of random crops overlap with the object by half or more (IoU).",
        (
            Trial(
                SEVERAL,
                of("crop_supervision.over_half", CONGRUENT),
                high=0.235,
                unless=of("crop_supervision.over_half", CONGRUENT),
                elsewhere=SINGLE,
                why="images of several objects",
            ),
        ),
    ),
    Claim(
        "relabel-crops-mislabeled",
        "section 1, figure 1; source 002",
        "A random crop may show another thing than the label: supervision is wrong.",
        (
            Trial(
                SEVERAL,
                of("crop_supervision.other_where_agreed", CONGRUENT),
                low=0.02,
                unless=of("crop_supervision.other_where_agreed", CONGRUENT),
                elsewhere=SINGLE,
            ),
        ),
    ),
    Claim(
        "relabel-kinds",
        "section 2; source 002",
        "Wrong single labels are of three kinds: several things, synonyms or nested classes, ambiguous images.",
        untried="a sorting, not a measurement; `cuescope audit --only label_errors` suspects these kinds",
    ),
    Claim(
        "relabel-maps",
        "section 3.1; source 002",
        "A classifier's map before its pooling tells what each part of an image shows.",
        (Trial(SEVERAL, of("label_map.where", CONGRUENT), low=0.1, unless=of("label_map.where", SHAPE)),),
    ),
    Claim(
        "relabel-maps-labels",
        "section 3.1; source 002",
        "Its classes are labels of what the image shows, without people: most are right.",
        (Trial(SEVERAL, of("label_map.precision", CONGRUENT), low=0.5, unless=of("label_map.precision", SHAPE)),),
    ),
    Claim(
        "relabel-better",
        "section 4.1; source 002",
        "Trained with local labels of several classes, networks are better: ResNet-50 77.5 to 78.9 %.",
        (
            more(RELABELED, "single-label accuracy"),
            more(TRAINED, "ReLabel against labels: accuracy by the image's label"),
        ),
    ),
    Claim(
        "relabel-better-real",
        "section 4.1",
        "By labels of people who named all things (ReaL) too: 83.6 to 85.0 %.",
        (more(RELABELED, "multi-label accuracy"), more(TRAINED, "ReLabel against labels: accuracy by any label")),
    ),
    Claim(
        "relabel-multi-label",
        "section 4.3",
        "They find more of what an image shows (multi-label).",
        (more(TRAINED, "ReLabel against labels: all labels found (multi-label)"),),
    ),
    Claim(
        "relabel-local",
        "section 4.1; source 002",
        "Labels of the crop beat labels of the whole image: 78.9 against 78.5 %.",
        (
            more(TRAINED, "Local against global maps, several classes: accuracy by any label"),
            more(TRAINED, "Local against global maps, several classes: an object in a random crop named"),
        ),
    ),
    Claim(
        "relabel-local-single",
        "section 4.1",
        "So they do where only one class is named: 78.4 against 77.5 %.",
        (more(TRAINED, "Local against global maps, one class: accuracy by any label"),),
    ),
    Claim(
        "relabel-multi",
        "section 4.1",
        "Several classes a crop beat one: 78.9 against 78.4 %.",
        (more(TRAINED, "Several classes against one, local: accuracy by any label"),),
    ),
    Claim(
        "relabel-annotator",
        "section 3; source 002",
        "A stronger annotator teaches better, a weak one (EfficientNet-B1: 76.1 %) does harm.",
        untried="docs/label_maps.md has one seed, without an interval: there it does harm, 61 to 60 % by any label",
    ),
    *(
        Claim(f"relabel-{name}", "section 4.1", f"{title}: {gain} %.", untried=IMAGENET)
        for name, title, gain in (
            ("resnet18", "ResNet-18 gains", "71.7 to 72.5"),
            ("resnet101", "ResNet-101 gains", "78.1 to 80.7"),
            ("efficientnet", "EfficientNet-B0 to -B3 gain", "77.4, 79.2, 80.3, 81.7 to 78.0, 80.3, 81.0, 82.5"),
            ("cutmix", "With CutMix, ResNet-50 reaches", "80.2"),
            ("cleaning", "It beats leaving out images with wrong labels (Beyer et al.)", "78.9 against 78.1"),
            ("smoothing", "It beats label smoothing", "78.9 against 78.0"),
        )
    ),
    Claim(
        "relabel-detection",
        "section 4.2; source 002",
        "Detection on COCO gains: 37.7 to 38.2 mAP.",
        untried="needs COCO and the training of detectors",
    ),
    Claim(
        "relabel-segmentation",
        "section 4.2; source 002",
        "Instance segmentation gains: 34.7 to 35.2.",
        untried="needs COCO and the training of detectors",
    ),
    Claim(
        "relabel-robust",
        "section 4.2; source 002",
        "It stands attacks and corruptions better.",
        untried="no number was found; `cuescope audit --only attack,distortion_curves` measures it of any network",
    ),
    Claim(
        "relabel-cheap",
        "section 3.1",
        "Maps cost 3.3 % of a training once, and pooling .5 % a step; teaching by a network costs over four times.",
        untried="a matter of the authors' machines; `python bench --only label_maps` times what is here",
    ),
)

SOURCE = Source(
    "relabel",
    "Re-labeling ImageNet",
    "Yun et al. 2021, Re-labeling ImageNet: from single to multi-labels, from global to localized labels; source 002 "
    "retells it.",
    CLAIMS,
)
