"""The errors of stored things, and the base of all errors that people see."""


class UserError(Exception):
    """One sentence that says what went wrong and what to do about it, fit to print as it is."""


class StoreError(UserError):
    """A store that cannot be read or written: one sentence that names the file and the remedy."""


class ConnectionLostError(StoreError):
    """A server that does not answer, or not any more, `since` a time of the monotonic clock."""

    def __init__(self, message: str, lost_at: float) -> None:
        super().__init__(message)
        self.lost_at = lost_at
