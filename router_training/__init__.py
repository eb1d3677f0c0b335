"""Bank → gate, with Lightning. Imported as `lorary.router_training`."""

from lorary.router_training.settings import Training
from lorary.router_training.training import train_router

__all__ = ["Training", "train_router"]
