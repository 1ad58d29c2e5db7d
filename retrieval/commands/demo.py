"""The command that shows the others at work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from retrieval.commands.query import query
from retrieval.commands.shared.console import stdout
from retrieval.commands.shared.options import DeviceOption
from retrieval.commands.store import index
from retrieval.common.settings import Device
from retrieval.common.text import safe_name


def demo(
    out: Annotated[Path, typer.Option("--out", help="Where the demo's files go.")] = Path("demo"),
    device: DeviceOption = Device.auto,
) -> None:
    """Make a small gallery of real photographs, index it, ask it with a new view of one, and write the page.

    Example: `retrieve demo --out demo`
    """
    from retrieval.commands.demo_gallery import make_gallery

    gallery, asked = make_gallery(out)
    stdout.print(Text(f"A gallery of photographs is in {safe_name(gallery)}; the question is {safe_name(asked)}"))
    index([str(gallery)], store=out / ".retrieve", device=device)
    query([str(asked)], store=out / ".retrieve", device=device, out=out / "results", html=out / "results.html")
