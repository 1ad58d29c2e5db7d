"""The errors of a store, and the base of all errors that people see."""


class UserError(Exception):
    """One sentence that says what went wrong and what to do about it, fit to print as it is."""


class StoreError(UserError):
    """An error of a store that cannot be read or written; the sentence names the file and the remedy."""


class ConnectionLostError(StoreError):
    """The error of a server that does not answer; `lost_at` is the monotonic time since when."""

    def __init__(self, message: str, lost_at: float) -> None:
        super().__init__(message)
        self.lost_at = lost_at
