"""A user's file is what it holds now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cuescope.core.user_code import load_file


def test_a_file_changed_within_a_second_is_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    file = tmp_path / "mine.py"
    for value in (1, 2):
        file.write_text(f"value = {value}\n")
        os.utime(file, (0, 0))
        assert load_file(file).value == value
