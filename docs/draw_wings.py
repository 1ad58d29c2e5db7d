"""The picture of the wings in docs/ARCHITECTURE.md, drawn from the code: `python docs/draw_wings.py`.

A wing is a folder (or a module) right below `retrieval/` or `indexes/`; its first line of documentation says what is in
it. An arrow leads from a wing to each one that it imports, unless a way through others says so already.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "wings.svg"
_WIDTH, _ROW, _HEIGHT, _GAP, _MARGIN = 1000, 92, 58, 16, 20
_STYLE = (
    "text{font:14px system-ui,sans-serif;fill:#1f2328}.name{font-weight:600;font-size:15px}"
    ".note{fill:#59636e;font-size:12px}"
    "rect{fill:#f6f8fa;stroke:#d1d9e0}path{fill:none;stroke:#8c959f}"
    "@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.note{fill:#9198a1}rect{fill:#151b23;stroke:#3d444d}}"
)

Graph = dict[str, set[str]]


def wing_of(file: Path) -> str | None:
    """Return the wing that a Python file belongs to; None for the package files that hold nothing."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    if parts[0] == "cli":
        return "cli"
    if len(parts) == 2 and parts[1] == "__init__":
        return None
    if parts[0] == "indexes" and len(parts) == 2:
        return "indexes"
    return f"{parts[0]}.{parts[1]}"


def files_by_wing() -> dict[str, list[Path]]:
    """Return every Python file of the project, by its wing."""
    files = [ROOT / "cli.py", *sorted((ROOT / "retrieval").rglob("*.py")), *sorted((ROOT / "indexes").rglob("*.py"))]
    wings: dict[str, list[Path]] = {}
    for file in files:
        if wing := wing_of(file):
            wings.setdefault(wing, []).append(file)
    return wings


def imported_names(file: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wings_named(name: str, wings: Iterable[str]) -> list[str]:
    """Return the wing that an imported name lies in, if it is one of the project's."""
    return sorted((wing for wing in wings if f"{name}.".startswith(f"{wing}.")), key=len)[-1:]


def import_graph(wings: dict[str, list[Path]]) -> Graph:
    """Return which wings each wing imports."""
    return {
        wing: {other for file in files for name in imported_names(file) for other in wings_named(name, wings)} - {wing}
        for wing, files in wings.items()
    }


def reachable(graph: Graph, wing: str) -> set[str]:
    """Return all wings that a wing leads to, directly or not."""
    return graph[wing].union(*(reachable(graph, other) for other in graph[wing]))


def direct_arrows(graph: Graph) -> Graph:
    """Return the graph without the arrows that a longer way implies."""
    return {
        wing: {other for other in others if not any(other in reachable(graph, via) for via in others - {other})}
        for wing, others in graph.items()
    }


def rows_of(graph: Graph) -> list[list[str]]:
    """Return the wings in rows, from the top down: each one above all that it imports."""

    def height(wing: str) -> int:
        return 1 + max((height(other) for other in graph[wing]), default=-1)

    heights = {wing: height(wing) for wing in graph}
    return [sorted(wing for wing in graph if heights[wing] == level) for level in range(max(heights.values()), -1, -1)]


def summary_of(files: Iterable[Path]) -> str:
    """Return the first line of a wing's documentation: that of its package, or of its only module."""
    first = min(files, key=lambda file: (len(file.parts), file.name != "__init__.py"))
    if first.parent.name == "indexes":
        first = first.with_name("__init__.py")
    documentation = ast.get_docstring(ast.parse(first.read_text("utf-8"))) or ""
    return documentation.partition("\n")[0].rstrip(".")


def draw() -> str:
    """Return the picture as SVG."""
    wings = files_by_wing()
    graph = import_graph(wings)
    rows = rows_of(graph)
    boxes: dict[str, tuple[float, float, float]] = {}  # left, top, width
    for level, row in enumerate(rows):
        width = (_WIDTH - 2 * _MARGIN - _GAP * (len(row) - 1)) / len(row)
        for place, wing in enumerate(row):
            boxes[wing] = (_MARGIN + place * (width + _GAP), _MARGIN + level * _ROW, width)
    height = 2 * _MARGIN + _ROW * len(rows) - (_ROW - _HEIGHT)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">',
        f"<title>The wings, from the top down: each imports only from those below it</title><style>{_STYLE}</style>",
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M1 1L7 4L1 7"/></marker>',
    ]
    parts += [
        _arrow(boxes[wing], boxes[other]) for wing, others in direct_arrows(graph).items() for other in sorted(others)
    ]
    parts += [_box(boxes[wing], wing, summary_of(wings[wing]), _count(wings[wing])) for row in rows for wing in row]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _count(files: Iterable[Path]) -> int:
    return sum(file.name != "__init__.py" for file in files)


def _arrow(start: tuple[float, float, float], end: tuple[float, float, float]) -> str:
    x1, y1 = start[0] + start[2] / 2, start[1] + _HEIGHT
    x2, y2 = end[0] + end[2] / 2, end[1] - 2
    bend = min(60.0, (y2 - y1) / 2)
    curve = f"M{x1:.0f} {y1:.0f}C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}"
    return f'<path marker-end="url(#tip)" d="{curve}"/>'


def _box(box: tuple[float, float, float], wing: str, summary: str, count: int) -> str:
    left, top, width = box
    name = wing.replace("retrieval.", "").replace(".", "/")
    room = int((width - 24) / 6.2)
    note = summary if len(summary) <= room else summary[: room - 1].rsplit(" ", 1)[0].rstrip(",:;") + " …"
    modules = f"{count} module{'s' if count > 1 else ''}"
    return (
        f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{_HEIGHT}" rx="6"/>'
        f'<text class="name" x="{left + 12:.0f}" y="{top + 24:.0f}">{escape(name)}'
        f'<tspan class="note" dx="8">{modules}</tspan></text>'
        f'<text class="note" x="{left + 12:.0f}" y="{top + 45:.0f}">{escape(note)}</text>'
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), "utf-8")
    sys.stdout.write(f"{PICTURE}\n")
