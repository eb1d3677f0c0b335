"""Documents → bank. Imported as `lorary.memories`."""

from lorary.memories.building import build, new_bank
from lorary.memories.writing import Recipe

__all__ = ["Recipe", "build", "new_bank"]
