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
