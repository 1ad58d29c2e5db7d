"""Names that are safe in terminals, pages and encodings, and formatted numbers."""

import codecs
from pathlib import Path

import pytest

from retrieval.common.text import ascii_fallback, format_bytes, percent, safe_name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("Küche 漢字 (1).jpg", "Küche 漢字 (1).jpg"),
        ("a\nb\x1b[31m\x7f", "a\\x0ab\\x1b[31m\\x7f"),
        ("\udcff\udc80.jpg", "\\xff\\x80.jpg"),
        (b"\xff\n.jpg", "\\xff\\x0a.jpg"),
        (Path("x/\u202egpj.exe"), "x/\\u202egpj.exe"),
        ("\x85\u2028", "\\u0085\\u2028"),
        ("\ud800", "\\ud800"),
        ("👩\u200d🔬.png", "👩\u200d🔬.png"),
    ],
)
def test_names_are_safe_to_show(name: str | bytes | Path, safe: str) -> None:
    assert safe_name(name) == safe
    safe_name(name).encode("utf-8")


@pytest.mark.parametrize(("share", "text"), [(0.7943, "79.4 %"), (0.9998, "99.9 %"), (1.0, "100.0 %"), (0.0, "0.0 %")])
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (45_460, "45.5 kB"), (999_960, "1.0 MB"), (3e12, "3.0 TB")]
)
def test_bytes_have_a_readable_unit(count: int, text: str) -> None:
    assert format_bytes(count) == text


def test_characters_missing_in_an_encoding_become_similar_ascii() -> None:
    codecs.register_error("ascii_fallback", ascii_fallback)
    assert "██▌▏ 79 % · … 漢 é".encode("ascii", "ascii_fallback") == b"###  79 % - ... \\u6f22 \\xe9"
    assert "é█".encode("latin-1", "ascii_fallback") == b"\xe9#"
