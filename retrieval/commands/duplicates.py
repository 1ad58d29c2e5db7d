"""The command that finds duplicates."""

from typing import Annotated

from typer import BadParameter, Option

from retrieval.commands.shared import options
from retrieval.commands.shared.arguments import check_outputs, path_ending, store_folder
from retrieval.commands.shared.console import print_message, report


def duplicates(
    near: Annotated[
        float | None,
        Option(min=0.5, max=1, help="The agreement from which two pictures are the same photograph. [default: 0.9]"),
    ] = None,
    identical: Annotated[bool, Option("--identical", help="Only equal files; no picture is decoded.")] = False,
    alike: Annotated[
        float | None, Option(min=0.7, max=1, help="Also groups that the model finds this similar, such as 0.9.")
    ] = None,
    between: Annotated[
        tuple[str, str] | None,
        Option(metavar="A B", help="Only groups with pictures below both of two folders."),
    ] = None,
    label: options.LabelOption = None,
    folder: options.FolderOption = None,
    since: options.SinceOption = None,
    until: options.UntilOption = None,
    html: options.HtmlOption = None,
    store: options.StoreOption = None,
    paths: options.PathsOption = False,
    null: options.NullOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Find duplicates among the indexed pictures: equal files, and the same photograph saved again.

    Resized, recompressed and slightly cropped copies count as the same photograph. The one to keep comes first in its
    group. Nothing is deleted. --paths prints the others, which are more than needed.

    With --between, pictures of two folders are compared, such as those to train on with those to test on.

    Examples: `retrieve duplicates --html duplicates.html`, `retrieve duplicates --between sets/train sets/test`
    """
    if identical and near is not None:
        raise BadParameter("--identical compares no pictures: leave out --near")
    if between and folder:
        raise BadParameter("--between names two folders: leave out --folder")
    check_outputs(None, html)
    ending = path_ending(paths, null, as_json)
    from retrieval.commands.output.duplicates import duplicates_json, duplicates_lines
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.common.grouping import COLLAPSE_COSINE
    from retrieval.engine import Engine
    from retrieval.store.duplicates.page import duplicates_page
    from retrieval.store.duplicates.search import MIN_AGREEMENT, DuplicateRules
    from retrieval.store.emptiness import SearchFilters, explain_nothing
    from retrieval.store.filters import either_folder

    agreement = None if identical else MIN_AGREEMENT if near is None else near
    if between and not identical:
        alike = alike or COLLAPSE_COSINE
    sides = [SearchFilters(label, each, since, until) for each in between or (folder,)]
    with Engine.open(store_folder(store)) as engine:
        selections = [each.select(engine.catalogue) for each in sides]
        rules = DuplicateRules(
            agreement, alike, either_folder(selections), (selections[0], selections[1]) if between else None
        )
        result = engine.duplicates(rules, ConsoleProgress())
        for filters, selection in zip(sides, selections, strict=True):
            if not engine.catalogue.pictures.count_selected(selection):
                print_message(explain_nothing(engine.catalogue, filters), "note")
    path = engine.catalogue.folder
    report(
        as_json,
        lambda: duplicates_json(path, result),
        lambda: duplicates_lines(result),
        html,
        lambda: duplicates_page(path, result),
        (member.path for group in result.groups if group.spare for member in group.members[1:]),
        ending,
    )
