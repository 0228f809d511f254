"""The folder of a training: checkpoints, the best network, the series of epochs, and how it went."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import torch
from filelock import FileLock, Timeout
from torch import nn

from cuescope.core.errors import CueError, StoppedError
from cuescope.core.files import read_json, sweep, why_not, writing
from cuescope.core.naming import SERIES
from cuescope.core.parquet_file import read_table
from cuescope.core.processes import is_first
from cuescope.core.progress import Progress, Say, quiet, silent
from cuescope.core.tables import DAMAGED
from cuescope.data.images import Skipped
from cuescope.training import checkpoint
from cuescope.training.board import Board
from cuescope.training.evaluate import Right
from cuescope.training.interrupt import Interrupt
from cuescope.training.loop import State
from cuescope.training.optimizer import Average
from cuescope.training.same import unlike

ABOUT, LAST, BEST, METRICS = "training.json", "last.safetensors", "best.safetensors", "metrics.parquet"
KEPT = (1, 2, 5, 10, 20, 30, 40, 64)
"""Epochs whose weights are kept, beside the last: those of Zeiler and Fergus 2014, figure 4."""
EVERY_S = 60.0
"""Seconds between two checkpoints, beside those at the end of each epoch."""
OTHER = "choose another --out, or give what it was begun with"


class TrainingFolder:
    """Keeps a training so that it can be stopped at any step, and goes on from its last checkpoint.

    In the folder: `last.safetensors`, the checkpoint; `best.safetensors`, the network that was right most often on the
    images held out, and `epochs/0010.safetensors`, that after ten epochs, each a file that `load` takes;
    `metrics.parquet`, a row every so often and one each epoch; `training.json`, what is trained on what; with `track`
    the metrics for TensorBoard too, in `tensorboard`. `say` is told after each epoch how it went; `waited` is the share
    of the time in which the loop waited for images.

    `about` says what a training must have in common with the one in the folder to go on with it. `evaluate` counts how
    often a network is right, which is called its `metric`; `pack` makes the bytes of a file of weights; `lost` are the
    images that could not be read so far. Raises CueError for a folder that holds another training, one that is broken,
    one that is written to by another process, a disk that is full, and weights that are no longer finite; StoppedError
    after Ctrl-C.
    """

    def __init__(
        self,
        path: Path,
        about: Mapping[str, Any],
        steps_per_epoch: int,
        epochs: int,
        evaluate: Callable[[nn.Module, Any], Right],
        pack: Callable[[nn.Module], bytes],
        lost: Callable[[], Mapping[str, Skipped]],
        *,
        every_s: float = EVERY_S,
        metric: str = "accuracy",
        track: bool = False,
        progress: Progress = quiet,
        say: Say = silent,
    ) -> None:
        self.metric = metric
        self.path, self.about, self.steps_per_epoch, self.epochs = path, about, steps_per_epoch, epochs
        self.evaluate, self.pack, self.lost, self.every_s, self.track = evaluate, pack, lost, every_s, track
        self.progress, self.say, self.waited = progress, say, 0.0
        self.rows: list[dict[str, Any]] = []
        self.losses: list[float] = []
        """Of the steps since the last row."""
        self.best: Right | None = None
        self.interrupt = Interrupt()
        self._board: Board | None = None
        self._lost_before: dict[str, Skipped] = {}
        self._begun, self._saved, self._saved_s = 0, 0, time.monotonic()

    @property
    def skipped(self) -> dict[str, Skipped]:
        """The images that could not be read, also before the training was stopped."""
        return self._lost_before | dict(self.lost())

    @property
    def stop(self) -> bool:
        return self.interrupt.pressed

    @property
    def advice(self) -> str:
        kept = f"; the last good checkpoint, of step {self._saved:,}, is kept" if self._saved else ""
        return f", in another --out{kept}"

    @contextmanager
    def locked(self) -> Any:
        """Nobody else writes to the folder meanwhile. Raises CueError where somebody does.

        Of several processes of one training the first writes, and the others only read. Ctrl-C is waited for.
        """
        if not is_first():
            with self.interrupt.noted():
                yield
            return
        lock = self._lock()
        try:
            sweep(self.path)
            self._check()
            with self.interrupt.noted():
                yield
        finally:
            if self._board:
                self._board.close()
            lock.release()

    def _lock(self) -> Any:
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            found = f"another training writes to '{self.path}'"
            raise CueError(found, wanted="a folder of its own", do="wait for it, or choose another --out") from None
        except OSError as error:
            found = f"cannot write to '{self.path}': {why_not(error)}"
            raise CueError(found, wanted="a folder that can be written", do="choose another --out") from None
        return lock

    def restore(self, network: nn.Module, average: Average | None, optimizer: torch.optim.Optimizer) -> int:
        """Go on from the last checkpoint. The number of steps that are done, 0 without one."""
        file = self.path / LAST
        facts = checkpoint.facts_of(file)
        if facts is None:
            return 0
        try:
            if other := unlike(facts["about"], self.about):
                raise CueError(f"'{file}' is of a training with {other}", wanted="a checkpoint of this one", do=OTHER)
            done, best = int(facts["done"]), Right(*facts["best"]) if facts["best"] else None
            self._lost_before = {name: Skipped(name, why) for name, why in facts["lost"].items()}
            self.losses = [float(loss) for loss in facts["losses"]]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise checkpoint.broken(file, "it does not say how far the training is") from None
        checkpoint.restore(file, network, average.network if average else None, optimizer)
        # Without the best weights those of the next epoch are the best.
        self.best = best if (self.path / BEST).is_file() else None
        self.rows, self._saved, self._begun = self._rows(done), done, done
        self.say(f"goes on after {done / self.steps_per_epoch:.3g} of {self.epochs} epochs")
        return done

    def _rows(self, done: int) -> list[dict[str, Any]]:
        """The series up to so many steps."""
        file = self.path / METRICS
        try:
            stored = read_table(file.read_bytes()).to_dicts() if file.is_file() else []
            return [row for row in stored if row["step"] <= done]
        except (KeyError, TypeError, *DAMAGED) as error:
            found, do = f"'{file}' is damaged: {error}", "remove it: the training goes on, and a new series begins"
            raise CueError(found, wanted="the series that a training wrote", do=do) from None

    def best_weights(self) -> bytes:
        """The file of the network that was right most often. Raises CueError where it is lost."""
        try:
            return (self.path / BEST).read_bytes()
        except OSError as error:
            do = f"remove {LAST}: the training begins anew"
            found = f"cannot read '{self.path / BEST}': {(error.strerror or str(error)).lower()}"
            raise CueError(found, wanted="the best weights of a training that is done", do=do) from None

    def after(self, state: State, accelerator: Any) -> None:
        """Note how it goes; at the end of an epoch try the network, keep it, and keep a checkpoint."""
        epoch, k = divmod(state.done, self.steps_per_epoch)
        ends = k == 0
        self.losses.append(state.loss)
        loss = sum(self.losses) / len(self.losses)
        right = Right(0, 0)
        if ends:
            self.progress(0, 0, f"epoch {epoch} of {self.epochs}: trying it on the images held out")
            right = self.evaluate(state.evaluated, accelerator)
        row = {"step": state.done, "epoch": state.done / self.steps_per_epoch, "loss": loss, "rate": state.rate}
        row |= {"images_per_s": state.images_per_s, "waited": state.waited, f"held_out_{self.metric}": None}
        if right.tried:
            row[f"held_out_{self.metric}"] = right.share
        if state.told:
            self._note(row, state.main)
            self.losses = []
        due = ends or state.stop or time.monotonic() - self._saved_s > self.every_s
        if state.main and due:
            self._check_finite(state)
        if ends:
            self._keep_epoch(epoch, state, right)
        if state.main and due:
            self._checkpoint(state)
        self.waited = state.waited_in_all
        if ends:
            self.say(self._said(epoch, loss, right, state.images_per_s))
            # What the first process has written the others may read.
            accelerator.wait_for_everyone()
        if state.stop:
            do = "run the same command again: it goes on from this step"
            raise StoppedError(f"interrupted: step {state.done:,} is done and kept in '{self.path}'", do=do)

    def _said(self, epoch: int, loss: float, right: Right, images_per_s: float) -> str:
        found = f", held-out {self.metric} {right.share:.1%}" if right.tried else ""
        return f"epoch {epoch} of {self.epochs}: loss {loss:.3f}{found}, {images_per_s:,.0f} images/s"

    def _note(self, row: dict[str, Any], main: bool) -> None:
        self.rows.append(row)
        if self.track and main:
            self._board = self._board or Board(self.path, self._begun)
            self._board.add(row)

    def _check_finite(self, state: State) -> None:
        """A checkpoint of weights from which nothing can go on would replace the last good one."""
        if (name := checkpoint.not_finite(state.network)) is not None:
            found = f"the weights '{name}' are no longer finite after step {state.done:,}"
            raise CueError(found, do=f"lower the learning rate{self.advice}")

    def _keep_epoch(self, epoch: int, state: State, right: Right) -> None:
        better = self.best is None or not right.tried or right.share >= self.best.share
        kept = epoch in KEPT or epoch == self.epochs
        self.best = right if better else self.best
        if not state.main or not (better or kept):
            return
        packed = self.pack(state.evaluated)
        if kept:
            self._write(self.path / SERIES / f"{epoch:04}.safetensors", packed)
        if better:
            self._write(self.path / BEST, packed)

    def _checkpoint(self, state: State) -> None:
        if self._board:
            self._board.flush()
        buffer = io.BytesIO()
        pl.DataFrame(self.rows, infer_schema_length=None).write_parquet(buffer)
        self._write(self.path / METRICS, buffer.getvalue())
        lost = {one.id: one.why for one in self.skipped.values()}
        facts = {"about": self.about, "done": state.done, "best": self.best, "lost": lost, "losses": self.losses}
        average = state.average.network if state.average else None
        self._write(self.path / LAST, checkpoint.packed(state.network, average, state.optimizer, facts))
        self._saved, self._saved_s = state.done, time.monotonic()

    def _write(self, path: Path, data: bytes) -> None:
        """Raises CueError where the disk is full or forbids it: what was written before is as it was."""
        kept = f"; the checkpoint of step {self._saved:,} is kept" if self._saved else ""
        do = "make room (or mend the folder) and run the same command again: it goes on from the last checkpoint"
        with writing(path, wanted=f"room and permission to write{kept}", do=do) as file:
            file.write(data)

    def _check(self) -> None:
        """Go on with the same training only."""
        file = self.path / ABOUT
        if not file.is_file():
            others = [entry.name for entry in self.path.iterdir() if not entry.name.startswith(".")]
            if others:
                found = f"'{self.path}' holds files that are no training, such as '{others[0]}'"
                raise CueError(found, wanted="a new folder, or that of a training", do="choose another --out")
            self._write(file, (json.dumps(self.about, indent=1, ensure_ascii=False) + "\n").encode())
            return
        try:
            other = unlike(read_json(file), self.about)
        except CueError as error:
            raise CueError(error.found, wanted="what a training noted there", do="choose another --out") from None
        except (KeyError, TypeError):
            found = f"'{file}' is damaged: it does not say what was trained"
            raise CueError(found, wanted="what a training noted there", do="choose another --out") from None
        if other:
            found = f"'{self.path}' holds a training with {other}"
            raise CueError(found, wanted="the training that was begun there", do=OTHER)
