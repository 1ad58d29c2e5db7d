"""Errors for people: one sentence that names the thing and the remedy."""

import errno
from typing import Self

from indexes.errors import UserError

_TRANSIENT_ERRNOS = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class RetrievalError(UserError):
    """An error whose message is one sentence, fit to print, that says what went wrong and what to do."""


class PictureError(RetrievalError):
    """A picture that cannot be used. The message is its `reason`, such as "is empty", after any `name`."""

    def __init__(self, reason: str, name: str | None = None) -> None:
        super().__init__(f"{name} {reason}" if name else reason)
        self.reason = reason

    def with_name(self, name: str) -> Self:
        """Return the same error, of the same class, for the picture with this name."""
        named = type(self).__new__(type(self))
        vars(named).update(vars(self))  # with what a subclass adds
        PictureError.__init__(named, self.reason, name)
        return named


class TransientPictureError(PictureError):
    """A picture that cannot be read now because its server or disk fails; the picture itself may be sound."""


def read_error(error: OSError) -> PictureError:
    """Return the operating system's error about a file as a PictureError, transient if the disk may be at fault."""
    kind = TransientPictureError if error.errno in _TRANSIENT_ERRNOS else PictureError
    return kind(f"cannot be read: {error.strerror or error}")


def lack_of_memory() -> PictureError:
    """Return the error for a picture that needs more memory than there is, which says nothing of the picture."""
    return TransientPictureError("needs more memory than is free: end other programs, or allow this one more")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not empty; its class's name if there is none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class ModelError(RetrievalError):
    """A model bundle that cannot be found, read, or run."""


class GalleryError(RetrievalError):
    """A gallery, or something in one, that cannot be used."""


def unavailable_gallery(name: object, reason: str, remedy: str = "check it") -> GalleryError:
    """Return the error for a gallery that cannot be read: all that is known of it is kept."""
    return GalleryError(f"{name} {reason}, so nothing was marked missing: {remedy}")


class SettingError(RetrievalError):
    """A setting that cannot be used, such as an environment variable's value."""


class ClusterError(RetrievalError):
    """A Ray cluster that cannot be found or cannot do the work."""
