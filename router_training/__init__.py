"""Bank → gate, with Lightning. Imported as `lorary.router_training`."""

from typing import TYPE_CHECKING

from lorary.exports import lazy_names

if TYPE_CHECKING:
    from lorary.router_training.settings import Training as Training
    from lorary.router_training.training import train_router as train_router

__all__ = ["Training", "train_router"]
__getattr__, __dir__ = lazy_names(
    __name__, {"Training": "lorary.router_training.settings", "train_router": "lorary.router_training.training"}
)
