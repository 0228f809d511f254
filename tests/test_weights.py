"""Weights in other forms: in parts, in short floats, under other names, of whole numbers."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm

from cuescope.classifier.classifier import Classifier, Preprocessing
from cuescope.classifier.sources import weights
from cuescope.core.errors import CueError
from cuescope.models.seeding import seeded

State = dict[str, Tensor]
# torch warns that its old forms of these are old.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
SMALL = Preprocessing((16, 16), 16)


def build(seed: int = 1) -> nn.Sequential:
    """With a batch norm to fold, and as many inputs as outputs somewhere."""

    def make() -> nn.Sequential:
        first, second = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 4, 3)
        return nn.Sequential(
            first, nn.BatchNorm2d(4), nn.ReLU(), second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
        )

    return seeded(seed, make).eval()


def fitted(path: Path, own: nn.Module | None = None) -> tuple[nn.Module, str]:
    network, notes = weights.fit(lambda _: own or build(7), weights.read(path), path)
    return network.eval(), "; ".join(notes)


def same(one: nn.Module, other: nn.Module) -> bool:
    pixels = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        return torch.allclose(one(pixels), other(pixels), rtol=1e-5, atol=1e-6)


class LowRank(nn.Module):
    """LoRA as a parametrization: W + 2 B A."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.down, self.up = nn.Parameter(torch.rand(2, inputs)), nn.Parameter(torch.rand(outputs, 2))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + 2 * self.up @ self.down


def low_rank(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.Linear):
        parametrize.register_parametrization(module, "weight", LowRank(*module.weight.shape))
    return module


FORMS: list[Callable[..., Any]] = [
    parametrizations.weight_norm,
    parametrizations.spectral_norm,
    weight_norm,
    spectral_norm,
    low_rank,
]


def parametrized(form: Callable[..., Any]) -> nn.Sequential:
    """A trained one: its parts are no longer those of the weight that it began with."""
    network = build().train()
    for place in (0, 3, 6):
        form(network[place])
    with torch.no_grad():
        network(torch.rand(2, 3, 16, 16))
        for name, tensor in network.named_parameters():
            if name.endswith(("_g", "original0")):
                tensor.mul_(torch.linspace(0.5, 2, tensor.numel()).view(tensor.shape))
    return network.eval()


# --- modules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_effective_weights_are_what_is_seen(form: Callable[..., Any]) -> None:
    network = parametrized(form)
    pixels, plain = torch.rand(2, 3, 16, 16), network(torch.rand(2, 3, 16, 16))
    del plain  # with gradients: old forms then hold a tensor that cannot be copied
    classifier = Classifier(network, preprocessing=SMALL, device="cpu")
    with torch.no_grad():
        wanted = network(classifier.normalize(pixels))
    assert torch.allclose(classifier.logits(pixels), wanted, rtol=1e-5, atol=1e-6)
    assert any("parametrized" in note for note in classifier.assumed)
    inside = classifier.network
    assert inside is not None
    assert classifier.executor.folded == {"0"}
    assert not parametrize.is_parametrized(inside)
    assert torch.allclose(inside.get_submodule("6").weight, network[6].weight, atol=1e-6)  # type: ignore[arg-type]
    assert same(network, copy.deepcopy(network.requires_grad_(False))), "the module is left as it is"


def test_plain_weights_are_not_said_to_be_parametrized() -> None:
    assert not [n for n in Classifier(build(), preprocessing=SMALL, device="cpu").assumed if "parametrized" in n]


def quantized_dynamic() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(build(), {nn.Linear})


def quantized_static() -> nn.Module:
    quantization = torch.ao.quantization
    network = nn.Sequential(quantization.QuantStub(), *build(), quantization.DeQuantStub()).eval()
    network.qconfig = quantization.get_default_qconfig("fbgemm")  # type: ignore[assignment]
    prepared = quantization.prepare(quantization.fuse_modules(network, [["1", "2", "3"]]))
    prepared(torch.rand(4, 3, 16, 16))
    return quantization.convert(prepared)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("make", [quantized_dynamic, quantized_static])
def test_quantized_networks_are_black_boxes(make: Callable[[], nn.Module]) -> None:
    network, pixels = make(), torch.rand(3, 3, 16, 16)
    classifier = Classifier(network, preprocessing=SMALL, device="cpu")
    assert torch.allclose(classifier.logits(pixels), network(classifier.normalize(pixels)))
    assert classifier.capabilities == {"logits"}
    assert any("quantized" in note for note in classifier.assumed)
    assert Classifier(build(), preprocessing=SMALL, device="cpu").capabilities > {"logits"}


