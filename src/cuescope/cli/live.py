"""`cuescope live`: a page on this machine on which one changes an image and watches the answer."""

from typing import Annotated

from cyclopts import Parameter

from cuescope.cli.models import USUAL, ModelOptions
from cuescope.cli.terminal import say


def live(
    model: str,
    *,
    images: str | None = None,
    port: int = 0,
    browser: Annotated[bool, Parameter(negative="--no-browser")] = True,
    how: ModelOptions = USUAL,
) -> None:
    """What does this classifier say while I hide, move and change an image? Opens a page on this machine.

    Args:
        model: As for `cuescope audit`.
        images: As for `cuescope audit`: a folder, tars, Parquet, world:VARIANT. Needed but for the world's own models.
        port: Any free one by default.
        browser: Whether the page is opened; its address is printed.
        how: Of the model.
    """
    from cuescope.api.live import live as serve

    serve(model, images, port=port, show=browser, say=say, **how.given())
