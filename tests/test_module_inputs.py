"""How modules take their images: channels last, whole numbers, half precision, and the usual way where that runs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier, Preprocessing
from cuescope.core.errors import CueError

HOW = Preprocessing((16, 16), 16)
"""With ImageNet's mean and deviation."""
PIXELS = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(3)).mul(255).round() / 255


class Net(nn.Module):
    """Four logits by way of a map, from what a function makes of the input."""

    def __init__(self, taken: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.taken = taken
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(self.taken(x)).relu().mean((2, 3)))


def images_last(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def whole(x: Tensor) -> Tensor:
    if x.dtype != torch.uint8:
        raise TypeError("whole numbers only")
    return x.float() / 255


def either(x: Tensor) -> Tensor:
    return x if x.shape[1] == 3 else images_last(x)


def either_number(x: Tensor) -> Tensor:
    return x.float() / 255 if x.dtype == torch.uint8 else x


NORMALIZED = (PIXELS - torch.tensor(HOW.mean).view(3, 1, 1)) / torch.tensor(HOW.std).view(3, 1, 1)


def classifier(net: nn.Module | Callable[[Tensor], Tensor], how: Preprocessing = HOW) -> Classifier:
    return Classifier(net, preprocessing=how, device="cpu")


@pytest.mark.parametrize("black_box", [False, True])
@pytest.mark.parametrize(
    ("taken", "given", "words"),
    [
        (images_last, NORMALIZED, ["(B, H, W, 3)"]),
        (whole, PIXELS, ["uint8"]),
        (lambda x: whole(images_last(x)), PIXELS, ["(B, H, W, 3)", "uint8"]),
        # Planted: what runs in the usual way is run so.
        (lambda x: x, NORMALIZED, []),
        (either, NORMALIZED, []),
        (either_number, NORMALIZED, []),
    ],
)
def test_an_input_is_taken_as_the_module_takes_it(
    taken: Callable[[Tensor], Tensor], given: Tensor, words: list[str], black_box: bool
) -> None:
    net = Net(taken).eval().requires_grad_(False)
    found = classifier((lambda x: net(x)) if black_box else net)
    assert torch.allclose(found.logits(PIXELS), Net(lambda x: x)(given), atol=1e-5)
    said = [note for note in found.assumed if note.startswith("takes")]
    assert len(said) == bool(words)
    assert all(word in said[0] for word in words)


def test_layers_and_gradients_of_a_module_that_takes_channels_last() -> None:
    found = classifier(Net(images_last))
    assert found.features(PIXELS, ["conv"])["conv"].shape == (5, 6, 14, 14)
    assert found.receptive_fields["conv"].size_px == 3
    pixels = PIXELS.clone().requires_grad_()
    found.forward(pixels).sum().backward()
    usual = PIXELS.clone().requires_grad_()
    classifier(Net(lambda x: x)).forward(usual).sum().backward()
    assert pixels.grad is not None
    assert usual.grad is not None
    assert torch.allclose(pixels.grad, usual.grad, atol=1e-6)
    assert "gradients" not in classifier(Net(whole)).capabilities


def test_whole_numbers_of_blue_green_red() -> None:
    how = Preprocessing((16, 16), 16, channels="BGR")
    assert torch.allclose(classifier(Net(whole), how).logits(PIXELS), Net(lambda x: x)(PIXELS.flip(1)), atol=1e-5)


def only_half(x: Tensor) -> Tensor:
    if x.dtype != torch.float16:
        raise TypeError("half precision only")
    return x.float()


def test_half_precision() -> None:
    found = classifier(Net(only_half))
    assert torch.allclose(found.logits(PIXELS), Net(lambda x: x)(NORMALIZED), atol=2e-3)
    assert sum("float16" in note for note in found.assumed) == 1
    casts = Net(lambda x: x.half()).half()
    found = classifier(casts)
    assert torch.allclose(found.logits(PIXELS), Net(lambda x: x)(NORMALIZED), atol=1e-2)
    assert not any("run in float32" in note for note in found.assumed)
    # Planted: weights in half precision that need no input of half precision are run in float32.
    plain = classifier(Net(lambda x: x).half())
    assert any("run in float32" in note for note in plain.assumed)


def test_a_sigmoid_behind_whole_numbers_is_seen() -> None:
    class Several(Net):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(super().forward(x) * 3)

    assert torch.allclose(classifier(Several(whole)).logits(PIXELS), 3 * Net(lambda x: x)(PIXELS), atol=1e-4)


def test_what_runs_in_no_way_says_why_the_usual_one_fails() -> None:
    with pytest.raises(CueError, match="no way"):
        classifier(Net(refused))


def refused(x: Tensor) -> Tensor:
    raise ValueError("no way" if x.shape[1] == 3 and x.dtype == torch.float32 else "another")
