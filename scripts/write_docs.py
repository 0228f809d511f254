"""Write docs/instruments.md from the instruments themselves; a test fails when the page lags behind.

python scripts/write_docs.py
"""

from __future__ import annotations

import inspect
from pathlib import Path

from cuescope.core.parameters import parameters
from cuescope.instruments import registry

PAGE = Path(__file__).resolve().parents[1] / "docs" / "instruments.md"


def page() -> str:
    """The page as Markdown."""
    parts = [
        "# Instruments",
        "Each asks one question. Set a parameter with `--set instrument.parameter=value`; the values shown are the "
        "defaults. This page is written by `scripts/write_docs.py` from the code.",
    ]
    for name in registry.names():
        kind = registry.find(name)
        parts += [f"## `{name}`: {kind.question}", _prose(kind)]
        parts.append(f"Needs: {', '.join(sorted(kind.needs)) or 'nothing'}. Source: {kind.reference}.")
        known = parameters(kind)
        if known:
            lines = ["| parameter | default | meaning |", "| --- | --- | --- |"]
            lines += [f"| `{key}` | `{default}` | {meaning} |" for key, (_, default, meaning) in known.items()]
            parts.append("\n".join(lines))
        if kind.sentences:
            lines = ["| it may say | where |", "| --- | --- |"]
            lines += [f"| {_cell(s.text)} ({s.said}) | {_cell(s.when)} |" for s in kind.sentences.values()]
            parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _prose(kind: type) -> str:
    text = inspect.getdoc(kind) or ""
    return text.partition(">>>")[0].strip()


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
    print(PAGE)
