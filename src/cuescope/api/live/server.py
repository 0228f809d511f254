"""The page's server: Starlette on this machine's own address, for this page alone."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cuescope.api.live.stage import Look, Scene, Stage
from cuescope.classifier.sources import load
from cuescope.core.errors import CueError
from cuescope.core.progress import Say
from cuescope.data.ops.encode import encoded
from cuescope.makers.synthesis.styles import Styles
from cuescope.models.wct import embedded
from cuescope.runs.inputs import find_images

if TYPE_CHECKING:
    from starlette.applications import Starlette

HERE = Path(__file__).parent
FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
ADDRESS = "127.0.0.1"
OWN = frozenset({"127.0.0.1", "localhost", "[::1]"})
"""What this machine is called by itself; a name that was made to lead here is none of them."""
MOST_BYTES = 4096
"""Of a question."""
WORLD = "world:conflict:24"
"""The images for a model of the built-in world."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def live(
    model: Any, images: Any = None, *, port: int = 0, show: bool = True, say: Say | None = None, **how: Any
) -> None:
    """What does this classifier say while I hide, move and change an image? Serves a page until it is stopped.

    On 127.0.0.1 only, at `port`, any free one by default; `show` opens it in the browser. `images` is a set as for
    `audit`, by default of the built-in world for its own models. `how` are arguments of `load`. Raises CueError for
    a port in use, without Starlette and Uvicorn, and as `load` and `audit` do for models and images.

    >>> live("timm/resnet50.a1_in1k", "photographs/")                  # doctest: +SKIP
    """
    if images is None and not str(model).startswith("cuescope/"):
        raise CueError("no images", wanted="images for the page", do="give --images DIR")
    try:
        import uvicorn
    except ImportError:
        do = "pip install 'cuescope[live]'"
        raise CueError("starlette and uvicorn are not installed", wanted="both, for the page", do=do) from None
    with _listening(port) as listener:
        classifier = load(model, **how)
        found = find_images(WORLD if images is None else images)
        styles = Styles(found, embedded(), min(classifier.preprocessing.size))
        app = application(Stage(classifier, found, styles))
        address = f"http://{ADDRESS}:{listener.getsockname()[1]}/"
        (say or print)(f"{address}    Ctrl-C ends it.")
        if show:
            webbrowser.open(address)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off")).run([listener])


def application(stage: Stage) -> Starlette:
    """The page of a stage, guarded: what comes from another page, or by another machine's name, is refused."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import FileResponse, JSONResponse, Response
    from starlette.routing import Route

    def file(request: Request) -> Response:
        name, kind = FILES[request.url.path]
        return FileResponse(HERE / name, media_type=kind)

    def about(_: Request) -> Response:
        return JSONResponse(stage.about())

    def picture(request: Request) -> Response:
        # A query holds text only: "[0,3,1,0.5,-1,0]".
        look = msgspec.json.decode(request.query_params.get("look", ""), type=Look)
        return Response(encoded(stage.picture(look)), media_type="image/png")

    def thumbnail(request: Request) -> Response:
        number = msgspec.json.decode(request.query_params.get("image", ""), type=int)
        return Response(encoded(stage.thumbnail(number), "jpeg"), media_type="image/jpeg")

    async def answer(request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        data = b""
        async for part in request.stream():
            data += part
            if len(data) > MOST_BYTES:
                return JSONResponse({"error": "the question is too long"}, 413)
        scene = msgspec.json.decode(data, type=Scene)
        return JSONResponse(await run_in_threadpool(stage.answer, scene))

    def nothing(_: Request) -> Response:
        return Response(status_code=204)

    def refused(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, 400)

    routes = [Route("/favicon.ico", nothing), *(Route(path, file) for path in FILES)]
    routes += [Route("/about", about), Route("/picture", picture), Route("/thumbnail", thumbnail)]
    routes += [Route("/answer", answer, methods=["POST"])]
    handlers: dict[Any, Any] = dict.fromkeys((CueError, msgspec.MsgspecError, UnicodeDecodeError), refused)
    return Starlette(routes=routes, middleware=[Middleware(Guard)], exception_handlers=handlers)


class Guard:
    """Lets a request through that this machine sends from this very page; adds headers that say so to browsers."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if why := refusal(scope):
            await send({"type": "http.response.start", "status": 403, "headers": _headers()})
            await send({"type": "http.response.body", "body": why.encode()})
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_headers()]
            await send(message)

        await self.app(scope, receive, sent)


def refusal(scope: Message) -> str:
    """Why a request is refused; "" for one that is not."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get("host", "")
    if (scope.get("client") or ("",))[0] not in ("127.0.0.1", "::1"):
        return "another machine"
    if host.rpartition(":")[0] not in OWN and host not in OWN:
        return "a name that is not this machine's own"
    if headers.get("origin", f"http://{host}") != f"http://{host}":
        return "another page"
    opened = scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not opened:
        return "another page"
    return ""


def _headers() -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((ADDRESS, port))
        # From here on another page at this port is refused, also while the model is loaded.
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise CueError(f"port {port}: {error}", wanted="a free port", do="leave out --port, or give another") from None
    return listener
