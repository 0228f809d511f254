"""Models whose outputs are odd: probabilities in disguise, wrappers with hooks, logits inside of outputs."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.network.outputs import NoLogitsError, log_odds, read
from test_outputs import PIXELS, Linear, Through, small


def wanted() -> Tensor:
    return Linear()(PIXELS).detach()


def same(classifier: Classifier, logits: Tensor, softmax: bool = False) -> bool:
    found = classifier.logits(PIXELS)
    if softmax:
        found, logits = found.softmax(1), logits.softmax(1)
    return torch.allclose(found, logits, atol=1e-4)


class Gated(nn.Module):
    """One module is called inside and last."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.linear, self.last = Linear(), last

    def before(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return 5 * y * self.last(y)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.before(x))


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Softmax(1)])
def test_a_module_that_is_called_inside_too_is_not_taken_out(last: nn.Module) -> None:
    net = Gated(last)
    found = small(net).logits(PIXELS)
    assert torch.allclose(found.softmax(1) if isinstance(last, nn.Softmax) else found.sigmoid(), net(PIXELS), atol=1e-5)


def test_a_last_module_of_two_names_or_with_a_hook_stays() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = Linear()
            self.unused = self.used = nn.Softmax(1)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(self.linear(x))

    assert same(small(Twice()), wanted(), softmax=True)
    squared = nn.Sequential(Linear(), nn.Sigmoid())
    squared[1].register_forward_hook(lambda _m, _i, y: y.square())
    assert same(small(squared), torch.sigmoid(wanted()) ** 2)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(Linear(), nn.Softmax(0)),
        Through(lambda y: y.softmax(0)),
        lambda x: Linear()(x).softmax(0).detach().numpy(),
    ],
)
def test_a_softmax_over_the_batch_is_refused(model: Any) -> None:
    with pytest.raises(CueError, match="over the images of a batch"):
        small(model)


PASSING: list[Callable[[Tensor], Tensor]] = [
    lambda y: y[:, :, None, None].squeeze(),
    lambda y: y.view(-1, 2, 2).flatten(1).float().clone().view(len(y), 4).detach(),
    lambda y: y.double().contiguous()[:, [0, 1, 2, 3]],
    lambda y: torch.stack([y[:, i] for i in range(4)], 1),
    lambda y: torch.cat([y[:, :1], y[:, 1:]], 1).clamp(1e-7, 1 - 1e-7),
    lambda y: y.T.T.reshape(-1).reshape(-1, 4).to(torch.float32)[:, :].unsqueeze(0)[0],
]


@pytest.mark.parametrize("passing", PASSING)
@pytest.mark.parametrize("black_box", [False, True])
def test_a_sigmoid_is_seen_through_what_passes_values_on(passing: Callable[[Tensor], Tensor], black_box: bool) -> None:
    model = Through(lambda y: passing(torch.sigmoid(y)))
    assert same(small((lambda x: model(x)) if black_box else model), wanted())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_sigmoid_under_no_grad_and_inside_a_script_is_seen() -> None:
    class Quiet(Linear):
        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(super().forward(x))

    assert same(small(Quiet()), wanted())
    traced = torch.jit.trace(Through(torch.sigmoid).eval(), PIXELS)
    assert same(small(traced), wanted())


def test_what_is_computed_from_a_sigmoid_is_none() -> None:
    for change in (lambda y: torch.sigmoid(y) * 0.5, lambda y: (0.3 + y.tanh() / 4) * torch.sigmoid(y)):
        classifier = small(Through(change))
        assert same(classifier, change(wanted()))
        assert any("between 0 and 1" in note for note in classifier.assumed)


def test_a_mean_of_probabilities_is_one() -> None:
    ensemble = small(Through(lambda y: torch.stack([torch.sigmoid(y), torch.sigmoid(2 * y)]).mean(0)))
    wanted_odds = log_odds((torch.sigmoid(wanted()) + torch.sigmoid(2 * wanted())) / 2)
    assert same(ensemble, wanted_odds)


def test_what_to_do_fits_what_was_found() -> None:
    for output, do in (
        (lambda y: y.argmax(1), "before the argmax"),
        (lambda y: y + float("inf"), "finite"),
        (lambda y: y.softmax(0), "dim=1"),
        (lambda y: {"a": y, "b": y + 1}, "key 'logits'"),
    ):
        with pytest.raises(CueError) as error:
            small(Through(output))
        assert do in error.value.do


def test_a_part_of_a_softmax_is_probabilities() -> None:
    part = small(Through(lambda y: y.softmax(1)[:, 1:].clone()))
    assert same(part, wanted().softmax(1)[:, 1:].log())
    one = small(Through(lambda y: y[:, :2].softmax(1)[:, 1]))
    assert same(one, wanted()[:, :2], softmax=True)
    with pytest.raises(CueError, match="always 1"):
        small(Through(lambda y: y[:, :1].softmax(1)))
    with pytest.raises(CueError, match="always 1"):
        small(nn.Sequential(Linear(1), nn.Softmax(1)))


