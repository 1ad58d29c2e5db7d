"""Where commands print: answers on standard output, all else on standard error."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.text import Text

from retrieval.common.text import safe_name

stdout = Console(highlight=False, soft_wrap=False)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def print_message(sentence: str, level: str = "error") -> None:
    """One sentence on standard error, of what kind it is first."""
    stderr.print(Text.assemble((f"{level}: ", "bold red" if level == "error" else "yellow"), safe_name(sentence)))


def print_json(value: object) -> None:
    print(json.dumps(value), flush=True)  # which, unlike sys.stdout, is there where standard output is closed


def print_saved(what: str, file: Path) -> None:
    """Where a file is that was written."""
    stdout.print(Text(f"{what}: {safe_name(file)}"))
