"""The command that looks for pictures that are there more than once."""

from __future__ import annotations

from typing import Annotated

import typer

from retrieval.commands.shared.arguments import check_outputs, store_folder
from retrieval.commands.shared.console import print_json, print_saved, stdout
from retrieval.commands.shared.options import HtmlOption, JsonOption, StoreOption


def duplicates(
    near: Annotated[
        float | None,
        typer.Option(min=0.5, max=1, help="Agreement from which it is the same photograph. [default: 0.9]"),
    ] = None,
    identical: Annotated[bool, typer.Option("--identical", help="Only equal files; no picture is looked at.")] = False,
    alike: Annotated[
        float | None, typer.Option(min=0.7, max=1, help="Also groups that the model finds so alike, such as 0.9.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Only pictures with this label.")] = None,
    folder: Annotated[str | None, typer.Option("--folder", help="Only pictures below this folder.")] = None,
    since: Annotated[str | None, typer.Option(help="Only pictures taken from this day on, such as 2024-05.")] = None,
    until: Annotated[str | None, typer.Option(help="Only pictures taken until the end of this day.")] = None,
    html: HtmlOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find indexed pictures that are there more than once: equal files, and the same photograph saved anew.

    Resized, recompressed and slightly cropped copies count as the same photograph. Of each group the one to keep comes
    first. Nothing is deleted.

    Example: `retrieve duplicates --html duplicates.html`
    """
    if identical and near is not None:
        raise typer.BadParameter("--identical looks at no picture: leave out --near")
    check_outputs(None, html)
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.engine import Engine
    from retrieval.store.duplicates.search import MIN_AGREEMENT, DuplicateRules
    from retrieval.store.filters import make_selection

    agreement = None if identical else MIN_AGREEMENT if near is None else near
    rules = DuplicateRules(agreement, alike, make_selection(label, folder, since, until))
    with Engine.open(store_folder(store)) as engine:
        found = engine.duplicates(rules, ConsoleProgress())
    if html:
        from retrieval.rendering.output_files import write_html
        from retrieval.store.duplicates.page import duplicates_page

        write_html(duplicates_page(engine.catalogue.folder, found), html)
    if as_json:
        from retrieval.commands.output.results_json import duplicates_json

        print_json(duplicates_json(engine.catalogue, found))
        return
    from retrieval.commands.output.duplicates_table import duplicates_lines

    stdout.print(duplicates_lines(found))
    if html:
        print_saved("page", html)
