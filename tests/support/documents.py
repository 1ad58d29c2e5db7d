"""Documents of four layouts that are filled in with words and numbers drawn from a seed."""

import random

from PIL import Image, ImageDraw, ImageFont

_WORDS = (
    *("harbour", "winter", "copper", "river", "mountain", "signal", "basket"),
    *("lantern", "meadow", "planet", "silver", "orange", "thunder", "velvet"),
)
_FIELDS = (
    *("Name", "Street", "Town", "Born", "Number", "Employer", "Income"),
    *("Pension", "Rent", "Travel", "Children", "Gifts", "Bank", "Signed"),
)


def _words(drawn: random.Random, count: int = 3) -> str:
    return " ".join(drawn.choice(_WORDS) for _ in range(count))


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, fill: str = "black") -> None:
    draw.text(at, text, font=ImageFont.load_default(size), fill=fill)


def form(seed: int, number: str | None = None) -> Image.Image:
    """Return a filled-in form; `number` is what one of its fields says."""
    drawn, page = random.Random(seed), Image.new("RGB", (620, 877), "white")
    draw = ImageDraw.Draw(page)
    draw.rectangle((30, 30, 590, 110), fill="navy")
    _write(draw, (45, 50), "TAX RETURN 1040-B", 30, "white")
    for row, field in enumerate(_FIELDS):
        draw.rectangle((30, 140 + 48 * row, 590, 178 + 48 * row), outline="black")
        _write(draw, (38, 150 + 48 * row), field, 15)
        written = str(drawn.randint(10_000, 9_999_999)) if row % 4 == 0 else _words(drawn)
        _write(draw, (210, 149 + 48 * row), number if number and row == 4 else written, 18, "darkblue")
    return page


def chat(seed: int) -> Image.Image:
    """Return a screenshot of a chat."""
    drawn, page = random.Random(seed), Image.new("RGB", (540, 1080), (236, 229, 221))
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, 540, 90), fill="teal")
    _write(draw, (100, 30), "Anna", 30, "white")
    for row in range(11):
        left, top = 165 if row % 2 else 20, 110 + 82 * row
        draw.rounded_rectangle((left, top, left + 350, top + 70), 12, fill="honeydew" if row % 2 else "white")
        _write(draw, (left + 15, top + 15), _words(drawn), 22)
    return page


def receipt(seed: int) -> Image.Image:
    """Return a receipt of a shop."""
    drawn, page = random.Random(seed), Image.new("RGB", (400, 800), (250, 250, 246))
    draw = ImageDraw.Draw(page)
    _write(draw, (90, 25), "GREEN GROCER", 26)
    for row in range(20):
        _write(draw, (25, 90 + 30 * row), f"Article {row + 1}", 20)
        _write(draw, (300, 90 + 30 * row), f"{drawn.randint(1, 99)}.{drawn.randint(10, 99)}", 20)
    _write(draw, (25, 730), f"TOTAL          {drawn.randint(100, 999)}.{drawn.randint(10, 99)}", 26)
    return page


def slide(seed: int) -> Image.Image:
    """Return a slide of a company's template."""
    drawn, page = random.Random(seed), Image.new("RGB", (800, 450), "white")
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, 800, 70), fill="maroon")
    _write(draw, (25, 15), "Quarterly review", 32, "white")
    for row in range(5):
        _write(draw, (50, 100 + 60 * row), f"- {_words(drawn, 4)}", 22)
    draw.ellipse((700, 370, 775, 440), fill="maroon")
    return page


DOCUMENTS = {"form": form, "chat": chat, "receipt": receipt, "slide": slide}
