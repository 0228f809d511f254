"""BlurPool versions of networks of torchvision and timm: where the blurs go, and that nothing else changes."""

from __future__ import annotations

import copy
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.core.errors import CueError
from cuescope.data.preprocessing import Preprocessing
from cuescope.models.antialias import antialias, describe, places
from cuescope.models.blurpool import BlurPool2d
from cuescope.models.seeding import seeded
from cuescope.network.batchnorm_folding import difference
from cuescope.world.models import weights_file
from toys import plain


def noise(size: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def headed(features: nn.Module, width: int) -> nn.Module:
    """The features of a network whose own head is too large for a test."""
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: models.resnet18(),
    "resnet50": lambda: models.resnet50(),
    "vgg11": lambda: headed(models.vgg.make_layers(models.vgg.cfgs["A"]), 512),
    "alexnet": lambda: headed(models.alexnet().features, 256),
    "densenet121": lambda: models.densenet121(),
    "mobilenet_v2": lambda: models.mobilenet_v2(),
    "squeezenet1_1": lambda: models.squeezenet1_1(),
    "googlenet": lambda: models.googlenet(init_weights=False),
    "timm resnet18": lambda: timm.create_model("resnet18"),
    "timm resnet50d": lambda: timm.create_model("resnet50d"),
    "timm mobilenetv3": lambda: timm.create_model("mobilenetv3_small_050"),
    "timm tf_efficientnet": lambda: timm.create_model("tf_efficientnet_b0"),
    "timm convnext": lambda: timm.create_model("convnext_atto"),
    "timm regnet": lambda: timm.create_model("regnety_002"),
}


@pytest.fixture(scope="module")
def made() -> dict[str, nn.Module]:
    return {}


def network(name: str, made: dict[str, nn.Module]) -> nn.Module:
    if name not in made:
        made[name] = seeded(0, NETWORKS[name]).eval()
    return made[name]


def blurs(module: nn.Module) -> list[str]:
    return [name for name, part in module.named_modules() if isinstance(part, BlurPool2d)]


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_filter_of_one_is_the_original_and_one_of_four_is_not(name: str, made: dict[str, nn.Module]) -> None:
    module, x = network(name, made), noise(72)
    same, blurred = antialias(module, 1, example=x), antialias(module, 4, example=x)
    other = noise(80)
    assert difference(same(other), module(other)) < 2e-6
    assert blurred(other).shape == module(other).shape
    assert difference(blurred(x), module(x)) > 1e-5
    assert blurs(same)
    assert all(place.at or "first convolution" in place.why for place in places(module, example=x))
    assert list(blurred.state_dict()) == list(module.state_dict())
    blurred.load_state_dict(module.state_dict())


def test_blurs_are_where_the_authors_put_them(made: dict[str, nn.Module]) -> None:
    strided = ("layer2.0", "layer3.0", "layer4.0")
    found = {name: blurs(antialias(network(name, made), example=noise(72))) for name in list(NETWORKS)[:7]}
    for name, reader in (("resnet18", "conv2"), ("resnet50", "conv3")):
        rest = [f"{b}.{at}.blur_before" for b in strided for at in (reader, "downsample.0")]
        assert found[name] == ["maxpool.blur", *rest]
    assert found["vgg11"] == [f"0.{i}.blur" for i in (2, 5, 10, 15, 20)]
    assert found["alexnet"] == ["0.1.blur_after", "0.2.blur", "0.5.blur", "0.12.blur"]
    assert found["mobilenet_v2"] == [f"features.{i}.conv.1.2.blur_after" for i in (2, 4, 7, 14)]
    assert found["squeezenet1_1"] == [f"features.{i}.blur" for i in (2, 5, 8)]
    assert found["densenet121"] == ["features.pool0.blur", *(f"features.transition{i}.pool.blur" for i in (1, 2, 3))]


def test_strides_that_the_layers_keep(made: dict[str, nn.Module]) -> None:
    alexnet = antialias(network("alexnet", made), 3, example=noise(72))
    assert alexnet.get_submodule("0.0").stride == (2, 2)  # type: ignore[comparison-overlap]
    resnet = antialias(network("resnet18", made), 3, example=noise(72))
    strided = {n: p.stride for n, p in resnet.named_modules() if isinstance(p, nn.Conv2d) and p.stride != (1, 1)}
    assert strided == {"conv1": (2, 2)}
    assert resnet.maxpool.kernel_size == (2, 2)  # type: ignore[union-attr]
    whole = antialias(network("resnet18", made), 3, stem=True, example=noise(72))
    assert all(p.stride == (1, 1) for p in whole.modules() if isinstance(p, nn.Conv2d))
    assert blurs(whole)[:2] == ["relu.blur_after", "maxpool.blur"]


