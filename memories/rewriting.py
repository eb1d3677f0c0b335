"""Facts → memories, of several topics and recipes in one go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lorary.bank.facts import Fact
from lorary.bank.memory import Memory
from lorary.base.layers import fingerprint
from lorary.base.loading import Base
from lorary.base.rows import default_split
from lorary.memories.building import named, to_memory, written_from
from lorary.memories.groups import side_by_side, write_groups
from lorary.memories.recipe import Recipe
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
    base: Base, revision: str | None, plans: Mapping[str, Plan], processes: int | None = None, quiet: bool = False
) -> Iterator[list[Memory]]:
    """The memories that are planned, without keys, a group at a time as groups are finished.

    Memories of one recipe are written together, as many as it says, in the order of the plans. So what a memory comes to
    depends on those of its group, and the same plans give the same memories.

    Args:
        revision: of the base, from a hub.
        processes: that write groups side by side, where the base is known by name; None: one a core.
    """
    load: dict[str, Any] = {"revision": revision, "local_files_only": False}
    weights = fingerprint(base.model)
    for recipe in dict.fromkeys(plan.recipe for plan in plans.values()):
        topics = [topic for topic, plan in plans.items() if plan.recipe == recipe]
        groups = [topics[i : i + recipe.memories_at_once] for i in range(0, len(topics), recipe.memories_at_once)]
        split_layer = recipe.split_layer if recipe.split_layer is not None else default_split(base.model)
        count = side_by_side(len(groups), processes, base.model.device)
        with progress_bars(quiet) as bars:
            reports = [bars.start(f"writing {named(group)}", recipe.max_epochs).report for group in groups]
            facts = [[plans[topic].facts for topic in group] for group in groups]
            recipes = [recipe] * len(groups)
            for made in write_groups(base, load, facts, recipes, split_layer, reports, processes=count):
                memories = list[Memory]()
                for topic, result in zip(groups[made.number], made.written, strict=True):
                    memory = to_memory(topic, plans[topic].facts, result, base, recipe, split_layer)
                    own = {
                        "source": written_from(plans[topic].facts, recipe, weights),
                        "seconds": round(made.seconds / len(made.written), 1),
                    }
                    memories.append(replace(memory, card={**memory.card, **own}))
                yield memories
