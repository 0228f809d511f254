"""What is given to an audit: paths, names and image sets; what it is and what it is asked to do, or one clear error."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import cuescope
from cuescope.classifier.sources import from_cuescope, known
from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet
from cuescope.instruments import names, registry
from cuescope.runs.inputs import find_images, open_inputs, sources, wanted
from cuescope.runs.options import AuditOptions, described
from cuescope.world.images import WorldImages
from runs import make_run
from toys import COLORS, Images, MeanColor, colored, toy


def test_a_limit_is_applied_to_image_sets() -> None:
    images = Images(colored(9))
    few = open_inputs({"images": images}, 3)["images"]
    assert [few.id(i) for i in range(len(few))] == ["0000.png", "0003.png", "0006.png"]
    assert (few.label(1), few.classes, few.knows) == (0, COLORS, {"label"})
    assert torch.equal(few.read(2).pixels, images.read(6).pixels)
    assert "3 of 9 images, evenly spread" in few.notes
    others = [find_images(images, limit=limit).digest for limit in (2, 3, 9)]
    assert others[1] == few.digest
    assert len(set(others)) == 3
    assert others[2] == images.digest, "all of them are the set itself"
    with pytest.raises(CueError, match="limit 0"):
        find_images(images, limit=0)


@pytest.mark.parametrize(
    "role", ["cue-conflict", "cues", "texturized", "stylized", "distortions", "parts", "label-maps"]
)
def test_a_limit_is_applied_to_every_image_set(role: str) -> None:
    opened = open_inputs({"images": Images(colored(2)), role: WorldImages(count=8)}, 4)
    assert {key: len(images) for key, images in opened.items()} == {"images": 2, role: 4}


def test_an_audit_of_an_image_set_with_a_limit(tmp_path: Path) -> None:
    run = cuescope.audit(toy(MeanColor()), images=Images(colored(9)), limit=6, only=["accuracy"], out=tmp_path / "run")
    assert run.finding("accuracy")["top1"].n == 6
    assert run.manifest["image_sets"][0]["count"] == 6


@pytest.mark.parametrize("images", [Images(colored(3)), "world:congruent:3"], ids=["set", "world"])
@pytest.mark.parametrize("option", ["labels", "real", "boxes"])
def test_what_belongs_to_a_folder_is_refused_with_other_images(
    images: ImageSet | str, option: str, tmp_path: Path
) -> None:
    path = tmp_path / "given"
    path.mkdir() if option == "boxes" else path.write_text("")
    options: dict[str, Any] = {"images": images, option: path, "only": ["accuracy"]}
    with pytest.raises(CueError, match=f"--{option} with .* no folder"):
        cuescope.audit(toy(MeanColor()), **options, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_every_option_has_one_description() -> None:
    assert set(inspect.signature(cuescope.audit).parameters) == {*described(), "models", "command", "progress"}
    assert all(meaning for _, _, meaning in described().values())
    options = AuditOptions.of(images="photos", label_maps="maps", boxes=None, limit=3)
    assert dict(options.inputs) == {"images": "photos", "label-maps": "maps"}
    assert (options.limit, options.out, options.only) == (3, "run", ())
    with pytest.raises(CueError, match=r"unknown option 'limt'(.|\n)*limit"):
        AuditOptions.of(images="photos", limt=3)
    with pytest.raises(CueError, match="no images"):
        AuditOptions.of()


def test_messages_say_which_input_helps() -> None:
    assert wanted({"answers"})[1] == "--cue-conflict DIR --human-data DIR"
    assert wanted({"labels"})[1] == "--label-maps DIR, --boxes DIR or --real FILE"
    assert wanted({"logits"}) == ("", "")


@pytest.mark.parametrize("role", list(sources()))
def test_a_path_that_is_not_there(role: str, tmp_path: Path) -> None:
    source = sources()[role]
    with pytest.raises(CueError, match=r"no .*'.*nowhere'"):
        source.check(tmp_path / "nowhere")
    if source.kind == "folder":
        (tmp_path / "file").write_text("")
        with pytest.raises(CueError, match=r"file' is a file"):
            source.check(tmp_path / "file")


MISTAKES = [
    ["audit", "cuescope/world-shape", "--images", "nowhere"],
    ["audit", "cuescope/world-shape", "--images", "photos", "--parts", "nowhere.csv"],
    ["audit", "cuescope/world-shape", "--images", "photos", "--out", "file"],
    ["audit", "cuescope/world-shape", "--images", "photos", "--out", "file/run"],
    ["audit", "cuescope/world-shape", "--images", "photos", "--out", "photos"],
    ["audit", "cuescope/world-shape", "--images", "photos", "--classes", "nowhere.txt"],
    ["audit", "cuescope/world-shape", "--images", "photos", "--only", "acuracy"],
    ["audit", "cuescope/world-shape", "--images", "photos", "--instrument", "nowhere.py"],
    ["audit", "cuescope/world-shape", "--images", "photos", "--set", "accuracy.bin=3"],
    ["audit", "cuescope/world-shape", "--images", "photos", "--set", "acuracy.bins=3"],
    ["audit", "cuescope/world-shap", "--images", "photos"],
    ["audit", "timm/resnet50x", "--images", "photos"],
    ["audit", "timm/resnet50.a1_in1q", "--images", "photos"],
    ["audit", "torchvision/resnt50", "--images", "photos"],
    ["audit", "timm/resnet50@nowhere.pth", "--images", "photos"],
    ["audit", "resnet50", "--images", "photos"],
    ["audit", "nowhere.py:make", "--images", "photos"],
    ["audit", "nowhere.onnx", "--images", "photos"],
    ["audit", "--images", "photos"],
    ["look", "occlusio", "cuescope/world-shape", "photos/1.png"],
    ["look", "occlusion", "cuescope/world-shap", "photos/1.png"],
    ["look", "occlusion", "cuescope/world-shape", "photos/2.png"],
    ["look", "occlusion", "cuescope/world-shape", "photos/1.png", "--set", "sizepx=3"],
    ["look", "occlusion", "cuescope/world-shape", "photos/1.png", "--out", "look.jpg"],
]


def test_mistakes_in_names_and_paths_are_reported_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.png").write_bytes(b"")
    (tmp_path / "file").write_text("")
    code = (
        "import contextlib, io, json, sys\nfrom cuescope.cli import main\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    status, errors = 0, io.StringIO()\n"
        "    with contextlib.redirect_stderr(errors):\n"
        "        try:\n            main(arguments)\n"
        "        except SystemExit as end:\n            status = end.code\n"
        "    heavy = [name for name in ('torch', 'timm', 'polars', 'numpy') if name in sys.modules]\n"
        "    print(json.dumps([status, errors.getvalue(), heavy]))\n"
    )
    source = Path(__file__).resolve().parents[1] / "src"
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(MISTAKES)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(MISTAKES), done.stderr
    for arguments, (status, errors, heavy) in zip(MISTAKES, answers, strict=True):
        assert (status, heavy) == (2, []), (arguments, errors)
        assert errors.count("cuescope:") == 1, (arguments, errors)
        assert "wanted:" in errors, (arguments, errors)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "photos"]


def test_names_from_files_are_those_of_the_libraries() -> None:
    import timm
    import torchvision

    assert known._torchvision() == sorted(torchvision.models.list_models(module=torchvision.models))
    found = set(known._timm())
    assert set(timm.list_models()) <= found
    assert {name for name in timm.list_models(pretrained=True) if name.partition(".")[0] == "resnet50"} <= found
    assert {f"cuescope/{name}" for name in known._cuescope()} == set(from_cuescope.names())


def test_parameters_from_files_are_those_of_the_instruments() -> None:
    from cuescope.core.parameters import fields_in, parameters

    for name in registry.names():
        fields = fields_in(names.class_name(name), *names._sources(names.FOLDER / f"{name}.py"))
        assert fields == {key: meaning for key, (_, _, meaning) in parameters(registry.find(name)).items()}


def test_a_finding_of_a_classifier_by_a_short_name(tmp_path: Path) -> None:
    more = ["timm/resnet50d.a1_in1k", "timm/resnet50.a1_in1k", "torchvision/vgg16@one.pth", "torchvision/vgg16@two.pth"]
    run = make_run(tmp_path / "run", more=more)
    for name in ("timm/resnet50.a1_in1k", "resnet50.a1_in1k", "resnet50"):
        assert run.finding("accuracy", name).classifier == "timm/resnet50.a1_in1k"
    assert run.finding("accuracy", "torchvision/vgg16@two.pth").classifier.endswith("two.pth")
    assert run.finding("accuracy").classifier == run.cells[0].classifier
    with pytest.raises(CueError, match="may be 2 classifiers"):
        run.finding("accuracy", "vgg16")
    with pytest.raises(CueError, match="no finding"):
        run.finding("accuracy", "resnet5")


@pytest.mark.parametrize("images", ["", "world:congruent:0"])
def test_no_images_are_one_error(images: str, tmp_path: Path) -> None:
    with pytest.raises(CueError):
        cuescope.audit("cuescope/world-shape", images=images, out=tmp_path / "run")


def test_an_instrument_from_a_file_can_be_asked_alone(tmp_path: Path) -> None:
    file = tmp_path / "my_cue.py"
    file.touch()
    assert list(names.asked(["my_cue"], [str(file)], {})) == [str(file)]


@pytest.mark.parametrize("option", ["limit", "workers"])
def test_counts_are_at_least_one(option: str, tmp_path: Path) -> None:
    with pytest.raises(CueError, match=f"{option} is 0"):
        cuescope.audit("cuescope/world-shape", images="world:congruent:4", out=tmp_path / "run", **{option: 0})


def test_images_may_be_a_list_of_files_and_one_instrument_a_plain_string(tmp_path: Path) -> None:
    for color in ("red", "green", "blue"):
        (tmp_path / "photos" / color).mkdir(parents=True)
        for i in range(2):
            shade = tuple(200 if name == color else 10 * i for name in ("red", "green", "blue"))
            Image.new("RGB", (16, 16), shade).save(tmp_path / "photos" / color / f"{i}.png")
    files = sorted((tmp_path / "photos").rglob("*.png"))
    run = cuescope.audit(toy(MeanColor()), images=files, only="accuracy", out=tmp_path / "run")
    assert run.findings[0]["top1"].value == 1.0
    assert run.findings[0]["top1"].n == 6
    assert len(repr(run)) < 200
    with pytest.raises(CueError, match="an empty list"):
        cuescope.audit(toy(MeanColor()), images=[], out=tmp_path / "none")
    with pytest.raises(CueError, match="no image"):
        cuescope.audit(toy(MeanColor()), images=[tmp_path / "cat.png"], out=tmp_path / "none")


def test_a_run_among_its_images_is_refused_and_two_modules_of_one_class_are_numbered(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "red").mkdir(parents=True)
    Image.new("RGB", (16, 16), (200, 0, 0)).save(photos / "red" / "a.png")
    with pytest.raises(CueError, match="lies in --images"):
        cuescope.audit(toy(MeanColor()), images=photos, out=photos / "run")
    assert not (photos / "run").exists()
    modules = [
        torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 3)) for _ in "ab"
    ]
    run = cuescope.audit(
        *modules, images=photos, only="accuracy", classes=["red", "green", "blue"], out=tmp_path / "run"
    )
    assert [c["name"] for c in run.manifest["classifiers"]] == ["Sequential", "Sequential-2"]


def test_classes_matched_by_position_are_told_before_the_audit_starts(tmp_path: Path) -> None:
    from cuescope.api.audit import perform
    from cuescope.classifier.classifier import Classifier
    from toys import plain

    classifier = Classifier(MeanColor(), preprocessing=plain(), name="unnamed")
    options = AuditOptions.of(images=Images(colored(6)), only="accuracy", out=tmp_path / "run")
    said: list[str] = []
    result = perform([classifier], options, say=said.append)
    (matched,) = [note for note in result.run.manifest["image_sets"][0]["notes"] if note.startswith("unnamed:")]
    assert f"  {matched}" in said
