"""Shared fixtures: the real data pack and a browser, where they are present."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Networks this small are slower on several threads, and two test processes run side by side. Set for the processes that
# tests start, too; torch and scipy read it when they are imported.
os.environ["OMP_NUM_THREADS"] = "1"
# Thousands of tests and torch's own objects stay alive: walking them as often as Python does by default takes an eighth
# of the time of all tests.
gc.set_threshold(100_000, 50, 100)

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real weights and photographs. Tests that use it carry the marker `real`."""
    if not (DATA / "README.md").is_file():
        pytest.skip("the real data pack is not here")
    return DATA


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium. Tests that use it carry the marker `browser`."""
    if not CHROMIUM.exists():
        pytest.skip("no Chromium here")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(autouse=True)
def _same_random_weights() -> None:
    """A network that a test makes has the same weights each time, in whatever order and process tests run."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
