"""The command that serves the page and the API."""

from __future__ import annotations

import secrets
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from retrieval.commands.shared.arguments import store_folder
from retrieval.commands.shared.console import print_message, stdout
from retrieval.commands.shared.options import DeviceOption, ModelOption, StoreOption
from retrieval.common.closing import close_on_error
from retrieval.common.settings import Device
from retrieval.server.config import MAX_UPLOAD_MEGABYTES, QUEUE, ServerConfig, is_loopback

if TYPE_CHECKING:  # only a type here, as its module loads much
    from retrieval.engine import Engine


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
    uploads: Annotated[
        Path | None,
        typer.Option(
            help="A folder for the pictures that are sent, which outlasts the server. [default: one that does not]",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="Processes that share the requests, each with a model of its own.")
    ] = 1,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    store: StoreOption = None,
    model: ModelOption = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Serve the page to look at the gallery and to search it from, and an API, documented under /docs.

    Only this machine can reach it unless --host says otherwise.

    Example: `retrieve serve --open`
    """
    opening = _EngineFactory(store_folder(store), model, device)
    if not token and (allow_host or not is_loopback(host)):
        token = secrets.token_urlsafe(24)
    terms = ServerConfig(
        host,
        port,
        token or None,
        tuple(allow_host or ()),
        tuple(allow_origin or ()),
        max_upload * 1_000_000,
        queue,
        uploads,
        processes,
    )

    def ready(address: str) -> None:
        stdout.print(Text(f"The page is at {address} (the API is described under /docs); Ctrl-C stops it."))
        if open_browser:
            webbrowser.open(address)

    if processes > 1:
        from retrieval.server.processes.run import serve_in_processes

        serve_in_processes(opening, terms, ready, lambda sentence: print_message(sentence, "warning"))
        return
    from retrieval.server.processes.run import serve as run

    with opening.open_prepared() as engine:
        run(engine, opening.open_another, terms, ready)


@dataclass(frozen=True)
class _EngineFactory:
    """Opens engines on a store, also in another process."""

    store: Path
    model: str | None
    device: Device

    def open_prepared(self) -> Engine:
        """The one that is asked, its model prepared for this machine."""
        from retrieval.commands.shared.progress import ConsoleProgress
        from retrieval.engine import Engine

        engine = Engine.open(self.store, self.model, self.device, ConsoleProgress())
        with close_on_error(engine):
            engine.load()
        return engine

    def open_another(self) -> Engine:
        """A further one, for indexing."""
        from retrieval.engine import Engine

        return Engine.open(self.store, self.model, self.device)
