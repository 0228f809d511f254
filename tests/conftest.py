"""Shared fixtures: the real data pack, where it is present."""

from pathlib import Path

import pytest
import torch

# Networks this small are slower on several threads, and two test processes run side by side.
torch.set_num_threads(1)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real weights and photographs. Tests that use it carry the marker `real`."""
    if not (DATA / "README.md").is_file():
        pytest.skip("the real data pack is not here")
    return DATA
