"""Values as JSON has them."""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.common.jsonable import from_json, to_json


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


@dataclass(frozen=True)
class Inner:
    x: float


@dataclass(frozen=True)
class Outer:
    name: str
    count: int
    inner: Inner
    colour: Colour
    pair: tuple[float, float] | None = None
    row: tuple[float, ...] = ()
    flag: bool = False


WHOLE: dict[str, Any] = {"name": "n", "count": 3, "inner": {"x": 1}, "colour": "r"}


@pytest.mark.parametrize("extra", [{}, {"pair": [1, 2.5]}, {"pair": None, "row": [1, 2, 3]}, {"flag": True, "row": []}])
def test_what_was_written_is_read_as_it_was(extra: dict[str, Any]) -> None:
    value = from_json(Outer, WHOLE | extra)
    assert from_json(Outer, json.loads(to_json(value))) == value
    assert isinstance(value.inner.x, float)


@pytest.mark.parametrize(
    "broken",
    [
        *(None, [], "x", 3, {}, {"name": "n"}, WHOLE | {"more": 1}, WHOLE | {"name": 3}, WHOLE | {"count": 3.0}),
        *(WHOLE | {"count": True}, WHOLE | {"count": None}, WHOLE | {"inner": {"x": "1"}}, WHOLE | {"inner": {}}),
        *(WHOLE | {"inner": {"x": number}} for number in (float("nan"), float("inf"), -float("inf"), True, [1])),
        *(WHOLE | {"colour": colour} for colour in ("blue", 3, None)),
        *(WHOLE | {"pair": pair} for pair in ([1], [1, 2, 3], "12", {"0": 1, "1": 2}, [1, None])),
        *(WHOLE | {"row": row} for row in (None, "1", [None], [[1]])),
        *(WHOLE | {"flag": flag} for flag in (1, "yes", None)),
    ],
    ids=str,
)
def test_what_is_of_another_form_is_refused(broken: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_json(Outer, broken)
