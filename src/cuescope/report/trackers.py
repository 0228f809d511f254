"""What a run found, in the experiment tracker of a team: its measures with intervals, and its page as one file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from cuescope.core.errors import CueError
from cuescope.runs.store import Run

Tracker = Literal["mlflow", "wandb"]
PROJECT = "cuescope"


def track(runs: Sequence[Run], page: Path, tracker: Tracker) -> str:
    """Log the measures of these runs and their page to MLflow or Weights & Biases; where it went.

    Each tracker's own settings hold: MLFLOW_TRACKING_URI, WANDB_MODE=offline and so on. Raises CueError where the
    package is not installed.

    >>> track([Run.open("runs/mine")], Path("runs/mine/report.html"), "mlflow")    # doctest: +SKIP
    """
    try:
        return {"mlflow": _mlflow, "wandb": _wandb}[tracker](numbers(runs), page)
    except ImportError:
        do = f"pip install 'cuescope[{tracker}]'"
        raise CueError(f"{tracker} is not installed", wanted=tracker, do=do) from None


def numbers(runs: Sequence[Run]) -> dict[str, float]:
    """By a name that trackers allow, CLASSIFIER/IMAGES/INSTRUMENT.MEASURE, each value; `.low` and `.high` of intervals.

    A measure of several runs has the folder's name in front where there are several.
    """
    found = {}
    for run in runs:
        before = f"{run.path.resolve().name}/" if len(runs) > 1 else ""
        for row in run.frame().iter_rows(named=True):
            name = f"{before}{row['classifier'].replace('/', '.')}/{row['images'].replace('/', '.')}"
            name = re.sub(r"[^\w./-]", "_", f"{name}/{row['instrument']}.{row['measure']}", flags=re.ASCII)
            ends = {name: row["value"], f"{name}.low": row["low"], f"{name}.high": row["high"]}
            found |= {key: value for key, value in ends.items() if value is not None}
    return found


def _mlflow(found: dict[str, float], page: Path) -> str:
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        with mlflow.start_run() as run:
            mlflow.log_metrics(found)
            mlflow.log_artifact(str(page))
    except MlflowException as error:
        do = "set MLFLOW_TRACKING_URI, as http://HOST:5000; a folder of files wants MLFLOW_ALLOW_FILE_STORE=true too"
        raise CueError(f"MLflow: {str(error).splitlines()[0]}", wanted="a store that it can write to", do=do) from None
    return f"mlflow run {run.info.run_id}"


def _wandb(found: dict[str, float], page: Path) -> str:
    import wandb
    from wandb.errors import Error

    try:
        return _to_wandb(wandb, found, page)
    except Error as error:
        do = "log in by `wandb login`, or set WANDB_MODE=offline"
        raise CueError(f"Weights & Biases: {error}", wanted="a project that can be written to", do=do) from None


def _to_wandb(wandb: Any, found: dict[str, float], page: Path) -> str:
    with wandb.init(project=PROJECT) as run:
        run.log({**found, "report": wandb.Html(page.read_text(encoding="utf-8"), inject=False)})
    return f"wandb run {run.id}"
