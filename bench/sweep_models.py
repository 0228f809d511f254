"""The architectures that are swept: one or two of each family, the smallest, at a size that they take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

CLASSES = 16
TIMM: dict[str, int | tuple[int, dict[str, Any]]] = {
    **{"resnet10t": 96, "seresnext26d_32x4d": 96, "res2net50_26w_4s": 96, "resnest14d": 96, "regnety_002": 96},
    **{"hrnet_w18_small": 96, "dla34": 96, "dpn48b": 96, "inception_v4": 139, "inception_resnet_v2": 139},
    **{"xception41": 96, "vgg11_bn": 64, "mobilenetv4_conv_small": 96, "efficientnet_b0": 96, "ghostnet_100": 96},
    **{"tf_efficientnetv2_b0": 96, "repvgg_a0": 96, "dm_nfnet_f0": 96, "convnext_atto": 96, "convnextv2_atto": 96},
    "vit_tiny_patch16_224": (64, {"img_size": 64}),
    "vit_base_patch16_clip_224": (64, {"img_size": 64, "depth": 2, "embed_dim": 192, "num_heads": 3}),
    "vit_relpos_small_patch16_224": (64, {"img_size": 64, "depth": 2}),
    "deit3_small_patch16_224": (64, {"img_size": 64, "depth": 2}),
    "beit_base_patch16_224": (64, {"img_size": 64, "depth": 2}),
    "eva02_tiny_patch14_224": (70, {"img_size": 70}),
    "swin_tiny_patch4_window7_224": (112, {"img_size": 112}),
    "swinv2_cr_tiny_ns_224": (128, {"img_size": 128}),
    "maxvit_rmlp_pico_rw_256": (64, {"img_size": 64}),
    "coatnet_pico_rw_224": (64, {"img_size": 64}),
    **{"mobilevit_xxs": 64, "mobilevitv2_050": 64, "levit_128s": 224, "efficientformer_l1": 224},
    **{"efficientformerv2_s0": 224, "poolformer_s12": 64, "caformer_s18": 64, "edgenext_xx_small": 64},
    "mixer_s32_224": (96, {"img_size": 96}),
    "resmlp_12_224": (64, {"img_size": 64}),
    "gmlp_ti16_224": (64, {"img_size": 64}),
    "cait_xxs24_224": (64, {"img_size": 64, "depth": 4}),
    "xcit_nano_12_p16_224": (64, {"img_size": 64}),
    "tnt_s_legacy_patch16_224": (64, {"img_size": 64, "depth": 2}),
    "twins_svt_small": (64, {"img_size": 64}),
    "mvitv2_tiny": (64, {"img_size": 64}),
    "volo_d1_224": (96, {"img_size": 96}),
    "crossvit_tiny_240": (240, {}),
    "visformer_tiny": (96, {"img_size": 96}),
    **{"pvt_v2_b0": 64, "convmixer_768_32": 56, "fastvit_t8": 64},
}
TORCHVISION = {
    **{"resnet18": 96, "densenet121": 64, "vgg11": 64, "alexnet": 96, "googlenet": 96, "inception_v3": 139},
    **{"squeezenet1_1": 96, "mobilenet_v2": 96, "mobilenet_v3_small": 96, "mnasnet0_5": 96, "shufflenet_v2_x0_5": 96},
    **{"efficientnet_b0": 96, "regnet_x_400mf": 96, "vit_b_16": 64, "swin_t": 64, "maxvit_t": 224},
}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
STAGES = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32]}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "ViT": {"image_size": 64, "patch_size": 16, **SMALL},
    "DeiT": {"image_size": 64, "patch_size": 16, **SMALL},
    "Beit": {"image_size": 64, "patch_size": 16, **SMALL},
    "Dinov2": {"image_size": 64, "patch_size": 16, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    "ResNet": {"embedding_size": 8, **STAGES},
    "ConvNext": STAGES,
    "Swin": {"image_size": 64, "embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    "Segformer": {**STAGES, "num_attention_heads": [1, 2, 2, 2], "decoder_hidden_size": 32},
}


@dataclass(frozen=True)
class Model:
    """One architecture, with random weights."""

    library: str
    architecture: str
    size: int
    settings: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        return f"{self.library}/{self.architecture}"

    def make(self) -> nn.Module:
        """The network. Raises ImportError where its library is not there."""
        return MAKE[self.library](self)


def _timm(model: Model) -> nn.Module:
    import timm

    return timm.create_model(model.architecture, num_classes=CLASSES, **model.settings)


def _torchvision(model: Model) -> nn.Module:
    from torchvision import models

    return models.get_model(model.architecture, num_classes=CLASSES, **model.settings)


def _transformers(model: Model) -> nn.Module:
    import transformers

    config = getattr(transformers, f"{model.architecture}Config")(num_labels=CLASSES, **model.settings)
    return getattr(transformers, f"{model.architecture}ForImageClassification")(config)


MAKE = {"timm": _timm, "torchvision": _torchvision, "transformers": _transformers}


def models() -> list[Model]:
    """All architectures, library by library."""
    found = [(name, given if isinstance(given, tuple) else (given, {})) for name, given in TIMM.items()]
    own = {
        "vit_b_16": {"image_size": 64},
        "googlenet": {"init_weights": False},
        "inception_v3": {"init_weights": False},
    }
    return [
        *(Model("timm", name, size, settings) for name, (size, settings) in found),
        *(Model("torchvision", name, size, own.get(name, {})) for name, size in TORCHVISION.items()),
        *(Model("transformers", name, 64, settings) for name, settings in TRANSFORMERS.items()),
    ]
