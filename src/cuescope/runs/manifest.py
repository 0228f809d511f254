"""What a reader of a run's manifest relies on."""

from typing import Any, Literal, Required, TypedDict

Status = Literal["done", "not applicable", "failed", "partial"]


class Listed(TypedDict):
    """A cell's line in the manifest."""

    folder: str
    classifier: str
    images: str
    instrument: str
    version: int
    params: dict[str, Any]
    status: Status
    why: str
    seconds: float


class Manifest(TypedDict, total=False):
    """What a reader of the manifest relies on."""

    created: Required[str]
    finished: str | None
    seconds: Required[float]
    command: Required[str]
    environment: Required[dict[str, Any]]
    image_sets: Required[list[dict[str, Any]]]
    classifiers: Required[list[dict[str, Any]]]
    cells: Required[list[Listed]]
    unasked: list[dict[str, str]]
    questions: dict[str, str]
    order: dict[str, int]
    headlines: dict[str, dict[str, str | float | None]]
    made: dict[str, str]
    preset: dict[str, Any]
    chosen: dict[str, Any]
