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
    host: Annotated[str, typer.Option(help="The address to listen on; any but this machine's own needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="RETRIEVE_TOKEN", help="The token that each request needs. [default: a new one if needed]"),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name of the server in requests; repeat for more.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="A site, such as https://photos.example, whose pages may use the API.")
    ] = None,
    max_upload: Annotated[int, typer.Option(min=1, help="The largest upload, in megabytes.")] = MAX_UPLOAD_MEGABYTES,
    queue: Annotated[
        int, typer.Option(min=1, help="The most requests at once; others get 503 with Retry-After.")
    ] = QUEUE,
    uploads: Annotated[
        Path | None,
        typer.Option(
            help="A folder that keeps uploads after the server stops. [default: a temporary one]",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(min=1, max=256, help="The number of processes that share the requests, each with its own model."),
    ] = 1,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    store: StoreOption = None,
    model: ModelOption = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Serve a page to browse and search the gallery, and an API, which is documented under /docs.

    Only this machine can reach it unless --host says otherwise.

    Example: `retrieve serve --open`
    """
    engines = _EngineFactory(store_folder(store), model, device)
    if not token and (allow_host or not is_loopback(host)):
        token = secrets.token_urlsafe(24)
    config = ServerConfig(
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

        serve_in_processes(engines, config, ready, lambda sentence: print_message(sentence, "warning"))
        return
    from retrieval.server.processes.run import serve as run

    with engines.open_prepared() as engine:
        run(engine, engines.open_another, config, ready)


@dataclass(frozen=True)
class _EngineFactory:
    """Opens engines on a store, also in another process."""

    store: Path
    model: str | None
    device: Device

    def open_prepared(self) -> Engine:
        """Open the engine that answers, its model prepared for this machine."""
        from retrieval.commands.shared.progress import ConsoleProgress
        from retrieval.engine import Engine

        engine = Engine.open(self.store, self.model, self.device, ConsoleProgress())
        with close_on_error(engine):
            engine.load()
        return engine

    def open_another(self) -> Engine:
        """Open another engine, for indexing."""
        from retrieval.engine import Engine

        return Engine.open(self.store, self.model, self.device)
