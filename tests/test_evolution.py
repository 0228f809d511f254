"""Units over checkpoints: when they settle, and which checkpoints belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from cuescope.api.audit import audit
from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Batch
from cuescope.instruments.base import Misfit
from cuescope.instruments.evolution import Evolution
from cuescope.methods.settling import Settling
from cuescope.world.models import build_world
from toys import COLORS, Images, colored, plain


def checkpoint(name: str, weights: Tensor) -> Classifier:
    """Three units, each excited by a mixture of colors: a row of `weights`."""
    body = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    body[0].weight.data = weights[:, :, None, None].clone()
    body[0].bias.data.zero_()
    return Classifier(body, classes=COLORS, preprocessing=plain(16), name=name)


RED_TO_GREEN = torch.eye(3)
EARLY = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
"""The first unit sees green, which will see red; the others are what they stay."""


def series(*weights: Tensor) -> tuple[Evolution, list[Classifier], Batch]:
    nets = [checkpoint(f"net@{i}", w) for i, w in enumerate(weights)]
    samples = [replace(s, framing="stimulus") for s in colored(12, 16)]
    batch = nets[-1].see(samples, [s.label or 0 for s in samples])
    return Evolution(layers=("1",), shown=2), nets, replace(batch, peers=tuple(nets[:-1]))


def concluded(*weights: Tensor) -> Conclusion:
    tool, nets, batch = series(*weights)
    return tool.conclude(tool.start(nets[-1]).observe(batch), About("net", "toys", COLORS.names))


def test_a_unit_settles_at_the_first_checkpoint_from_which_on_it_stays() -> None:
    final = RED_TO_GREEN
    finding = concluded(EARLY, EARLY, final, final)
    curve = finding.panels[0].data["series"][0]
    assert curve["x"] == [1, 2, 3, 4]
    # Units 1 and 2 have settled from the first one on, unit 0 from the third.
    assert curve["y"] == pytest.approx([2 / 3, 2 / 3, 1, 1])
    assert (finding["settled"].value, finding["settled"].n) == (1, 3)
    # One that was right, was lost and came back has settled when it came back: at the last one, as all units have.
    assert concluded(final, EARLY, final)["settled"].value == pytest.approx(2 / 3)
    assert concluded(final, final)["settled"].value == 1


def test_the_correlation_is_that_over_images_whatever_is_resampled() -> None:
    tool, nets, batch = series(EARLY * 0.7, RED_TO_GREEN)
    rows = tool.start(nets[-1]).observe(batch)
    units = Settling.of(rows, 0.9)
    peaks = [net.features(batch.pixels, ["1"])["1"].amax((2, 3)) for net in nets]
    own, other = units.correlations(units.moments.mean(0))
    for i in range(3):
        assert own[i, 0] == pytest.approx(float(torch.corrcoef(torch.stack([p[:, i] for p in peaks]))[0, 1]), abs=1e-5)
        pair = torch.stack([peaks[0][:, i], peaks[1][:, i - 1]])
        assert other[i, 0] == pytest.approx(float(torch.corrcoef(pair)[0, 1]), abs=1e-5)
    drawn = [0, 0, 5, 7, 7, 7, 2, 11, 3, 3, 3, 1]
    again = [p[drawn] for p in peaks]
    own, _ = units.correlations(units.moments[drawn].mean(0))
    wanted = torch.corrcoef(torch.stack([p[:, 2] for p in again]))[0, 1]
    assert own[2, 0] == pytest.approx(float(wanted), abs=1e-5)


def test_units_of_one_layer_share_their_images() -> None:
    """With units that all respond alike, the interval is as wide as that of one unit, not as narrow as of many."""
    random = np.random.default_rng(0)
    base = random.standard_normal(30)
    noisy = base + 0.46 * random.standard_normal(30)
    alike = Settling(np.stack([np.stack([noisy, base])] * 40), 0.9)
    alike = replace(alike, values=alike.values - alike.values.mean(2, keepdims=True))
    measure = alike.before_last("settled")
    assert measure.interval == (0, 1), "whether any has settled hangs on the images drawn"
    assert measure.chance == measure.value, "each agrees with another unit as with itself"
    all_of_them = Settling(np.stack([np.stack([base, base])] * 16), 0.9).before_last("settled")
    assert all_of_them.value == 1
    assert all_of_them.interval[0] < 0.85, "the next unit may be another"  # type: ignore[index]


def test_jumps_are_changes_of_the_strongest_image() -> None:
    finding = concluded(EARLY, RED_TO_GREEN, RED_TO_GREEN)
    # Three units, two steps each; one of them changes its image once.
    assert (finding["jumps"].count, finding["jumps"].n, finding["jumps"].interval) == (1, 6, None)


def test_a_unit_that_became_nothing_is_left_out() -> None:
    dead = RED_TO_GREEN.clone()
    dead[2] = 0
    finding = concluded(RED_TO_GREEN, dead)
    assert finding["settled"].n == 2
    assert any("Left out: 1 unit that" in caveat for caveat in finding.caveats)
    nothing = concluded(RED_TO_GREEN, torch.zeros(3, 3))
    assert nothing["settled"].value is None
    assert "no unit" in nothing["settled"].why


def test_the_strips_hold_a_projection_and_a_crop_for_each_checkpoint() -> None:
    tool, nets, batch = series(EARLY, RED_TO_GREEN)
    rows = tool.start(nets[-1]).observe(batch)
    chosen = tool.examples(rows)
    shown = batch.select([i for i, name in enumerate(batch.ids) if name in chosen])
    (panel,) = tool.illustrate(nets[-1], shown, rows)
    assert len(panel.figures) == 2
    first = panel.figures[0]
    assert first.pixels is not None
    assert "changes once" in first.caption
    # Above the projections: green at first, red in the end. Below the crops, of one pixel each.
    assert first.pixels[40, 40].tolist() == [128, 255, 128]
    assert first.pixels[40, 130].tolist() == [255, 128, 128]
    assert "stays the same" in panel.figures[1].caption


def test_checkpoints_of_one_network_are_asked_together() -> None:
    tool, (first, second, last), _ = series(EARLY, EARLY, RED_TO_GREEN)
    other = checkpoint("other@1", RED_TO_GREEN)
    assert tool.peers(last, [first, other, second, last]) == (first, second)
    with pytest.raises(Misfit, match="earlier checkpoint of net@2"):
        tool.peers(second, [first, second, last])
    with pytest.raises(Misfit, match="one checkpoint alone"):
        tool.peers(other, [first, other, last])
    module, preprocessing = first.module, replace(plain(16), std=(2.0, 2.0, 2.0))
    assert module is not None
    brighter = Classifier(module, classes=COLORS, preprocessing=preprocessing, name="net@bright")
    with pytest.raises(Misfit, match="in different ways"):
        tool.peers(last, [brighter, last])


def saved(folder: Path, names: Sequence[str]) -> list[str]:
    """Checkpoints of one of the world's networks, as files."""
    for seed, name in enumerate(names):
        state = {key: value.contiguous() for key, value in build_world("world-shape", seed).state_dict().items()}
        safetensors.torch.save_file(state, folder / f"{name}.safetensors")
    return [f"cuescope/world-shape@{folder / name}.safetensors" for name in names]


