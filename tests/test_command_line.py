"""The commands: what they do with good input, and one clear error for each kind of bad input."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cuescope.runs.store as store
from commands import call
from cuescope.runs import task as sizes
from cuescope.runs.store import Run

MODEL = """
import torch

class Mean(torch.nn.Module):
    def forward(self, x):
        return 3 * x.mean((2, 3))

def make():
    return Mean()

def one_class():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 1))
"""
FAILING = '''
from dataclasses import dataclass
import polars as pl
from cuescope.instruments.base import Instrument

@dataclass(frozen=True)
class MyCue(Instrument, version=1, needs={"logits"}):
    """Fails on purpose."""

    question = "Does it fail?"
    reference = "none"
    columns = {"id": pl.String}

    def observe(self, classifier, batch):
        raise ValueError("my cue is broken")

    def conclude(self, rows, about):
        raise AssertionError
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, an instrument, and images of three classes, one of them damaged."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "my_cue.py").write_text(FAILING)
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    generator = np.random.default_rng(0)
    for k, name in enumerate(("red", "green", "blue")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(4):
            pixels = generator.integers(0, 100, (40, 50, 3)).astype(np.uint8)
            pixels[..., k] += 100
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    (tmp_path / "photos" / "red" / "bad.png").write_bytes(b"no image at all")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"\x89PNG and nothing more")
    (tmp_path / "one").mkdir()
    Image.fromarray(pixels).save(tmp_path / "one" / "1.png")
    return tmp_path


AUDIT = ["audit", "model.py:make", "--images", "photos", "--classes", "names.txt", "--out", "out"]
QUICK = ["--only", "accuracy,shift_stability"]


def test_audit_makes_a_report_and_skips_what_it_cannot_read(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(*AUDIT, *QUICK, capsys=capsys)
    assert status == 0, err
    assert "top-1 accuracy" in out
    run = Run.open("out")
    assert run.finding("accuracy")["top1"].n == 12
    assert [(s["id"]) for s in run.skipped()] == ["red/bad.png"]
    page = (here / "out" / "report.html").read_text()
    assert "red/bad.png" in page
    assert run.manifest["image_sets"][0]["skipped"] == 1


def test_a_finished_run_does_nothing_and_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(*AUDIT, *QUICK, capsys=capsys)
    before = {p: p.stat().st_mtime_ns for p in Path("out").rglob("[!.]*") if p.is_file()}
    status, out, err = call(*AUDIT, *QUICK, capsys=capsys)
    assert status == 0
    assert "nothing to do" in err
    assert "top-1 accuracy" in out
    assert {p: p.stat().st_mtime_ns for p in Path("out").rglob("[!.]*") if p.is_file()} == before


def test_a_changed_parameter_starts_its_own_cell(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(*AUDIT, *QUICK, capsys=capsys)
    _, _, err = call(*AUDIT, *QUICK, "--set", "accuracy.bins=5", capsys=capsys)
    assert "1 answer of another audit is kept in out" in " ".join(err.split())
    assert len(list(Path("out/cells").glob("*.accuracy.*"))) == 2
    assert len(list(Path("out/cells").glob("*.shift_stability.*"))) == 1


def test_a_failing_instrument_gives_status_1_and_the_others_their_findings(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = call(*AUDIT, *QUICK, "--instrument", "my_cue.py", capsys=capsys)
    assert status == 1
    assert "my cue is broken" in err
    assert Run.open("out").finding("accuracy")["top1"].n == 12
    failed = next(cell for cell in Run.open("out").cells if cell.status == "failed")
    assert "Traceback" in failed.error
    assert "my cue is broken" in (here / "out" / "report.html").read_text()


BAD: list[tuple[str, list[str], str]] = [
    ("no such folder", ["--images", "nowhere"], r"nowhere"),
    ("empty folder", ["--images", "empty"], r"no image"),
    ("no readable image", ["--images", "broken"], r"none of the 1 images of 'broken' can be read"),
    ("a file as folder", ["--images", "names.txt"], r"names\.txt"),
    ("unknown instrument", ["--only", "acuracy"], r"unknown instrument 'acuracy'(.|\n)*accuracy"),
    ("parameter typo", ["--set", "accuracy.bin=3"], r"unknown accuracy parameter 'bin'(.|\n)*bins"),
    ("parameter of another instrument", ["--set", "acuracy.bins=3"], r"unknown instrument 'acuracy'"),
    ("parameter of the wrong type", ["--set", "accuracy.bins=many"], r"accuracy\.bins = 'many'(.|\n)*int"),
    ("parameter out of range", ["--set", "accuracy.bins=0"], r"accuracy: bins"),
    ("parameter without a value", ["--set", "accuracy.bins"], r"instrument\.parameter=value"),
    ("labels CSV that is none", ["--labels", "model.py"], r"model\.py"),
    ("labels CSV that is missing", ["--labels", "none.csv"], r"none\.csv"),
    ("no cues", ["--cue-conflict", "photos"], r"shape first, then the texture"),
    ("cues are asked for and not given", ["--only", "shape_bias"], r"--cue-conflict DIR"),
    ("words of a network that has none", ["--only", "visual_words"], r"visual words"),
    ("no image at all", ["--limit", "0"], r"limit"),
    ("class names that are too few", ["--classes", "two.txt"], r"classes are named"),
    ("the device is not there", ["--device", "cuda:7"], r"cuda"),
    ("output is a file", ["--out", "names.txt"], r"names\.txt"),
    ("output is another folder", ["--out", "photos"], r"holds files that are not a run"),
    ("no such weights", [], r"gone\.safetensors"),
    ("unknown model", [], r"resnet50"),
    ("unknown source", [], r"unknown model|no module|wanted"),
    ("no model", [], r"no classifier|at least one model"),
    ("no such factory", [], r"mak\b(.|\n)*make"),
    ("the same model twice", [], r"given twice"),
]
MODELS = {
    "no such weights": ["torchvision/squeezenet1_1@gone.safetensors"],
    "unknown model": ["timm/resnet50x"],
    "unknown source": ["resnet"],
    "no model": [],
    "no such factory": ["model.py:mak"],
    "the same model twice": ["model.py:make", "model.py:make"],
}


@pytest.mark.parametrize(("case", "arguments", "said"), BAD, ids=[case for case, _, _ in BAD])
def test_bad_input_is_one_clear_error(
    case: str, arguments: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "two.txt").write_text("red\ngreen\n")
    base = dict(zip(AUDIT[2::2], AUDIT[3::2], strict=True)) | dict(zip(arguments[::2], arguments[1::2], strict=True))
    status, _, err = call(
        "audit", *MODELS.get(case, ["model.py:make"]), *[w for pair in base.items() for w in pair], capsys=capsys
    )
    assert status == 2, err
    assert re.search(said, err), err
    assert "wanted:" in err
    assert "Traceback" not in err
    assert err.count("cuescope:") == 1


def test_a_wrong_option_offers_the_right_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(*AUDIT, "--limt", "3", capsys=capsys)
    assert status == 2
    assert "--limit" in out + err


def test_one_image_and_one_class(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = call("audit", "model.py:make", "--images", "one", "--out", "o1", capsys=capsys)
    assert status == 0, err
    assert Run.open("o1").finding("shift_stability")["top1_change"].n == 1
    status, _, err = call("audit", "model.py:one_class", "--images", "one", "--out", "o2", capsys=capsys)
    assert status == 0, err
    assert Run.open("o2").finding("shift_stability")["top1_change"].value == 0


def test_folders_that_are_no_classes_are_unlabeled_images(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "photos" / "blue").rename(here / "photos" / "holiday")
    (here / "photos" / "green").rename(here / "photos" / "work")
    (here / "photos" / "red").rename(here / "photos" / "home")
    status, _, err = call(*AUDIT, "--only", "accuracy,shift_stability", capsys=capsys)
    assert status == 0, err
    told = {cell.instrument: cell.status for cell in Run.open("out").cells}
    assert told["accuracy"] == "not applicable"
    assert told["shift_stability"] == "done"


def test_a_labels_csv_with_missing_and_foreign_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "l.csv").write_text("file,index\nred/0.png,0\ngreen/0.png,1\ngone.png,2\n")
    status, _, err = call(*AUDIT, *QUICK, "--labels", "l.csv", capsys=capsys)
    assert status == 0, err
    run = Run.open("out")
    assert run.finding("accuracy")["top1"].n == 2
    assert "gone.png" in {s["id"] for s in run.skipped()}


def test_a_full_disk_loses_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "CHUNK", 4)
    monkeypatch.setattr(sizes, "BATCH", 4)
    real, left = os.fsync, [4]

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(store.os, "fsync", fsync)
    status, _, err = call(*AUDIT, *QUICK, capsys=capsys)
    assert status == 2
    assert "the disk is full" in err
    assert not list(Path("out").rglob("*.part"))
    kept = list(Path("out").glob("cells/*/rows/*.parquet"))
    assert kept
    monkeypatch.setattr(store.os, "fsync", real)
    stamps = [p.stat().st_mtime_ns for p in kept]
    assert call(*AUDIT, *QUICK, capsys=capsys)[0] == 0
    assert [p.stat().st_mtime_ns for p in kept] == stamps
    assert Run.open("out").finding("accuracy")["top1"].n == 12


def test_ctrl_c_keeps_the_finished_chunks(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cuescope.instruments.accuracy import Accuracy

    monkeypatch.setattr(sizes, "CHUNK", 4)
    monkeypatch.setattr(sizes, "BATCH", 4)
    observe: Callable = Accuracy.observe
    seen = []

    def interrupted(self, classifier, batch):
        seen.append(batch)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return observe(self, classifier, batch)

    monkeypatch.setattr(Accuracy, "observe", interrupted)
    status, _, err = call(*AUDIT, *QUICK, capsys=capsys)
    assert status == 130
    assert "interrupted" in err
    assert "run the same command again" in err
    assert Run.open("out").manifest["finished"] is None
    monkeypatch.setattr(Accuracy, "observe", observe)
    assert call(*AUDIT, *QUICK, capsys=capsys)[0] == 0
    assert Run.open("out").finding("accuracy")["top1"].n == 12


def test_two_runs_are_compared_by_their_rows(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One classifier alone has no agreement, which is said; two runs of one each have it."""
    (here / "other.py").write_text(MODEL.replace("3 * x", "-3 * x"))
    only = ["--only", "error_agreement,logit_correlation"]
    status, out, err = call(*AUDIT, *only, capsys=capsys)
    assert status == 0, err
    assert "a second classifier on the same images" in out
    status, _, err = call("audit", "other.py:make", *AUDIT[2:-1], "out2", *only, capsys=capsys)
    assert status == 0, err
    status, out, _ = call("compare", "out", capsys=capsys)
    assert status == 2
    status, out, _ = call("compare", "out", "out2", "--json", capsys=capsys)
    errors, logits = (pair["finding"] for pair in json.loads(out)["pairs"])
    kappa, averaged = errors["measures"][0], logits["measures"][0]
    assert kappa["value"] is None
    assert "right on every image" in kappa["why"]
    assert averaged["value"] == pytest.approx(-1)
    status, out, _ = call("compare", "out", "out2", capsys=capsys)
    assert "logit_correlation: model.py:make and other.py:make" in out
    assert "−1.00" in out


