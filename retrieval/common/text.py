"""Names and numbers as people read them in terminals, sheets and pages."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable

_ASCII_LOOKALIKES = str.maketrans(
    {"█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "#", "▍": " ", "▎": " ", "▏": " "}
    | {"·": "-", "…": "...", "“": '"', "”": '"', "’": "'", "×": "x", "━": "-", "╸": "-", "╺": " "}
)

_JOINERS = "\u200c\u200d"  # hold emoji and many scripts together


def safe_name(name: str | bytes | os.PathLike[str]) -> str:
    r"""Return a file's name that any terminal, font and UTF-8 encoder can take.

    Bytes that are not UTF-8 (surrogates in Python's paths) become \xNN. Control characters, line breaks and invisible
    characters that change the direction of writing become \xNN below 0x80, else \uNNNN.
    """
    return "".join(_safe(character) for character in os.fsdecode(name))


def ascii_fallback(error: UnicodeError) -> tuple[str, int]:
    r"""Replace what an encoding lacks by ASCII that looks alike, else by \uNNNN; an error handler for `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    replacement = error.object[error.start : error.end].translate(_ASCII_LOOKALIKES)
    return replacement.encode("ascii", "backslashreplace").decode("ascii"), error.end


def percent(share: float) -> str:
    """Format a share from 0 to 1 in percent, with "100.0 %" only for all of it."""
    text = f"{100 * share:.1f} %"
    return "99.9 %" if text == "100.0 %" and share < 1 - 1e-6 else text


def whole_percent(share: float) -> str:
    """Format a share from 0 to 1 in whole percent."""
    return f"{100 * share:.0f} %"


def count_noun(count: int, one: str, several: str | None = None) -> str:
    """Format a number with its noun in the right form."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def join_words(words: Iterable[str]) -> str:
    """Return `a`, `a and b`, or `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def format_bytes(count: int) -> str:
    """Format a number of bytes, such as "14.2 MB"."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.95:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _safe(character: str) -> str:
    code = ord(character)
    if character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs":
        return character
    if code < 0x80 or 0xDC80 <= code <= 0xDCFF:  # the latter stand for the bytes 0x80 to 0xFF in os.fsdecode
        return f"\\x{code & 0xFF:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
