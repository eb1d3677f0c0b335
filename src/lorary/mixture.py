"""The stub in composites saved by version 0.1 imports this path; the code is in `lorary.model.mixture`."""

from lorary.model.mixture import remove

__all__ = ["remove"]
