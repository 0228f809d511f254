"""Write the pages of docs/ that are the code's own words; a test fails when one of them lags behind.

python scripts/write_docs.py
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from unittest.mock import patch

from cuescope.cli import app
from cuescope.core.parameters import parameters
from cuescope.instruments import registry
from cuescope.training.recipes import recipes

DOCS = Path(__file__).resolve().parents[1] / "docs"
WRITTEN = "This page is written by `scripts/write_docs.py` from the code."


def of_commands() -> str:
    """Each command with its arguments and options, as `--help` has them."""
    with patch.object(sys, "argv", ["cuescope"]):  # It stands in usage lines.
        text = app.generate_docs(output_format="markdown", recursive=True)
    # The site and GitHub make the table of contents.
    text = re.sub(r"## Table of Contents\n.*?(?=\n\*\*Commands)", "", text, flags=re.S)
    text = text.replace("# cuescope\n", f"# Commands\n\n{WRITTEN}\n", 1)
    # Angle brackets would be tags.
    return re.sub(r"[ \t]+\n", "\n", re.sub(r"\n{3,}", "\n\n", text)).strip() + "\n"


def of_recipes() -> str:
    """Each recipe with the paper, its published results, and what it changes of the defaults."""
    parts = [
        "# Recipes",
        "`cuescope train RECIPE --images DIR` trains by one, `--small` the version that takes minutes on two cores. "
        f"[What they were seen to do](training_claims.md). {WRITTEN}",
    ]
    for name, recipe in recipes().items():
        parts += [f"## `{name}`", inspect.cleandoc(recipe.about)]
        known = parameters(type(recipe.settings))
        changed = {key: getattr(recipe.settings, key) for key in known}
        changed = {key: value for key, value in changed.items() if str(value) != str(known[key][1])}
        if changed:
            parts.append("Settings: " + ", ".join(f"`{key}={value}`" for key, value in changed.items()) + ".")
    return "\n\n".join(parts) + "\n"


def of_instruments() -> str:
    """Each instrument with its parameters, its source and what it may say."""
    parts = [
        "# Instruments",
        "Each asks one question. Set a parameter with `--set instrument.parameter=value`; the values shown are the "
        f"defaults. {WRITTEN}",
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


PAGES = {"instruments.md": of_instruments, "commands.md": of_commands, "recipes.md": of_recipes}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
        print(DOCS / name)
