"""Reference values on ImageNet-A and ImageNet-R: the top-1 among their 200 classes, of timm's published results."""

from cuescope.core.findings import Published

_SOURCE = "timm's results of rwightman, commit aa4b5850"
_TOP1 = {
    "imagenet-a": {
        **{"resnet18.tv_in1k": 0.0112, "vgg16.tv_in1k": 0.0256, "mobilenetv2_100.ra_in1k": 0.0217},
        **{"resnet50.tv2_in1k": 0.1439, "resnet50.a1_in1k": 0.0997, "tf_efficientnet_l2.ns_jft_in1k_475": 0.8337},
    },
    "imagenet-r": {
        **{"resnet18.tv_in1k": 0.3302, "vgg16.tv_in1k": 0.2796, "mobilenetv2_100.ra_in1k": 0.3259},
        **{"resnet50.tv_in1k": 0.3616, "resnet50.tv2_in1k": 0.4284, "resnet50.a1_in1k": 0.4042},
        **{"tf_efficientnet_l2.ns_jft_in1k_475": 0.7635},
    },
}
"""ImageNet-A was chosen against torchvision's first ResNet-50, which is near 0 by construction: it is left out."""


def top1(subset: str) -> tuple[Published, ...]:
    """The references of one of the two, in the order of the networks; none for another one.

    >>> top1("imagenet-r")[0].value
    0.3302
    """
    return tuple(Published(who, value, _SOURCE) for who, value in _TOP1.get(subset, {}).items())
