"""The error of stored things, fit to be shown as it is."""


class StoreError(Exception):
    """A store that cannot be read or written: one sentence that names the file and the remedy."""
