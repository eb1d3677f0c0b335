"""The stub in composites saved by version 0.1 imports this path; the code is in `lorary.model.modeling`."""

from lorary.model.modeling import LoraryForCausalLM

__all__ = ["LoraryForCausalLM"]
