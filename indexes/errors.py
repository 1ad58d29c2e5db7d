"""The error of stored things, fit to be shown as it is."""


class StoreError(Exception):
    """A store that cannot be read or written: one sentence that names the file and the remedy."""


class LostError(StoreError):
    """A server that does not answer, or not any more: what was asked may be asked again, unless that `was_tried`."""

    was_tried = False
