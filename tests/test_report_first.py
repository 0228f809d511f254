"""The first screen of the report in a real browser: what it answers is on it, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cuescope import report
from cuescope.core.findings import Finding, Measure, Published, Unit
from cuescope.core.verdicts import Said, Verdict
from cuescope.instruments import registry
from cuescope.instruments.names import names
from cuescope.runs.store import Run
from runs import identity, manifest

pytestmark = pytest.mark.browser

DESK, PHONE = (1280, 800), (390, 844)
MODELS = ("cuescope/world-congruent", "cuescope/world-shape", "cuescope/world-bagnet")
TITLES = tuple(name.partition("/")[2] for name in MODELS)


class Made(NamedTuple):
    """Answers of the three models to one headline question."""

    said: tuple[Said, Said, Said]
    values: tuple[float, float, float]
    clauses: tuple[str, str, str] = ("", "", "")
    remedy: str = ""
    unit: Unit = "share"
    chance: float | None = None
    published: tuple[Published, ...] = ()


COMMAND = "cuescope make stylized {images} stylized --styles paintings"
TEXTURE, SHAPE = "goes by texture", "goes by shape"
WITHOUT = "loses accuracy without texture"
SHIFT = "changes answers after a shift by one pixel"
PEOPLE = (Published("people", 0.96, "a paper"), Published("ResNet-50 (torchvision)", 0.22, "a paper"))
ANSWERS: Mapping[str, Made] = {
    "accuracy": Made(("yes", "yes", "yes"), (0.988, 1.0, 0.97), chance=1 / 16),
    "label_errors": Made(("no", "no", "no"), (-0.001, 0.0, -0.001), unit="difference"),
    "shape_bias": Made(
        ("no", "yes", "no"), (0.013, 1.0, 0.004), (TEXTURE, SHAPE, TEXTURE), "Stylize.", chance=0.5, published=PEOPLE
    ),
    "cue_suppression": Made(
        ("yes", "no", "yes"), (0.874, 1.0, 0.825), (WITHOUT, "does not need texture or color", WITHOUT)
    ),
    "human_agreement": Made(("yes", "cannot tell", "no"), (0.08, 0.04, 0.01), unit="kappa", chance=0.0),
    "distortion_curves": Made(("yes", "yes", "yes"), (0.304, 0.543, 0.12), unit="difference"),
    "shift_stability": Made(("yes", "yes", "yes"), (0.054, 0.081, 0.048), (SHIFT, SHIFT, SHIFT), "Blur."),
    "interaction": Made(
        ("cannot tell", "no", "yes"), (0.237, 0.44, 0.0), ("", "needs patches together", "judges patch by patch")
    ),
}
OF_THE_DEMO = [name for name in ANSWERS if name not in ("human_agreement", "distortion_curves")]


def made(folder: Path, instruments: list[str]) -> Run:
    """A run whose headline questions are the instruments' own."""
    run, cells = Run.create(folder), []
    headlines = {name: registry.find(name).headline for name in instruments}
    for name, headline in headlines.items():
        answers = ANSWERS[name]
        assert headline
        for i, model in enumerate(MODELS):
            value = answers.values[i]
            span = (value - 0.02, value + 0.03)
            more: dict[str, Any] = {"chance": answers.chance, "published": answers.published, "headline": True}
            measure = Measure(headline.measure, value, answers.unit, 480, span, **more)
            clauses = tuple(clause for clause in answers.clauses[i : i + 1] if clause)
            remedy = answers.remedy if answers.said[i] != "cannot tell" else ""
            verdict = Verdict(answers.said[i], "A sentence.", remedy, COMMAND * bool(remedy), (), clauses)
            cell = run.cell(identity(found := Finding(name, 1, {}, model, "photos", (measure,), verdict=verdict)))
            cell.write_finding(found)
            cells.append(replace(cell, status="done"))
    run.manifest = manifest(MODELS, [cell.summary() for cell in cells])
    run.manifest["headlines"] = {name: asdict(headline) for name, headline in headlines.items() if headline}
    run.manifest["order"] = {name: i for i, name in enumerate(instruments)}
    run.write_manifest()
    return Run.open(folder)


@pytest.fixture(scope="module")
def addresses(tmp_path_factory) -> dict[str, str]:
    folder, found = tmp_path_factory.mktemp("first"), {}
    for name, instruments in (("all", list(ANSWERS)), ("demo", OF_THE_DEMO)):
        run = made(folder / name, instruments)
        found[name] = report.write([run.path], folder / f"{name}.html").as_uri()
    return found


@pytest.fixture
def screen(browser, addresses) -> Iterator[Any]:
    """Opens a report at a size; what lies below the first screen is not looked at."""
    pages = []

    def opened(which: str, size: tuple[int, int]) -> Any:
        page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme="light")
        pages.append(page)
        page.goto(addresses[which])
        return page

    yield opened
    for page in pages:
        page.close()


def bottoms(page: Any, selector: str) -> list[float]:
    return page.locator(selector).evaluate_all("all => all.map(e => e.getBoundingClientRect().bottom)")


def test_the_made_run_has_all_headline_questions() -> None:
    assert set(ANSWERS) == {name for name in names() if registry.find(name).headline}


