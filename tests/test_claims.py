"""The claims of the five sources: each is tried or says why not, by a predicate that can fail."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from commands import call
from cuescope.api.claims import lab, page, registry, results
from cuescope.api.claims.benches import CUES
from cuescope.api.claims.claim import CONGRUENT, SHAPE, Bench, Claim, Page, Trial, of
from cuescope.api.claims.lab import Lab, Table
from cuescope.api.claims.results import Result
from cuescope.core.errors import CueError
from cuescope.core.findings import Measure
from cuescope.instruments import names as instruments

ROOT = Path(__file__).resolve().parents[1]
CLAIMS = registry.claims()
TRIALS = [(claim.id, trial) for claim in CLAIMS.values() for trial in claim.trials]
BENCHES = [experiment for experiment in registry.experiments().values() if isinstance(experiment, Bench)]


def measured(low: float, high: float) -> Measure:
    return Measure("m", (low + high) / 2, interval=(low, high))


def test_every_source_has_claims_of_its_name() -> None:
    assert [source.name for source in registry.SOURCES] == ["bagnets", "texture", "zfnet", "relabel", "shift"]
    ids = [claim.id for source in registry.SOURCES for claim in source.claims]
    assert len(ids) == len(set(ids))
    for source in registry.SOURCES:
        assert len(source.claims) >= 15
        assert {claim.id.partition("-")[0] for claim in source.claims} == {source.name}
    assert sum(bool(claim.trials) for claim in CLAIMS.values()) >= 60


@pytest.mark.parametrize(("name", "trial"), TRIALS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(TRIALS)])
def test_no_predicate_holds_of_everything(name: str, trial: Trial) -> None:
    low, high = (end if math.isfinite(end) else other for end, other in ((trial.low, -9.0), (trial.high, 9.0)))
    low, high = (trial.low, trial.low + 1) if trial.high == math.inf else (low, high)
    low, high = (trial.high - 1, trial.high) if trial.low == -math.inf else (low, high)
    width = (high - low) / 8
    assert trial.judge(measured(low + width, high - width)) == "confirmed"
    end = low if math.isfinite(trial.low) else high
    assert trial.judge(measured(end - width, end + width)) == "cannot tell"
    beyond = (low - 2 * width, low - width) if math.isfinite(trial.low) else (high + width, high + 2 * width)
    assert trial.judge(measured(*beyond)) == "surely not"
    # Of a point nothing is said, wherever it lies.
    assert trial.judge(Measure("m", (low + high) / 2)) == "cannot tell"
    assert trial.judge(Measure("m", None, why="no image")) == "not measured"


def test_each_claim_that_is_tried_names_a_counterexample() -> None:
    lacking = [c.id for c in CLAIMS.values() if c.trials and not any(t.counter for t in c.trials)]
    assert {t.experiment.__class__ for name in lacking for t in CLAIMS[name].trials} <= {Page}


def test_readings_are_of_what_their_audits_ask() -> None:
    for name, trial in TRIALS:
        for reading, asked in ((trial.reading, trial.experiment), (trial.counter, trial.elsewhere or trial.experiment)):
            if reading and isinstance(asked, Bench):
                assert {what.split(".")[0] for what in reading.what} <= set(asked.only), name
                assert set(reading.models) <= set(asked.models), name


@pytest.mark.parametrize("bench", BENCHES, ids=[bench.name for bench in BENCHES])
def test_audits_ask_known_instruments_with_known_settings(bench: Bench) -> None:
    instruments.check(instruments.asked(list(bench.only), (), dict(bench.settings)))
    assert f"--out claims/{bench.name}" in bench.command


def test_what_confirms_a_claim_does_not_confirm_its_counterexample() -> None:
    for name, mine in results.read().items():
        assert name in CLAIMS
        confirmed = [one for one in mine if one.said == "confirmed" and one.counter]
        assert all(one.counter.said != "confirmed" for one in confirmed if one.counter), name


def test_the_page_is_fresh() -> None:
    text = (ROOT / "docs" / "claims.md").read_text()
    assert text == page.page(results.read()), "run: cuescope claims --write docs/claims.md"
    told = [results.verdict(claim, results.read()) for claim in CLAIMS.values()]
    assert sum(one.partition(":")[0] in ("confirmed", "not confirmed") for one in told) >= 40


def test_texture_bias_is_found_where_it_is_and_not_of_the_shape_model(tmp_path: Path) -> None:
    small = replace(
        CUES,
        models=(CONGRUENT, SHAPE),
        images="world:congruent:8",
        only=("shape_bias",),
        inputs={"cue_conflict": "world:conflict:32"},
        settings={},
    )
    bias = Trial(small, of("shape_bias.shape_bias", CONGRUENT), high=0.5, unless=of("shape_bias.shape_bias", SHAPE))
    claim = Claim(
        "texture-here", "", "It goes by texture.", (bias, replace(bias, reading=bias.unless, unless=bias.reading))
    )
    said = Lab(tmp_path).results(claim)
    assert [one.said for one in said] == ["confirmed", "surely not"]
    assert [one.counter.said for one in said if one.counter] == ["surely not", "confirmed"]
    assert results.verdict(claim, {claim.id: said}) == "not confirmed: surely not"


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (("confirmed", "confirmed"), "confirmed"),
        (("confirmed", "cannot tell"), "not confirmed: cannot tell"),
        (("cannot tell", "surely not"), "not confirmed: surely not"),
        (("not measured", "confirmed"), "confirmed"),
        (("not measured",), "not measured"),
        ((), "not measured"),
    ],
)
def test_a_claim_is_confirmed_where_all_that_was_measured_confirms_it(said: tuple[str, ...], verdict: str) -> None:
    claim = CLAIMS["texture-bias"]
    found = [Result("cues", "m", 0.1, None, "", 9, one) for one in said]  # type: ignore[arg-type]
    assert results.verdict(claim, {claim.id: tuple(found)}) == verdict


def test_tables_are_read_with_their_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        "| a | 24.4% (22.6% to 26.4%) |",
        "| b | −.08 points (−.12 to −.04) |",
        "| c | +6.5 (+5.3 to +7.8 over images) |",
    ]
    (tmp_path / "t.md").write_text("\n".join([*rows, "| d | not measured |"]))
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    table = Table(Page("t", "t.md", "scripts/t.py", 1))
    spans = [end for row in "abc" for end in table.take(of(row)).interval or ()]
    assert spans == pytest.approx([0.226, 0.264, -0.0012, -0.0004, 0.053, 0.078])
    assert "t.md" in table.take(of("d")).why
    assert Table(Page("t", "gone.md", "scripts/t.py", 1)).take(of("a")).value is None


def test_results_come_back_as_they_were_kept(tmp_path: Path) -> None:
    kept = {"a": (Result("cues", "m", 0.1, (0.0, 0.2), "share", 9, "confirmed"),)}
    results.write(tmp_path / "m.json", kept, {"cuescope": "0"})
    assert results.read(tmp_path / "m.json") == kept
    (tmp_path / "m.json").write_text(json.dumps({"schema": 0, "claims": {}}))
    with pytest.raises(CueError, match="schema 0"):
        results.read(tmp_path / "m.json")


def test_the_list_needs_no_torch() -> None:
    code = """if True:
        import sys
        from cuescope.cli import main
        try:
            main(["claims", "bagnets"])
        except SystemExit as end:
            print("after", end.code, "torch" in sys.modules)"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.stdout.splitlines()[-1] == "after 0 False", done.stderr
    assert "bagnets-runtime" in done.stdout


def test_mistakes_are_said_before_anything_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    for arguments, said in (
        (["nothing"], "nothing"),
        (["zfnet-winner"], "not tried"),
        ([], "--all"),
        (["shift", "--data", "no/such"], "no/such"),
    ):
        status, _, err = call("claims", "run", *arguments, "--out", out, capsys=capsys)
        assert status == 2
        assert said in err
    assert not Path(out).exists()


def test_run_keeps_what_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "ablation.md").write_text(
        "| without layers 3, 4, 6, 7 | 1 | 2 | 30% (28% to 32%) |\n| as it is | 1 | 2 | 24% (22% to 26%) |\n"
    )
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    status, out, err = call("claims", "run", "zfnet-depth", "--out", str(tmp_path / "out"), capsys=capsys)
    assert status == 0, err
    assert out.startswith("zfnet-depth: confirmed")
    file = tmp_path / "out" / "measured.json"
    status, out, _ = call("claims", "zfnet-depth", "--measured", str(file), "--json", capsys=capsys)
    (one,) = json.loads(out)
    assert one["measured"][0]["value"] == pytest.approx(0.06)
    assert one["measured"][0]["interval"] == pytest.approx([0.0317, 0.0883], abs=1e-3)
