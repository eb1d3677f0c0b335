"""Bank → gate, with Lightning. Imported as `lorary.router_training`."""

from lorary.router_training.training import Training, train_router

__all__ = ["Training", "train_router"]
