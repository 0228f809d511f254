"""The house rules that a reader relies on: imports go one way, instruments stand alone, files stay short."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "cuescope"

LAYERS = [
    ["errors"],
    ["classes", "findings"],
    ["images"],
    ["preprocessing", "stats", "readout", "published"],
    ["agreement"],
    ["readers", "ops", "taps", "identity", "label_maps"],
    ["followers", "level_curves"],
    ["fold", "receptive", "bypass"],
    ["engine", "dense", "roles"],
    ["layers"],
    ["classifier"],
    ["incremental", "deconvnet", "ends"],
    ["attribution", "parts", "annotator"],
    ["instrument"],
    ["instruments", "models"],
    ["world"],
    ["training"],
    ["sources"],
    ["store", "synthesis", "maker"],
    ["made", "relabel", "annotated"],
    ["makers"],
    ["runner", "comparisons"],
    ["draw"],
    ["report"],
    ["jobs"],
    ["cli"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
SHOWS_ITSELF = {"_repr_html_", "__str__"}
"""A record may ask the report to show it in a notebook or a terminal: the one way up."""
FILES = sorted(PACKAGE.rglob("*.py"))


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> list[tuple[int, str]]:
    """The cuescope modules that a file imports, outside of `SHOWS_ITSELF` and of what only a type checker reads."""
    found: list[tuple[int, str]] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef) and node.name in SHOWS_ITSELF:
            return
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "cuescope":
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "cuescope" else [node.module]
            found.extend((node.lineno, name) for name in names)
        if isinstance(node, ast.Import):
            found.extend((node.lineno, a.name) for a in node.names if a.name.startswith("cuescope."))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    own = layer(path)
    if own in ("__init__", "__main__"):
        return
    for line, name in imports(path):
        other = name.split(".")[1]
        assert other in RANK, f"{path.name}:{line} imports {name}, whose layer is not known"
        assert other == own or RANK[other] < RANK[own], f"{path.name}:{line}: {own} may not import {name}"
        if own == "instruments":
            assert other != "instruments", f"{path.name}:{line}: no instrument imports another"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350


def test_only_taps_touches_hooks() -> None:
    for path in FILES:
        if path.name != "taps.py":
            assert ".register_forward_hook" not in path.read_text(), path
            assert ".register_forward_pre_hook" not in path.read_text(), path


def test_nothing_unpickles() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "pickle.load", "pickle.loads"):
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert keywords.get("weights_only") == "True", f"{path}:{node.lineno}"


def test_the_page_of_instruments_is_fresh() -> None:
    import runpy

    script = runpy.run_path(str(PACKAGE.parents[1] / "scripts" / "write_docs.py"))
    assert script["PAGE"].read_text() == script["page"](), "run python scripts/write_docs.py"
