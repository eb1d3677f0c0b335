"""Lorary: memory for language models made of LoRA adapters, behind a learned router that can say none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorary.exports import lazy_names
from lorary.registration import register

if TYPE_CHECKING:
    from lorary.answering.routed import Answer as Answer
    from lorary.bank.bank import MemoryBank as MemoryBank
    from lorary.bank.facts import Fact as Fact
    from lorary.bank.memory import Memory as Memory
    from lorary.eval.evaluation import recall as recall
    from lorary.memories.building import build as build
    from lorary.memories.forgetting import forget as forget
    from lorary.model.configuration import LoraryConfig as LoraryConfig
    from lorary.model.modeling import LoraryForCausalLM as LoraryForCausalLM
    from lorary.model.refreshing import refresh as refresh
    from lorary.router_training.training import train_router as train_router
    from lorary.routing.policy import Policy as Policy
    from lorary.routing.policy import Route as Route

_HOMES = {
    "Answer": "lorary.answering.routed",
    "Fact": "lorary.bank.facts",
    "LoraryConfig": "lorary.model.configuration",
    "LoraryForCausalLM": "lorary.model.modeling",
    "Memory": "lorary.bank.memory",
    "MemoryBank": "lorary.bank.bank",
    "Policy": "lorary.routing.policy",
    "Route": "lorary.routing.policy",
    "build": "lorary.memories.building",
    "forget": "lorary.memories.forgetting",
    "recall": "lorary.eval.evaluation",
    "refresh": "lorary.model.refreshing",
    "train_router": "lorary.router_training.training",
}
__all__ = sorted(_HOMES)
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
register()