@pytest.mark.parametrize("last", [nn.Hardsigmoid(), Through(nn.functional.hardsigmoid).change])
def test_a_hardsigmoid_gives_probabilities(last: Callable[[Tensor], Tensor]) -> None:
    classifier = small(Through(last))
    assert same(classifier, log_odds(nn.functional.hardsigmoid(wanted())))
    assert any("hardsigmoid" in note for note in classifier.assumed)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: nn.DataParallel(m),
        lambda m: nn.Sequential(m),
        lambda m: torch.compile(m, backend="eager"),
        lambda m: nn.Sequential(nn.DataParallel(m)),
    ],
)
def test_hooks_of_a_wrapper_hold(wrap: Callable[[nn.Module], Any]) -> None:
    net = wrap(Linear())
    net.register_forward_hook(lambda _m, _i, y: y.roll(1, 1))
    net.register_forward_pre_hook(lambda _m, x: (x[0].flip(1),))
    classifier = small(net)
    assert same(classifier, Linear()(PIXELS.flip(1)).roll(1, 1).detach())
    assert "gradients" in classifier.capabilities
    assert same(small(nn.Sequential(net)), Linear()(PIXELS.flip(1)).roll(1, 1).detach())


def test_a_wrapper_that_runs_in_its_own_way_is_kept() -> None:
    class Doubled(nn.DataParallel):
        def forward(self, *given: Any) -> Any:
            return 2 * self.module(*given)

    assert same(small(Doubled(Linear())), 2 * wanted())
    patched = nn.Sequential(Linear())
    patched.forward = lambda x: 3 * patched[0](x)  # type: ignore[method-assign]
    assert same(small(patched), 3 * wanted())


class Box:
    def __init__(self, logits: Any, **more: Any) -> None:
        self.logits = logits
        vars(self).update(more)


@pytest.mark.parametrize(
    "output",
    [
        lambda y: {"aux": {"logits": y + 1}, "logits": y},
        lambda y: Box(Box(y)),
        lambda y: Box({"aux": y + 1, "main": y}),
        lambda y: (Box(y), {"inner": Box(y + 1)}, (y.repeat(1, 3),)),
        lambda y: [SimpleNamespace(logits=y)],
        lambda y: {"output": y, "auxiliary": y + 1},
        lambda y: {"embedding": y.repeat(1, 3)[:, :, None, None], "scores": y, "loss": y.sum(1)},
    ],
)
def test_the_outermost_logits_are_taken(output: Callable[[Tensor], Any]) -> None:
    y = torch.randn(3, 4)
    assert torch.equal(read(output(y), 3, None, lambda _: "")(output(y)), y)
    assert same(small(Through(output)), wanted())


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (lambda y: {"coarse": y, "fine": y + 1}, r"coarse \(4,\), fine \(4,\)"),
        (lambda y: {"student": Box(y), "teacher": Box(y + 1)}, "student.logits"),
        (lambda y: y.to(torch.complex64), "complex"),
        (lambda y: y / 0, "infinite"),
    ],
)
def test_outputs_that_nobody_can_choose_among_are_refused(output: Callable[[Tensor], Any], found: str) -> None:
    with pytest.raises(NoLogitsError, match=found):
        read(output(torch.ones(3, 4)), 3, None, lambda _: "")
    with pytest.raises(CueError, match=found):
        small(Through(lambda y: output(y.abs() + 1)))


def test_maps_of_one_position_are_vectors() -> None:
    class Pooled(nn.Module):
        def __init__(self, last: nn.Module) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.norm, self.pool, self.last = (
                nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), last,
            )  # fmt: skip

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.pool(self.norm(self.conv(x))))

    net = Pooled(nn.Identity()).eval()
    classifier, soft = small(net), small(Pooled(nn.Softmax(1)).eval())
    assert same(classifier, net(PIXELS).flatten(1).detach())
    assert same(soft, net(PIXELS).flatten(1).detach(), softmax=True)
    assert sum("one vector" in note for note in classifier.assumed) == 1
    assert classifier.features(PIXELS, ["norm"])["norm"].shape == (5, 4, 14, 14)


def test_batch_norms_are_folded_whatever_holds_the_logits() -> None:
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Any:
            return {"scores": self.norm(self.conv(x)).mean((2, 3)), "loss": None}

    net = Held().eval()
    classifier = small(net)
    assert same(classifier, net(PIXELS)["scores"].detach())
    assert classifier.executor.folded
