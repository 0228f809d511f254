"""The audits that claims of several sources read."""

from cuescope.api.claims.claim import BAGNET, BOW, CONGRUENT, DATA, MOBILE, RANDOM, SHAPE, SQUEEZE, Bench

PHOTOS, STIMULI, PEOPLE = f"{DATA}/imagenet-sample", f"{DATA}/cue-conflict", f"{DATA}/human"
STYLES = "world:texture-only:256"

CUES = Bench(
    "cues",
    (CONGRUENT, SHAPE, BAGNET, BOW, RANDOM),
    "world:congruent:240",
    ("accuracy", "shape_bias", "cue_accuracy", "cue_suppression", "error_agreement", "logit_correlation"),
    {"cue_conflict": "world:conflict:240", "cues": "world:480"},
)
MANY = Bench("many", (CONGRUENT, BAGNET, BOW, RANDOM), "world:congruent:960", ("accuracy",))
PATCHES = Bench(
    "patches",
    (CONGRUENT, SHAPE, BAGNET, RANDOM),
    "world:congruent:240",
    ("evidence", "top_patches", "interaction", "masking_sensitivity", "stickers"),
)
SEVERAL = Bench(
    "several",
    (CONGRUENT, SHAPE, BAGNET, RANDOM),
    "world:several:240",
    ("accuracy", "error_agreement", "multi_label", "label_map", "crop_supervision"),
    makes={"label-maps": {"model": CONGRUENT}},
)
SINGLE = Bench(
    "single",
    (CONGRUENT,),
    "world:congruent:240",
    ("crop_supervision",),
    makes={"label-maps": {"model": CONGRUENT}},
)
"""One object an image, of half its width: what crops of several objects are to be compared with."""
STYLIZED = Bench(
    "stylized", (CONGRUENT, SHAPE, BAGNET), "world:congruent:96", ("stylized",), makes={"stylized": {"styles": STYLES}}
)
TEXTURIZED = Bench(
    "texturized",
    (CONGRUENT, SHAPE, BAGNET),
    "world:congruent:96",
    ("scramble",),
    makes={"texturized": {"limit": 32, "steps": 60}},
)
DISTORTED = Bench(
    "distorted",
    (CONGRUENT, SHAPE, BAGNET),
    "world:congruent:96",
    ("distortion_curves",),
    makes={"distorted": {}},
)
UNITS = Bench(
    "units",
    (CONGRUENT, SHAPE, RANDOM),
    "world:congruent:240",
    ("top_units", "deconvnet", "occlusion", "picture_sanity", "invariance", "correspondence"),
)
LAYERS = Bench(
    "layers",
    (CONGRUENT, SHAPE, BAGNET, RANDOM),
    "world:congruent:240",
    ("layer_cues", "layer_probe", "few_shot"),
    {"cue_conflict": "world:conflict:240"},
)
SHIFTED = Bench(
    "shifted",
    (CONGRUENT, f"{CONGRUENT}+blur4", f"{CONGRUENT}+aps", BAGNET),
    "world:congruent:240",
    ("shift_stability", "shift_consistency", "shiftability", "nonlinearity", "typicality"),
)
"""One as it is, one that blurs, one that no cyclic shift changes, and one of small patches."""
ANSWERS = Bench(
    "answers",
    (SQUEEZE, MOBILE),
    PHOTOS,
    ("shape_bias", "human_agreement", "layer_cues"),
    {"cue_conflict": STIMULI, "human_data": PEOPLE},
)
"""Of all the stimuli; no photograph is asked for."""
PHOTOGRAPHS = Bench(
    "photographs",
    (SQUEEZE, MOBILE),
    PHOTOS,
    ("accuracy", "cue_suppression", "shift_stability", "shift_consistency", "label_map"),
    settings={
        "cue_suppression.levels": "named",
        "cue_suppression.images": 64,
        "shift_stability.protocols": "crop,embed,inpaint,size",
        "label_map.images": 64,
    },
    limit=120,
)
INSIDE = Bench(
    "inside",
    (SQUEEZE, MOBILE),
    PHOTOS,
    ("interaction", "picture_sanity", "nonlinearity", "shiftability", "stickers"),
    settings={
        "interaction.images": 12,
        "interaction.sizes": "largest",
        "picture_sanity.images": 6,
        "nonlinearity.images": 8,
        "shiftability.images": 16,
        "stickers.images": 12,
    },
    limit=64,
)
MOVED = Bench("moved", (SQUEEZE, MOBILE), PHOTOS, ("invariance",), settings={"invariance.images": 8}, limit=64)
SMALL = Bench("small", (SQUEEZE, MOBILE), f"{DATA}/cifar10-sample/train", ("layer_probe", "few_shot"), limit=400)
"""Classes of other images than those that they learned from: CIFAR-10's, of which 2,000 are here."""
