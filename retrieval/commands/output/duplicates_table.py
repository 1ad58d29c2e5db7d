"""Duplicates in a terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from retrieval.commands.output.query_table import relative_to_cwd
from retrieval.commands.output.tables import failure_line, first_lines
from retrieval.common.text import format_bytes, percent, safe_name
from retrieval.store.duplicates.groups import DuplicateKind, Duplicates, Group, GroupMember, summary_line

_STYLES = {DuplicateKind.identical: "green", DuplicateKind.near: "green", DuplicateKind.alike: "yellow"}


def duplicates_lines(duplicates: Duplicates) -> RenderableType:
    """Return the groups, how much could be spared, and the files that could not be compared."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("group", justify="right")
    table.add_column("kind", no_wrap=True)
    table.add_column("picture", overflow="fold")
    for column in ("pixels", "size", "similarity"):
        table.add_column(column, justify="right", no_wrap=True)
    for number, group in enumerate(duplicates.groups, 1):
        for place, member in enumerate(group.members):
            last = place == len(group.members) - 1
            table.add_row(str(number) if not place else "", *_cells(group, member), end_section=last)
    lines: list[RenderableType] = [table] if duplicates.groups else []
    lines.append(Text(summary_line(duplicates), "bold"))
    rest = "  … and {} more could not be looked at: --json lists them"
    lines += first_lines(duplicates.unread, lambda each: failure_line(safe_name(each[0]), safe_name(each[1])), rest)
    return Lines(*lines)


def _cells(group: Group, member: GroupMember) -> tuple[RenderableType, ...]:
    first = "" if group.kind is DuplicateKind.alike else "keep"
    kind = Text(first, "bold") if member.kind is None else Text(member.kind, _STYLES[member.kind])
    similarity = "" if member.kind is None else percent(member.similarity)
    pixels = f"{member.width} x {member.height}"
    return kind, Text(safe_name(relative_to_cwd(member.path))), pixels, format_bytes(member.size_bytes), similarity
