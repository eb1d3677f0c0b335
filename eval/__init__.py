"""Composite → numbers. Imported as `lorary.eval`."""

from typing import TYPE_CHECKING

from lorary.exports import lazy_names

if TYPE_CHECKING:
    from lorary.eval.comparison import compare as compare
    from lorary.eval.evaluation import recall as recall

__all__ = ["compare", "recall"]
__getattr__, __dir__ = lazy_names(__name__, {"compare": "lorary.eval.comparison", "recall": "lorary.eval.evaluation"})
