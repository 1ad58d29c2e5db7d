"""The memory that this process may still take, and giving it back to the system."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""A control group's limit, its use, and the cached files in it, which make room: version 2, and 1."""


def free_memory() -> int | None:
    """Return the bytes that this process may still take, by the system, its control groups and its limits (Linux).

    None if nothing tells.
    """
    return min([*_free_in_system(), *_free_in_groups(), *_free_by_limits()], default=None)


def return_memory() -> None:
    """Give memory that was freed back to the system, which glibc else keeps for later."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


def limit_memory(more: int) -> None:
    """Let this process take so many bytes besides those that it has. Raises ImportError, OSError, KeyError (Linux)."""
    import resource

    most = _fields(Path("/proc/self/status"))["VmData"] * 1024 + more
    resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    with suppress(OSError, AttributeError, TypeError):  # another C library has none; Windows loads no nameless library
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return trim
    return None


def _free_in_system() -> Iterator[int]:
    with suppress(OSError, KeyError):
        yield _fields(Path("/proc/meminfo"))["MemAvailable"] * 1024


def _free_in_groups() -> Iterator[int]:
    """Yield what is left in each control group that this process is in, from its own to the outermost."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers not in ("", "memory"):
                continue
            root = _GROUPS / controllers
            group = root / path.lstrip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(root):
                    yield from _free_in_group(folder, *_FILES[bool(controllers)])


def _free_in_group(folder: Path, limit: str, use: str, cached: str) -> Iterator[int]:
    with suppress(OSError, ValueError, KeyError):  # the outermost has no limit; one of another container is not seen
        most = int((folder / limit).read_text())
        yield max(0, most - int((folder / use).read_text()) + _fields(folder / "memory.stat")[cached])


def _free_by_limits() -> Iterator[int]:
    """Yield what `ulimit -v` and `ulimit -d` leave."""
    with suppress(ImportError, OSError, KeyError):
        import resource  # not on Windows

        taken = _fields(Path("/proc/self/status"))
        for kind, field in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
            most = resource.getrlimit(kind)[0]
            if most != resource.RLIM_INFINITY:
                yield max(0, most - taken[field] * 1024)


def _fields(file: Path) -> dict[str, int]:
    """Return the numbers of a file of names and values."""
    lines = (line.replace(":", " ").split() for line in file.read_text().splitlines())
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}
