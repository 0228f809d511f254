"""transformers: its image processors to the pixel, its networks to the logit, and every mistaken folder."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cuescope.classifier.classifier import Classifier, Preprocessing
from cuescope.classifier.sources import hub, image_processors, known, load, preprocessings
from cuescope.core.errors import CueError
from cuescope.data.images import Sample

pytestmark = pytest.mark.extra
transformers = pytest.importorskip("transformers")
# Not those of tests: transformers says on import, and of each load, what it does.
logging.getLogger("transformers").setLevel(logging.CRITICAL)

SHAPES = ((97, 131), (131, 97), (64, 211), (300, 301), (41, 40))
"""Of images, in px: odd, both ways, elongated, and smaller than what is cut out."""


def image(height: int, width: int) -> Image.Image:
    values = np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def given(how: Preprocessing, photograph: Image.Image) -> Tensor:
    """What a network gets of an image under this preprocessing."""
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    classifier = Classifier(network, preprocessing=how, device="cpu")
    pixels = torch.from_numpy(np.array(photograph)).permute(2, 0, 1)
    return classifier.normalize(classifier.prepare([Sample("a.png", pixels)]))[0]


# --- image processors -----------------------------------------------------------------------------------------

PROCESSORS: list[tuple[str, dict[str, Any]]] = [
    ("ViT", {"size": {"height": 48, "width": 40}}),
    ("ViT", {"size": 33, "do_normalize": False}),
    ("ViT", {"size": 33, "do_rescale": False, "image_mean": [120.0, 110.0, 100.0], "image_std": [60.0, 61.0, 62.0]}),
    *[("ViT", {"size": 32, "resample": number}) for number in range(6)],
    ("CLIP", {"size": {"shortest_edge": 45}, "crop_size": 32}),
    ("CLIP", {"size": 45, "crop_size": {"height": 30, "width": 44}}),
    ("Bit", {"size": {"shortest_edge": 47}, "crop_size": 32}),
    ("Siglip", {"size": {"height": 31, "width": 47}}),
    ("DeiT", {"size": 51, "crop_size": 32}),
    ("Beit", {"size": 32, "do_center_crop": False}),
    ("Beit", {"size": 43, "do_center_crop": True, "crop_size": 32}),
    ("ConvNext", {"size": {"shortest_edge": 40}, "crop_pct": 0.875}),
    ("ConvNext", {"size": {"shortest_edge": 384}}),
    ("Levit", {"size": {"shortest_edge": 45}, "crop_size": 45}),
    ("Levit", {"size": {"height": 51, "width": 49}, "crop_size": 44}),
    ("PoolFormer", {"size": {"shortest_edge": 40}, "crop_size": 40, "crop_pct": 0.77}),
    ("PoolFormer", {"size": {"height": 40, "width": 44}, "crop_size": 40, "crop_pct": 0.9}),
    ("MobileNetV1", {"size": {"shortest_edge": 45}, "crop_size": 32}),
    ("MobileNetV2", {"size": {"shortest_edge": 45}, "crop_size": 31}),
    ("MobileViT", {"size": {"shortest_edge": 47}, "crop_size": 32}),
    ("MobileViT", {"size": {"shortest_edge": 28}, "crop_size": 33, "do_flip_channel_order": False}),
    ("EfficientNet", {"size": 41, "resample": 0}),
    ("EfficientNet", {"size": 41, "rescale_factor": 1 / 127.5, "rescale_offset": True, "include_top": True}),
    ("EfficientNet", {"size": 41, "rescale_factor": 1 / 127.5, "rescale_offset": True, "include_top": False}),
    ("Pvt", {"size": 37}),
    ("Segformer", {"size": 37}),
]


@pytest.mark.parametrize(("family", "settings"), PROCESSORS)
def test_what_goes_in_is_what_the_processor_gives(family: str, settings: dict[str, Any]) -> None:
    processor = getattr(transformers, f"{family}ImageProcessorPil")(**settings)
    how = image_processors.from_config({"image_processor_type": f"{family}ImageProcessor", **settings}, "a test")
    for shape in SHAPES:
        wanted = torch.as_tensor(processor(image(*shape), return_tensors="np")["pixel_values"][0])
        found = given(how, image(*shape))
        # Bytes are equal: what is left is the rounding of the normalization. One gray level would be 1/255/std.
        assert torch.allclose(found, wanted.float(), rtol=1e-5, atol=1e-5), (shape, (found - wanted).abs().max())


@pytest.mark.parametrize("family", image_processors.USUAL)
def test_a_file_need_not_name_what_is_usual(family: str) -> None:
    processor = getattr(transformers, f"{family}ImageProcessorPil")()
    how = image_processors.from_config({"feature_extractor_type": f"{family}FeatureExtractor"}, "a test")
    written = json.loads(processor.to_json_string())
    assert image_processors.from_config(written, "a test", f"{family}ImageProcessor").size == how.size
    wanted = torch.as_tensor(processor(image(301, 400), return_tensors="np")["pixel_values"][0])
    assert torch.allclose(given(how, image(301, 400)), wanted.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"image_processor_type": "PerceiverImageProcessor"}, "PerceiverImageProcessor"),
        ({"size": 224}, "names no class"),
        ({"image_processor_type": "ViTImageProcessor", "do_resize": False}, "does not resize"),
        ({"image_processor_type": "ViTImageProcessor", "do_pad": True}, "pads"),
        ({"image_processor_type": "CLIPImageProcessor", "do_center_crop": False}, "a shape of their own"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"longest_edge": 5}}, "a size of longest_edge"),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": 224, "do_center_crop": True, "crop_size": 9},
            "twice",
        ),
        ({"image_processor_type": "ViTImageProcessor", "resample": 9}, "values that cannot be"),
        ({"image_processor_type": "ViTImageProcessor", "size": "big"}, "values that cannot be"),
        ({"image_processor_type": "ViTImageProcessor", "image_std": [0, 0, 0]}, "std"),
    ],
)
def test_what_no_preprocessing_can_do_is_refused(config: dict[str, Any], found: str) -> None:
    with pytest.raises(CueError, match=found):
        image_processors.from_config(config, "a test")


# --- networks -------------------------------------------------------------------------------------------------

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
STAGED: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
WINDOWS: dict[str, Any] = {"embed_dim": 8, "depths": [1, 1, 1], "num_heads": [1, 2, 2], "window_size": 4}
NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {
    "ViT": ("ViTConfig", {**TINY, "patch_size": 16}, 20),
    "DeiT": ("DeiTConfig", {**TINY, "patch_size": 16}, 20),
    "Beit": ("BeitConfig", {**TINY, "patch_size": 16}, 20),
    "ConvNext": ("ConvNextConfig", STAGED, 30),
    "ResNet": ("ResNetConfig", {"embedding_size": 8, "layer_type": "basic", **STAGED}, 30),
    "MobileViT": (
        "MobileViTConfig",
        {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 64], "num_attention_heads": 2},
        50,
    ),
    "Levit": (
        "LevitConfig",
        {"hidden_sizes": [16, 32, 48], "num_attention_heads": [1, 2, 3], "depths": [1, 1, 1], "key_dim": [8, 8, 8]},
        40,
    ),
    "Swin": ("SwinConfig", WINDOWS, 30),
    "Swinv2": ("Swinv2Config", WINDOWS, 30),
    "EfficientNet": (
        "EfficientNetConfig",
        {"width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320},
        50,
    ),
    "PoolFormer": ("PoolFormerConfig", STAGED, 30),
    "MobileNetV2": ("MobileNetV2Config", {"depth_multiplier": 0.25}, 50),
    "RegNet": ("RegNetConfig", {"embedding_size": 8, "groups_width": 8, **STAGED}, 40),
}
"""By family: its config, small, and how many layers are told apart at least."""
SMALL = Preprocessing((64, 64), 64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def made(family: str, **settings: Any) -> Any:
    """A small network of the library with random weights, which no saying of the library disturbs."""
    config, small, _ = NETWORKS[family]
    own = getattr(transformers, config)(**{"image_size": 64, "num_labels": 7, **small, **settings})
    torch.manual_seed(0)
    network = getattr(transformers, f"{family}ForImageClassification")(own).eval()
    for tensor in network.parameters():
        # Weights as they are drawn leave some of these networks with one answer to all images.
        if tensor.ndim > 1:
            torch.nn.init.kaiming_normal_(tensor)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        network(pixel_values=images_of(8) * 4 - 2)
    return network.eval()


def wanted_of(network: Any, classifier: Classifier, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return network(pixel_values=classifier.normalize(pixels).contiguous()).logits


def images_of(count: int = 3) -> Tensor:
    """Soft patches of color, (B, 3, 64, 64) in [0, 1]."""
    small = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(small, 64, mode="bicubic").clamp(0, 1)


def close(found: Tensor, wanted: Tensor) -> bool:
    return bool((found - wanted).abs().max() <= 1e-5 * wanted.abs().max())


@pytest.mark.parametrize("family", NETWORKS)
def test_logits_are_the_librarys_and_layers_are_told_apart(family: str) -> None:
    network = made(family)
    classifier = load(network, preprocessing=SMALL, device="cpu")
    pixels = images_of()
    wanted = wanted_of(network, classifier, pixels)
    assert wanted.std(0).min() > 1e-3 * wanted.abs().max(), "they differ from image to image"
    assert close(load(network, preprocessing=SMALL, fold=False, device="cpu").logits(pixels), wanted)
    # Batch norms are folded into convolutions: fifty roundings, one after the other.
    assert (classifier.logits(pixels) - wanted).abs().max() <= 1e-4 * wanted.abs().max()
    assert len(classifier.layers) >= NETWORKS[family][2]
    maps = classifier.features(pixels, classifier.stages())
    assert all(found.ndim == 4 and found.std(0).max() > 0 for found in maps.values())
    sizes = [found.shape[2] for found in maps.values()]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("family", ["Swin", "Swinv2", "ViT"])
def test_maps_of_tokens_are_the_hidden_states(family: str) -> None:
    network = made(family)
    classifier = load(network, preprocessing=SMALL, device="cpu")
    pixels = images_of()
    with torch.no_grad():
        states = network(pixel_values=classifier.normalize(pixels), output_hidden_states=True)
    if family == "ViT":
        found = classifier.features(pixels, ["vit.layers.0"])["vit.layers.0"]
        wanted = states.hidden_states[1][:, 1:].transpose(1, 2).unflatten(2, (4, 4))
        assert close(found, wanted)
        return
    name = family.lower()
    layers = [f"{name}.encoder.layers.{i}" for i in range(3)]
    found = classifier.features(pixels, layers)
    for layer, wanted in zip(layers, states.reshaped_hidden_states[1:], strict=True):
        assert close(found[layer], wanted)


# --- folders --------------------------------------------------------------------------------------------------

NAMES = {0: "tench", 1: "shark", 2: "owl", 3: "fox", 4: "cup", 5: "van", 6: "kite"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    network = made("ViT", id2label=NAMES)
    network.save_pretrained(tmp_path / "own")
    transformers.ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(tmp_path / "own")
    return tmp_path / "own"


def edited(folder: Path, **changes: Any) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))


def test_a_folder_with_everything(folder: Path) -> None:
    for spec in (f"hf/{folder}", "hf/own", "hf/./own"):
        known.check(spec)
        classifier = load(spec, device="cpu")
        pixels = images_of()
        network = transformers.ViTForImageClassification.from_pretrained(folder).eval()
        assert close(classifier.logits(pixels), wanted_of(network, classifier, pixels))
        assert classifier.classes.names == tuple(NAMES.values())
        assert (classifier.name, classifier.assumed) == (spec, ())
        assert classifier.preprocessing == preprocessings.read(spec)
        assert (classifier.preprocessing.size, classifier.preprocessing.keep_aspect) == ((64, 64), False)
        assert "ViTImageProcessor" in classifier.preprocessing.source
    given_back = load(network, device="cpu")
    assert given_back.preprocessing == classifier.preprocessing
    assert any("where the network was loaded from" in note for note in given_back.assumed)


def test_weights_of_ones_own(folder: Path) -> None:
    pixels = images_of()
    other = made("ViT", num_labels=4)
    torch.nn.init.normal_(other.classifier.weight)
    torch.save({"state_dict": {f"module.{k}": v for k, v in other.state_dict().items()}}, "other.pth")
    found = load("hf/own@other.pth", device="cpu")
    assert len(found.classes) == 4, "as many as the file has"
    assert close(found.logits(pixels), wanted_of(other, found, pixels))
    first, second = (load("hf/own@random", device="cpu") for _ in range(2))
    assert first.digest == second.digest != load("hf/own", device="cpu").digest
    assert "untrained: random weights" in first.notes


def test_weights_in_parts(folder: Path) -> None:
    whole = load("hf/own", device="cpu")
    transformers.ViTForImageClassification.from_pretrained(folder).save_pretrained("parts", max_shard_size="20KB")
    assert len(list(Path("parts").glob("*.safetensors"))) > 1
    parts = load("hf/parts", device="cpu", preprocessing=whole.preprocessing)
    assert torch.equal(parts.logits(images_of()), whole.logits(images_of()))


def test_keys_of_the_library_and_of_its_files_are_both_read(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    whole = load("hf/own", device="cpu", fold=False)
    own = whole.module.state_dict()  # type: ignore[union-attr]
    assert load_file(folder / "model.safetensors").keys() != own.keys(), "files keep the names of older versions"
    save_file(own, "own.safetensors")
    assert torch.equal(load("hf/own@own.safetensors", device="cpu").logits(images_of()), whole.logits(images_of()))


def test_no_image_processor_is_an_assumption_that_is_said(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    found = load("hf/own", device="cpu")
    assert found.preprocessing.size == (64, 64)
    assert any("assumed" in line and "no preprocessor_config.json" in line for line in found.assumed)
    with pytest.raises(CueError, match=r"no preprocessor_config\.json"):
        preprocessings.read("hf/own")
    (folder / "preprocessor_config.json").write_text('{"image_processor_type": "PerceiverImageProcessor"}')
    assert any("assumed" in line and "PerceiverImageProcessor" in line for line in load("hf/own", device="cpu").assumed)


def test_an_image_processor_of_no_class_is_the_models(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text('{"size": 64, "resample": 3}')
    how = preprocessings.read("hf/own")
    assert how is not None
    assert (how.keep_aspect, how.interpolation) == (False, "bicubic")


def test_unnamed_classes_are_numbered(folder: Path) -> None:
    edited(folder, id2label={str(i): f"LABEL_{i}" for i in range(7)})
    assert load("hf/own", device="cpu").classes.name == "numbered"
    edited(folder, id2label={str(i): name for i, name in reversed(NAMES.items())})
    assert load("hf/own", device="cpu").classes.names == tuple(NAMES.values())


CODE = "import pathlib\npathlib.Path('ran').touch()\nclass Evil: ...\n"


@pytest.mark.parametrize("kind", ["vit", "no_such_type"])
def test_code_in_a_folder_is_never_run(folder: Path, kind: str) -> None:
    (folder / "evil.py").write_text(CODE)
    names = ("AutoConfig", "AutoModelForImageClassification", "AutoImageProcessor")
    edited(folder, model_type=kind, auto_map=dict.fromkeys(names, "evil.Evil"), attn_implementation="org/kernel")
    if kind == "vit":
        assert any("auto_map" in note for note in load("hf/own", device="cpu").assumed)
    else:
        with pytest.raises(CueError, match="auto_map"):
            load("hf/own")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"model_type": "bert"}, "no image classifier"),
        ({"model_type": None}, "no image classifier"),
        ({"id2label": {"0": "a", "1": "b", "3": "d"}}, "none has the number 2"),
        ({"hidden_size": "wide"}, "cannot be used"),
        ({"hidden_size": 64}, "of another shape"),
        ({"num_hidden_layers": 3}, r"\d+ missing"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "is quantized"),
    ],
)
def test_mistakes_in_a_config(folder: Path, change: dict[str, Any], found: str) -> None:
    edited(folder, **change)
    with pytest.raises(CueError, match=found):
        load("hf/own")


def test_mistaken_folders(folder: Path) -> None:
    for spec in ("hf//no/such/folder", "hf/nowhere", "hf/./nowhere", "hf/~/nowhere"):
        for look in (known.check, load):
            with pytest.raises(CueError, match="no folder"):
                look(spec)
    torch.save(made("ViT").state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CueError, match=r"pytorch_model\.bin alone") as caught:
        load("hf/own")
    assert "save_pretrained" in caught.value.do
    load("hf/own@own/pytorch_model.bin", device="cpu")
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(CueError, match=r"no model\.safetensors"):
        load("hf/own")
    (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{broken}")
    with pytest.raises(CueError, match="is broken"):
        load("hf/own")
    (folder / "config.json").write_text("{")
    with pytest.raises(CueError, match="no JSON"):
        load("hf/own")
    (folder / "config.json").unlink()
    with pytest.raises(CueError, match=r"no config\.json"):
        load("hf/own")


def test_a_folder_of_timm_is_read_as_timms(folder: Path) -> None:
    import timm
    from safetensors.torch import save_file

    network = timm.create_model("test_resnet", num_classes=3)
    save_file(network.state_dict(), folder / "model.safetensors")
    config = {"architecture": "test_resnet", "num_classes": 3, "pretrained_cfg": {"input_size": [3, 96, 96]}}
    (folder / "config.json").write_text(json.dumps(config))
    found = load("hf/own", device="cpu")
    assert type(found.module).__module__ == "timm.models.resnet"
    assert found.preprocessing.size == (96, 96)


# --- the hub --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["hf/org/repo", "timm/hf-hub:org/repo"])
def test_a_hub_that_does_not_answer_is_an_error_soon(spec: str, tmp_path: Path) -> None:
    code = f"""if True:
        from cuescope.classifier.sources import load, preprocessings
        for read in (load, preprocessings.read):
            try:
                read({spec!r})
            except Exception as error:
                print(type(error).__name__, str(error).splitlines()[0])"""
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONWARNINGS": "ignore"}
    env["PYTHONPATH"] = str(Path(hub.__file__).parents[3])
    start = time.perf_counter()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    lines = run.stdout.splitlines()
    assert len(lines) == 2, run.stderr
    assert all(line.startswith("CueError") and "could not be fetched" in line for line in lines)
    assert time.perf_counter() - start < 40


def test_what_is_cached_needs_no_hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    cache = tmp_path / "cache" / "models--org--repo"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0" * 40)
    (cache / "snapshots").mkdir()
    folder.rename(cache / "snapshots" / ("0" * 40))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "answers", lambda: False)
    found = load("hf/org/repo", device="cpu")
    assert found.classes.names == tuple(NAMES.values())
    assert found.preprocessing == preprocessings.read("hf/org/repo")
