"""The house rules that a reader relies on: imports go one way, instruments stand alone, files stay short."""

from __future__ import annotations

import ast
import functools
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "cuescope"

ROOMS = (
    *("core", "data", "network", "models", "world", "classifier", "methods", "instruments"),
    *("training", "runs", "makers", "report", "api", "cli"),
)
"""Each imports only from itself and from rooms named before it."""


@functools.cache
def trees() -> dict[Path, ast.Module]:
    """Each file of the package, parsed once."""
    return {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def imports(tree: ast.Module) -> list[tuple[int, str]]:
    """The cuescope modules that a file imports, wherever in the file and for whatever reason."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "cuescope":
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "cuescope" else [node.module]
            found.extend((node.lineno, name) for name in names)
        if isinstance(node, ast.Import):
            found.extend((node.lineno, a.name) for a in node.names if a.name.split(".")[0] == "cuescope")
    return found


def test_the_house_has_fourteen_rooms() -> None:
    assert sorted(p.name for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()) == sorted(ROOMS)
    assert sorted(p.name for p in PACKAGE.glob("*.py")) == ["__init__.py", "__main__.py"]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room: str) -> None:
    wrong = []
    for path, tree in trees().items():
        if path.relative_to(PACKAGE).parts[0] != room:
            continue
        for line, name in imports(tree):
            other = name.split(".")[1]
            alone = room != "instruments" or other != room or path.name in ("registry.py", "presets.py")
            if ROOMS.index(other) > ROOMS.index(room):
                wrong.append(f"{path.name}:{line}: {room} may not import {name}")
            elif not alone and not name.endswith((".base", ".featured", ".severity_curves", ".severity_pairs")):
                wrong.append(f"{path.name}:{line}: no instrument imports another")
    assert not wrong


def test_no_files_import_each_other_in_a_circle() -> None:
    module = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in trees()}
    known = {name.removesuffix(".__init__") for name in module.values()}
    graph: dict[str, set[str]] = {}
    for path, tree in trees().items():
        own = module[path].removesuffix(".__init__")
        graph[own] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in known:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                graph[own] |= (names & known) or {str(node.module)}
            elif isinstance(node, ast.Import):
                graph[own] |= {alias.name for alias in node.names} & known
    tuple(TopologicalSorter(graph).static_order())


def test_files_are_short() -> None:
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in trees()}
    assert not {name: count for name, count in lines.items() if count > 350}


def test_only_hooks_touches_hooks() -> None:
    for path in trees():
        if path.name != "hooks.py":
            assert ".register_forward_hook" not in path.read_text(), path
            assert ".register_forward_pre_hook" not in path.read_text(), path


def test_nothing_unpickles() -> None:
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "pickle.load", "pickle.loads"):
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert keywords.get("weights_only") == "True", f"{path}:{node.lineno}"


@pytest.mark.parametrize("page", ["instruments.md", "commands.md", "recipes.md"])
def test_the_pages_in_the_code_s_own_words_are_fresh(page: str) -> None:
    import runpy

    script = runpy.run_path(str(PACKAGE.parents[1] / "scripts" / "write_docs.py"))
    assert (script["DOCS"] / page).read_text() == script["PAGES"][page](), "run python scripts/write_docs.py"
