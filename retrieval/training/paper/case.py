"""Names of the paper's cases that can be reproduced."""

from __future__ import annotations

from enum import StrEnum


class PaperCase(StrEnum):
    """A part of the paper's section 4 to reproduce: a data set with its figure, or Table 1 with Figures 5 and 6."""

    flowers = "flowers"
    skin = "skin"
    airbnb = "airbnb"
    table1 = "table1"