def test_compare_report_and_look(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "other.py").write_text(MODEL.replace("3 * x", "-3 * x"))
    status, _, err = call("audit", "model.py:make", "other.py:make", *AUDIT[2:], *QUICK, capsys=capsys)
    assert status == 0, err
    status, out, _ = call("compare", "out", "--json", capsys=capsys)
    told = json.loads(out)
    top1 = next(v for v in told["comparisons"] if v["measure"] == "top1")
    assert (top1["value"], top1["n"]) == (1.0, 12)
    assert told["pairs"] == []
    status, out, _ = call("compare", "out", capsys=capsys)
    assert "Worse: top-1 accuracy." in out
    assert "100.0 points" in out
    (here / "model.py").unlink()
    (here / "photos").rename(here / "gone")
    status, out, _ = call("report", "out", "--out", "again.html", capsys=capsys)
    assert status == 0
    assert "top-1 accuracy" in (here / "again.html").read_text().lower()
    (here / "model.py").write_text(MODEL)
    status, out, err = call(
        "look", "occlusion", "model.py:make", "gone/red/0.png", "--out", "look.png", "--label", "0", capsys=capsys
    )
    assert status == 0, err
    with Image.open(here / "look.png") as image:
        assert image.size[0] > 200


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report"], "no run was given"),
        (["report", "photos"], "no run in 'photos'"),
        (["compare", "photos"], "no run in 'photos'"),
        (["look", "occlusion", "cuescope/world-bagnet", "photos"], "'photos' is a folder"),
        (["look", "occlusion", "cuescope/world-bagnet", "photos/cat/0.png", "--out", "a.txt"], "--out a.txt"),
        (["look", "occlusion", "model.py:make", "none.png"], "no image 'none.png'"),
        (["look", "occlusio", "model.py:make", "one/1.png"], "unknown instrument 'occlusio'"),
        (["look", "label_errors", "model.py:make", "one/1.png"], "--only label_errors"),
        (["look", "occlusion", "model.py:make", "broken/a.png"], "a.png"),
        (["look", "occlusion", "model.py:make", "one/1.png", "--label", "pink"], "unknown class 'pink'"),
    ],
)
def test_other_commands_say_what_is_wrong(
    arguments: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = call(*arguments, capsys=capsys)
    assert status == 2, err
    assert said in err


def test_list_has_every_instrument(capsys: pytest.CaptureFixture[str]) -> None:
    from cuescope.instruments import registry

    status, out, _ = call("list", "instruments", "--json", capsys=capsys)
    assert status == 0
    assert list(json.loads(out)) == registry.names()


def test_the_list_of_models_names_the_suffix(capsys: pytest.CaptureFixture[str]) -> None:
    _, text, _ = call("list", "models", "world-congruent", capsys=capsys)
    assert text.startswith("cuescope/world-congruent")
    assert "NAME+blur4 " in text
    assert "NAME+aps " in text
    _, out, _ = call("list", "models", "world-congruent", "--json", capsys=capsys)
    assert list(json.loads(out)) == ["cuescope/world-congruent"]


def test_what_is_assumed_of_a_model_is_listed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = tmp_path / "net.py"
    model.write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1))\n"
    )
    status, text, _ = call("list", "model", f"{model}:make", "--mean", "0.5", "--size", "64,32", capsys=capsys)
    assert status == 0
    assert "the middle 64 x 32 px, less 0.5 0.5 0.5" in text
    after = text[text.index("assumed") :]
    assert "probabilities" in after
    assert "ImageNet's usual" in after
    _, out, _ = call("list", "model", "cuescope/world-congruent", "--json", capsys=capsys)
    assert json.loads(out)["assumed"] == []
    assert json.loads(out)["classes"] == 16
    assert call("list", "model", capsys=capsys)[0] == 2
    assert call("list", "model", f"{model}:make", "--mean", "red", capsys=capsys)[0] == 2


