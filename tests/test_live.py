"""The live page: what it answers is what the classifier says, and it answers this page alone."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from cuescope.api.live import live
from cuescope.api.live.server import _listening, refusal
from cuescope.api.live.stage import Look, Scene, Stage
from cuescope.classifier.sources import load
from cuescope.core.errors import CueError
from cuescope.data.ops.occlude import Rectangle, cover
from cuescope.data.ops.suppression import PUBLISHED, suppress
from cuescope.makers.synthesis.styles import Styles
from cuescope.models.wct import embedded
from cuescope.world.images import WorldImages

SLOW_MS = 30_000
IMAGES = WorldImages("conflict", count=3)


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage(load("cuescope/world-shape"), IMAGES, Styles(IMAGES, embedded(), 64))


def best(stage: Stage, pixels: torch.Tensor) -> tuple[str, float]:
    p, k = stage.classifier.logits(pixels[None])[0].double().softmax(0).max(0)
    return stage.classifier.classes.names[int(k)], float(p)


def test_unchanged_it_is_the_classifier_s_own_answer(stage: Stage) -> None:
    own = stage.classifier.prepare([IMAGES.read(1)])[0]
    answer = stage.answer(Scene(Look(1)))
    name, p = best(stage, own)
    assert answer["top"][0]["name"] == answer["own"]["name"] == name
    assert answer["own"]["p"] == answer["own"]["before"] == pytest.approx(p, abs=1e-6)


def test_a_square_hides_what_it_covers_of_the_moved_window(stage: Stage) -> None:
    frame = stage.picture(Look(0)).float() / 255
    top, left = stage.room // 2 + 2, stage.room // 2 - 1
    covered = cover(frame[:, top : top + 64, left : left + 64], [Rectangle(0, 50, 20, 64)], torch.full((1, 3), 0.5))[0]
    answer = stage.answer(Scene(Look(0), 2, -1, (-10, 50, 30)))
    assert (answer["top"][0]["name"], answer["top"][0]["p"]) == (
        best(stage, covered)[0],
        pytest.approx(best(stage, covered)[1], abs=1e-4),
    )


def test_a_square_outside_hides_nothing(stage: Stage) -> None:
    assert stage.answer(Scene(Look(0), square=(64, 0, 9)))["own"] == stage.answer(Scene(Look(0)))["own"]


def test_looks_change_as_the_published_series_does(stage: Stage) -> None:
    plain = stage.picture(Look(2))
    assert torch.equal(stage.picture(Look(2, smoothed=6)), suppress(plain[None], PUBLISHED["bilateral"][5], [""])[0])
    assert torch.equal(stage.picture(Look(2, style=1, alpha=0.0)), plain)
    made = stage._changed.cache_info().misses
    stage.answer(Scene(Look(2, style=1, alpha=0.0)))
    assert stage._changed.cache_info().misses == made, "what the picture shows is not made again"
    assert not torch.equal(stage.picture(Look(2, style=1, alpha=1.0)), plain)
    assert sorted(stage.picture(Look(2, tiles=2)).flatten().tolist()) == sorted(plain.flatten().tolist())


def test_an_image_that_there_is_not(stage: Stage) -> None:
    for look in (Look(3), Look(0, style=3)):
        with pytest.raises(CueError, match="below 3"):
            stage.picture(look)


def asked(**changes: Any) -> str:
    headers = {"host": "127.0.0.1:81"} | {
        k.replace("_", "-"): v for k, v in changes.items() if k not in ("client", "path")
    }
    scope = {"client": (changes.get("client", "127.0.0.1"), 5), "path": changes.get("path", "/answer")}
    return refusal(scope | {"headers": [(k.encode(), v.encode()) for k, v in headers.items()]})


def test_what_is_let_through() -> None:
    assert not asked()
    assert not asked(origin="http://127.0.0.1:81", sec_fetch_site="same-origin")
    assert not asked(host="localhost:90", origin="http://localhost:90")
    assert not asked(path="/", sec_fetch_site="cross-site", sec_fetch_mode="navigate")


@pytest.mark.parametrize(
    "request_",
    [
        {"client": "192.168.1.7"},
        {"host": "evil.example:81"},
        {"host": "127.0.0.1.evil.example"},
        {"host": ""},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:82"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "path": "/about"},
    ],
)
def test_what_is_refused(request_: dict[str, str]) -> None:
    assert asked(**request_)


def test_a_port_in_use_and_a_model_without_images() -> None:
    with pytest.raises(CueError, match="no images"):
        live("timm/resnet18")
    pytest.importorskip("uvicorn")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(CueError, match="free port"):
            live("cuescope/world-shape", port=other.getsockname()[1])


def test_a_port_is_held_while_the_model_is_loaded() -> None:
    with _listening(0) as first, pytest.raises(CueError, match="free port"):
        _listening(first.getsockname()[1])


@pytest.fixture(scope="module")
def port(stage: Stage) -> Iterator[int]:
    uvicorn = pytest.importorskip("uvicorn")
    from cuescope.api.live.server import application

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application(stage), log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


def call(port: int, method: str, path: str, body: str = "", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body or None, headers)
    reply = connection.getresponse()
    found = reply.status, reply.read(), {k.lower(): v for k, v in reply.getheaders()}
    connection.close()
    return found


@pytest.mark.extra
def test_over_the_wire(port: int, stage: Stage) -> None:
    status, body, headers = call(port, "POST", "/answer", '{"look": [1], "dx": 1}')
    assert status == 200
    assert json.loads(body)["top"] == stage.answer(Scene(Look(1), dx=1))["top"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert call(port, "GET", "/thumbnail?image=0")[1].startswith(b"\xff\xd8")
    assert call(port, "GET", "/picture?look=%5B0%5D")[1].startswith(b"\x89PNG")
    assert call(port, "GET", "/page.js")[0] == call(port, "GET", "/about")[0] == 200
    assert call(port, "GET", "/about", Origin="http://evil.example")[0] == 403
    assert call(port, "GET", "/about", Host="evil.example")[0] == 403


@pytest.mark.extra
@pytest.mark.parametrize(
    "body",
    [
        *("", "{", "[]", '{"look": [9]}', '{"look": [-1]}', '{"look": [0, 7]}', '{"look": [0], "dx": 1e9}'),
        *('{"look": [0], "square": [0, 0, 0]}', '{"look": [0], "more": 1}', "[" * 4000, "\udcff"),
    ],
)
def test_a_question_that_is_none_is_told_so(port: int, body: str) -> None:
    raw = body.encode("utf-8", "surrogateescape").decode("latin-1")
    status, found, _ = call(port, "POST", "/answer", raw or " ")
    assert status == 400
    assert json.loads(found)["error"]


@pytest.mark.extra
def test_a_long_question_and_other_paths(port: int) -> None:
    assert call(port, "POST", "/answer", " " * 5000)[0] == 413
    assert [call(port, "GET", path)[0] for path in ("/server.py", "/../server.py", "/%2e%2e/pyproject.toml")] == [
        404
    ] * 3
    assert call(port, "GET", "/thumbnail?image=-1")[0] == call(port, "GET", "/thumbnail?image=99")[0] == 400
    assert call(port, "GET", "/thumbnail")[0] == 400


@pytest.mark.browser
@pytest.mark.extra
def test_hide_move_and_change_by_hand(port: int, browser: Any) -> None:
    expect = pytest.importorskip("playwright.sync_api").expect
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_selector("#top li.own")
    before, all_before = page.inner_text("#says"), page.inner_text("#top")
    page.locator("#image").click(position={"x": 250, "y": 300})
    expect(page.locator("#top")).not_to_have_text(all_before, timeout=SLOW_MS, use_inner_text=True)
    page.keyboard.press("Escape")
    expect(page.locator("#says")).to_have_text(before, timeout=SLOW_MS)
    page.locator("#reset").focus()
    page.keyboard.press("ArrowDown")
    page.locator("[aria-label=right]").click()
    assert page.inner_text("#moved") == "moved 1 down, 1 right"
    page.locator("#tiles").fill("8")
    page.wait_for_selector("body:not(.waiting)", timeout=SLOW_MS)
    assert page.locator("#tiles + output").inner_text() == "8 × 8 tiles"
    page.locator("#images button").nth(2).click()
    assert page.inner_text("#moved") == "moved 0 down, 0 right"
    page.locator("#reset").click()
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.close()
    assert faults == []
