"""Results that can be drawn over their pictures, saved, and shown in a notebook."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from PIL import Image

Side = Literal["query", "hit"]
HeatmapKind = Literal["factual", "counterfactual"]
HEATMAP_KINDS: tuple[HeatmapKind, HeatmapKind] = ("factual", "counterfactual")


class Illustrator(Protocol):
    """What draws a result: the rendering wing, above this one, has it, and the engine gives it to its results."""

    def overlay(self, side: Side, kind: HeatmapKind) -> Image.Image: ...

    def save(self, folder: Path) -> list[Path]: ...

    def html(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Illustrated:
    """A result of the engine, which knows its pictures; other code may leave `illustrator` None."""

    illustrator: Illustrator | None = field(default=None, repr=False, compare=False)

    def overlay(self, side: Side = "hit", kind: HeatmapKind = "factual") -> Image.Image:
        """Draw a heatmap over the query or the hit: an RGB picture whose longer side has at most 448 pixels.

        The heat is scaled by the strongest heatmap of the query, so that faint evidence looks faint. Raises
        PictureError if the picture cannot be read any more, ValueError if there are no heatmaps.
        """
        return self._drawn_by().overlay(side, kind)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the overlays of both pictures into a folder, and return their files; none if there are no heatmaps."""
        return self._drawn_by().save(Path(folder))

    def _repr_html_(self) -> str | None:
        return self.illustrator.html() if self.illustrator else None

    def _drawn_by(self) -> Illustrator:
        if self.illustrator is None:
            raise ValueError("only the results of Engine.query and Engine.explain know their pictures")
        return self.illustrator