# --- files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS[:4])
def test_weights_in_parts_are_put_together(tmp_path: Path, form: Callable[..., Any]) -> None:
    network = parametrized(form)
    torch.save({"state_dict": {f"model.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "w.pth")
    found, notes = fitted(tmp_path / "w.pth")
    assert same(found, network)
    assert "3 tensors put together" in notes
    own = build(7)
    for place in (0, 3, 6):
        form(own[place])
    native, notes = fitted(tmp_path / "w.pth", own)
    assert same(native, network)
    assert "put together" not in notes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("file", ["w.pth", "w.safetensors"])
def test_short_floats(tmp_path: Path, dtype: torch.dtype, file: str) -> None:
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in build().state_dict().items()}
    save_file(state, tmp_path / file) if file.endswith("safetensors") else torch.save(state, tmp_path / file)
    wanted = build(7)
    wanted.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    found, notes = fitted(tmp_path / file)
    assert same(found, wanted)
    assert str(dtype).removeprefix("torch.") in notes
    torch.save(build().state_dict(), tmp_path / "plain.pth")
    assert fitted(tmp_path / "plain.pth")[1] == ""


def adapted(names: str, rank: int = 2) -> tuple[State, nn.Module]:
    """A state with adapters of the convolution and the last layer, scale 1/2, and the network that it stands for."""
    network, merged = build(), build()
    state = dict(network.state_dict())
    for place, shape in (("3", (4, 4, 3, 3)), ("6", (5, 4))):
        down, up = torch.rand(rank, *shape[1:]), torch.rand(shape[0], rank, *((1, 1) if len(shape) > 2 else ()))
        weight = merged.get_submodule(place).weight
        weight.data += 0.5 * (up.flatten(1) @ down.flatten(1)).view(shape)  # type: ignore[operator]
        if names == "loralib":
            state |= {f"{place}.lora_A": down, f"{place}.lora_B": up}
            continue
        for part in ("weight", "bias"):
            state[f"{place}.base_layer.{part}"] = state.pop(f"{place}.{part}")
        state |= {f"{place}.lora_A.default.weight": down, f"{place}.lora_B.default.weight": up}
    prefix = "base_model.model." if names == "peft" else ""
    return {prefix + key: tensor for key, tensor in state.items()}, merged


@pytest.mark.parametrize("names", ["peft", "loralib"])
def test_adapters_of_a_known_scale_are_merged(tmp_path: Path, names: str) -> None:
    state, merged = adapted(names)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(CueError, match="scale is not known"):
        fitted(tmp_path / "w.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 1, "r": 2}))
    found, notes = fitted(tmp_path / "w.safetensors")
    assert same(found, merged)
    assert "2 adapters (LoRA) merged, scale 0.5" in notes
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": math.sqrt(0.5), "use_rslora": True}))
    assert same(fitted(tmp_path / "w.safetensors")[0], merged)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 2, "use_dora": True}))
    with pytest.raises(CueError, match="use_dora"):
        fitted(tmp_path / "w.safetensors")


def test_the_scale_may_lie_beside_each_adapter_and_heads_may_be_whole(tmp_path: Path) -> None:
    state, merged = adapted("loralib")
    head = torch.rand(5, 4)
    state |= {"3.alpha": torch.tensor(1.0), "6.modules_to_save.default.weight": head}
    state["6.original_module.weight"] = state.pop("6.weight")
    del state["6.lora_A"], state["6.lora_B"]
    merged.get_submodule("6").weight.data = head  # type: ignore[union-attr]
    torch.save(state, tmp_path / "w.pth")
    assert same(fitted(tmp_path / "w.pth")[0], merged)


def test_adapters_alone_are_refused(tmp_path: Path) -> None:
    state = {k: v for k, v in adapted("peft")[0].items() if "lora_" in k}
    torch.save(state, tmp_path / "w.pth")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 2}))
    with pytest.raises(CueError, match="without the weights that they change"):
        fitted(tmp_path / "w.pth")


def under(prefix: str, seed: int = 1) -> State:
    return {prefix + key: tensor for key, tensor in build(seed).state_dict().items()}


OTHER = 5


@pytest.mark.parametrize(
    ("file", "note"),
    [
        (under("module.model."), "'module.model.' taken off"),
        (under("_forward_module._orig_mod."), "'_forward_module._orig_mod.' are taken"),
        ({"module": under("")}, ""),
        ({"module": under("module."), "optimizer": {"state": {0: {"exp_avg": torch.rand(3)}}}}, ""),
        (under("online_model.", OTHER) | under("ema_model.") | {"initted": torch.ones(1)}, "'ema_model.' are taken"),
        (under("model.", OTHER) | under("model_ema."), "'model_ema.' are taken"),
        ({"student": under("", OTHER), "teacher": under("")}, "'teacher.' are taken"),
        ({"student": under("module.", OTHER), "teacher": under("module.")}, "'teacher.module.' are taken"),
        (under("encoder_k.", OTHER) | under("encoder_q.") | {"queue": torch.rand(4, 9)}, "'encoder_q.' are taken"),
        (under("cinema.") | under("zz.", OTHER), "'zz.' are taken"),
        ({k.replace("3.", "3.module."): v for k, v in under("").items()}, "'.module.' taken out"),
        ({k.replace("3.", "3._orig_mod."): v for k, v in under("model.").items()}, "'._orig_mod.' taken out"),
        (
            {("head." + k[2:] if k[0] == "6" else "backbone." + k): v for k, v in under("").items()},
            "'head.' as '6.'",
        ),
    ],
)
def test_prefixes(tmp_path: Path, file: Any, note: str) -> None:
    torch.save(file, tmp_path / "w.pth")
    found, notes = fitted(tmp_path / "w.pth")
    assert same(found, build(OTHER if "zz" in note else 1))
    assert note in notes


def test_a_head_that_does_not_fit_is_not_guessed(tmp_path: Path) -> None:
    state = {("head." + k[2:] if k[0] == "6" else "backbone." + k): v for k, v in under("").items()}
    torch.save(state | {"more.weight": torch.rand(5, 4)}, tmp_path / "w.pth")
    with pytest.raises(CueError, match="do not fit"):
        fitted(tmp_path / "w.pth")
