"""The errors that people see: one sentence that names the thing and the remedy."""


class RetrievalError(Exception):
    """What went wrong and what to do about it, in one sentence fit to print as it is."""


class PictureError(RetrievalError):
    """A picture that cannot be used; the message is the reason, without the picture's name."""


class ModelError(RetrievalError):
    """A model bundle that cannot be found, read, or run."""


class GalleryError(RetrievalError):
    """A gallery folder, or a place in one, that cannot be used."""
