"""Pictures in terminals that show them: by the protocols of kitty and iTerm2, and as sixel graphics."""

from __future__ import annotations

import os
import re
import sys
from base64 import standard_b64encode
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from retrieval.commands.shared.console import print_message, stdout
from retrieval.commands.shared.options import Preview

if TYPE_CHECKING:  # most runs show no picture
    import numpy as np
    from PIL import Image

_CHUNK = 4096  # bytes of one escape sequence of kitty's
_CELL_WIDTH = 8  # pixels of a column, which terminals do not say without being asked


def choose_protocol(chosen: Preview) -> Preview:
    """Return how this terminal shows pictures: `none`, with a note, if it cannot."""
    if chosen is Preview.none:
        return chosen
    if not (sys.stdout and sys.stdout.isatty()):
        print_message("--preview shows pictures only in a terminal, so none is shown", "note")
        return Preview.none
    protocol = _detect(os.environ) if chosen is Preview.auto else chosen
    if protocol is Preview.none:
        print_message("this terminal is not known to show pictures: try --preview kitty, iterm or sixel", "note")
    return protocol


def _detect(environment: Mapping[str, str]) -> Preview:
    """Return how the terminal shows pictures, by the variables that it sets."""
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if "KITTY_WINDOW_ID" in environment or "kitty" in term or "ghostty" in term:
        return Preview.kitty
    if program in ("iTerm.app", "WezTerm") or environment.get("LC_TERMINAL") == "iTerm2":
        return Preview.iterm
    if term.startswith(("foot", "mlterm", "yaft", "contour")) or {"WT_SESSION", "KONSOLE_VERSION"} & environment.keys():
        return Preview.sixel
    return Preview.none


def show_picture(image: Image.Image, protocol: Preview) -> None:
    """Show a picture (RGB), no wider than the terminal."""
    columns = min(stdout.width, -(-image.width // _CELL_WIDTH))
    if protocol is Preview.kitty:
        escape = kitty_escape(image, columns)
    elif protocol is Preview.iterm:
        escape = iterm_escape(image, columns)
    else:
        image.thumbnail((columns * _CELL_WIDTH, image.height))
        escape = sixel_escape(image)
    print(escape, flush=True)


def kitty_escape(image: Image.Image, columns: int) -> str:
    """Return what shows a picture over so many columns in kitty, Ghostty and others."""
    data = standard_b64encode(_png(image)).decode()
    chunks = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    keys = [f"a=T,f=100,c={columns},"] + [""] * (len(chunks) - 1)
    more = [1] * (len(chunks) - 1) + [0]
    return "".join(f"\x1b_G{key}m={m};{chunk}\x1b\\" for key, m, chunk in zip(keys, more, chunks, strict=True))


def iterm_escape(image: Image.Image, columns: int) -> str:
    """Return what shows a picture over so many columns in iTerm2, WezTerm and others."""
    data = _png(image)
    return f"\x1b]1337;File=inline=1;size={len(data)};width={columns}:{standard_b64encode(data).decode()}\a"


def _png(image: Image.Image) -> bytes:
    from retrieval.rendering.overlay import encode_image

    return encode_image(image, "PNG")


def sixel_escape(image: Image.Image) -> str:
    """Return a picture in 256 colours as sixel graphics: bands of six rows, in each a line for every colour of it."""
    import numpy as np

    quantised = image.quantize(256)
    colours = np.array(quantised.getpalette()).reshape(-1, 3) * 100 // 255
    palette = "".join(f"#{number};2;{red};{green};{blue}" for number, (red, green, blue) in enumerate(colours))
    return f'\x1bP9q"1;1;{image.width};{image.height}{palette}{"-".join(_bands(np.asarray(quantised)))}\x1b\\'


def _bands(pixels: np.ndarray) -> Iterator[str]:
    import numpy as np

    for top in range(0, len(pixels), 6):
        band = pixels[top : top + 6]
        bits = 1 << np.arange(len(band))
        lines = []
        for colour in np.unique(band):
            sixels = (bits @ (band == colour) + ord("?")).astype(np.uint8)
            lines.append(f"#{colour}" + re.sub(r"(.)\1{3,}", _run_length, sixels.tobytes().decode()))
        yield "$".join(lines)


def _run_length(run: re.Match[str]) -> str:
    return f"!{len(run[0])}{run[1]}"
