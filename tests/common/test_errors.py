"""Errors of pictures."""

import pytest

from retrieval.common.errors import PictureError, TransientPictureError
from retrieval.sources.object_store import UnreachableError


@pytest.mark.parametrize(
    "error",
    [PictureError("is empty"), TransientPictureError("cannot be read"), UnreachableError("https://host", "timeout")],
)
def test_a_named_error_keeps_its_class(error: PictureError) -> None:
    named = error.with_name("a.jpg")
    assert type(named) is type(error)
    assert (str(named), named.reason) == (f"a.jpg {error.reason}", error.reason)
    assert vars(named) == vars(error)
