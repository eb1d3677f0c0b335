"""Lorary: memory for language models made of LoRA adapters, behind a learned router that can say none."""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForCausalLM

from lorary.configuration import LoraryConfig
from lorary.facts import Fact
from lorary.memory import Memory, MemoryBank
from lorary.modeling import LoraryForCausalLM
from lorary.routing import Route

AutoConfig.register("lorary", LoraryConfig)
AutoModelForCausalLM.register(LoraryConfig, LoraryForCausalLM)

__all__ = ["Fact", "LoraryConfig", "LoraryForCausalLM", "Memory", "MemoryBank", "Route"]