@pytest.mark.parametrize(("which", "size", "least"), [("all", DESK, 8), ("demo", PHONE, 6), ("all", PHONE, 6)])
def test_title_sentence_and_questions_with_their_answers_are_on_the_first_screen(
    screen, which: str, size: tuple[int, int], least: int
) -> None:
    page = screen(which, size)
    height = size[1]
    assert max(bottoms(page, "h1") + bottoms(page, ".aloud")) < height / 3
    assert sum(bottom <= height for bottom in bottoms(page, ".profile > li")) >= least
    assert min(bottoms(page, ".heads .head")) > 0


def test_what_to_do_starts_on_the_first_screen_of_a_desk(screen) -> None:
    page = screen("all", DESK)
    assert max(bottoms(page, ".remedies h2") + bottoms(page, ".remedies li:first-child .paste")) <= DESK[1]
    assert page.locator(".paste").first.inner_text() == COMMAND.format(images="photos/imagenet-sample")


def line(page: Any, question: str) -> Any:
    return page.locator(".profile > li").filter(has_text=question)


def read(page: Any, question: str, height: float) -> dict[str, tuple[str, float]]:
    """What a reader sees in a line: of each model, by the head of its column, the word and the number."""
    row = line(page, question)
    box = row.bounding_box()
    assert 0 <= box["y"] <= box["y"] + box["height"] <= height
    heads = page.locator(".heads .head").all_inner_texts()
    answers = row.locator(".answer").all()
    at = [answer.bounding_box()["x"] for answer in answers]
    heads_at = [head.bounding_box()["x"] for head in page.locator(".heads .head").all()]
    ends = [answer.locator(".number").bounding_box() for answer in answers]
    assert all(end["x"] + end["width"] < following for end, following in zip(ends, at[1:], strict=False))
    assert all(abs(a - b) < 12 for a, b in zip(at, heads_at, strict=True)), "an answer stands below its model"
    words = [answer.locator(".said").inner_text() for answer in answers]
    numbers = [answer.locator(".number").inner_text().split()[0] for answer in answers]
    values = [float(text.strip("%").replace("\N{MINUS SIGN}", "-")) for text in numbers]
    return dict(zip((h.strip() for h in heads), zip(words, values, strict=True), strict=True))


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_five_questions_are_answered_by_the_first_screen_alone(screen, size: tuple[int, int]) -> None:
    page, height = screen("demo", size), size[1]
    congruent, shape, bagnet = TITLES
    # Which model goes by texture? The sentence, and the line whose ends are called texture and shape.
    assert f"{congruent} and {bagnet} go by texture" in page.locator(".aloud").inner_text()
    by_shape = read(page, "by shape", height)
    assert {model for model, (said, _) in by_shape.items() if said == "no"} == {congruent, bagnet}
    assert [text.split("\n")[-1] for text in line(page, "by shape").locator(".end").all_inner_texts()] == [
        "texture",
        "shape",
    ]
    # Which is least stable under a shift?
    shift = read(page, "shift", height)
    assert max(shift, key=lambda model: shift[model][1]) == shape
    # Which needs more than its patches?
    patches = read(page, "patch by patch", height)
    assert [model for model, (said, _) in patches.items() if said == "no"] == [shape]
    # Which is wrong most often?
    right = read(page, "better than chance", height)
    assert min(right, key=lambda model: right[model][1]) == bagnet
    # Do labels look wrong?
    assert {said for said, _ in read(page, "labels", height).values()} == {"no"}


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_marks_stand_at_their_values_and_cover_each_other_nowhere(screen, size: tuple[int, int]) -> None:
    page = screen("all", size)
    row = line(page, "by shape")
    plane = row.locator(".plane").bounding_box()
    at = [place.bounding_box() for place in row.locator(".place").all()]
    middles = [(box["x"] + box["width"] / 2 - plane["x"]) / plane["width"] for box in at]
    assert middles == pytest.approx(ANSWERS["shape_bias"].values, abs=0.02)
    for index in range(len(ANSWERS)):
        boxes = [b.bounding_box() for b in page.locator(".profile > li").nth(index).locator(".place").all()]
        assert len(boxes) == len(MODELS)
        pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
        assert all(abs(a["x"] - b["x"]) >= 7 or abs(a["y"] - b["y"]) >= 7 for a, b in pairs)


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_references_have_names_that_can_be_read(screen, size: tuple[int, int]) -> None:
    page = screen("all", size)
    row = line(page, "by shape")
    assert set(row.locator(".name").all_inner_texts()) == {"people 96%", "chance 50%"}
    assert row.locator(".reference").count() == 2, "none without a name"
    boxes = sorted((name.bounding_box() for name in row.locator(".name").all()), key=lambda box: box["x"])
    assert all(a["x"] + a["width"] <= b["x"] for a, b in pairwise(boxes))
    sizes = row.locator(".name, .end, .number").evaluate_all(
        "all => all.map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 11


def test_a_line_leads_to_its_section(screen) -> None:
    page = screen("all", PHONE)
    link = page.locator(".profile a[href='#shape_bias']")
    cue = link.evaluate("e => getComputedStyle(e, '::after').content + getComputedStyle(e).textDecorationLine")
    assert "→" in cue
    assert "underline" in cue
    link.click()
    page.wait_for_function("document.querySelector('#shape_bias details.fold').open")
