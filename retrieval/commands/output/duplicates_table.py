"""What a terminal shows of duplicates, as Rich renderables. Nothing here prints."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from retrieval.commands.output.query_table import from_here
from retrieval.common.text import percent, safe_name, told_bytes
from retrieval.store.duplicates.groups import Duplicates, Group, Kind, Member, total

_STYLES = {Kind.identical: "green", Kind.near: "green", Kind.alike: "yellow"}
_UNREAD = 20  # told by name


def duplicates_lines(found: Duplicates) -> RenderableType:
    """The groups, how much they are more than needed, and what could not be looked at."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("group", justify="right")
    table.add_column("kind", no_wrap=True)
    table.add_column("picture", overflow="fold")
    for column in ("pixels", "size", "similarity"):
        table.add_column(column, justify="right", no_wrap=True)
    for number, group in enumerate(found.groups, 1):
        for place, member in enumerate(group.members):
            last = place == len(group.members) - 1
            table.add_row(str(number) if not place else "", *_cells(group, member), end_section=last)
    lines: list[RenderableType] = [table] if found.groups else []
    lines.append(Text(total(found), "bold"))
    for path, reason in found.unread[:_UNREAD]:
        lines.append(Text.assemble("  ", (safe_name(path), "bold"), f" {safe_name(reason)}"))
    if len(found.unread) > _UNREAD:
        lines.append(Text(f"  … and {len(found.unread) - _UNREAD} more could not be looked at: --json lists them"))
    return Lines(*lines)


def _cells(group: Group, member: Member) -> tuple[RenderableType, ...]:
    first = "" if group.kind is Kind.alike else "keep"
    kind = Text(first, "bold") if member.kind is None else Text(member.kind, _STYLES[member.kind])
    similarity = "" if member.kind is None else percent(member.similarity)
    pixels = f"{member.width} x {member.height}"
    return kind, Text(safe_name(from_here(member.path))), pixels, told_bytes(member.size_bytes), similarity
