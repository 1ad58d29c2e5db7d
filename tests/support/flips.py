"""Bits that a failing disk turns round."""


def flipped(content: bytes, bit: int) -> bytes:
    """Return the content with one bit turned round."""
    place = bit // 8
    return content[:place] + bytes([content[place] ^ (1 << bit % 8)]) + content[place + 1 :]
