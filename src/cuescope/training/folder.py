"""The folder of a training: checkpoints, the best network, the series of epochs, and how it went."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import torch
from filelock import FileLock, Timeout
from torch import nn

from cuescope.core.errors import CueError
from cuescope.core.files import read_json, sweep, write, write_json
from cuescope.training import checkpoint
from cuescope.training.evaluate import Right
from cuescope.training.loop import State
from cuescope.training.optimizer import Average

ABOUT, LAST, BEST, METRICS, EPOCHS = (
    "training.json",
    "last.safetensors",
    "best.safetensors",
    "metrics.parquet",
    "epochs",
)
SERIES = (1, 2, 5, 10, 20, 30, 40, 64)
"""Epochs whose weights are kept: those of Zeiler and Fergus 2014, figure 4."""
EVERY_S = 60.0
"""Seconds between two checkpoints, beside those at the end of each epoch."""
FREE = ("device", "compile")
"""Settings that may differ where a training goes on."""


class TrainingFolder:
    """Keeps a training so that it can be stopped at any step, and goes on from its last checkpoint.

    In the folder: `last.safetensors`, the checkpoint; `best.safetensors`, the network that was right most often on the
    images held out, and `epochs/0010.safetensors`, that after ten epochs, each a file that `load` takes;
    `metrics.parquet`, a row every so often and one each epoch; `training.json`, what is trained on what.

    `about` says what a training must have in common with the one in the folder to go on with it. `evaluate` counts how
    often a network is right; `pack` makes the bytes of a file of weights. Raises CueError for a folder that holds
    another training, one that is broken, and one that is written to by another process.
    """

    def __init__(
        self,
        path: Path,
        about: Mapping[str, Any],
        steps_per_epoch: int,
        evaluate: Callable[[nn.Module, Any], Right],
        pack: Callable[[nn.Module], bytes],
        every_s: float = EVERY_S,
    ) -> None:
        self.path, self.about, self.steps_per_epoch = path, about, steps_per_epoch
        self.evaluate, self.pack, self.every_s = evaluate, pack, every_s
        self.rows: list[dict[str, Any]] = []
        self.best: Right | None = None
        self._saved_s = time.monotonic()

    @contextmanager
    def locked(self) -> Any:
        """Nobody else writes to the folder meanwhile. Raises CueError where somebody does.

        Of several processes of one training the first writes, and the others only read.
        """
        if os.environ.get("RANK", "0") != "0":
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            found = f"another training writes to '{self.path}'"
            raise CueError(found, wanted="a folder of its own", do="wait for it, or choose another --out") from None
        try:
            sweep(self.path)
            self._check()
            yield
        finally:
            lock.release()

    def restore(self, network: nn.Module, average: Average | None, optimizer: torch.optim.Optimizer) -> int:
        """Go on from the last checkpoint. The number of steps that are done, 0 without one."""
        facts = checkpoint.facts_of(self.path / LAST)
        if facts is None:
            return 0
        checkpoint.restore(self.path / LAST, network, average.network if average else None, optimizer)
        done, self.best = int(facts["done"]), Right(*facts["best"]) if facts["best"] else None
        if (self.path / METRICS).is_file():
            self.rows = [
                row for row in pl.read_parquet(self.path / METRICS, glob=False).to_dicts() if row["step"] <= done
            ]
        return done

    def after(self, state: State, accelerator: Any) -> None:
        """Note how it goes; at the end of an epoch try the network, keep it, and keep a checkpoint."""
        epoch, k = divmod(state.done, self.steps_per_epoch)
        ends = k == 0
        row = {"step": state.done, "epoch": state.done / self.steps_per_epoch, "loss": state.loss, "rate": state.rate}
        row |= {"images_per_s": state.images_per_s, "waited": state.waited, "held_out_accuracy": None}
        right = self.evaluate(state.evaluated, accelerator) if ends else Right(0, 0)
        if right.tried:
            row["held_out_accuracy"] = right.share
        if ends or state.told:
            self.rows.append(row)
            accelerator.log({key: value for key, value in row.items() if value is not None}, step=state.done)
        due = time.monotonic() - self._saved_s > self.every_s
        if ends and state.main:
            self._keep_epoch(epoch, state, right)
        if state.main and (ends or due):
            self._checkpoint(state)

    def _keep_epoch(self, epoch: int, state: State, right: Right) -> None:
        better = self.best is None or not right.tried or right.share >= self.best.share
        packed = self.pack(state.evaluated) if better or epoch in SERIES else b""
        if epoch in SERIES:
            write(self.path / EPOCHS / f"{epoch:04}.safetensors", packed)
        if better:
            self.best = right
            write(self.path / BEST, packed)

    def _checkpoint(self, state: State) -> None:
        buffer = io.BytesIO()
        pl.DataFrame(self.rows, infer_schema_length=None).write_parquet(buffer)
        write(self.path / METRICS, buffer.getvalue())
        facts = {"done": state.done, "best": self.best}
        average = state.average.network if state.average else None
        checkpoint.save(self.path / LAST, state.network, average, state.optimizer, facts)
        self._saved_s = time.monotonic()

    def _check(self) -> None:
        """Go on with the same training only."""
        file = self.path / ABOUT
        if not file.is_file():
            others = [entry.name for entry in self.path.iterdir() if not entry.name.startswith(".")]
            if others:
                found = f"'{self.path}' holds files that are no training, such as '{others[0]}'"
                raise CueError(found, wanted="a new folder, or that of a training", do="choose another --out")
            write_json(file, self.about)
            return
        known = read_json(file)
        for key, value in self.about.items():
            if known.get(key) != value:
                was, now = _difference(known.get(key), value)
                found = f"'{self.path}' holds a training with {key} {was}, not {now}"
                do = "choose another --out, or give what it was begun with"
                raise CueError(found, wanted="the training that was begun there", do=do)


def _difference(was: Any, now: Any) -> tuple[str, str]:
    """What differs of two values: of mappings the first entry that does.

    >>> _difference({"batch": 1, "seed": 0}, {"batch": 2, "seed": 0})
    ('batch=1', 'batch=2')
    """
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        key = next(key for key in {**was, **now} if was.get(key) != now.get(key))
        return f"{key}={was.get(key)}", f"{key}={now.get(key)}"
    return f"{was}", f"{now}"
