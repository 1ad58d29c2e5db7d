"""Without an extra, one sentence says what to install, and nothing is made."""

from pathlib import Path

import pytest

from retrieval.common.errors import GalleryError
from retrieval.sources.gallery import resolve_gallery
from tests.support.objects import forget_servers


@pytest.mark.parametrize(("address", "extra"), [("s3://b/k", "s3"), ("gs://b/k", "gcs"), ("https://h/k", "http")])
def test_what_opens_an_address_is_not_installed(address: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def lacking(scheme: str) -> None:
        raise ImportError("Please install it")

    forget_servers()
    monkeypatch.setattr(fsspec, "get_filesystem_class", lacking)
    with pytest.raises(GalleryError, match=rf"needs a package that is not installed: pip install '\.\[{extra}\]'"):
        resolve_gallery(address)
    monkeypatch.undo()
    forget_servers()


def test_a_local_gallery_asks_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setattr(fsspec, "get_filesystem_class", None)
    assert resolve_gallery(tmp_path)
