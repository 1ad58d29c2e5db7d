"""The errors that people see: one sentence that names the thing and the remedy."""

from __future__ import annotations

import errno

from indexes.errors import UserError

_TRANSIENT_ERRNOS = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class RetrievalError(UserError):
    """What went wrong and what to do about it, in one sentence fit to print as it is."""


class PictureError(RetrievalError):
    """A picture that cannot be used: its `reason`, such as "is empty", after its `name` where it has one."""

    def __init__(self, reason: str, name: str | None = None) -> None:
        super().__init__(f"{name} {reason}" if name else reason)
        self.reason = reason

    def with_name(self, name: str) -> PictureError:
        """The same error of the picture with this name."""
        return PictureError(self.reason, name)


class TransientPictureError(PictureError):
    """A picture that cannot be read now, as its server or its disk fails: nothing is said of the picture itself."""


def read_error(error: OSError) -> PictureError:
    """What the system says of a file, as an error of the picture or of its disk."""
    kind = TransientPictureError if error.errno in _TRANSIENT_ERRNOS else PictureError
    return kind(f"cannot be read: {error.strerror or error}")


class ModelError(RetrievalError):
    """A model bundle that cannot be found, read, or run."""


class GalleryError(RetrievalError):
    """A gallery folder, or a place in one, that cannot be used."""


class SettingError(RetrievalError):
    """A value of the environment that cannot be used."""


class ClusterError(RetrievalError):
    """A Ray cluster that cannot be found, or cannot do the work."""
