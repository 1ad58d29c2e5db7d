"""The error of stored things, fit to be shown as it is."""


class StoreError(Exception):
    """A store that cannot be read or written: one sentence that names the file and the remedy."""


class ConnectionLostError(StoreError):
    """A server that does not answer, or not any more, `since` a time of the monotonic clock."""

    def __init__(self, message: str, lost_at: float) -> None:
        super().__init__(message)
        self.lost_at = lost_at
