"""Models of open_clip as zero-shot classifiers: the same logits, pixels and prompts as open_clip's own code."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from cuescope import audit
from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load, open_clip_names, prompts
from cuescope.core.alignment import aligned
from cuescope.core.errors import CueError
from cuescope.data.images import Sample
from cuescope.data.preprocessing import frame
from cuescope.data.readers.folder import read_folder
from cuescope.models.zero_shot import ZeroShot, head_of_prompts

pytestmark = pytest.mark.extra
open_clip = pytest.importorskip("open_clip")

TEXT = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
CONFIGS: dict[str, dict[str, Any]] = {
    "tiny-ViT": {"vision_cfg": VIT, "text_cfg": TEXT},
    "tiny-RN": {
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 16},
        "text_cfg": TEXT,
    },
    "tiny-conv": {
        "vision_cfg": {"image_size": 64, "timm_model_name": "test_convnext", "timm_pool": "avg", "timm_proj": "linear"},
        "text_cfg": {**TEXT, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
        **{"custom_text": True, "init_logit_bias": -10},
    },
    "tiny-coca": {
        "vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
        "custom_text": True,
    },
}
WORDS = ["cat", "sea lion", "steam locomotive"]


@pytest.fixture(scope="module", autouse=True)
def _configs(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("configs")
    for name, config in CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps({"embed_dim": 32, **config}))
    open_clip.add_model_config(folder)


def random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


def saved(name: str, path: Path) -> Any:
    """A model with random weights, saved as a file."""
    torch.manual_seed(5)
    model = open_clip.create_model(name).eval()
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, path)
    return model


def own_logits(model: Any, tokenizer: Any, words: list[str], templates: Any, images: Tensor) -> Tensor:
    """What open_clip's own zero-shot code gives."""
    head = open_clip.build_zero_shot_classifier(model, tokenizer, words, templates)
    with torch.no_grad():
        logits = model.logit_scale.exp() * model.encode_image(images, normalize=True) @ head
    return logits if model.logit_bias is None else logits + model.logit_bias


def near(found: Tensor, wanted: Tensor) -> bool:
    return bool((found - wanted).abs().max() <= 1e-5 * wanted.abs().max())


# --- the same as open_clip ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_open_clips_own_zero_shot_code(tmp_path: Path, name: str) -> None:
    model = saved(name, tmp_path / "w.safetensors")
    classifier = load(f"open_clip/{name}@{tmp_path / 'w.safetensors'}", classes=WORDS, templates="simple", device="cpu")
    pixels = random(3, 3, 64, 64)
    templates = open_clip.SIMPLE_IMAGENET_TEMPLATES
    wanted = own_logits(model, open_clip.get_tokenizer(name), WORDS, templates, classifier.normalize(pixels))
    assert near(classifier.logits(pixels), wanted)
    assert classifier.classes.names == tuple(WORDS)
    assert not near(classifier.logits(pixels), wanted[:, [1, 0, 2]])


def test_a_folder_that_open_clip_saved(tmp_path: Path) -> None:
    from open_clip.push_to_hf_hub import save_for_hf

    model = saved("tiny-ViT", tmp_path / "w.safetensors")
    tokenizer = open_clip.get_tokenizer("tiny-ViT")
    config = open_clip.get_model_config("tiny-ViT")
    open_clip.set_model_preprocess_cfg(model, {**model.visual.preprocess_cfg, "mean": (0.1, 0.2, 0.3)})
    no_files = SimpleNamespace(save_pretrained=lambda _: None)
    save_for_hf(model, no_files, config, str(tmp_path / "folder"), safe_serialization=True)
    classifier = load(f"open_clip/local-dir:{tmp_path / 'folder'}", classes=WORDS, device="cpu")
    assert classifier.preprocessing.mean == (0.1, 0.2, 0.3)
    pixels = random(2, 3, 64, 64)
    wanted = own_logits(model, tokenizer, WORDS, ["a photo of a {}."], classifier.normalize(pixels))
    assert near(classifier.logits(pixels), wanted)


