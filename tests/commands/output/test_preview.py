"""Pictures in terminals: what an escape sequence carries is the picture."""

import io
import re
from base64 import standard_b64decode

import numpy as np
import pytest
from PIL import Image

from retrieval.commands.output.preview import choose_protocol, iterm_escape, kitty_escape, sixel_escape
from retrieval.commands.shared.options import Preview
from tests.support.generated import blocks

PICTURE = Image.fromarray(blocks(3, 97, 40))
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8))


def pixels(png: bytes) -> list[bytes]:
    """Return the bytes of a PNG file's pixels, with its size."""
    with Image.open(io.BytesIO(png)) as image:
        return [str(image.size).encode(), image.tobytes()]


def from_sixel(escape: str) -> Image.Image:
    """Draw what a terminal would."""
    head, body = re.fullmatch(r"\x1bP9q\"1;1;(\d+;\d+)(.*)\x1b\\", escape, re.DOTALL).groups()  # type: ignore[union-attr]
    width, height = map(int, head.split(";"))
    canvas, palette = np.zeros((height, width, 3)), {}
    for number, *parts in re.findall(r"#(\d+);2;(\d+);(\d+);(\d+)", body):
        palette[number] = [int(part) * 255 / 100 for part in parts]
    for place, band in enumerate(re.sub(r"#\d+;2;\d+;\d+;\d+", "", body).split("-")):
        for line in band.split("$"):
            number, run = re.fullmatch(r"#(\d+)(.*)", line).groups()  # type: ignore[union-attr]
            letters = re.sub(r"!(\d+)(.)", lambda match: match[2] * int(match[1]), run)
            assert len(letters) == width
            for column, letter in enumerate(letters):
                for row in range(6):
                    if ord(letter) - 63 & 1 << row:
                        canvas[6 * place + row, column] = palette[number]
    return Image.fromarray(np.round(canvas).astype(np.uint8))


@pytest.mark.parametrize("image", [PICTURE, NOISE], ids=["small", "several chunks"])
def test_kitty_gets_the_picture_in_chunks(image: Image.Image) -> None:
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty_escape(image, 12))
    assert pixels(standard_b64decode("".join(data for _, data in chunks)))[1] == image.tobytes()
    assert all(len(data) <= 4096 for _, data in chunks)
    assert chunks[0][0] == f"a=T,f=100,c=12,m={int(len(chunks) > 1)}"
    assert [keys for keys, _ in chunks[1:]] == ["m=1"] * (len(chunks) - 2) + ["m=0"] * (len(chunks) > 1)


def test_iterm_gets_the_picture() -> None:
    sent = re.fullmatch(r"\x1b\]1337;File=inline=1;size=(\d+);width=12:(.*)\a", iterm_escape(PICTURE, 12))
    assert sent is not None
    data = standard_b64decode(sent[2])
    assert len(data) == int(sent[1])
    assert pixels(data) == [b"(97, 40)", PICTURE.tobytes()]


def test_sixel_draws_the_picture_in_256_colours() -> None:
    drawn = np.asarray(from_sixel(sixel_escape(PICTURE))).astype(int)
    expected = np.asarray(PICTURE.quantize(256).convert("RGB")).astype(int)
    assert np.abs(drawn - expected).max() <= 3  # sixel has a hundred steps of a colour
    assert len(sixel_escape(Image.new("RGB", (800, 600)))) < 5000


@pytest.mark.parametrize(
    ("variables", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, Preview.kitty),
        ({"TERM": "xterm-ghostty"}, Preview.kitty),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, Preview.iterm),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, Preview.iterm),
        ({"TERM": "foot-extra"}, Preview.sixel),
        ({"WT_SESSION": "1"}, Preview.sixel),
        ({"TERM": "xterm-256color"}, Preview.none),
    ],
    ids=str,
)
def test_auto_goes_by_the_terminals_variables(
    variables: dict[str, str], protocol: Preview, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "TERM_PROGRAM", "LC_TERMINAL", "KITTY_WINDOW_ID", "WT_SESSION", "KONSOLE_VERSION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert choose_protocol(Preview.auto) is protocol
