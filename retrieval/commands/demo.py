"""The command that demonstrates the others."""

from pathlib import Path
from typing import Annotated

from rich.text import Text
from typer import Option

from retrieval.commands.query import query
from retrieval.commands.shared import options
from retrieval.commands.shared.console import stdout
from retrieval.commands.store import index
from retrieval.common.settings import Device
from retrieval.common.text import safe_name


def demo(
    out: Annotated[Path, Option(help="The folder for the demo's files.")] = Path("demo"),
    device: options.DeviceOption = Device.auto,
) -> None:
    """Make a small gallery of real photographs, index it, query it with a new view of one, and write the page.

    Example: `retrieve demo --out demo`
    """
    from retrieval.commands.demo_gallery import make_gallery

    gallery, picture = make_gallery(out)
    stdout.print(
        Text(f"A gallery of photographs is in {safe_name(gallery)}; the query picture is {safe_name(picture)}")
    )
    index([str(gallery)], store=out / ".retrieve", device=device)
    query([str(picture)], store=out / ".retrieve", device=device, out=out / "results", html=out / "results.html")