def siglip(folder: Path, **framing: Any) -> Any:
    """A folder with a small SigLIP: a bias, text that is cleaned and padded by a tokenizer of its own."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<pad>": 0, "<unk>": 1, "cat": 2, "sea": 3}, "<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    folder.mkdir()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")
    fast.save_pretrained(folder)
    text = {**CONFIGS["tiny-conv"]["text_cfg"], "context_length": 16, "vocab_size": 64}
    text |= {"hf_tokenizer_name": "some/tokenizer", "tokenizer_kwargs": {"clean": "canonicalize"}}
    config = {"embed_dim": 32, **CONFIGS["tiny-conv"], "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": framing}))
    torch.manual_seed(6)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False).eval()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return model


def test_siglip_has_its_padding_its_cleaning_and_its_bias(tmp_path: Path) -> None:
    model = siglip(tmp_path / "siglip", resize_mode="squash")
    words, templates = ["Cat!", "SEA-lion"], ["a_photo of: {}."]
    classifier = load(f"open_clip/local-dir:{tmp_path / 'siglip'}", classes=words, templates=templates, device="cpu")
    pixels = random(2, 3, 64, 64)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'siglip'}")
    wanted = own_logits(model, tokenizer, words, templates, classifier.normalize(pixels))
    assert wanted.mean() < -5
    assert near(classifier.logits(pixels), wanted)
    said = " ".join(classifier.assumed)
    assert all(part in said for part in ("sigmoid", "bias -10", "some/tokenizer", "16 tokens", "canonicalize"))
    assert "fill all" not in said


@pytest.mark.parametrize("size", [64, (64, 48)])
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pixels_are_those_of_open_clips_own_transform(tmp_path: Path, size: Any, mode: str, interpolation: str) -> None:
    vision = {**VIT, "image_size": size}
    framing = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "interpolation": interpolation, "resize_mode": mode}
    config = {"model_cfg": {"embed_dim": 32, **CONFIGS["tiny-ViT"], "vision_cfg": vision}, "preprocess_cfg": framing}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    classifier = load(f"open_clip/local-dir:{tmp_path}@random", classes=WORDS, device="cpu")
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}", load_weights=False)
    assert tuple(model.visual.image_size) == (classifier.preprocessing.size)
    for shape in ((97, 131), (131, 97), (64, 64), (63, 301), (40, 30)):
        image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
        sample = Sample("a", torch.from_numpy(image).permute(2, 0, 1))
        wanted = transform(Image.fromarray(image))
        mean, std = (torch.tensor(framing[key]).view(3, 1, 1) for key in ("mean", "std"))
        pixels = (wanted * std + mean).mul(255).round().to(torch.uint8)
        assert torch.equal(frame([sample], classifier.preprocessing)[0], pixels), shape
        assert torch.allclose(classifier.normalize(classifier.prepare([sample]))[0], wanted, atol=1e-6)


# --- what is asked --------------------------------------------------------------------------------------------


def test_templates_names_and_weights_make_another_classifier() -> None:
    def digest(words: list[str] = WORDS, templates: Any = None, name: str = "tiny-ViT") -> str:
        return load(f"open_clip/{name}@random", classes=words, templates=templates, device="cpu").digest

    found = [
        digest(),
        digest(templates="simple"),
        digest(templates=["{}"]),
        digest(WORDS[::-1]),
        digest(name="tiny-RN"),
    ]
    assert len(set(found)) == 5
    assert digest(templates=["a photo of a {}."]) == found[0]


def test_what_is_asked_stands_among_the_assumptions(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a {}\n\nthe {}.\n")
    (tmp_path / "animals.txt").write_text("polar_bear\nsea lion\n")
    given = {"classes": tmp_path / "animals.txt", "device": "cpu"}
    said = "; ".join(load("open_clip/tiny-ViT@random", templates=tmp_path / "mine.txt", **given).assumed)
    for part in ("2 classes of animals", "2 templates of mine.txt", "BPE", "24 tokens", "polar_bear", "untrained"):
        assert part in said
    said = "; ".join(load("open_clip/tiny-ViT@random", **given).assumed)
    assert "a photo of a {}." in said
    assert "no templates were given" in said
    assert "assumed: CLIP's" in said
    long = "; ".join(load("open_clip/tiny-ViT@random", classes=["a " * 40, "b"], device="cpu").assumed)
    assert "1 prompts fill all tokens" in long


def test_published_templates() -> None:
    for name, count in (("openai", 80), ("simple", 7)):
        source, templates = prompts.read_templates(name)
        assert (source, len(templates), {t.count("{}") for t in templates}) == (name, count, {1})
    assert prompts.read_templates(Path("openai"))[1][0] == "a bad photo of a {}."


def test_imagenets_prompts_have_open_clips_names() -> None:
    classifier = load("open_clip/tiny-ViT@random", classes="imagenet-1k", device="cpu")
    assert (classifier.classes.name, classifier.classes.keys[134]) == ("imagenet-1k", "n02012849")
    tokenizer = open_clip.get_tokenizer("tiny-ViT")
    model = _random("tiny-ViT")
    pixels = random(1, 3, 64, 64)
    names = open_clip.IMAGENET_CLASSNAMES
    wanted = own_logits(model, tokenizer, names, ["a photo of a {}."], classifier.normalize(pixels))
    assert near(classifier.logits(pixels), wanted)
    assert names[134] != names[517]


def _random(name: str) -> Any:
    from cuescope.models.seeding import seeded

    return seeded(0, lambda: open_clip.create_model(name).eval())


def test_a_planted_class_is_found() -> None:
    """A head whose prompt for the dog is the feature of one image, exactly: that image is a dog, another is not."""
    image = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    vectors = {"a cat": [0.0, 1.0, 0.0], "a dog": [1.0, 0.0, 0.0], "my cat": [0.0, 1.0, 1.0], "my dog": [1.0, 0.0, 1.0]}
    head = head_of_prompts(lambda texts: torch.tensor([vectors[t] for t in texts]), ["cat", "dog"], ["a {}", "my {}"])
    classifier = Classifier(ZeroShot(image, head), classes=["cat", "dog"], device="cpu")
    red, green = torch.zeros(2, 1, 3, 224, 224)
    red[:, 0], green[:, 1] = 1, 1
    assert torch.allclose(head.weight.norm(dim=1), torch.ones(2))
    with torch.no_grad():
        answers = torch.cat([ZeroShot(image, head)(red), ZeroShot(image, head)(green)]).argmax(1)
    assert answers.tolist() == [1, 0]
    assert classifier.classes.names[int(classifier.logits(red).argmax())] == "dog"


# --- mistakes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "how", "found"),
    [
        ("tiny-ViT@random", {}, "without classes"),
        ("tiny-Vit@random", {"classes": WORDS}, "unknown model 'open_clip/tiny-Vit'"),
        ("ViT-B-32:openaii", {"classes": WORDS}, "has no weights 'openaii'"),
        ("ViT-B-32", {"classes": WORDS}, "names no weights"),
        ("tiny-ViT", {"classes": WORDS}, "names no weights"),
        ("tiny-ViT@random", {"classes": ["a", "b", "a"]}, "'a' is the name of 2 classes"),
        ("tiny-ViT@random", {"classes": ["n01440764", "n01443537"]}, "named by its WordNet id alone"),
        ("tiny-ViT@random", {"classes": WORDS, "templates": ["a photo"]}, "template 1 holds no {}"),
        ("tiny-ViT@random", {"classes": WORDS, "templates": ["{}", "{} {}"]}, "template 2 holds {} 2 times"),
        ("tiny-ViT@random", {"classes": WORDS, "templates": "open-ai"}, "cannot read templates"),
        ("tiny-ViT@random", {"classes": WORDS, "templates": []}, "no templates"),
        ("local-dir:nowhere", {"classes": WORDS}, "no folder 'nowhere'"),
    ],
)
def test_mistakes(spec: str, how: dict[str, Any], found: str) -> None:
    with pytest.raises(CueError) as caught:
        load(f"open_clip/{spec}", device="cpu", **how)
    assert found in str(caught.value)


def test_mistakes_in_folders(tmp_path: Path) -> None:
    config = tmp_path / "open_clip_config.json"

    def refused(content: Any, found: str) -> None:
        config.write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(CueError, match=found):
            load(f"open_clip/local-dir:{tmp_path}", classes=WORDS, device="cpu")

    whole = {"embed_dim": 32, **CONFIGS["tiny-ViT"]}
    refused("{", "is no config of open_clip")
    refused({"vision_cfg": {}}, "is no config of open_clip")
    refused({"model_cfg": whole}, "holds no weights")
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"none")
    refused({"model_cfg": {**whole, "depth": 3}}, "cannot build")
    trusting = {**TEXT, "tokenizer_kwargs": {"trust_remote_code": True}}
    refused({"model_cfg": {**whole, "text_cfg": trusting}}, "sets trust_remote_code of the tokenizer")
    refused({"model_cfg": whole}, "broken")
    save_file({"visual.conv1.weight": torch.zeros(2)}, tmp_path / "open_clip_model.safetensors")
    refused({"model_cfg": whole}, "do not fit")


def test_the_line_of_a_mistaken_template_is_named_before_torch_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "templates.txt"
    file.write_text("a photo of a {}.\na drawing\n")
    code = f"""if True:
        import sys
        from cuescope.classifier.sources import known, prompts
        for call in (lambda: prompts.check(["open_clip/ViT-B-32:openai"], "imagenet-1k", {str(file)!r}),
                     lambda: prompts.check(["open_clip/ViT-B-32:openai"], None, None),
                     lambda: known.check("open_clip/ViT-B-23:openai"), lambda: known.check("open_clip/ViT-B-32:laion"),
                     lambda: known.check("open_clip/local-dir:nowhere")):
            try:
                call()
            except Exception as error:
                print(error.found, "|", error.do)
        assert known.check("open_clip/ViT-B/32:openai") is None
        print("torch" in sys.modules)"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    lines = run.stdout.splitlines()
    assert run.returncode == 0, run.stderr
    assert lines[0].startswith(f"line 2 of '{file}' holds no {{}}")
    assert "--classes" in lines[1]
    assert "open_clip/ViT-B-32" in lines[2]
    assert "open_clip/ViT-B-32:laion2b_e16" in lines[3]
    assert lines[4].startswith("no folder 'nowhere'")
    assert lines[5] == "False"


