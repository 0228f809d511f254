"""Networks inside wrappers, and weights inside files: what is seen through, and noted."""

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import cuescope
from cuescope.classifier.sources import load
from cuescope.classifier.sources.weights import fit, read
from cuescope.core.errors import CueError
from cuescope.network.wrappers import core, unwrapped
from toys import COLORS, Images, colored, plain


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: nn.DataParallel(m),
        lambda m: torch.compile(m, backend="eager"),
        lambda m: nn.Sequential(m),
        lambda m: nn.Sequential(nn.DataParallel(torch.compile(m, backend="eager"))),
    ],
)
def test_a_wrapped_network_is_run_as_what_is_inside(wrap) -> None:
    inside = network()
    found, notes = unwrapped(wrap(inside))
    assert found is inside
    assert len(notes) == 1
    classifier = load(wrap(inside), preprocessing=plain(), device="cpu")
    assert classifier.name == "Sequential"
    assert "features" in classifier.capabilities
    x = torch.rand(2, 3, 16, 16)
    assert torch.allclose(classifier.logits(x), inside(x), atol=1e-6)


class Wrapper(nn.Module):
    """A user's class around a network of timm."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = timm.create_model("test_resnet.r160_in1k")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.backbone(x)


@pytest.mark.parametrize(
    "wrap", [Wrapper, lambda: nn.DataParallel(Wrapper()), lambda: nn.Sequential(Wrapper().backbone)]
)
def test_preprocessing_and_classes_of_a_network_in_a_wrapper_are_found(wrap) -> None:
    classifier = load(wrap(), device="cpu")
    assert classifier.preprocessing.size == (160, 160)
    assert "timm" in classifier.preprocessing.source
    assert classifier.classes.name == "imagenet-1k"
    assert core(Wrapper()).__class__.__module__.startswith("timm")


def test_an_exported_program_is_a_black_box() -> None:
    inside = network().eval()
    program = torch.export.export(inside, (torch.rand(1, 3, 16, 16),))
    classifier = load(program, preprocessing=plain(), device="cpu")
    x = torch.rand(3, 3, 16, 16)
    assert torch.allclose(classifier.logits(x), inside(x), atol=1e-6)


def test_a_normalization_inside_is_not_done_twice() -> None:
    from torchvision.transforms import Normalize

    inside = network()
    whole = nn.Sequential(Normalize([0.5] * 3, [0.2] * 3), inside)
    classifier = load(whole, device="cpu")
    assert classifier.preprocessing.mean == (0, 0, 0)
    x = torch.rand(2, 3, 224, 224)
    assert torch.allclose(classifier.logits(x), whole(x), atol=1e-5)


class Configured(nn.Module):
    """As transformers' networks have it."""

    def __init__(self, labels: dict[object, str]) -> None:
        super().__init__()
        self.network = network()
        self.config = type("Config", (), {"id2label": labels})()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)


def test_the_names_of_a_config_are_ordered_by_number_and_a_gap_is_refused() -> None:
    labels = {"2": "emu", "0": "cat", "1": "dog"}
    assert load(Configured(labels), preprocessing=plain(), device="cpu").classes.names == ("cat", "dog", "emu")
    unnamed = {i: f"LABEL_{i}" for i in range(3)}
    assert load(Configured(unnamed), preprocessing=plain(), device="cpu").classes.name == "numbered"
    with pytest.raises(CueError, match="none has the number 1"):
        load(Configured({0: "cat", 2: "dog", 3: "emu"}), preprocessing=plain(), device="cpu")


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: tensor for key, tensor in network().state_dict().items()}


def other() -> dict[str, torch.Tensor]:
    return {key: tensor + 1 for key, tensor in network().state_dict().items()}


@pytest.mark.parametrize(
    "file",
    [
        prefixed("module._orig_mod."),
        prefixed("model._orig_mod.module."),
        {"state_dict": {**prefixed("backbone."), "criterion.weight": torch.ones(2)}},
        {"state_dict": prefixed("net."), "epoch": 3},
        {**prefixed("module."), "n_averaged": torch.tensor(5)},
        {"state_dict": other(), "state_dict_ema": prefixed("")},
        {**other(), **prefixed("ema_model.")},
        {**{f"model.{key}": tensor for key, tensor in other().items()}, **prefixed("model_ema.module.")},
    ],
)
def test_the_networks_own_weights_are_found_in_a_file(tmp_path: Path, file: dict[str, object]) -> None:
    torch.save(file, tmp_path / "weights.pth")
    torch.manual_seed(5)
    empty = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    fitted, notes = fit(lambda _: empty, read(tmp_path / "weights.pth"), "weights.pth")
    assert all(
        torch.equal(a, b) for a, b in zip(fitted.state_dict().values(), network().state_dict().values(), strict=True)
    )
    told = {"module._orig_mod.", "model._orig_mod.module.", "net."}
    assert notes or any(all(str(key).startswith(p) for key in file.get("state_dict", file)) for p in told)  # type: ignore[union-attr]


def test_weights_without_scales_and_extra_ones_are_refused_and_names_of_files_do_not_matter(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    whole = {key: (tensor * 10).to(torch.int8) for key, tensor in network().state_dict().items()}
    torch.save(whole, tmp_path / "int8.pth")
    with pytest.raises(CueError, match="whole numbers without their scales"):
        fit(lambda _: network(), read(tmp_path / "int8.pth"), "int8.pth")
    torch.save({**network().state_dict(), "more.weight": torch.ones(1)}, tmp_path / "more.pth")
    with pytest.raises(CueError, match="unexpected"):
        fit(lambda _: network(), read(tmp_path / "more.pth"), "more.pth")
    save_file(network().state_dict(), tmp_path / "renamed.pth")
    assert read(tmp_path / "renamed.pth").keys() == network().state_dict().keys()


class Rolled(nn.Module):
    """Its logits are rolled by a number that no weight, text or class shows."""

    def __init__(self, by: int) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (10 * x.mean((2, 3))).roll(self.by, 1)


def scaled(by: float):
    return lambda x: 10 * by * x.mean((2, 3))


def hooked(by: float) -> nn.Module:
    module = Rolled(0)
    module.register_forward_hook(lambda _m, _i, output: output * by)
    return module


@pytest.mark.parametrize(
    "pair",
    [(Rolled(0), Rolled(1)), (scaled(1.0), scaled(2.0)), (hooked(1.0), hooked(0.5))],
    ids=["attribute", "closure", "hook"],
)
def test_rows_of_another_classifier_are_never_served_for_this_one(tmp_path: Path, pair) -> None:
    def rows(model: object, out: str = "run") -> list[object]:
        classifier = cuescope.Classifier(model, preprocessing=plain(), classes=COLORS, name="net")  # type: ignore[arg-type]
        run = cuescope.audit(classifier, images=Images(colored(12)), only=["accuracy"], out=tmp_path / out)
        return run.cells[0].rows().rows()

    first, second = pair
    told = rows(first)
    assert rows(second) == rows(second, "fresh") != told
    assert rows(first) == told
