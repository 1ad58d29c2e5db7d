"""The errors that people see: one sentence that names the thing and the remedy."""

from __future__ import annotations


class RetrievalError(Exception):
    """What went wrong and what to do about it, in one sentence fit to print as it is."""


class PictureError(RetrievalError):
    """A picture that cannot be used: its `reason`, such as "is empty", after its `name` where it has one."""

    def __init__(self, reason: str, name: str | None = None) -> None:
        super().__init__(f"{name} {reason}" if name else reason)
        self.reason = reason

    def named(self, name: str) -> PictureError:
        """The same error of the picture with this name."""
        return PictureError(self.reason, name)


class ModelError(RetrievalError):
    """A model bundle that cannot be found, read, or run."""


class GalleryError(RetrievalError):
    """A gallery folder, or a place in one, that cannot be used."""


class SettingError(RetrievalError):
    """A value of the environment that cannot be used."""


class ClusterError(RetrievalError):
    """A Ray cluster that cannot be found, or cannot do the work."""
