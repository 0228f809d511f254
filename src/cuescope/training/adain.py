"""How a decoder learns to invert an encoder's features after AdaIN (Huang and Belongie 2017, section 5)."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cuescope.core.errors import CueError
from cuescope.core.progress import Progress, quiet
from cuescope.data.images import ImageSet, UnreadableError
from cuescope.models.adain import SMALLEST_PX, AdaIN, adain, moments
from cuescope.training.loop import train
from cuescope.training.settings import Settings


@dataclass(frozen=True)
class DecoderSettings(Settings):
    """How the decoder is trained. The authors took COCO for contents and WikiArt for styles."""

    steps: int = 160_000
    batch: int = 8
    optimizer: Literal["sgd", "adamw"] = "adamw"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    resize_px: int = 512
    """Short side that images are resized to, before a square is cut out anywhere."""
    crop_px: int = 256
    decay: float = 5e-5
    """At step k the learning rate is divided by 1 + decay k."""
    content_weight: float = 1.0
    style_weight: float = 10.0
    """Of means of squares, as here and in the common PyTorch port. The authors' own code has 0.01 for other sums."""


def losses(network: AdaIN, content: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
    """The content loss and the style loss of images (B, 3, H, W) in [0, 1] with sides that are multiples of 8.

    Content: the mean squared difference of relu4_1 from t = AdaIN(content, style). Style: the mean squared
    differences of means and of deviations at relu1_1, relu2_1, relu3_1 and relu4_1, summed.
    """
    with torch.no_grad():
        wanted = [moments(maps) for maps in network.features(style)]
        target = adain(network.encode(content), *wanted[-1])
    found = network.features(network.decode(target))
    of_content = F.mse_loss(found[-1].float(), target.float())
    of_style = torch.zeros((), device=target.device)
    for maps, pair in zip(found, wanted, strict=True):
        for own, moment in zip(moments(maps), pair, strict=True):
            of_style = of_style + F.mse_loss(own, moment)
    return of_content, of_style


def train_decoder(
    network: AdaIN,
    contents: Iterable[Tensor],
    styles: Iterable[Tensor],
    settings: DecoderSettings | None = None,
    progress: Progress = quiet,
) -> AdaIN:
    """Train the decoder of a network in place, whose encoder has its weights and keeps them (see `loop.train`).

    `contents` and `styles` yield (B, 3, H, W) floats in [0, 1], as `crops` does.
    """
    how = settings or DecoderSettings()
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    network.encoder.requires_grad_(False)
    network.decoder.requires_grad_(True)

    def loss(_: Any, *pair: Tensor) -> tuple[Tensor, Callable[[], str]]:
        content, style = losses(network, *(images.contiguous(memory_format=torch.channels_last) for images in pair))
        value = how.content_weight * content + how.style_weight * style
        return value, lambda: f"content {float(content.detach()):.3f}, style {float(style.detach()):.3f}"

    pairs = zip(contents, styles, strict=False)

    def rate_at(step: int, _: Settings) -> float:
        return how.learning_rate / (1 + how.decay * step)

    return train(network, pairs, how, progress, loss=loss, rate_at=rate_at, every=1)


def crops(images: ImageSet, settings: DecoderSettings, seed: int) -> Iterator[Tensor]:
    """Endless batches (B, 3, crop_px, crop_px) of squares cut anywhere out of images drawn at random.

    Images that cannot be read, and those smaller than 32 px, are passed over. Raises CueError where none is left.
    """
    from torchvision.transforms.v2.functional import resize

    if settings.crop_px > settings.resize_px:
        raise CueError(f"squares of {settings.crop_px} px out of images of {settings.resize_px} px")
    generator = torch.Generator().manual_seed(seed)
    batch: list[Tensor] = []
    bad: set[int] = set()
    while len(bad) < len(images):
        index = int(torch.randint(len(images), (), generator=generator))
        try:
            pixels = images.read(index).pixels
        except UnreadableError:
            pixels = None
        if pixels is None or min(pixels.shape[1:]) < SMALLEST_PX:
            bad.add(index)
            continue
        pixels = resize(pixels, [settings.resize_px], antialias=True)
        room = [side - settings.crop_px + 1 for side in pixels.shape[1:]]
        top, left = (int(torch.randint(limit, (), generator=generator)) for limit in room)
        batch.append(pixels[:, top : top + settings.crop_px, left : left + settings.crop_px].float() / 255)
        if len(batch) == settings.batch:
            yield torch.stack(batch)
            batch = []
    raise CueError("no image can be used", wanted=f"readable images with sides of at least {SMALLEST_PX} px")
