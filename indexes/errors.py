"""The errors of a store, and the base of all errors that people see."""


class UserError(Exception):
    """One sentence that says what went wrong and what to do about it, fit to print as it is."""


class MissingPackageError(UserError, ImportError):
    """The error of a package that is not installed; the sentence says how to install it."""

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose}: install it with `pip install '.[{extra}]'` in the project's folder")


class StoreError(UserError):
    """An error of a store that cannot be read or written; the sentence names the file and the remedy."""


class ConnectionLostError(StoreError):
    """The error of a server that does not answer; `lost_at` is the monotonic time since when."""

    def __init__(self, message: str, lost_at: float) -> None:
        super().__init__(message)
        self.lost_at = lost_at
