"""Loads this composite with trust_remote_code=True; the code is the installed package `lorary`."""

from lorary.configuration import LoraryConfig
from lorary.modeling import LoraryForCausalLM

__all__ = ["LoraryConfig", "LoraryForCausalLM"]
