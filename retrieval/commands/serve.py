"""The command that serves the page and the API."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.text import Text
from typer import Option

from retrieval.commands.shared import options
from retrieval.commands.shared.arguments import store_folder
from retrieval.commands.shared.console import print_message, stdout
from retrieval.common.settings import Device
from retrieval.server.config import MAX_UPLOAD_MEGABYTES, QUEUE, ServerConfig, is_loopback

if TYPE_CHECKING:  # only a type here, as its module loads much
    from retrieval.engine import Engine


def serve(
    host: Annotated[str, Option(help="The address to listen on; any but this machine's own needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        Option(help="The token that each request needs. [default: a new one if needed]"),
    ] = None,
    allow_host: Annotated[
        list[str] | None, Option(help="Another name of the server in requests; repeat for more.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, Option(help="A site, such as https://photos.example, whose pages may use the API.")
    ] = None,
    max_upload: Annotated[int, Option(min=1, help="The largest upload, in megabytes.")] = MAX_UPLOAD_MEGABYTES,
    queue: Annotated[int, Option(min=1, help="The most requests at once; others get 503 with Retry-After.")] = QUEUE,
    uploads: Annotated[
        Path | None,
        Option(help="A folder that keeps uploads after the server stops. [default: a temporary one]"),
    ] = None,
    processes: Annotated[
        int, Option(min=1, max=256, help="The number of processes that share the requests, each with its own model.")
    ] = 1,
    open_browser: Annotated[bool, Option("--open", help="Open the page in the browser.")] = False,
    store: options.StoreOption = None,
    model: options.ModelOption = None,
    device: options.DeviceOption = Device.auto,
) -> None:
    """Serve a page to browse and search the gallery, and an API, which is documented under /docs.

    Only this machine can reach it unless --host says otherwise.

    Example: `retrieve serve --open`
    """
    open_engine = partial(_open_engine, store_folder(store), model, device)
    if not token and (allow_host or not is_loopback(host)):
        import secrets

        token = secrets.token_urlsafe(24)
    hosts, origins, max_bytes = tuple(allow_host or ()), tuple(allow_origin or ()), max_upload * 1_000_000
    config = ServerConfig(host, port, token or None, hosts, origins, max_bytes, queue, uploads, processes)

    def ready(address: str) -> None:
        sentence = f"The page is at {address} (the API is described under /docs); Ctrl-C stops it."
        stdout.print(Text(sentence), soft_wrap=True)  # an address over two lines is none
        if open_browser:
            import webbrowser

            webbrowser.open(address)

    if processes > 1:
        from retrieval.server.processes.run import serve_in_processes

        serve_in_processes(open_engine, config, ready, lambda sentence: print_message(sentence, "warning"))
        return
    from retrieval.server.processes.run import serve as run

    with open_engine() as engine:
        engine.load()
        run(engine, open_engine, config, ready)


def _open_engine(store: Path, model: str | None, device: Device) -> Engine:
    """Open an engine on the store, in whatever process this is sent to."""
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.engine import Engine

    return Engine.open(store, model, device, ConsoleProgress())
