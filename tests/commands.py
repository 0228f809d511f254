"""Commands called as a user would."""

from __future__ import annotations

import pytest

from cuescope.cli import main


def call(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def audited(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run the command that `cuescope train` printed last, on the folder photos: it must give an accuracy."""
    command = trained.partition("next: cuescope ")[2].replace("OTHER-IMAGES", "photos").split()
    status, out, err = call(*command, "--only", "accuracy", capsys=capsys)
    assert status == 0, err
    assert "top-1 accuracy" in out