@torch.no_grad()
def test_a_block_equals_the_papers_order_written_plainly(made: dict[str, nn.Module]) -> None:
    module = network("resnet18", made)
    block, x, blur = module.layer2[0], torch.randn(1, 64, 12, 12), BlurPool2d(5)  # type: ignore[index]
    inner = F.relu(block.bn1(F.conv2d(x, block.conv1.weight, padding=1)))
    inner = block.bn2(F.conv2d(blur(inner), block.conv2.weight, padding=1))
    short = block.downsample[1](F.conv2d(blur(x), block.downsample[0].weight))
    found = antialias(module, 5, example=noise(72)).layer2[0](x)  # type: ignore[index]
    assert torch.allclose(found, F.relu(inner + short), atol=1e-5)


@torch.no_grad()
def test_the_blur_comes_after_the_activation(made: dict[str, nn.Module]) -> None:
    module = network("mobilenet_v2", made)
    conv, norm, _ = module.features[2].conv[1]  # type: ignore[index]
    x = torch.randn(1, 96, 9, 9)
    expected = BlurPool2d(4)(F.relu6(norm(F.conv2d(x, conv.weight, padding=1, groups=96))))
    found = antialias(module, 4, example=noise(72)).features[2].conv[1](x)  # type: ignore[index]
    assert torch.allclose(found, expected, atol=1e-6)


def test_it_can_be_trained_copied_and_pickled() -> None:
    net = antialias(seeded(0, lambda: models.resnet18(num_classes=5)), 3, example=noise(64)).train()
    before = copy.deepcopy(net.state_dict())
    loss = F.cross_entropy(net(noise(64, 4)), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in net.parameters())
    torch.optim.SGD(net.parameters(), 0.1).step()
    assert any(not torch.equal(before[name], value) for name, value in net.state_dict().items())
    net.eval()
    with torch.no_grad():
        wanted = net(noise(64))
        for same in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            assert torch.equal(same(noise(64)), wanted)


def test_a_classifier_folds_it_and_gives_its_logits(made: dict[str, nn.Module]) -> None:
    net = antialias(network("resnet18", made), 4, example=noise(72))
    classifier = Classifier(net, preprocessing=plain(72))
    assert any(note.startswith("20 batch norms folded") for note in classifier.notes)
    x = noise(72).sigmoid()
    with torch.no_grad():
        assert difference(classifier.logits(x), net(x)) < 1e-4
    whole = Classifier(network("resnet18", made), preprocessing=plain(72))
    assert classifier.digest != whole.digest
    field = classifier.receptive_fields["layer4"].rows
    assert field is not None
    assert field.size_px > whole.receptive_fields["layer4"].rows.size_px  # type: ignore[union-attr]


