"""The docs as a site: everything has a page, every command in them parses, and the blocks of the guides run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import cuescope
from cuescope.api.train import train
from cuescope.cli import app, main
from cuescope.data.ops.encode import encoded
from cuescope.instruments import registry
from cuescope.makers import registry as makers
from cuescope.training.recipes import recipes
from cuescope.world.images import WorldImages

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
THEIR_OWN = {"new_input.md", "new_maker.md"}
"""Pages whose commands know what the reader has added; test_docs.py adds it and runs them."""
GUIDES = [DOCS / "tutorial.md", *sorted((DOCS / "how_to").glob("*.md"))]


def commands(page: Path) -> list[list[str]]:
    """Each `cuescope ...` line of a page's blocks, as words."""
    text = page.read_text()
    blocks = [*re.findall(r"^```(?:sh|bash|console|yaml)?\n(.*?)^```", text, re.S | re.M)]
    blocks += re.findall(r"(?:^    cuescope .*\n)+", text, re.M)
    lines = re.sub(r"\\\n\s*", " ", "\n".join(blocks)).splitlines()
    found = (re.match(r"\s*(?:\$ |- run: |\.venv/bin/)*cuescope (.*)", line) for line in lines)
    # A synopsis is no command.
    whole = (m[1] for m in found if m and not re.search(r"\[OPTIONS\]|\bCOMMAND\b|\.\.\.", m[1]))
    return [shlex.split(text.partition(" && ")[0], comments=True) for text in whole]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in THEIR_OWN], ids=lambda p: p.name)
def test_commands_in_the_docs_parse(page: Path) -> None:
    for words in commands(page):
        app.parse_args(words, print_error=False, exit_on_error=False, verbose=False)


def test_commands_are_found() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 60


def test_everything_has_a_page() -> None:
    text = {name: (DOCS / f"{name}.md").read_text() for name in ("questions", "makers", "recipes", "commands")}
    assert [name for name in registry.names() if f"[{name}]" not in text["questions"]] == []
    assert [name for name in makers.names() if f"## {name}" not in text["makers"]] == []
    assert [name for name in recipes() if f"## `{name}`" not in text["recipes"]] == []
    assert [name for name in app if not name.startswith("-") and f"## cuescope {name}" not in text["commands"]] == []


def test_every_page_is_in_the_site_once() -> None:
    def pages(item: Any) -> list[str]:
        return (
            [item]
            if isinstance(item, str)
            else [p for i in (item.values() if isinstance(item, dict) else item) for p in pages(i)]
        )

    listed = pages(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


@pytest.mark.slow
@pytest.mark.parametrize("page", GUIDES, ids=lambda p: p.name)
def test_the_blocks_of_the_guides_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photo.png").write_bytes(encoded(WorldImages("congruent", count=1).read(0).pixels))
    rows = [f"congruent-{i:06d},{'ab'[i % 2]}" for i in range(300)]
    Path("cameras.csv").write_text("\n".join(["file,camera", *rows]))
    names: dict[str, Any] = {}
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.S | re.M):
        if kind == "python":
            exec(block, names)
        for line in block.splitlines() if kind == "" else ():
            with pytest.raises(SystemExit) as left:
                main(shlex.split(line)[1:])
            assert left.value.code == 0, line


