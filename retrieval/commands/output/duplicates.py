"""Duplicates in a terminal, and as JSON."""

from pathlib import Path

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Column
from rich.text import Text

from retrieval.commands.output.formats import JsonObject, failures_lines, files_json, pick, simple_table
from retrieval.commands.output.query import relative_to_cwd
from retrieval.commands.output.tables import name_line
from retrieval.common.text import format_bytes, percent, safe_name
from retrieval.store.duplicates.groups import DuplicateKind, Duplicates, Group, GroupMember, summary_line

_MEMBERS = 20  # of a group in a terminal, so that other groups are seen beside it
_LINKED = 20  # names in a terminal
_STYLES = {DuplicateKind.identical: "green", DuplicateKind.near: "green", DuplicateKind.alike: "yellow"}


def duplicates_lines(duplicates: Duplicates) -> RenderableType:
    """Return the groups, how much could be spared, and the files that could not be compared."""
    table = simple_table(
        Column("group", justify="right"),
        *("kind", "picture"),
        *(Column(name, justify="right") for name in ("pixels", "size", "similarity")),
        name="picture",
    )
    for number, group in enumerate(duplicates.groups, 1):
        more = len(group.members) - _MEMBERS
        for place, member in enumerate(group.members[:_MEMBERS]):
            last = more <= 0 and place == len(group.members) - 1
            table.add_row(str(number) if not place else "", *_cells(group, member), end_section=last)
        if more > 0:
            table.add_row("", "", f"… and {more:,} more: --paths and --json list them", end_section=True)
    unread = failures_lines(duplicates.unread, "  … and {} more could not be looked at: --json lists them")
    linked = [
        name_line("   also " if number else "  ", safe_name(relative_to_cwd(path)))
        for paths in duplicates.linked
        for number, path in enumerate(paths)
    ]
    if linked:
        linked = [Text("One file under several names, which is no copy:"), *linked[:_LINKED]]
        more = sum(map(len, duplicates.linked)) - _LINKED
        linked += [Text(f"  … and {more:,} more names: --json lists them")] if more > 0 else []
    return Lines(*([table] if duplicates.groups else []), Text(summary_line(duplicates), "bold"), *linked, *unread)


def _cells(group: Group, member: GroupMember) -> tuple[RenderableType, ...]:
    first = "" if group.kind is DuplicateKind.alike else "keep"
    kind = Text(first, "bold") if member.kind is None else Text(member.kind, _STYLES[member.kind])
    similarity = "" if member.kind is None else percent(member.similarity)
    pixels = f"{member.width} x {member.height}"
    return kind, Text(safe_name(relative_to_cwd(member.path))), pixels, format_bytes(member.size_bytes), similarity


def duplicates_json(store: Path, duplicates: Duplicates) -> JsonObject:
    """Return a store's duplicates: groups of pictures, the first of each being the one to keep."""
    return {
        "store": store,
        "pictures": duplicates.pictures,
        "groups": [
            pick(group, "kind", "spare", "spare_bytes") | {"pictures": [_member_json(each) for each in group.members]}
            for group in duplicates.groups
        ],
        **pick(duplicates, "spare", "spare_bytes"),
        "linked": duplicates.linked,
        "unread": files_json(duplicates.unread),
        "seconds": duplicates.seconds,
    }


def _member_json(member: GroupMember) -> JsonObject:
    values = pick(member, "id", "label", "width", "height", "similarity", "path")
    return values | {"bytes": member.size_bytes, "kind": member.kind, "kept": member.kind is None}
