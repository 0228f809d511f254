"""Reference values of networks under small shifts: of Azulay & Weiss 2019, Zhang 2019 and Michaeli et al. 2023."""

from cuescope.core.findings import Published

_CHANGES = {
    "VGG-16": {"crop": (0.062, 0.038), "embed": (0.18, 0.06)},
    "ResNet-50": {"crop": (0.061, 0.040), "embed": (0.20, 0.086)},
    "DenseNet-121": {"crop": (0.068, 0.045), "embed": (0.19, 0.079)},
}
"""P(top-1 change) and MAC, by protocol."""
CHANGED = tuple(_CHANGES)


def changes(protocol: str, which: int) -> tuple[Published, ...]:
    """P(top-1 change), or MAC with `which` 1, of Azulay & Weiss 2019, where they give it for the protocol."""
    source = f"Azulay & Weiss 2019, table 1, {'black' if protocol == 'embed' else protocol} protocol, PyTorch"
    known = {who: values[protocol] for who, values in _CHANGES.items() if protocol in values}
    return tuple(Published(who, pair[which], source) for who, pair in known.items())


_ZHANG = "Zhang 2019, README of adobe/antialiased-cnns, ImageNet validation images"
_CONSISTENCY = {
    "AlexNet": (0.5655, 0.7818),
    "ResNet-18": (0.6974, 0.8511),
    "ResNet-50": (0.7616, 0.8920),
    "MobileNetV2": (0.7188, 0.8650),
    "ResNet-50 with Blur-4": (0.7741, 0.9132),
    "MobileNetV2 with Blur-4": (0.7272, 0.8773),
}
"""Top-1 accuracy and consistency; with Blur-4, fine-tuned from the network without."""
CONSISTENCY = {
    name: tuple(Published(who, values[i], _ZHANG) for who, values in _CONSISTENCY.items())
    for i, name in enumerate(("accuracy", "consistency"))
}
