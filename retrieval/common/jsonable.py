"""Values as JSON has them."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass


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