WORLD = "cuescope/world-congruent"
STAND_INS = {
    **dict.fromkeys(("MODEL", "timm/resnet50.a1_in1k", "timm/resnet18.a1_in1k", "runs/mine/best"), WORLD),
    **dict.fromkeys(("torchvision/mobilenet_v2", "package.module:factory"), "cuescope/world-shape"),
    "timm/resnet50.a1_in1k+blur4": f"{WORLD}+blur4",
    "timm/resnet50.a1_in1k+aps": f"{WORLD}+aps",
    "torchvision/mobilenet_v2@weights.safetensors": "torchvision/mobilenet_v2@random",
    "torchvision/squeezenet1_1@weights.safetensors": "torchvision/squeezenet1_1@random",
    "torchvision/vgg16@weights.safetensors": "torchvision/vgg11@random",
    "torchvision/resnet50@weights.pth": WORLD,
    "torchvision/resnet18@random": f"{WORLD}@random",
    "channels=12,40": "channels=1,2",
    **dict.fromkeys(
        ("OTHER-IMAGES", "mine/", "tests/photos", "objects/", "paintings/", "seen/", "textures/"), "photos/"
    ),
    **dict.fromkeys(("conflict/", "stimuli/", "tests/stimuli", "world:conflict:480"), "world:conflict:32"),
    "world:congruent:480": "world:congruent:32",
    "world:congruent:2000": "world:congruent:200",
    **dict.fromkeys(("runs/new", "runs/old", "baseline", "run"), "audited"),
}
"""What stands for the reader's own models and images, and keeps it small."""
QUICK = {
    "audit": ["--limit=16", "--minutes=0.1"],
    "cure": ["--limit=160", "--no-control", "--set=mixed.epochs=1", "--set=clean.epochs=1"],
    "look": [],
    "make": ["--limit=4"],
    "train": ["--set=epochs=2"],
    "train world-": ["--set=steps=2"],
    "transfer": ["--limit=64"],
}
"""Options that keep a command short, where it has none of its own that say otherwise."""
LISTS = {"commands.md", "claims.md"}
"""Of what there is to ask for: test_claims.py runs the experiments."""
ELSEWHERE = {
    "demo": "test_wheel.py",
    "live": "test_live.py opens it",
    "get": "needs the network",
    "s3:": "test_remote_server.py",
    "weights/": "test_make_stylized.py",
    "red_shift.py": "test_docs.py",
    "human/": "test_human_agreement.py",
    "imagenet-r/": "test_class_subset.py",
    "stylized.safetensors": "takes minutes: test_stylized.py",
    "open_clip": "test_open_clip.py",
    "VOC2007": "test_detect.py",
    "coco/": "test_detect.py",
    "101_Object": "test_few_shot.py",
    "objectnet": "test_class_subset.py",
    "SLURM": "test_engines.py",
    "cues/": "test_make_cues.py, with masks",
    "stylized-b": "test_training_sources.py, with a version of each image",
}
"""Commands that are run in another place, by a word of them."""


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader of the pages would have it: photographs, an audit of them."""
    root, images = tmp_path_factory.mktemp("reader"), WorldImages("congruent", count=400)
    for i in range(400):
        sample = images.read(i)
        path = root / "photos" / images.classes.names[sample.label] / f"{i}.png"  # type: ignore[union-attr, index]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(sample.pixels))
    for name in ("cat.jpg", "dog.jpg"):
        (root / name).write_bytes(path.read_bytes())
    asked = ["accuracy", "shape_bias", "shift_stability"]
    given = {"images": root / "photos", "cue_conflict": "world:conflict:32", "limit": 16}
    cuescope.audit(WORLD, **given, only=asked, out=root / "audited")
    how = {"model": f"{WORLD}@random", "epochs": 2}
    train("imagenet", images=root / "photos", out=root / "runs" / "mine", settings=how)
    return root


@pytest.mark.extra
@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page not in GUIDES and page.name not in LISTS | THEIR_OWN], ids=lambda p: p.name
)
def test_the_commands_of_the_other_pages_run(page: Path, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reader)
    for words in commands(page):
        line = shlex.join(words)
        if any(word in line for word in ELSEWHERE):
            continue
        own = [STAND_INS.get(word, word) for word in words]
        own[3:4] = words[3:4] if words[0] == "make" else own[3:4]  # what it writes keeps its name
        given = {word.partition("=")[0] for word in own} | ({"--minutes"} if "--only" in own else set())
        short = QUICK["train world-" if words[1].startswith("world-") else words[0]] if words[0] in QUICK else ()
        own += [option for option in short if option.partition("=")[0] not in given - {"--set"}]
        print(f"cuescope {shlex.join(own)}")
        with pytest.raises(SystemExit) as left:
            main(own)
        assert left.value.code in (0, 1 if words[0] == "check" else 0), line


@pytest.mark.extra
@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("zensical")
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "how_to" / "choose.html").is_file()


def test_defaults_are_of_their_own_type() -> None:
    # Where a process has imported pydantic, cyclopts checks defaults by it.
    pydantic = pytest.importorskip("pydantic")

    def commands_of(group: Any) -> Any:
        for name in group:
            if not name.startswith("-"):
                yield from commands_of(group[name])
        if group.default_command is not None:
            yield group

    for command in commands_of(app):
        for argument in command.assemble_argument_collection():
            if argument.field_info.default is not argument.field_info.empty:
                pydantic.TypeAdapter(argument.hint).validate_python(argument.field_info.default)