@pytest.mark.parametrize("spec", ["ViT-B-32:openai", "hf-hub:no-such-org/no-such-model", "RN50:cc12m"])
def test_without_a_hub_an_error_comes_soon(spec: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for key in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(key, "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(CueError, match="could not be fetched"):
        load(f"open_clip/{spec}", classes=WORDS, device="cpu")
    assert time.monotonic() - start < 20


def test_all_published_names_are_known_from_files() -> None:
    known = open_clip_names.models()
    assert set(map(tuple, open_clip.list_pretrained())) == {(model, tag) for model in known for tag in known[model]}


# --- on which everything works --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(2)
    for word in WORDS:
        (folder / word).mkdir()
        for i in range(3):
            pixels = np.kron(generator.integers(0, 256, (9, 11, 3)), np.ones((8, 8, 1)))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / word / f"{i}.png")
    return folder


@pytest.mark.parametrize("name", ["tiny-ViT", "tiny-RN", "tiny-conv"])
def test_layers_and_gradients(name: str) -> None:
    classifier = load(f"open_clip/{name}@random", classes=WORDS, device="cpu")
    assert classifier.capabilities >= {"logits", "features", "gradients"}
    assert classifier.last_layer == "head"
    assert {"image", "unit_length"} <= set(classifier.vectors)
    pixels = random(2, 3, 64, 64).requires_grad_()
    classifier.forward(pixels)[:, 0].sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().amax((1, 2, 3)).min() > 0
    assert all(maps.ndim == 4 for maps in classifier.features(pixels.detach(), classifier.stages()).values())
    assert not any("text" in key or "token" in key for key, _ in classifier.network.named_parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "head", "refusal"),
    [
        ("tiny-ViT", "its head reads the class token", "gelu, attention, which it has no rule for"),
        ("tiny-RN", "its head does not read the average of a whole feature map", ""),
        ("tiny-conv", "", "gelu"),
    ],
)
def test_an_audit_has_no_failures(name: str, head: str, refusal: str, photographs: Path, tmp_path: Path) -> None:
    spec, only = f"open_clip/{name}@random", ["occlusion", "evidence", "deconvnet", "accuracy"]
    result = audit(spec, images=photographs, classes=WORDS, only=only, device="cpu", out=tmp_path / "run")
    cells = {cell.instrument: cell for cell in result.cells}
    assert not [cell.why for cell in result.cells if cell.status == "failed"]
    assert cells["occlusion"].status == cells["accuracy"].status == "done"
    assert cells["evidence"].status == ("not applicable" if head else "done")
    assert head in cells["evidence"].why
    assert cells["deconvnet"].status == ("not applicable" if refusal else "done")
    assert refusal in cells["deconvnet"].why


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-ViT", "tiny-RN"])
def test_the_standard_preset_has_no_failures(name: str, photographs: Path, tmp_path: Path) -> None:
    result = audit(
        f"open_clip/{name}@random", images=photographs, classes=WORDS, device="cpu", limit=6, out=tmp_path / "run"
    )
    assert not [cell.why for cell in result.cells if cell.status == "failed"]


