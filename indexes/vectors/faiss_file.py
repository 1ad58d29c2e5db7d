"""The file of a FAISS index: written atomically, named after its origin, mapped into memory."""

import logging
import os
import re
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import faiss

from indexes.atomic_files import IS_WINDOWS, move_into_place, temporary_file
from indexes.errors import StoreError
from indexes.vectors.faiss_index import FaissIndex

_LOGGER = logging.getLogger(__name__)
_SUFFIX = ".faiss"
_UNFINISHED = "writing-"
_OURS = re.compile(rf"([0-9a-f]{{16}}-[0-9a-f]*-[0-9a-f]{{8}}|{_UNFINISHED}.*){re.escape(_SUFFIX)}", re.DOTALL)
_LONGEST_WRITE = 3600.0  # seconds after which the writer of an unfinished file is taken for dead
_HEAD, _TAIL = 64 << 20, 1 << 20  # bytes that the checksum covers: all of a small file; of a large one its
# structure (centroids and the lengths of lists), but not most of its codes


def save(index: FaissIndex, folder: Path, fingerprint: str, generation: str) -> Path:
    """Write `<fingerprint>-<generation>-<checksum>.faiss` atomically and delete all other index files.

    The fingerprint is the model's, the generation the catalogue's. Raises StoreError.
    """
    origin = _origin(fingerprint, generation)
    try:
        with temporary_file(folder, _UNFINISHED, _SUFFIX) as part:
            with open(part, "r+b") as out:
                _write(index.faiss, os.fspath(part), out)
                file = folder / f"{origin}-{_checksum(out.fileno())}{_SUFFIX}"
            move_into_place(part, file)
        with suppress(PermissionError):  # Windows deletes no file that is mapped: one of the next runs does
            _delete_others(folder, file)
    except (OSError, RuntimeError) as error:  # FAISS's ends with the system's message in brackets
        reason = error.strerror if isinstance(error, OSError) else str(error).rpartition("(")[2].rstrip(") ")
        name = f"{origin}{_SUFFIX}"
        raise StoreError(f"{folder / name} cannot be written ({reason}): make room or allow writing there") from error
    return file


def load(folder: Path, fingerprint: str, generation: str, writable: bool = False) -> FaissIndex | None:
    """Return the index of this origin, or None if its file is missing, damaged, or has codes of an earlier version.

    It is mapped into memory, so that a search reads only what it needs, and cannot be changed; if `writable`, it is
    read whole and can be.
    """
    for file in folder.glob(f"{_origin(fingerprint, generation)}-*{_SUFFIX}"):
        try:
            with open(file, "rb") as opened:
                if not file.name.endswith(f"-{_checksum(opened.fileno())}{_SUFFIX}"):
                    _LOGGER.warning("%s is damaged, and the index is made anew", file)
                else:
                    index = FaissIndex(_read(os.fspath(file), opened, writable))
                    if index.is_supported:
                        return index
        except (OSError, RuntimeError):  # deleted meanwhile, or written by a FAISS that this one cannot read
            continue
    return None


def list_generations(folder: Path, fingerprint: str) -> list[str]:
    """Return the generations that this model has index files of."""
    names = (file.name.split("-") for file in folder.glob(f"{_origin(fingerprint, '')}*{_SUFFIX}"))
    return [parts[1] for parts in names if len(parts) == 3]


def delete_files(folder: Path) -> None:
    """Delete every index file of a store. Raises StoreError."""
    try:
        _delete_others(folder, None)
    except OSError as error:
        raise StoreError(f"{error.filename} cannot be deleted ({error.strerror}): delete it by hand") from error


def _origin(fingerprint: str, generation: str) -> str:
    return f"{fingerprint[:16]}-{generation}"


def _checksum(descriptor: int) -> str:
    """Return the CRC-32 of a file's size and of its first and last bytes, in hexadecimal."""
    size = os.fstat(descriptor).st_size
    checksum = size & 0xFFFFFFFF
    for offset, length in ((0, _HEAD), (max(_HEAD, size - _TAIL), _TAIL)):
        os.lseek(descriptor, offset, os.SEEK_SET)
        while length > 0 and (data := os.read(descriptor, min(length, 1 << 20))):
            checksum = zlib.crc32(data, checksum)
            length -= len(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return f"{checksum:08x}"


def _write(index: Any, name: str, file: BinaryIO) -> None:
    plain = _plain_name(name, file)
    if plain is None:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
        file.flush()
    else:
        faiss.write_index(index, plain)


def _read(name: str, file: BinaryIO, writable: bool) -> Any:
    """Map a file into memory, or read it whole if it is to be changed, or FAISS cannot map it."""
    plain = _plain_name(name, file)
    if plain is None:
        return faiss.read_index(faiss.PyCallbackIOReader(file.read))  # type: ignore[attr-defined]
    with suppress(RuntimeError):  # FAISS of some releases maps no files on macOS
        if not writable:
            return faiss.read_index(plain, faiss.IO_FLAG_MMAP_IFC)
    return faiss.read_index(plain)


def _plain_name(name: str, file: BinaryIO) -> str | None:
    """Return a name by which FAISS can open a file that is open; None if it has none.

    FAISS needs UTF-8; on Windows it takes a name for one of the code page of the system.
    """
    if IS_WINDOWS:
        return name if name.isascii() else None
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"/dev/fd/{file.fileno()}"
    return name


def _delete_others(folder: Path, keep: Path | None) -> None:
    for file in folder.glob(f"*{_SUFFIX}"):
        if file != keep and _OURS.fullmatch(file.name) and not (file.name.startswith(_UNFINISHED) and _is_recent(file)):
            file.unlink(missing_ok=True)


def _is_recent(file: Path) -> bool:
    try:
        return time.time() - file.stat().st_mtime < _LONGEST_WRITE
    except FileNotFoundError:  # finished meanwhile
        return True