def test_leaves_the_original_as_it_is(made: dict[str, nn.Module]) -> None:
    module = copy.deepcopy(network("squeezenet1_1", made)).train()
    before, state = copy.deepcopy(module.state_dict()), torch.random.get_rng_state()
    assert antialias(module, 4, example=noise(72)).training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(part.training for part in module.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not blurs(module)


def test_a_name_can_ask_for_it() -> None:
    classifier = load("torchvision/squeezenet1_1+blur3@random", device="cpu")
    assert classifier.name == "torchvision/squeezenet1_1+blur3@random"
    assert len(classifier.classes) == 1000
    assert "antialiased in 3 places by blurs of size 3" in classifier.notes
    assert classifier.network is not None
    assert [p.filter_size for p in classifier.network.modules() if isinstance(p, BlurPool2d)] == [3, 3, 3]


@pytest.mark.parametrize(
    ("suffix", "meant"),
    [("blur9", "blur4"), ("blur0", "blur4"), ("blur", "blur4"), ("blurr3", "blur3"), ("bl5", "blur5")],
)
def test_a_name_with_a_wrong_suffix(suffix: str, meant: str) -> None:
    with pytest.raises(CueError, match=rf"ends with '\+{suffix}'") as caught:
        load(f"torchvision/squeezenet1_1+{suffix}@random", device="cpu")
    assert caught.value.do == f"did you mean +{meant}?"


def test_a_suffix_after_the_weights_is_moved() -> None:
    with pytest.raises(CueError, match="after its weights") as caught:
        load("cuescope/world-congruent@random+blur4", device="cpu")
    assert caught.value.do == "write cuescope/world-congruent+blur4@random"


def test_weights_of_the_original_fit_by_name(tmp_path: Path) -> None:
    own = weights_file("world-congruent")
    file = tmp_path / "a+b.safetensors"
    shutil.copy(own, file)
    x = noise(64).sigmoid()
    one, blurred = (load(f"cuescope/world-congruent+blur{size}@{file}", device="cpu") for size in (1, 4))
    assert torch.allclose(one.logits(x), load("cuescope/world-congruent", device="cpu").logits(x), atol=1e-5)
    assert blurred.name == f"cuescope/world-congruent+blur4@{file}"
    assert not torch.allclose(blurred.logits(x), one.logits(x), atol=1e-2)


FACTORY = """
from cuescope import Classifier, Preprocessing
from torch import nn

def fixed():
    "Its last layer fits images of 20 px alone."
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 81, 5))

def known():
    return Classifier(fixed(), preprocessing=Preprocessing((20, 20), 20), classes=list("abcde"))

def black():
    return Classifier(lambda x: x.mean((2, 3)))
"""


def test_a_factory_of_a_fixed_input_size(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(FACTORY)
    with pytest.raises(CueError, match="cannot be run on an image of 224 x 224 px"):
        load(f"{tmp_path}/own.py:fixed+blur3", device="cpu")
    size = Preprocessing((20, 20), 20)
    assert load(f"{tmp_path}/own.py:fixed+blur3", preprocessing=size, device="cpu").name.endswith("fixed+blur3")
    known = load(f"{tmp_path}/own.py:known+blur3", device="cpu")
    assert known.classes.names == tuple("abcde")
    assert known.preprocessing.size == (20, 20)
    assert "antialiased in 1 place by blurs of size 3" in known.notes
    with pytest.raises(CueError, match="a black box"):
        load(f"{tmp_path}/own.py:black+blur3", device="cpu")


def test_what_cannot_be_antialiased() -> None:
    vit = timm.create_model("vit_tiny_patch16_224", depth=1)
    with pytest.raises(CueError, match="patches of 16 px"):
        antialias(vit)
    with pytest.raises(CueError, match="cannot be run on an image of 96 x 96 px"):
        antialias(vit, example=noise(96))
    with pytest.raises(CueError, match="nothing to antialias"):
        antialias(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    with pytest.raises(CueError, match="patches"):
        antialias(nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Flatten()))
    with pytest.raises(CueError, match="size 9"):
        antialias(nn.Identity(), 9)
    with pytest.raises(CueError, match="positions see 9 px"):
        load("cuescope/world-bagnet+blur4", device="cpu")


class InCode(nn.Module):
    """Pools by a function: no module that a blur could be put in place of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.pool(self.conv(x)), 2).mean((2, 3))


class Twice(InCode):
    """Pools twice by one module, which each call would change."""

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.pool(self.conv(x))).mean((2, 3))


def test_what_is_left_is_described() -> None:
    found = places(InCode(), example=noise(16))
    assert [(place.name, bool(place.at)) for place in found] == [("pool", True), ("", False)]
    assert describe(found, 4) == (
        "antialiased in 1 place by blurs of size 4",
        "not antialiased: the network: its max pool is no module of its own",
    )
    with pytest.raises(CueError, match="called more than once"):
        places(Twice(), example=noise(16))


class Gated(nn.Module):
    """An activation in code, whose outcome is read by the two operations of a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.gate = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 3, 2, 1), Gate()

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(F.hardswish(self.conv(self.stem(x)))).mean((2, 3))


class Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True).sigmoid()


@torch.no_grad()
def test_all_that_read_an_activation_in_code_get_it_blurred() -> None:
    net, x = seeded(0, Gated), noise(32)
    found = antialias(net, 4, example=x)
    assert blurs(found) == ["gate.blur_before"]
    v = F.hardswish(F.conv2d(net.stem(x), net.conv.weight, net.conv.bias, padding=1))
    assert torch.allclose(found(x), net.gate(BlurPool2d(4)(v)).mean((2, 3)), atol=1e-6)


class Steps(nn.Module):
    """Reads its own stride: not what a convolution does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)).mean((2, 3)) * self.second.stride[0]


def test_a_network_that_reads_its_strides_is_refused() -> None:
    with pytest.raises(CueError, match="gives other logits"):
        antialias(Steps(), example=noise(16))
