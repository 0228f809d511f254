"""An image and its version in the same frame, so that what differs is what was done to it."""

from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.data.images import Batch, Sample
from cuescope.data.preprocessing import Preprocessing, frame, usual


def versions_of(batch: Batch, kind: str) -> list[Sample]:
    """The versions of a kind, as images of their own that are seen whole."""
    return [sample.but(pixels=sample.versions[kind], framing="stimulus") for sample in batch.samples]


def in_frame_of(batch: Batch, kind: str) -> list[Sample]:
    """The images cut out and resized as their versions are, before the classifier resizes both alike.

    Makers take the middle of a photograph, whose short side is resized to 8/7 of theirs; a version of the image's own
    size was not cut.
    """
    return [s.but(pixels=in_frame(s, s.versions[kind]), framing="stimulus") for s in batch.samples]


def in_frame(sample: Sample, version: Tensor) -> Tensor:
    """The image (3, h, w) uint8 in the frame of its version (3, h, w): itself where the two are of one size.

    A version of another size was cut out of the middle as the makers do where it is square, else resized as a whole.
    """
    height, width = version.shape[1:]
    if sample.pixels.shape == version.shape:
        return sample.pixels
    if sample.framing == "photograph" and height == width:
        return frame([sample], usual(height))[0]
    return frame([sample.but(framing="stimulus")], Preprocessing((height, width), (height, width)))[0]


def logits_in_frame_of(classifier: Classifier, batch: Batch, kind: str) -> Tensor:
    """(B, K) logits of the images in the frame of their versions; those of the batch where that is no other frame."""
    pixels, logits = classifier.prepare(in_frame_of(batch, kind)), batch.logits.clone()
    differs = (pixels != batch.pixels).flatten(1).any(1)
    if differs.any():
        logits[differs.cpu()] = classifier.logits(pixels[differs])
    return logits
