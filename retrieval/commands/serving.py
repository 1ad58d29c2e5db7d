"""The command that serves the page and the API."""

from __future__ import annotations

import secrets
import webbrowser
from typing import Annotated

import typer
from rich.text import Text

from retrieval.commands.arguments import store_folder
from retrieval.commands.options import Model, OnDevice, Store
from retrieval.commands.printing import err, out
from retrieval.serving.terms import MAX_UPLOAD_MEGABYTES, QUEUE
from retrieval.settings import Device


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on; any but this machine's own wants a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="RETRIEVE_TOKEN", help="What each request must bring. [default: a new one where needed]"),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A further name under which the server may be called; again for more.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="A site, such as https://photos.example, whose pages may ask.")
    ] = None,
    max_upload: Annotated[
        int, typer.Option(min=1, help="Megabytes that a picture sent here may have.")
    ] = MAX_UPLOAD_MEGABYTES,
    queue: Annotated[int, typer.Option(min=1, help="Requests in work at once; more are told to come again.")] = QUEUE,
    browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    store: Store = None,
    model: Model = None,
    device: OnDevice = Device.auto,
) -> None:
    """Serve the page to look at the gallery and to search it from, and an API, documented under /docs.

    Only this machine can reach it unless --host says otherwise.

    Example: `retrieve serve --open`
    """
    from retrieval.engine import Engine
    from retrieval.serving.running import serve as run
    from retrieval.serving.terms import Terms, is_loopback
    from retrieval.watching import prepared_steps

    place = store_folder(store)
    with prepared_steps(err) as on_step:
        engine = Engine.open(place, model, device, on_step)
        engine.load()
    if not token and (allow_host or not is_loopback(host)):
        token = secrets.token_urlsafe(24)
    terms = Terms(
        host, port, token or None, tuple(allow_host or ()), tuple(allow_origin or ()), max_upload * 1_000_000, queue
    )

    def ready(address: str) -> None:
        out.print(Text(f"The page is at {address} (the API is described under /docs); Ctrl-C stops it."))
        if browser:
            webbrowser.open(address)

    run(engine, lambda: Engine.open(place, model, device), terms, ready)
    engine.close()
