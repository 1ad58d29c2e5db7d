"""The places elsewhere that a store may use: those that this account has once agreed to, as git's safe.directory.

A store that comes with a downloaded folder could else name a server, which would get this account's passwords.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

from indexes.atomic_files import write_file
from indexes.errors import StoreError

TRUST_VARIABLE = "RETRIEVE_TRUST"
"""The environment variable by which a machine that runs only its own stores agrees to all places: 1."""

OWN_FILE, OWNER = "its config.toml", "another user"
"""Places for what else somebody must agree to: all that the store's own file of defaults says, and who owns it."""

_FILE = "trusted-stores.jsonl"
_always = False  # whether this process agrees, for good, to what it is asked for


def agree_always(chosen: bool) -> None:
    """Agree or not, from now on, to each place that a store of this process uses, and keep that for later ones."""
    global _always
    _always = chosen


def agree(folder: Path, *places: str) -> None:
    """Keep that the store in this folder may use these places: somebody has given them with a command."""
    known = _known()
    new = [each for each in dict.fromkeys((_name(folder), place) for place in places) if each not in known]
    if new:
        lines = "".join(json.dumps(each) + "\n" for each in (*known, *new))
        file = _file()
        with suppress(OSError):  # a container's home may be closed; it has the variable
            file.parent.mkdir(parents=True, exist_ok=True)
            write_file(file, lines.encode())


def has_agreed(folder: Path, place: str) -> bool:
    """Return whether the store in this folder may use a place."""
    if _always:
        agree(folder, place)
    return _always or os.environ.get(TRUST_VARIABLE) == "1" or (_name(folder), place) in _known()


def require_agreement(folder: Path, place: str, use: str) -> None:
    """Raise StoreError if the store in this folder may not use a place, which `use` describes."""
    if not has_agreed(folder, place):
        raise StoreError(
            f"{folder} {use} {place}, to which this account has not agreed: give --trust once if you know who made the"
            f" store, or set {TRUST_VARIABLE}=1"
        )


def _file() -> Path:
    import platformdirs

    return platformdirs.user_config_path("retrieve") / _FILE


def _name(folder: Path) -> str:
    return os.fsencode(os.path.realpath(folder)).decode("utf-8", "backslashreplace")


def _known() -> dict[tuple[str, str], None]:
    """Return the agreements of this account, each a folder and a place, in order."""
    try:
        lines = _file().read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    known: dict[tuple[str, str], None] = {}
    for line in lines:
        with suppress(ValueError, TypeError):
            folder, place = json.loads(line)
            known[folder, place] = None
    return known
