"""Presets: what is asked where no instrument is named."""

from pathlib import Path

import pytest

import cuescope
from cuescope.core.errors import CueError
from cuescope.instruments import names, registry
from cuescope.instruments.presets import PRESETS, asked, left_out
from cuescope.runs.options import AuditOptions
from cuescope.runs.plan import find_instruments
from toys import Images, MeanColor, colored, toy


def test_every_name_and_setting_of_a_preset_is_one_of_an_instrument() -> None:
    for preset in PRESETS.values():
        assert set(preset.asks or ()) <= set(names.names())
        for key, value in preset.settings.items():
            name, _, parameter = key.partition(".")
            assert getattr(registry.build(name, {parameter: value}), parameter) == value
            assert preset.asks is None or name in preset.asks


def test_each_preset_asks_what_a_smaller_one_does_and_full_asks_all() -> None:
    quick, standard, full = (set(asked(name)) for name in ("quick", "standard", "full"))
    assert quick < standard < full == set(names.names())
    assert set(left_out("quick")) == full - quick


def test_quick_and_standard_answer_every_line_of_the_cue_profile() -> None:
    headlines = {name for name in names.names() if registry.find(name).headline}
    assert headlines <= set(asked("quick"))


def test_own_settings_come_before_those_of_the_preset() -> None:
    of = AuditOptions.of(images="x", preset="quick", settings={"interaction.images": 4})
    found = {type(tool).__name__: tool for tool in find_instruments(of)}
    assert found["Interaction"].images == 4  # type: ignore[attr-defined]
    assert found["CueSuppression"].images == PRESETS["quick"].settings["cue_suppression.images"]  # type: ignore[attr-defined]
    assert (of.most_images, AuditOptions.of(images="x", preset="quick", limit=7).most_images) == (500, 7)
    assert AuditOptions.of(images="x").most_images is None


def test_a_setting_of_what_is_not_asked_is_refused_and_an_unknown_preset_too() -> None:
    with pytest.raises(CueError, match=r"top_units\.shown is set and top_units is not asked"):
        _ = AuditOptions.of(images="x", settings={"top_units.shown": 3}).asked
    for only in ([], ["accuracy"]):
        with pytest.raises(CueError, match="quick"):
            _ = AuditOptions.of(images="x", preset="quik", only=only).asked


def test_the_run_says_what_its_preset_left_out(tmp_path: Path) -> None:
    run = cuescope.audit(toy(MeanColor()), images=Images(colored(6)), preset="quick", out=tmp_path / "run")
    preset = run.manifest["preset"]
    assert preset["name"] == "quick"
    assert preset["left_out"]["occlusion"] == registry.find("occlusion").question
    one = cuescope.audit(toy(MeanColor()), images=Images(colored(6)), only=["accuracy"], out=tmp_path / "one")
    assert one.manifest["preset"] == {"name": "", "left_out": {}}
