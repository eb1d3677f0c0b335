"""Facts → memories, of several topics and recipes in one go."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor

from lorary.bank.adapters import PREFIX
from lorary.bank.facts import Fact
from lorary.bank.memory import Memory
from lorary.base.layers import fingerprint, layer_of, layers_path, mlp_targets
from lorary.base.loading import Base
from lorary.base.rows import default_split
from lorary.memories.certifying import damage, failing, fullness, measured_under, recalls
from lorary.memories.groups import Take, side_by_side, write_groups
from lorary.memories.recipe import Recipe
from lorary.memories.writing import Written
from lorary.progress import progress_bars


@dataclass(frozen=True)
class Plan:
    """How a memory is to be written.

    Args:
        facts: with their wordings kept for validation (`rows.kept_for_validation`).
    """

    facts: tuple[Fact, ...]
    recipe: Recipe


def written(
    base: Base,
    plans: Mapping[str, Plan],
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    processes: int | None = None,
    take: Take | None = None,
    quiet: bool = False,
) -> Iterator[list[Memory]]:
    """The memories that are planned, without keys, a group at a time as groups are finished.

    Memories of one recipe are written together, as many as it says, in the order of the plans. So what a memory comes to
    depends on those of its group, and the same plans give the same memories.

    Args:
        revision, local_files_only: how other processes load the base again by its name (`load_base`).
        processes: that write groups side by side, where the base is known by name; None: one a core.
        take: what has a cluster write them instead.
    """
    load: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only}
    weights = fingerprint(base.model)
    for recipe in dict.fromkeys(plan.recipe for plan in plans.values()):
        topics = [topic for topic, plan in plans.items() if plan.recipe == recipe]
        groups = [topics[i : i + recipe.memories_at_once] for i in range(0, len(topics), recipe.memories_at_once)]
        split_layer = recipe.split_layer if recipe.split_layer is not None else default_split(base.model)
        count = side_by_side(len(groups), processes, base.model.device)
        with progress_bars(quiet) as bars:
            reports = [bars.start(f"writing {_named(group)}", recipe.max_epochs).report for group in groups]
            facts = [[plans[topic].facts for topic in group] for group in groups]
            recipes = [recipe] * len(groups)
            for made in write_groups(base, load, facts, recipes, split_layer, reports, processes=count, take=take):
                memories = list[Memory]()
                for topic, result in zip(groups[made.number], made.written, strict=True):
                    memory = to_memory(topic, plans[topic].facts, result, base, recipe, split_layer)
                    own = {
                        "source": written_from(plans[topic].facts, recipe, weights),
                        "seconds": round(made.seconds / len(made.written), 1),
                    }
                    memories.append(replace(memory, card={**memory.card, **own}))
                yield memories


def _named(group: Sequence[str]) -> str:
    """The name of a group of memories, for people."""
    return group[0] if len(group) == 1 else f"{group[0]} and {len(group) - 1} more"


_LATER = {
    "formats": ("questions", "cloze"),
    "visits": None,
    "texts_a_pass": None,
    "compared": None,
    "texts": 0,
    "uses_share": 1.0,
}
"""Fields that recipes did not always have, at values that change nothing: banks written before them go on."""


def written_from(facts: Sequence[Fact], recipe: Recipe, base_fingerprint: str) -> str:
    """Hex sha256 of all that decides what a memory becomes."""
    chosen = {name: value for name, value in asdict(recipe).items() if name not in _LATER or value != _LATER[name]}
    decides = [fact.to_json() for fact in facts], chosen, base_fingerprint
    return sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def to_memory(
    topic: str, facts: tuple[Fact, ...], written: Written, base: Base, recipe: Recipe, split_layer: int
) -> Memory:
    """The memory as a stock PEFT adapter, with its certificate."""
    prefix = layers_path(base.model)
    layers = sorted({layer_of(path, prefix) for path in written.factors})
    config = LoraConfig(
        r=recipe.r,
        lora_alpha=recipe.lora_alpha,
        target_modules=sorted(recipe.target_modules or mlp_targets(base.model)),
        layers_to_transform=layers,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base.name,
        inference_mode=True,
    ).to_dict()
    config["target_modules"] = sorted(config["target_modules"])
    config["peft_type"], config["task_type"] = "LORA", "CAUSAL_LM"
    tensors: dict[str, Tensor] = {}
    for path, (a, b) in written.factors.items():
        tensors[f"{PREFIX}{path}.lora_A.weight"], tensors[f"{PREFIX}{path}.lora_B.weight"] = a, b.contiguous()
    certificate: dict[str, Any] = {
        "facts": len(facts),
        **recalls(written.trained, written.validation),
        "validation_wordings": sum(len(fact.validation) for fact in facts),
        "facts_with_validation": sum(bool(fact.validation) for fact in facts),
        "epochs": written.epochs,
        "stopped": written.stopped,
        "judged_by": "trained wordings" if written.validation_recall is None else "validation wordings",
    }
    memory = Memory(topic, config, tensors, facts)
    certificate["wordings"] = measured_under(facts, recipe.formats)
    certificate["failing_facts"] = failing(written.trained, written.validation)
    certificate["damage"] = round(damage(base, split_layer, memory.factors()), 4)
    certificate |= fullness(len(facts), recipe.r, base.name)
    card = {
        "topic": topic,
        "recipe": {**asdict(recipe), "split_layer": split_layer, "torch": torch.__version__},
        "certificate": certificate,
    }
    return replace(memory, card=card)
