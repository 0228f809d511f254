"""The classifier: its preprocessing against torchvision's, folding, memory, identity, and no trace left."""

from __future__ import annotations

import copy
import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.transforms import ResizeKeepRatio
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from cuescope.classifier.classifier import Classifier, Preprocessing, peak
from cuescope.classifier.sources import load
from cuescope.core.classes import SIXTEEN, ClassSpace, category_members, category_scores, imagenet_1k, read_classes
from cuescope.core.errors import CueError
from cuescope.data.images import Box, Sample
from cuescope.data.preprocessing import locate
from cuescope.instruments.ablation import _answers
from cuescope.methods.attribution import Attributions
from cuescope.methods.deconvnet import project
from cuescope.methods.end_features import EndFeatures
from cuescope.models.seeding import seeded
from cuescope.network import identity
from cuescope.network.batchnorm_folding import folded
from cuescope.network.executor import CPU_BATCH, SMALL_BATCH, find_device
from cuescope.network.first_convolutions import Second, response_everywhere
from cuescope.network.layer_removal import Cut

SHAPES = [(375, 500), (500, 375), (68, 56), (40, 300), (33, 32), (31, 33), (32, 32), (224, 224), (1, 1)]


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def pillow(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def floats(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def framed(how: Preprocessing, *samples: Sample) -> Tensor:
    return Classifier(Mean(), preprocessing=how, device="cpu").prepare(samples)


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class Net(nn.Module):
    """Batch norms that can be folded, one that cannot (its convolution is read twice), and a shared ReLU."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8)
        self.conv3, self.bn3 = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, affine=False)
        self.relu, self.drop, self.fc = nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(8, 4)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for tensor in [*self.parameters(), *(b for b in self.buffers() if b.is_floating_point())]:
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
            for conv in (self.conv1, self.conv2, self.conv3):
                conv.weight.sub_(0.6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        y = self.conv3(x)
        x = self.bn3(y) + y.tanh()
        return self.fc(self.drop(x).mean((2, 3)))


SMALL = Preprocessing((16, 16), 16)


def small(module: nn.Module | Callable[[Tensor], Tensor], **settings: object) -> Classifier:
    return Classifier(module, preprocessing=SMALL, device="cpu", **settings)  # type: ignore[arg-type]


def plain_logits(module: nn.Module, pixels: Tensor) -> Tensor:
    """The slow twin: one image at a time, as torchvision's documents do it."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (SMALL.mean, SMALL.std))
    module.eval()
    with torch.no_grad():
        return torch.cat([module(((image - mean) / std)[None]) for image in pixels])


# --- preprocessing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("resize", "size"), [(36, (32, 32)), (32, (32, 32)), (20, (32, 31))])
def test_photograph_equals_torchvision(
    shape: tuple[int, int], resize: int, size: tuple[int, int], interpolation: str
) -> None:
    pixels = noise(*shape)
    found = framed(Preprocessing(size, resize, interpolation), Sample("a", pixels))
    twin = Compose([Resize(resize, InterpolationMode(interpolation)), CenterCrop(size)])
    assert torch.equal(found[0], floats(twin(pillow(pixels))))


@pytest.mark.parametrize("shape", SHAPES)
def test_pair_of_sides_is_covered_as_timm_does(shape: tuple[int, int]) -> None:
    pixels = noise(*shape)
    found = framed(Preprocessing((24, 48), (30, 60), "bicubic"), Sample("a", pixels))
    twin = Compose([ResizeKeepRatio((30, 60), interpolation="bicubic"), CenterCrop((24, 48))])
    assert torch.equal(found[0], floats(twin(pillow(pixels))))


def test_stimulus_that_fits_is_untouched_and_any_other_is_only_resized() -> None:
    fits, wide = noise(32, 32), noise(20, 50)
    found = framed(
        Preprocessing((32, 32), 36), Sample("a", fits, framing="stimulus"), Sample("b", wide, framing="stimulus")
    )
    assert torch.equal(found[0], fits.float() / 255)
    assert torch.equal(found[1], floats(Resize((32, 32))(pillow(wide))))


@pytest.mark.parametrize("resize", [36, (36, 36), (40, 36)])
def test_without_aspect_the_image_is_squeezed(resize: int | tuple[int, int]) -> None:
    pixels = noise(20, 50)
    found = framed(Preprocessing((32, 32), resize, keep_aspect=False), Sample("a", pixels))
    twin = Compose([Resize((36, 36) if resize == 36 else resize), CenterCrop(32)])
    assert torch.equal(found[0], floats(twin(pillow(pixels))))


@pytest.mark.parametrize("framing", ["photograph", "stimulus"])
@pytest.mark.parametrize("shape", [(300, 420), (421, 300), (40, 170), (64, 64)])
@pytest.mark.parametrize(
    "how",
    [
        Preprocessing((64, 64), 72),
        Preprocessing((64, 80), 50),
        Preprocessing((64, 48), (90, 70)),
        Preprocessing((63, 64), (80, 66), keep_aspect=False),
        Preprocessing((64, 64), 70, keep_aspect=False),
    ],
)
def test_a_box_is_located_where_its_pixels_come_to_lie(
    how: Preprocessing, shape: tuple[int, int], framing: Literal["photograph", "stimulus"]
) -> None:
    height, width = shape
    box = Box(0.35 * width // 1, 0.4 * height // 1, 0.7 * width // 1, 0.65 * height // 1, "nose")
    pixels = torch.zeros(3, height, width, dtype=torch.uint8)
    pixels[:, int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)] = 255
    seen = framed(how, Sample("a", pixels, framing=framing))[0, 0] > 0.5
    found = locate(box, shape, how, framing)
    assert found.name == "nose"
    for low, high, is_seen in ((found.x0, found.x1, seen.any(0)), (found.y0, found.y1, seen.any(1))):
        at = is_seen.nonzero()[:, 0]
        # A pixel is bright where half of it is covered; where the crop cuts, the box goes on.
        assert abs(max(low, 0) - int(at[0])) <= 0.51
        assert abs(min(high, len(is_seen)) - int(at[-1]) - 1) <= 0.51


def test_memory_layout_and_threads_do_not_matter() -> None:
    images = [noise(50 + i, 40, seed=i) for i in range(20)]
    rows_first = [Sample(str(i), p.permute(1, 2, 0).contiguous().permute(2, 0, 1)) for i, p in enumerate(images)]
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        many = framed(SMALL, *rows_first)
    finally:
        torch.set_num_threads(before)
    assert many.is_contiguous()
    assert torch.equal(many, torch.cat([framed(SMALL, Sample("", p)) for p in images]))


@pytest.mark.parametrize(
    "wrong", [{"interpolation": "bilinar"}, {"size": (0, 5)}, {"resize": 0}, {"std": (1.0, 0.0, 1.0)}, {"mean": (0.5,)}]
)
def test_impossible_preprocessing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(CueError):
        Preprocessing(**wrong)  # type: ignore[arg-type]


# --- logits -------------------------------------------------------------------------------------------------


def test_logits_equal_the_plain_way_folded_or_not() -> None:
    module, pixels = Net(), random(11, 3, 16, 16)
    wanted = plain_logits(module, pixels)
    folded, unfolded = small(module), small(module, fold=False)
    assert torch.allclose(folded.logits(pixels), wanted, atol=1e-5)
    assert torch.allclose(unfolded.logits(pixels), wanted, atol=1e-6)
    assert any("2 batch norms folded" in note for note in folded.notes)
    assert not any("folded" in note for note in unfolded.notes)
    assert folded.digest != unfolded.digest, "their logits differ in the last bits"


def test_folding_that_changes_the_answer_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuescope.network.batchnorm_folding.folded", lambda conv, norm: conv)
    module, pixels = Net(), random(3, 3, 16, 16)
    classifier = small(module)
    assert torch.allclose(classifier.logits(pixels), plain_logits(module, pixels), atol=1e-6)
    assert any("not folded" in note for note in classifier.notes)


@pytest.mark.parametrize(("side", "most"), [(16, SMALL_BATCH), (112, SMALL_BATCH), (128, CPU_BATCH)])
def test_batches_do_not_matter_and_none_is_lost(side: int, most: int) -> None:
    sizes: list[int] = []

    class Counting(Mean):
        def forward(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            return super().forward(x)

    pixels = random(2 * most + 3, 3, side, side)
    how = replace(SMALL, size=(side, side))
    classifier = Classifier(Counting(), preprocessing=how, device="cpu", batch_size=64)
    sizes.clear()
    found = classifier.logits(pixels)
    assert sizes == [most, most, 3]
    assert torch.allclose(found, small(Mean(), batch_size=1).logits(pixels), atol=1e-6)
    assert classifier.logits(pixels[:0]).shape == (0, 3)


def test_a_compiled_network_is_compiled_for_one_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def compiled(module: nn.Module) -> Callable[[Tensor], Tensor]:
        def run(x: Tensor) -> Tensor:
            sizes.append(len(x))
            return module(x)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    module, pixels = Net(), random(9, 3, 16, 16)
    classifier, plain = small(module, compile=True, batch_size=4), small(module)
    assert torch.allclose(classifier.logits(pixels), plain.logits(pixels), atol=1e-6)
    assert sizes == [4, 4, 4]
    assert classifier.features(pixels, ["bn1"])["bn1"].shape == (9, 8, 16, 16)
    assert classifier.digest != plain.digest


class Greedy(nn.Module):
    """Has memory for `most` images, as a GPU might."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.conv, self.relu = seeded(0, lambda: nn.Conv2d(3, 3, 1)), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.relu(self.conv(x)).mean((2, 3))


def test_out_of_memory_halves_the_batch_and_loses_no_image() -> None:
    pixels = random(21, 3, 16, 16)
    classifier = small(Greedy(3))
    assert torch.allclose(classifier.logits(pixels), small(Greedy(99)).logits(pixels), atol=1e-6)
    assert classifier.batch_size == 2
    assert any("out of memory" in note for note in classifier.notes)
    assert small(Greedy(1)).network is not None, "one that has memory for one image is no black box"
    with pytest.raises(CueError, match="out of memory on cpu with one image"):
        small(Greedy(0), classes=["r", "g", "b"])


WAYS: dict[str, Callable[[Classifier, Tensor], Sequence[Tensor]]] = {
    "features": lambda c, pixels: list(c.features(pixels, ["conv", "relu"]).values()),
    "watch": lambda c, pixels: list(c._layers.watch(pixels, [("conv", peak), ("relu", peak)])[1].values()),
    "dense logits": lambda c, pixels: [c.dense_logits(pixels)],
    "deconvnet": lambda c, pixels: [project(c, pixels, "relu", [1] * len(pixels)).maps],
    "first and last layer": lambda c, pixels: list(EndFeatures.of(c).look(pixels)[0].values()),
    "without a layer": lambda c, pixels: [_answers(c, Cut("conv", "conv", 0), pixels)],
    "every position of a map": lambda c, pixels: [
        response_everywhere(c.executor, c.normalize(pixels[:1]), Second("conv", (2, 2), (1, 1)))
    ],
    "attribution": lambda c, pixels: [
        found for found in Attributions.of(c).maps(pixels[0], 1, steps=6).values() if isinstance(found, Tensor)
    ],
}


@pytest.mark.parametrize("way", WAYS)
def test_out_of_memory_halves_every_kind_of_pass(way: str) -> None:
    pixels = random(8, 3, 16, 16)
    greedy, ample = small(Greedy(2)), small(Greedy(99))
    for found, wanted in zip(WAYS[way](greedy, pixels), WAYS[way](ample, pixels), strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)
    assert any("out of memory: batches of" in note for note in greedy.notes)
    assert not any("out of memory" in note for note in ample.notes)
    gradients = way in ("deconvnet", "attribution")
    assert greedy.batch_size == (SMALL_BATCH if gradients else 2), "a way back needs more memory, and halves alone"


def test_products_are_full_float32_in_every_pass_and_as_before_afterwards() -> None:
    def now() -> tuple[str, str]:
        return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision

    seen: list[tuple[str, str]] = []

    class Watching(Greedy):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(now())
            return super().forward(x)

    pixels, before = random(2, 3, 16, 16), now()
    classifier = small(Watching(99))
    for way in WAYS.values():
        way(classifier, pixels)
    small(lambda x: seen.append(now()) or x.mean((2, 3))).logits(pixels)
    assert set(seen) == {("ieee", "ieee")}
    assert now() == before


def test_batch_norms_are_folded_without_float64_on_the_device() -> None:
    """mps has no float64; its tensors are played by fake ones."""

    class NoDoubles(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            if isinstance(found, Tensor):
                assert found.device.type == "cpu" or found.dtype != torch.float64
            return found

    with FakeTensorMode():
        conv, norm = nn.Conv2d(3, 4, 1, device="cuda"), nn.BatchNorm2d(4, device="cuda")
        with NoDoubles():
            new = folded(conv, norm)
    assert (new.weight.device.type, new.weight.dtype) == ("cuda", torch.float32)


def test_a_gpu_fetches_pixels_from_pinned_memory_without_waiting() -> None:
    class Pixels:
        device, asked = torch.device("cpu"), []

        def __getattr__(self, name: str) -> Callable[..., Pixels]:
            return lambda *args, **settings: self.asked.append((name, settings)) or self

    executor = small(Mean()).executor
    executor.upload(Pixels())  # type: ignore[arg-type]
    replace(executor, device=torch.device("cuda")).upload(Pixels())  # type: ignore[arg-type]
    assert Pixels.asked == [("to", {}), ("pin_memory", {}), ("to", {"non_blocking": True})]


def test_other_errors_are_the_users_own() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(CueError, match=r"cannot be run on images of 16 x 16 px.*mat1"):
        small(Broken(), classes=["a", "b"])


@pytest.mark.parametrize(
    "wrap", [lambda y: (y, None), lambda y: {"logits": y}, lambda y: type("Output", (), {"logits": y})()]
)
def test_logits_are_found_in_what_modules_return(wrap: Callable[[Tensor], object]) -> None:
    class Wrapping(Mean):
        def forward(self, x: Tensor) -> Tensor:
            return wrap(super().forward(x))  # type: ignore[return-value]

    pixels = random(2, 3, 16, 16)
    assert torch.equal(small(Wrapping()).logits(pixels), small(Mean()).logits(pixels))


def test_maps_are_no_logits() -> None:
    with pytest.raises(CueError, match=r"shape \(2, 3, 16, 16\)"):
        small(nn.Identity())


def test_bfloat16_is_near_and_gives_float32() -> None:
    module, pixels = Net(), random(5, 3, 16, 16)
    classifier = small(module, precision="bfloat16")
    found, wanted = classifier.logits(pixels), plain_logits(module, pixels)
    assert found.dtype == torch.float32
    assert not torch.equal(found, wanted)
    assert (found - wanted).abs().max() < 0.05 * wanted.abs().max()
    assert any(note.startswith("bfloat16") for note in classifier.notes)


def test_what_comes_out_can_be_changed_and_differentiated() -> None:
    classifier = small(Net())
    logits = classifier.logits(random(2, 3, 16, 16))
    logits += 1
    scale = torch.ones(4, requires_grad=True)
    (logits * scale).sum().backward()
    pixels = random(2, 3, 16, 16).requires_grad_()
    classifier.forward(pixels)[:, 0].sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0


def test_see_shares_clean_logits() -> None:
    classifier = small(Net())
    samples = [Sample(f"{i}", noise(20, 30, seed=i), label=2) for i in range(3)]
    batch = classifier.see(samples, [1, -1, 0])
    assert batch.labels.tolist() == [1, -1, 0]
    assert torch.equal(batch.logits, classifier.logits(batch.pixels))
    assert classifier.see(samples).labels.tolist() == [-1, -1, -1], "a sample's label is in another class space"


def test_patch_logits_average_to_the_logits() -> None:
    classifier = load("cuescope/world-bagnet", device="cpu")
    assert "patch_logits" in classifier.capabilities
    pixels = random(10, 3, 64, 64)
    maps = classifier.patch_logits(pixels)
    assert torch.allclose(maps.mean((2, 3)), classifier.logits(pixels), atol=1e-4)
    field, stride = classifier.patch_geometry
    assert maps.shape[2] == (64 - field) // stride + 1
    assert "patch_logits" not in small(Net()).capabilities
    with pytest.raises(CueError, match="no patch logits"):
        small(Net()).patch_logits(pixels)


# --- leave no trace -----------------------------------------------------------------------------------------


def state_of(module: nn.Module) -> list[object]:
    tensors = [(n, t.clone().tolist(), t.stride()) for n, t in module.state_dict().items()]
    parameters = [(p.requires_grad, None if p.grad is None else p.grad.tolist()) for p in module.parameters()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in module.modules()]
    return [tensors, parameters, hooks, [m.training for m in module.modules()], [type(m) for m in module.modules()]]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_leaves_no_trace(precision: str) -> None:
    module = Net().train()
    module.bn2.eval()
    module.conv1.weight.requires_grad_(False)
    module.fc.weight.grad = torch.ones_like(module.fc.weight)
    before, state = state_of(module), torch.random.get_rng_state()
    classifier = small(module, precision=precision)
    pixels = random(3, 3, 16, 16)
    logits = classifier.logits(pixels)
    classifier.features(pixels, classifier.layers)
    classifier.forward(pixels.requires_grad_()).sum().backward()
    assert state_of(module) == before
    assert torch.equal(torch.random.get_rng_state(), state)
    assert classifier.module is module
    assert torch.allclose(logits, plain_logits(module, pixels.detach()), atol=1e-5 if precision == "float32" else 1)


def test_is_a_copy_of_now() -> None:
    module, pixels = Net(), random(2, 3, 16, 16)
    classifier = small(module)
    before = classifier.logits(pixels)
    with torch.no_grad():
        module.fc.weight.zero_()
    assert torch.equal(classifier.logits(pixels), before)


def test_an_owned_module_is_not_copied_and_is_run_in_evaluation_mode_whatever_its_flags() -> None:
    module, pixels = Net(dropout=0.9), random(2, 3, 16, 16)
    wanted = plain_logits(module, pixels)
    classifier = small(module, owned=True)
    assert {p.data_ptr() for p in module.fc.parameters()} == {
        p.data_ptr()
        for p in classifier.torch_network("test").fc.parameters()  # type: ignore[union-attr]
    }
    module.train()
    assert torch.allclose(classifier.logits(pixels), wanted, atol=1e-5)
    assert module.training


def test_a_module_that_cannot_be_copied_says_so() -> None:
    module = Mean()
    module.held = (i for i in range(3))  # type: ignore[assignment]
    with pytest.raises(CueError, match="cannot be copied"):
        small(module)


# --- identity, classes, devices -----------------------------------------------------------------------------


def test_digest_changes_with_all_that_decides_about_the_logits() -> None:
    def one(**settings: object) -> str:
        return Classifier(Net(), **{"preprocessing": SMALL, "device": "cpu", **settings}).digest  # type: ignore[arg-type]

    changed = Net()
    with torch.no_grad():
        changed.fc.bias[0] += 1e-6
    counted = Net()
    counted.bn1.num_batches_tracked += 1  # type: ignore[operator]
    strided = Net()
    strided.conv1.padding_mode = "circular"
    others = [
        one(preprocessing=Preprocessing((16, 16), 18)),
        one(preprocessing=Preprocessing((16, 16), 16, mean=(0.5, 0.5, 0.5))),
        one(precision="bfloat16"),
        one(classes=["a", "b", "c", "d"]),
        one(classes=["a", "b", "d", "c"]),
        small(changed).digest,
        small(counted).digest,
        small(strided).digest,
    ]
    assert one() == one(
        name="another", batch_size=2, preprocessing=Preprocessing((16, 16), 16, source="read elsewhere")
    )
    assert len({one(), *others}) == len(others) + 1
    kinds = [identity.digest(b"", SMALL, ClassSpace.numbered(2), [kind]) for kind in ("cpu", "cuda")]
    assert kinds[0] != kinds[1], "rows of two kinds of devices are not mixed"
    assert one(code="of one file") != one(code="of another")


def test_classes_must_be_as_many_as_outputs() -> None:
    assert small(Net()).classes == ClassSpace.numbered(4)
    with pytest.raises(CueError, match="4 outputs, but 3 classes"):
        small(Net(), classes=["a", "b", "c"])


def test_one_class_and_one_image() -> None:
    class One(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((1, 2, 3))[:, None]

    assert small(One()).see([Sample("a", noise(1, 1))]).logits.shape == (1, 2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "cat\ndog\n"),
        ("b.json", '["cat", "dog"]'),
        ("c.json", '{"1": "dog", "0": "cat"}'),
        ("d.json", '{"dog": 1, "cat": 0}'),
        ("e.json", '{"0": ["n01", "cat"], "1": ["n02", "dog"]}'),
        ("f.json", '[{"index": 0, "wnid": "n01", "name": "cat"}, {"index": 1, "wnid": "n02", "name": "dog"}]'),
    ],
)
def test_classes_from_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    space = read_classes(tmp_path / name)
    assert space.names == ("cat", "dog")
    assert space.keys == (("n01", "n02") if "n01" in text else ())


def test_one_line_is_one_class_without_a_key(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("cat")
    assert read_classes(tmp_path / "a.txt") == ClassSpace("a", ("cat",))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": "b"}', "3", '[{"wnid": "n01"}]'])
def test_files_that_name_no_classes(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CueError):
        read_classes(tmp_path / "a.json")


def test_imagenet_by_name() -> None:
    assert read_classes("imagenet-1k") == imagenet_1k()
    with pytest.raises(CueError, match=r"cannot read classes from 'nowhere\.txt'"):
        read_classes("nowhere.txt")


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "cpuu"])
def test_no_such_device(device: str) -> None:
    with pytest.raises(CueError, match=f"no device '{device}'"):
        find_device(device)


def test_wrong_precision_and_batch_size() -> None:
    with pytest.raises(CueError, match="bfloat16"):
        small(Net(), precision="bfloat61")
    with pytest.raises(CueError, match="at least 1"):
        small(Net(), batch_size=0)


def test_a_function_is_a_black_box() -> None:
    def bright(x: Tensor) -> Tensor:
        return F.pad(x.mean((1, 2, 3))[:, None], (0, 1))

    classifier = small(bright)
    assert (classifier.name, classifier.module, classifier.capabilities) == ("bright", None, frozenset({"logits"}))
    assert classifier.logits(random(9, 3, 16, 16)).shape == (9, 2)
    assert classifier.layers == ()
    with pytest.raises(CueError, match="black box"):
        classifier.features(random(1, 3, 16, 16), ["x"])


# --- real weights and photographs ---------------------------------------------------------------------------


def decoded(path: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)


@pytest.fixture(scope="module")
def photographs(data: Path) -> list[Sample]:
    with (data / "imagenet-sample" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    # The resized input is what all three networks see, so it is made once.
    return [Sample(r["file"], decoded(data / "imagenet-sample" / r["file"]), int(r["index"])) for r in rows]


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "top1", "top5"), [("squeezenet1_1", 297, 404), ("squeezenet1_0", 306, 403), ("mobilenet_v2", 418, 479)]
)
def test_published_counts_to_the_image(data: Path, photographs: list[Sample], name: str, top1: int, top5: int) -> None:
    classifier = load(f"torchvision/{name}", weights=data / "weights" / f"{name}.safetensors", device="cpu")
    logits = classifier.logits(classifier.prepare(photographs))
    labels = torch.tensor([sample.label for sample in photographs])
    assert int((logits.argmax(1) == labels).sum()) == top1
    assert int((logits.topk(5).indices == labels[:, None]).any(1).sum()) == top5


@pytest.mark.real
def test_cue_conflict_decisions_to_the_image(data: Path) -> None:
    samples = []
    for path in sorted((data / "cue-conflict").glob("*/*.png")):
        shape, texture = (part.rstrip("0123456789") for part in path.stem.split("-")[:2])
        if shape != texture:
            samples.append(
                Sample(path.stem, decoded(path), cues={"shape": shape, "texture": texture}, framing="stimulus")
            )
    classifier = load("torchvision/squeezenet1_1", weights=data / "weights/squeezenet1_1.safetensors", device="cpu")
    members = category_members(classifier.classes, list(SIXTEEN))
    scores = category_scores(classifier.logits(classifier.prepare(samples)), members)
    said = [list(members)[k] for k in scores.argmax(1).tolist()]
    counts = [sum(a == s.cues[cue] for a, s in zip(said, samples, strict=True)) for cue in ("shape", "texture")]
    assert (len(samples), *counts) == (601, 104, 251)


def test_blue_comes_first_where_the_network_takes_it_so() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    turned = copy.deepcopy(net)
    turned[0].weight.data = net[0].weight.data.flip(1)
    how = Preprocessing((8, 8), 8, mean=(0.1, 0.4, 0.7), std=(0.2, 0.3, 0.5))
    pixels = torch.rand(3, 3, 8, 8)
    rgb = Classifier(net, preprocessing=how)
    bgr = Classifier(turned, preprocessing=replace(how, channels="BGR"))
    torch.testing.assert_close(bgr.logits(pixels), rgb.logits(pixels))
    assert Classifier(net, preprocessing=replace(how, channels="BGR")).digest != rgb.digest
