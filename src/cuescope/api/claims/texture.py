"""Geirhos et al. 2019: ImageNet's networks go by texture, people by shape, and Stylized-ImageNet teaches shape."""

from cuescope.api.claims.benches import ANSWERS, CUES, DISTORTED, LAYERS, PHOTOGRAPHS, STYLIZED
from cuescope.api.claims.claim import (
    BAGNET,
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
    of,
)
from cuescope.api.claims.pages import RESTYLED, TRAINED, more
from cuescope.api.claims.work import RESNET, TRIALS

BIAS, SILHOUETTES = "shape_bias.shape_bias", "cue_accuracy.silhouettes"
NO_IMAGENET = "needs ImageNet's validation images and published weights, which are not here"
DETECTION = "needs VOC or COCO and the training of detectors"

CLAIMS = (
    Claim(
        "texture-bias",
        "section 3.1, figure 4; sources 000, 003",
        "Where shape and texture disagree, networks trained on ImageNet go by texture.",
        (
            Trial(CUES, of(BIAS, CONGRUENT), high=0.5, unless=of(BIAS, SHAPE)),
            Trial(ANSWERS, of(BIAS, SQUEEZE), high=0.5, unless=of("human_agreement.shape_bias_people", SQUEEZE)),
            Trial(ANSWERS, of(BIAS, MOBILE), high=0.5, unless=of("human_agreement.shape_bias_people", MOBILE)),
        ),
    ),
    *(
        Claim(
            f"texture-{name}",
            "section 3.1, figure 4",
            f"{title} goes by texture: a shape bias of {bias}.",
            (Trial(TRIALS, of(who), high=0.5, unless=of("people")),),
        )
        for name, title, bias, who in (
            ("alexnet", "AlexNet", ".429", "AlexNet (Caffe)"),
            ("googlenet", "GoogLeNet", ".312", "GoogLeNet (Caffe)"),
            ("vgg", "VGG-16", ".172", "VGG-16 (Caffe)"),
            ("resnet", "ResNet-50", ".221", RESNET),
        )
    ),
    Claim(
        "texture-people",
        "section 3.1, figure 4; source 000",
        "People go by shape: a shape bias of .959.",
        (Trial(TRIALS, of("people"), low=0.9, unless=of(RESNET)),),
    ),
    Claim(
        "texture-people-everywhere",
        "figure 4",
        "People go by shape in each of the 16 categories.",
        (Trial(TRIALS, of("people, lowest"), low=0.5, unless=of(f"{RESNET}, lowest")),),
    ),
    Claim(
        "texture-alone",
        "section 3.1, figure 2",
        "Networks know textures alone almost perfectly.",
        (Trial(CUES, of("cue_accuracy.textures", CONGRUENT), low=0.9, unless=of("cue_accuracy.textures", SHAPE)),),
    ),
    Claim(
        "texture-silhouettes",
        "section 3.1, figure 2",
        "Silhouettes tell them less than people, who are right on 75 %.",
        (Trial(CUES, of(SILHOUETTES, CONGRUENT), high=0.753, unless=of(SILHOUETTES, SHAPE)),),
    ),
    Claim(
        "texture-edges",
        "section 3.1, figure 2",
        "Edges alone tell them less than silhouettes do, and people more.",
        untried="the world has no edge images, and the authors' are not here: `--cues FOLDER` takes them",
    ),
    Claim(
        "texture-grey",
        "section 3.1, figure 2",
        "Taking the color away costs networks hardly anything.",
        (
            Trial(
                CUES,
                of("cue_suppression.left_color", CONGRUENT),
                low=0.9,
                unless=of("cue_suppression.left_local_shape", CONGRUENT),
            ),
            Trial(
                PHOTOGRAPHS,
                of("cue_suppression.left_color", SQUEEZE),
                low=0.9,
                unless=of("cue_suppression.left_local_shape", SQUEEZE),
            ),
            Trial(
                PHOTOGRAPHS,
                of("cue_suppression.left_color", MOBILE),
                low=0.9,
                unless=of("cue_suppression.left_local_shape", MOBILE),
            ),
        ),
    ),
    Claim(
        "texture-people-grey",
        "figure 2",
        "People lose hardly anything without color either: .975.",
        untried="the trials that are here are of cue conflicts alone",
    ),
    Claim(
        "texture-enough",
        "source 000",
        "Texture is enough for most classes, not for a few: a BagNet is right on 86 % (top-5).",
        (
            Trial(
                CUES,
                of("error_agreement.class_mean", BAGNET),
                low=0.86,
                unless=of("error_agreement.class_mean", RANDOM),
            ),
        ),
    ),
    Claim(
        "texture-easy-way",
        "section 4; source 000",
        "Where texture is enough, the shape is not learned.",
        (Trial(CUES, of(SILHOUETTES, CONGRUENT), high=0.2, unless=of(SILHOUETTES, SHAPE)),),
    ),
    Claim(
        "texture-can-learn",
        "sections 3.2, 4; source 000",
        "The same architecture learns shape where the images ask for it.",
        (
            Trial(CUES, of(SILHOUETTES, SHAPE), low=0.753, unless=of(SILHOUETTES, CONGRUENT)),
            Trial(CUES, of(BIAS, SHAPE), low=0.5, unless=of(BIAS, CONGRUENT)),
        ),
    ),
    Claim(
        "texture-shallow",
        "source 000",
        "What answers to texture lies in shallower layers than what answers to shape.",
        (
            Trial(LAYERS, of("layer_cues.deeper", CONGRUENT), low=0),
            Trial(LAYERS, of("layer_cues.deeper", SHAPE), low=0, unless=of("layer_cues.deeper", CONGRUENT)),
            Trial(ANSWERS, of("layer_cues.deeper", SQUEEZE), low=0),
            Trial(ANSWERS, of("layer_cues.deeper", MOBILE), low=0),
        ),
    ),
    Claim(
        "texture-trains-first",
        "source 000",
        "Units for texture are easier to train, being shallow.",
        untried="the source gives no measure of easy",
    ),
    Claim(
        "texture-augmentation",
        "source 000",
        "The usual crops and flips do not help against it.",
        (Trial(ANSWERS, of(BIAS, MOBILE), high=0.5, unless=of("human_agreement.shape_bias_people", MOBILE)),),
    ),
    Claim(
        "texture-sin-unknown",
        "section 3.2, table 1; source 000",
        "A network trained on the images as they are is lost on stylized ones: ResNet-50 16.4 % top-5.",
        (Trial(STYLIZED, of("stylized.stylized", CONGRUENT), high=0.164, unless=of("stylized.clean", CONGRUENT)),),
    ),
    Claim(
        "texture-sin-bagnet",
        "section 3.2, table 1; source 000",
        "So is a BagNet: 1.4 to 4.2 % top-5.",
        (Trial(STYLIZED, of("stylized.stylized", BAGNET), high=0.164, unless=of("stylized.clean", BAGNET)),),
    ),
    Claim(
        "texture-sin-learned",
        "section 3.2, table 1; source 000",
        "Stylized images can be learned, by shape: 79.0 % top-5 of ResNet-50, of BagNets 10.0 to 48.9 %.",
        (more(TRAINED, "A ResNet learns stylized images better than a BagNet: accuracy on stylized images"),),
    ),
    Claim(
        "texture-sin-shape",
        "section 3.2, figure 5; source 000",
        "Training on stylized images turns the bias to shape: ResNet-50 from .22 to .81.",
        (
            more(TRAINED, "Stylized images alone turn texture to shape: shape bias"),
            more(RESTYLED, "shape bias"),
            Trial(TRIALS, of("ResNet-50 (SIN)"), low=0.5, unless=of(RESNET)),
        ),
    ),
    *(
        Claim(
            f"texture-sin-{name}",
            "figure 5, its appendix",
            f"So it does for {title}: a shape bias of {bias}.",
            (Trial(TRIALS, of(f"{title} (SIN)"), low=0.5, unless=of(f"{title} (torchvision)")),),
        )
        for name, title, bias in (
            ("alexnet", "AlexNet", ".752"),
            ("vgg", "VGG-16", ".772"),
            ("densenet", "DenseNet-121", ".826"),
            ("squeezenet", "SqueezeNet 1.1", ".790"),
        )
    ),
    Claim(
        "texture-sin-silhouettes",
        "section 3.2",
        "It then knows silhouettes that it did not know before.",
        (more(RESTYLED, "accuracy, plain silhouettes"),),
    ),
    Claim(
        "texture-sin-perfect",
        "source 000; table 1",
        "Trained on stylized images it copes perfectly with the originals too.",
        (
            Trial(
                RESTYLED, of("accuracy, congruent images"), low=-0.01, why="the paper's own: 82.6 against 92.9 % top-5"
            ),
        ),
    ),
    Claim(
        "texture-sin-tuned",
        "section 3.3, table 2; source 000",
        "Stylized and original images together, then originals alone: better on originals than together alone.",
        (more(TRAINED, "Stylized C is better than B on clean images: accuracy"),),
    ),
    Claim(
        "texture-sin-best",
        "section 3.3, table 2; source 000",
        "So trained, ResNet-50 is better than one trained on ImageNet alone: 76.7 against 76.1 %.",
        untried=NO_IMAGENET,
    ),
    Claim(
        "texture-voc",
        "section 3.3, table 2; source 000",
        "Detection on VOC 2007 gains: 70.7 to 75.1 mAP.",
        untried=DETECTION,
    ),
    Claim("texture-coco", "section 3.3, table 2", "Detection on COCO gains: 52.3 to 55.2 mAP.", untried=DETECTION),
    Claim(
        "texture-robust",
        "section 3.3, figure 6; source 000",
        "A network that goes by shape stands distortions better than one that goes by texture.",
        (Trial(DISTORTED, gap("distortion_curves.area", SHAPE, CONGRUENT), low=0),),
    ),
    *(
        Claim(
            f"texture-robust-{kind}",
            "section 3.3, figure 6",
            f"So it does with {title}.",
            (Trial(DISTORTED, gap(f"distortion_curves.area_{kind.replace('-', '_')}", SHAPE, CONGRUENT), low=0),),
        )
        for kind, title in (
            ("uniform-noise", "uniform noise"),
            ("contrast", "low contrast"),
            ("low-pass", "low-pass filtered images, the exception in the paper"),
            ("high-pass", "high-pass filtered images"),
            ("phase-noise", "phase noise"),
        )
    ),
    Claim(
        "texture-people-noise",
        "section 3.3, figure 6; source 003",
        "So trained, a network stands noise as people do.",
        untried="needs people, or their trials with noise",
    ),
    Claim(
        "texture-errors",
        "section 3.1; source 000",
        "Networks err on other images than people do, who agree among themselves.",
        (Trial(TRIALS, of("networks with people"), high=0.2, unless=of("people with people")),),
    ),
    Claim(
        "texture-networks-alike",
        "sources 000, 003",
        "Networks agree with each other more than with people.",
        (Trial(TRIALS, apart("networks with networks", "networks with people"), low=0),),
    ),
    Claim(
        "texture-sin-errors",
        "section 3.2; source 000",
        "Trained on stylized images they answer more like people.",
        (Trial(TRIALS, apart("stylized with people", "networks with people"), low=0),),
    ),
    Claim("texture-alexnet-accuracy", "source 000", "AlexNet was right on 60 % (top-5 80 %).", untried=NO_IMAGENET),
    Claim(
        "texture-resnet-accuracy", "source 000", "ResNet-50 has a top-5 accuracy of about 93 %.", untried=NO_IMAGENET
    ),
)

SOURCE = Source(
    "texture",
    "Texture, shape and Stylized-ImageNet",
    "Geirhos et al. 2019, ImageNet-trained CNNs are biased towards texture; sources 000 and 003 retell it.",
    CLAIMS,
)
