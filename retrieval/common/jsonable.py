"""Values as JSON has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def to_plain(value: object) -> Any:
    """Convert to dicts, lists, strings, numbers and None, at any depth.

    Dataclasses become dicts of their fields (properties are left out), arrays lists, paths strings.
    """
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)  # an enumeration's member as its value
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "tolist"):  # of NumPy
        return value.tolist()
    return str(value)


def to_json(value: object) -> str:
    """Return the JSON of a value; see `to_plain`."""
    return json.dumps(to_plain(value))
