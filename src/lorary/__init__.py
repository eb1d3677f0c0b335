"""Lorary: memory for language models made of LoRA adapters, behind a learned router that can say none."""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForCausalLM

from lorary.bank.bank import MemoryBank
from lorary.bank.facts import Fact
from lorary.bank.memory import Memory
from lorary.model.configuration import LoraryConfig
from lorary.model.modeling import LoraryForCausalLM
from lorary.routing.policy import Route

AutoConfig.register("lorary", LoraryConfig)
AutoModelForCausalLM.register(LoraryConfig, LoraryForCausalLM)

__all__ = ["Fact", "LoraryConfig", "LoraryForCausalLM", "Memory", "MemoryBank", "Route"]
