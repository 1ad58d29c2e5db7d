"""Names of the paper's cases that can be reproduced."""

from enum import StrEnum

PAPER_PAIRS = 432  # of each kind
SEEDS = 3  # trainings that Table 1 rests on


class PaperCase(StrEnum):
    """A part of the paper's section 4 to reproduce: a data set with its figure, or Table 1 with Figures 5 and 6."""

    flowers = "flowers"
    skin = "skin"
    airbnb = "airbnb"
    table1 = "table1"
