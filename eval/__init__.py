"""Composite → numbers. Imported as `lorary.eval`."""

from lorary.eval.comparison import compare
from lorary.eval.evaluation import recall

__all__ = ["compare", "recall"]