def test_templates_go_only_to_the_model_that_reads_them(photographs: Path, tmp_path: Path) -> None:
    save_file({"weight": torch.ones(3, 3), "bias": torch.zeros(3)}, tmp_path / "w.safetensors")
    other = Classifier(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()), name="b", classes=WORDS)
    given = {"images": photographs, "classes": WORDS, "templates": "simple", "only": ["accuracy"], "device": "cpu"}
    result = audit("open_clip/tiny-ViT@random", other, out=tmp_path / "run", **given)
    assert len([cell for cell in result.cells if cell.status == "done"]) == 2
    with pytest.raises(CueError, match="without classes"):
        audit("open_clip/tiny-ViT@random", images=photographs, out=tmp_path / "other")


@pytest.mark.real
@pytest.mark.parametrize(("moved", "right"), [(0, 6), (1, 0)])
def test_labels_by_wordnet_id_are_found_among_imagenets_prompts(data: Path, moved: int, right: int) -> None:
    """Planted: the prompt of an image's class is what the image tower says of it, or of the image before it."""
    found = load("open_clip/tiny-ViT@random", classes="imagenet-1k", device="cpu")
    images = read_folder(data / "imagenet-sample", limit=6)
    assert images.classes is not None
    matched = aligned(images.classes, found.classes)
    assert not matched.notes
    samples = [images.read(i) for i in range(6)]
    labels = [matched.places[sample.label] for sample in samples if sample.label is not None]
    assert [found.classes.keys[label] for label in labels] == [sample.id[:9] for sample in samples]
    net = found.module
    assert isinstance(net, ZeroShot)
    with torch.no_grad():
        features = net.unit_length(net.image(found.normalize(found.prepare(samples))))
        net.head.weight[[(label + moved) % 1000 for label in labels]] = 20 * features
    planted = Classifier(net, classes=found.classes, preprocessing=found.preprocessing, device="cpu")
    answers = planted.see(samples, labels).logits.argmax(1)
    assert int((answers == torch.tensor(labels)).sum()) == right
