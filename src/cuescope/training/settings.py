"""Settings of trainings, which the command line reads: no torch is imported here."""

import importlib.util
from dataclasses import dataclass, field, replace
from typing import Literal

from cuescope.core.errors import CueError


def check(wanted: str, *rules: tuple[str, bool]) -> None:
    """Raise CueError for the first setting, as "key=value", whose rule is broken."""
    for found, right in rules:
        if not right:
            raise CueError(found, wanted=wanted, do="see `cuescope list recipes` for the usual values")


@dataclass(frozen=True)
class Settings:
    """How a network is trained. The learning rate rises linearly, then falls."""

    steps: int
    batch: int = 64
    optimizer: Literal["sgd", "adamw", "adamp"] = "sgd"
    learning_rate: float = 0.1
    warmup_steps: int = 0
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """How the learning rate falls: to zero along a half cosine; to a tenth each `drop_every` steps; not at all."""
    drop_every: int = 1
    """Steps between two falls of the schedule "step"."""
    momentum: float = 0.9
    """Of SGD; AdamW and AdamP use their own betas, .9 and .999."""
    nesterov: bool = False
    """Of SGD and AdamP: the momentum looks ahead."""
    weight_decay: float = 1e-4
    """Not applied to biases and batch norms, which have one dimension."""
    decay_all: bool = False
    """Biases and batch norms decay too."""
    label_smoothing: float = 0.0
    filter_rms: float | None = None
    """The most root mean square that a convolution's filter may have (see `limit_filters`); None for no limit."""
    average: float = 0.0
    """Decay of the moving average of the weights (EMA), which is evaluated; 0 for none."""
    grain: int = 0
    """Images in one forward pass, whose gradients are summed up to the batch: batch norms see so many; 0 for all."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 by autocast: weights and their updates stay in float32."""
    compile: bool = False
    """Compile the network first."""
    device: str = "cpu"
    seed: int = 0
    """Of whatever the model itself draws while training, such as dropout."""


@dataclass(frozen=True)
class Blurred(Settings):
    """Settings of the loop, and the blurs'."""

    filter_size: int = 4
    """Size of the blurs, 1 to 7; 1 is no blur."""


@dataclass(frozen=True)
class Relabeled(Settings):
    """Settings of the loop, and of the targets."""

    targets: Literal["maps", "label"] = "maps"
    """The annotator's map in the region of the crop, or the image's one label whatever the crop shows."""
    annotator: str = ""
    """File of weights that `cuescope train world-annotator` made; without one world-congruent annotates."""
    images: int = 2000
    """Images to learn from, seen again and again in other crops."""
    top: int = 5
    """Classes that are kept at each position of a map."""
    least: float = 0.08
    """The least share of an image that a crop takes; 1 at most."""


@dataclass(frozen=True)
class Stylized(Settings):
    """Settings of the loop, and of the images."""

    share: float = 0.75
    """Of each batch that is stylized, from 0 to 1."""
    pool: int = 4096
    """Stylized images: made before the training, and seen again and again, mirrored half of the time."""
    styles: int = 256
    """Images of textures that the stylized ones are in the texture of, of all classes alike."""


@dataclass(frozen=True)
class WordSettings:
    """How a bag of visual words is fitted. Raises CueError for values that cannot be."""

    size_px: int = 224
    """Side of the square that images are resized and center-cropped to."""
    side_px: int = 9
    """Side of a patch."""
    stride_px: int = 4
    """Distance of neighboring patches."""
    color: bool = False
    """Patches of red, green and blue in place of gray."""
    components: int = 32
    """Numbers a patch is whitened to, by principal components."""
    words: int = 1000
    """Size of the codebook."""
    patches: int = 100_000
    """Patches that the words are found from, drawn from images spread evenly over the set."""
    images: int = 20_000
    """The most images to learn from, spread evenly over the set: memory holds one histogram of each."""
    inverse_penalty: float = 0.03
    """C of the logistic regression: larger fits the training images more closely."""
    seed: int = 0
    """Of the patches drawn, the images held out and the first words."""

    def __post_init__(self) -> None:
        numbers = self.side_px**2 * (3 if self.color else 1)
        check(
            "images at least as large as a patch, and fewer components than a patch has numbers",
            (f"size_px={self.size_px} and side_px={self.side_px}", self.size_px >= self.side_px >= 2),
            (f"stride_px={self.stride_px}", self.stride_px >= 1),
            (f"words={self.words}", self.words >= 2),
            (f"patches={self.patches} and words={self.words}", self.patches >= self.words),
            (f"images={self.images}", self.images >= 2),
            (f"inverse_penalty={self.inverse_penalty}", self.inverse_penalty > 0),
            # A patch without its mean has one dimension less than it has numbers.
            (f"components={self.components} of patches of {numbers} numbers", 1 <= self.components < numbers),
        )


