"""Values as JSON has them."""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest

from retrieval.common.jsonable import to_json


class Colour(StrEnum):
    """A value that is written as its text."""

    red = "r"


@dataclass(frozen=True)
class Point:
    """A dataclass with a property, which is not a field."""

    x: float
    where: Path

    @property
    def double(self) -> float:
        return 2 * self.x


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        (Colour.red, "r"),
        (Path("a/b"), "a/b"),
        ((1, [Path("x")]), [1, ["x"]]),
        ({Colour.red: {"deep": (Point(1.0, Path("p")),)}}, {"r": {"deep": [{"x": 1.0, "where": "p"}]}}),
        (np.array([[1, 2]], np.float32), [[1.0, 2.0]]),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
    ],
    ids=str,
)
def test_values_become_plain_at_any_depth(value: object, expected: object) -> None:
    plain = json.loads(to_json(value))
    assert plain == expected
    assert type(plain) is type(expected)


def test_names_that_are_not_utf_8_and_missing_numbers_are_kept() -> None:
    assert to_json({"path": Path("\udcff")}) == '{"path": "\\udcff"}'
    assert to_json([float("nan")]) == "[NaN]"
