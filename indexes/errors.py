"""The error of stored things, fit to be shown as it is."""


class StoreError(Exception):
    """A store that cannot be read or written: one sentence that names the file and the remedy."""


class LostError(StoreError):
    """A server that does not answer, or not any more, `since` a time of the monotonic clock."""

    def __init__(self, said: str, since: float) -> None:
        super().__init__(said)
        self.since = since