@dataclass(frozen=True)
class EpochSettings:
    """How a network is trained over epochs, whatever it learns. Raises CueError for values that cannot be."""

    epochs: int = 90
    """How many times each image is seen."""
    batch: int = 256
    """Images a step, in all processes together."""
    optimizer: Literal["sgd", "adamw", "adamp"] = "sgd"
    """What turns gradients into steps: SGD, AdamW or AdamP (Heo et al. 2021)."""
    learning_rate: float = 0.1
    """Of the first step after the warm-up."""
    warmup_epochs: float = 0.0
    """The learning rate rises from 0 over these."""
    schedule: Literal["step", "cosine", "constant"] = "step"
    """How it falls: to a tenth each `drop_every` epochs; to 0 along a half cosine; not at all."""
    drop_every: int = 30
    """Epochs between two falls of the schedule "step"."""
    momentum: float = 0.9
    """Of SGD."""
    nesterov: bool = False
    """Of SGD and AdamP: the momentum looks ahead."""
    weight_decay: float = 1e-4
    """Of all weights, those of batch norms and biases too, with `decay_all`."""
    decay_all: bool = True
    """Biases and batch norms decay too."""
    average: float = 0.0
    """Decay of the moving average of the weights (EMA), which is evaluated; 0 for none."""
    grain: int = 0
    """Images in one forward pass, whose gradients are summed up to the batch; 0 for all."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 is faster where the processor has it; weights and their updates stay in float32."""
    compile: bool = False
    """Compile the network first: pays on long trainings on a GPU."""
    track: bool = False
    """Write the metrics for TensorBoard too, which the extra track installs: tensorboard --logdir FOLDER."""
    device: str = "auto"
    """Where it is trained: auto is a GPU where there is one."""
    seed: int = 0
    """Of the new weights, the images held out, their order, the crops and the dropout."""

    def __post_init__(self) -> None:
        check(
            "epochs, batch and learning_rate above 0, momentum and average below 1",
            (f"epochs={self.epochs}", self.epochs >= 1),
            (f"batch={self.batch}", self.batch >= 1),
            (f"learning_rate={self.learning_rate}", self.learning_rate > 0),
            (f"warmup_epochs={self.warmup_epochs}", self.warmup_epochs >= 0),
            (f"drop_every={self.drop_every}", self.drop_every >= 1),
            (f"momentum={self.momentum}", 0 <= self.momentum < 1),
            (f"weight_decay={self.weight_decay}", self.weight_decay >= 0),
            (f"average={self.average}", 0 <= self.average < 1),
            (f"grain={self.grain}", self.grain >= 0),
        )
        if self.track and importlib.util.find_spec("tensorboard") is None:
            do = "pip install 'cuescope[track]'"
            raise CueError("track=True needs tensorboard", wanted="the extra track", do=do)

    def of_steps(self, steps_per_epoch: int, batch: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Settings:
        """The settings of the loop for an epoch of so many steps."""
        names = ("optimizer", "learning_rate", "schedule", "momentum", "nesterov", "weight_decay", "decay_all")
        names += ("average", "grain", "precision", "compile", "device", "seed")
        return Settings(
            steps=self.epochs * steps_per_epoch,
            batch=batch,
            warmup_steps=round(self.warmup_epochs * steps_per_epoch),
            drop_every=self.drop_every * steps_per_epoch,
            mean=mean,
            std=std,
            **{name: getattr(self, name) for name in names},
        )


@dataclass(frozen=True)
class NetworkSettings(EpochSettings):
    """How a network is trained on labeled images: by default as torchvision's on ImageNet, the 90-epoch protocol.

    Raises CueError for values that cannot be.
    """

    model: str = "torchvision/resnet50@random"
    """Which network, as for `cuescope audit`: with @random a new one, else its weights are trained on."""
    size_px: int = 0
    """Side of the input; 0 for the network's own."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""
    least: float = 0.08
    """The least share of an image that a random crop takes."""
    most: float = 1.0
    """The largest share."""
    whole: float = 0.0
    """Share of the images that are seen whole in place of a crop."""
    jitter: float = 0.0
    """Brightness, contrast and saturation are multiplied by 1 plus or minus at most this."""
    lighting: float = 0.0
    """Standard deviation of the noise along the principal components of ImageNet's colors (Krizhevsky et al. 2012)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            "0 < least <= most <= 1, whole to 1, jitter and label_smoothing below 1",
            (f"label_smoothing={self.label_smoothing}", 0 <= self.label_smoothing < 1),
            (f"least={self.least} and most={self.most}", 0 < self.least <= self.most <= 1),
            (f"whole={self.whole}", 0 <= self.whole <= 1),
            (f"size_px={self.size_px}", self.size_px >= 0),
            (f"jitter={self.jitter}", 0 <= self.jitter < 1),
            (f"lighting={self.lighting}", self.lighting >= 0),
        )

    def of_steps(self, steps_per_epoch: int, batch: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Settings:
        return replace(super().of_steps(steps_per_epoch, batch, mean, std), label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class DetectionSettings(EpochSettings):
    """How a detector is fine-tuned: by default as torchvision's on COCO, with a batch of 16 in all.

    Raises CueError for values that cannot be.
    """

    epochs: int = 26
    batch: int = 16
    learning_rate: float = 0.02
    warmup_epochs: float = 0.1
    drop_every: int = 18
    size_px: int = 800
    """Short side of the images, which are resized to it; 0 for that of most of the images."""
    longest_px: int = 1333
    """The most that the long side may have then."""
    anchors: tuple[int, ...] = ()
    """Sides of the anchors in px of the resized image; by default they span the boxes that are learned from."""
    channels: int = 256
    """Of the feature pyramid."""
    width: int = 1024
    """Of the head that classifies boxes."""
    rois: int = 512
    """Proposals an image that the head learns from."""
    proposals: int = 2000
    """Proposals of each level, and in all, that are kept while it learns; half as many when it is tried."""
    frozen: int = 1
    """Levels of a backbone with weights, the first ones, that are not trained; those of new weights all are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            "sizes of 0 or more, channels, width, rois and proposals of 1 or more",
            (f"size_px={self.size_px}", self.size_px >= 0),
            (f"longest_px={self.longest_px}", self.longest_px >= max(self.size_px, 32)),
            (f"anchors={self.anchors}", all(side >= 1 for side in self.anchors)),
            (f"channels={self.channels}", self.channels >= 1),
            (f"width={self.width}", self.width >= 1),
            (f"rois={self.rois}", self.rois >= 1),
            (f"proposals={self.proposals}", self.proposals >= 2),
            (f"frozen={self.frozen}", self.frozen >= 0),
        )


@dataclass(frozen=True)
class ZFNetSettings(NetworkSettings):
    """How ZFNet or a variant of it is trained. Raises CueError for values that cannot be."""

    model: str = field(init=False, default="")
    epochs: int = 70
    batch: int = 128
    learning_rate: float = 0.01
    schedule: Literal["step", "cosine", "constant"] = "cosine"
    weight_decay: float = 5e-4
    decay_all: bool = False
    variant: str = "zfnet"
    """Which network: zfnet, one of its variants in the paper's table 3, or alexnet-2012, as `cuescope list models`."""
    crops: Literal["ten", "any"] = "ten"
    """Which crop of the square of the middle: one of its four corners and the middle, or any; mirrored or not."""
    filter_rms: float = 0.1
    """The most root mean square of a convolution's filter, for pixels of 0 to 255 less their mean; inf for no limit."""
    initial: Literal["he", "paper"] = "he"
    """First weights: scaled to each layer's inputs, or the paper's N(0, .01), which needs ImageNet's patience."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check("filter_rms above 0", (f"filter_rms={self.filter_rms}", self.filter_rms > 0))
        object.__setattr__(self, "model", f"cuescope/{self.variant}@random")

    def of_steps(self, steps_per_epoch: int, batch: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Settings:
        return replace(super().of_steps(steps_per_epoch, batch, mean, std), filter_rms=self.filter_rms)


@dataclass(frozen=True)
class StylizedNetwork(NetworkSettings):
    """How a network is trained on stylized images. Raises CueError for values that cannot be."""

    stylized: str = ""
    """Folder that `cuescope make stylized` made of the images; or several of other seeds, separated by commas."""
    originals: bool = False
    """Learn from the images themselves too, not from their stylized versions alone."""


@dataclass(frozen=True)
class RelabeledNetwork(NetworkSettings):
    """How a network is trained on label maps. Raises CueError for values that cannot be."""

    label_maps: str = ""
    """Folder that `cuescope make label-maps` made of the images."""
    targets: Literal["label", "local-multi", "local-single", "global-multi", "global-single"] = "local-multi"
    """What a crop teaches: the image's label; the map in the crop's region or of the whole image, all its classes as
    they are likely, or the most likely one alone."""
    cutmix: float = 0.0
    """Probability that the images of a batch are mixed (Yun et al. 2019)."""
    cutmix_off: int = 5
    """The last epochs, in which nothing is mixed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            "cutmix from 0 to 1, cutmix_off 0 or more",
            (f"cutmix={self.cutmix}", 0 <= self.cutmix <= 1),
            (f"cutmix_off={self.cutmix_off}", self.cutmix_off >= 0),
        )
