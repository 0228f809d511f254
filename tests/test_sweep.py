"""The sweep of architectures: what it holds, and how its table reads."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "bench"))

from sweep_models import models  # noqa: E402
from sweep_table import table  # noqa: E402


def test_there_are_enough_architectures_and_each_once() -> None:
    names = [model.name for model in models()]
    assert len(names) == len(set(names)) >= 60
    assert {model.library for model in models()} == {"timm", "torchvision", "transformers"}


def test_the_table_has_a_mark_for_each_and_groups_reasons() -> None:
    why = "timm/{0}@2 has no deconvnet at layer '{0}.act': below it there is gelu"
    lines = [
        {
            **{"model": f"timm/{name}", "size": 64, "gap": gap},
            "instruments": {"accuracy": [state, ""], "deconvnet": ["not applicable", why.format(name)]},
        }
        for name, gap, state in (("a", 1e-7, "done"), ("b", 2e-7, "failed"))
    ]
    page = table([*lines, {"model": "timm/c", "error": "Traceback\n  File\nValueError: odd\n"}])
    assert "1 done, 2 not applicable, 2 failed; logits at most 2e-07 away" in page
    assert "| timm/a | 64 px | 1e-07 | ● | – |" in page
    assert "| timm/b | 64 px | 2e-07 | ✗ | – |" in page
    assert "| it has no deconvnet: below it there is gelu | deconvnet | timm/a, timm/b |" in page
    assert "timm/c failed: ValueError: odd." in page