def test_a_series_is_asked_once_of_its_last_checkpoint(tmp_path: Path) -> None:
    models = saved(tmp_path, ["one", "two", "three"])
    how = {"evolution.images": "8", "evolution.units": "2", "evolution.shown": "1"}
    run = audit(*models, images="world:congruent:8", only=["evolution"], settings=how, out=tmp_path / "run")
    last, earlier = run.finding("evolution", models[2]), run.finding("evolution", models[0])
    assert not last.why
    assert last["settled"].value is not None
    assert "an earlier checkpoint of" in earlier.why
    assert [p.name for p in last.panels][:2] == ["convergence", "units"]
    assert "1 one.safetensors, 2 two.safetensors, 3 three.safetensors" in " ".join(last.caveats)


def test_one_checkpoint_alone_has_no_history(tmp_path: Path) -> None:
    with pytest.raises(CueError, match="evolution cannot be measured"):
        audit("cuescope/world-shape", images="world:congruent:8", only=["evolution"], out=tmp_path / "run")


def test_rows_of_one_checkpoint_have_no_history() -> None:
    images = Images(colored(3, 16))
    net = checkpoint("net", RED_TO_GREEN)
    batch = net.see([images.read(i) for i in range(3)])
    finding = Evolution(layers=("1",)).conclude(
        Evolution(layers=("1",)).start(net).observe(batch), About("net", "toys", ())
    )
    assert "one checkpoint alone" in finding["settled"].why
