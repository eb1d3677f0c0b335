"""Documents → bank. Imported as `lorary.memories`."""

from typing import TYPE_CHECKING

from lorary.exports import lazy_names

if TYPE_CHECKING:
    from lorary.memories.building import build as build
    from lorary.memories.building import new_bank as new_bank
    from lorary.memories.recipe import Recipe as Recipe
    from lorary.memories.updating import update as update

__all__ = ["Recipe", "build", "new_bank", "update"]
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Recipe": "lorary.memories.recipe",
        "build": "lorary.memories.building",
        "new_bank": "lorary.memories.building",
        "update": "lorary.memories.updating",
    },
)
