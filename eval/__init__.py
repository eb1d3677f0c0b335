"""Composite → numbers. Imported as `lorary.eval`."""

from lorary.eval.recall import recall

__all__ = ["recall"]
