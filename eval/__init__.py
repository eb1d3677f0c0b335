"""Composite → numbers. Imported as `lorary.eval`."""

from lorary.eval.comparison import compare
from lorary.eval.recall import recall

__all__ = ["compare", "recall"]
