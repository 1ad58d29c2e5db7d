"""Values as JSON has them."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from types import UnionType
from typing import Any, get_args, get_type_hints


def to_json(value: object, indent: int | None = None) -> str:
    """Return the JSON of a value of any depth.

    Dataclasses become dicts of their fields (properties are left out), arrays lists, paths strings.
    """
    return json.dumps(value, default=_convert, indent=indent)


def _convert(value: object) -> object:
    """Convert a value that `json` does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return value.tolist() if hasattr(value, "tolist") else str(value)


def from_json(kind: Any, value: Any) -> Any:
    """Return parsed JSON as a value of this type: dataclasses, tuples, optional and plain values, finite numbers.

    Raises ValueError if it is of another form, also deeper in it.
    """
    if is_dataclass(kind):
        hints, known = get_type_hints(kind), {field.name for field in fields(kind)}
        if not isinstance(value, dict) or not value.keys() <= known:
            raise ValueError("it has other fields")
        try:
            return kind(**{name: from_json(hints[name], each) for name, each in value.items()})  # type: ignore[operator]
        except TypeError as error:
            raise ValueError("it lacks a field") from error
    arguments = get_args(kind)
    if isinstance(kind, UnionType):
        return None if value is None else from_json(arguments[0], value)
    if arguments:
        parts = value if isinstance(value, list | tuple) else None
        if parts is None or (arguments[-1] is not ... and len(parts) != len(arguments)):
            raise ValueError("it has another length")
        return tuple(from_json(arguments[0], part) for part in parts)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(value)
    if type(value) is not kind or kind is float:
        raise ValueError("it has a value of another type")
    return value
