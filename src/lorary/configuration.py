"""The stub in composites saved by version 0.1 imports this path; the code is in `lorary.model.configuration`."""

from lorary.model.configuration import LoraryConfig

__all__ = ["LoraryConfig"]