def test_help_imports_nothing_heavy() -> None:
    code = """if True:
        import sys
        from cuescope.cli import main
        heavy = {"torch", "polars", "numpy", "timm"}
        for command, unwanted in (
            (["--help"], heavy | {"markdown_it", "pygments"}),
            (["audit", "--help"], heavy),
            (["look", "--help"], heavy),
        ):
            try:
                main(command)
            except SystemExit as end:
                print("\\nafter", command, end.code, sorted(unwanted & sys.modules.keys()))"""
    source = Path(__file__).resolve().parents[1] / "src"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(source)}
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("after")]
    assert found == [f"after {c} 0 []" for c in (["--help"], ["audit", "--help"], ["look", "--help"])], done.stderr


def test_the_report_of_a_run_imports_no_torch(tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        from cuescope.cli import main
        from runs import make_run
        make_run(Path(sys.argv[1]))
        try:
            main(["report", sys.argv[1]])
        except SystemExit as end:
            print("after", end.code, "torch" in sys.modules)"""
    tests = Path(__file__).resolve().parent
    environment = {**os.environ, "PYTHONPATH": f"{tests.parent / 'src'}{os.pathsep}{tests}"}
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1:] == ["after 0 False"], done.stderr


@pytest.mark.slow
def test_killed_twice_gives_the_same_findings(tmp_path: Path) -> None:
    source = Path(__file__).resolve().parents[1] / "src"
    command = [sys.executable, "-m", "cuescope", "audit", "cuescope/world-bagnet", "--images", "world:congruent:1500"]
    command += ["--only", "accuracy,shift_stability", "--out"]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True, env=environment)
    for parts in (4, 8):
        process = subprocess.Popen(
            [*command, str(tmp_path / "cut")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )
        while process.poll() is None and len(list((tmp_path / "cut").glob("cells/*/rows/*.parquet"))) < parts:
            time.sleep(0.02)
        process.kill()
        process.wait()
    subprocess.run([*command, str(tmp_path / "cut")], check=True, capture_output=True, env=environment)
    told = [
        {p.parent.name: p.read_bytes() for p in (tmp_path / name).glob("cells/*/finding.json")}
        for name in ("whole", "cut")
    ]
    assert len(told[0]) == 2
    assert told[0] == told[1]


@pytest.mark.parametrize("words", [("list", "instruments", "zzz"), ("list", "recipes", "zzz"), ("claims", "zzz")])
def test_a_name_that_nothing_has_is_told(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(*words, capsys=capsys)
    assert (status, out) == (2, "")
    assert "'zzz'" in err


def test_where_samples_and_records_cannot_be_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(*AUDIT, "--only", "accuracy", capsys=capsys)
    Path("a.txt").write_text("x")
    for out, found in (("a.txt", "is a file"), ("out/samples", "is in the run folder"), ("s3://a/b", "is an address")):
        for option in ("--fiftyone", "--every-eval-ever"):
            status, _, err = call("report", "out", option, out, capsys=capsys)
            assert (status, found in " ".join(err.split())) == (2, True), err
    assert call("report", "out", "--fiftyone", "samples", capsys=capsys)[0] == 0
    assert call("report", "out", "--fiftyone", "samples", capsys=capsys)[0] == 0
    call(*AUDIT[:-1], "other", "--only", "accuracy", capsys=capsys)
    for remove in ((), ("samples/metadata.json",)):
        for name in remove:
            Path(name).unlink()
        status, _, err = call("report", "other", "--fiftyone", "samples", capsys=capsys)
        assert (status, "samples of another run" in " ".join(err.split())) == (2, True), err
