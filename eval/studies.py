"""Recall against a number: of memories in the bank, and of memories merged."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch

from lorary.bank.bank import MemoryBank
from lorary.bank.merging import COMBINED, MergeError, merged
from lorary.eval.conditions import CONDITIONS, routes
from lorary.eval.predictions import Prediction, scored
from lorary.eval.questions import Question, headline
from lorary.eval.routers import found
from lorary.eval.run import Run, answered, bank_of, instead
from lorary.model.modeling import LoraryForCausalLM
from lorary.routing.policy import Route
from lorary.routing.router import Router

ROUTED = ("oracle", "gate", "index", "policy")
"""Conditions whose recall is told against the number of memories in the bank."""
MERGES = ("exact", "sum", *COMBINED)
"""Ways to merge: the exact mean of updates, their exact sum, and PEFT's."""
Group = tuple[str, ...]


def groups(names: Sequence[str], size: int, seed: int) -> dict[str, Group]:
    """Memory → the memories of its group, `size` of them: a drawn order is cut in runs, the last is filled from the start.

    Every memory has one group, so every question is asked once at each size.

    Raises:
        ValueError: a size that is not 1 to the number of memories.
    """
    if not 1 <= size <= len(names):
        raise ValueError(f"groups of {size} cannot be made of {len(names)} memories; give 1 to {len(names)}")
    order = list(names)
    random.Random(seed).shuffle(order)
    runs = [order[i : i + size] for i in range(0, len(order), size)]
    return {name: tuple([*run, *order][:size]) for run in runs for name in run}


def part_of(router: Router, names: Group) -> Router:
    """A router of some of the memories: their keys of the gate, their facts of the index."""
    bank, gate = router.bank, router.gate
    place = torch.tensor([bank.names.index(name) for name in names])
    kept = deepcopy(gate)
    kept.keep(place)
    part = MemoryBank(**{**vars(bank), "memories": {name: bank[name] for name in names}})
    return Router(part, kept.requires_grad_(False), router.policy, router.get_encoder)


def check(model: LoraryForCausalLM, counts: Sequence[int], merges: Sequence[int]) -> None:
    """Raises ValueError for a number that the composite cannot be studied at, before anything is asked."""
    if counts and model.config.granularity == "token":
        raise ValueError("recall against the number of memories needs routes by query; this composite routes by token")
    for size in (*counts, *merges):
        groups(model.memories, size, 0)


def in_bank(run: Run, counts: Sequence[int], conditions: Sequence[str], note: Callable[..., None]) -> None:
    """Adds rows of (memories, condition, top1, scores): each question is asked in a bank of so many, its own among them."""

    def measured(count: int, condition: str) -> dict[str, Any]:
        kept: list[Prediction] = []
        for group, asked in _grouped(run, count):
            router = part_of(run.model.router, group)
            given = routes(run.model, CONDITIONS[condition].route, asked, run.seed, router)
            kept += answered(condition, asked, given, run.asker, new_tokens=run.new_tokens)
        return {"top1": sum(found(p) for p in kept) / len(kept), **scored(kept, run.seed)}

    wanted = [{"memories": count, "condition": name} for count in counts for name in conditions]
    _rows(run, "in_bank", wanted, measured, note)


def by_merging(run: Run, counts: Sequence[int], note: Callable[..., None]) -> None:
    """Adds rows of (merged, how, scores): each question is asked under a merge of so many memories, its own among them.

    `how` is one of `MERGES`; all give each memory the same weight. What cannot be merged so has no scores, and why.
    """

    def measured(count: int, how: str) -> dict[str, Any]:
        kept: list[Prediction] = []
        try:
            for group, asked in _grouped(run, count):
                kept += _under(run, how, group, asked)
        except MergeError as error:
            return {"skipped": str(error)}
        return scored(kept, run.seed)

    _rows(run, "by_merging", [{"merged": count, "how": how} for count in counts for how in MERGES], measured, note)


def _rows(
    run: Run,
    study: str,
    wanted: Sequence[dict[str, Any]],
    measured: Callable[..., dict[str, Any]],
    note: Callable[..., None],
) -> None:
    """Adds the rows of a study that do not stand yet, and writes after each."""
    rows = run.results.setdefault("studies", {}).setdefault(study, [])
    for key in wanted:
        if not any(key.items() <= row.items() for row in rows):
            rows.append(key | measured(*key.values()))
            run.write()
        note(1, " ".join(str(value) for value in key.values()))


def _under(run: Run, how: str, group: Group, asked: Sequence[Question]) -> list[Prediction]:
    """The predictions of questions under a merge of a group."""
    if how not in COMBINED:
        weight = 1.0 if how == "sum" else 1 / len(group)
        given = [Route(group, (weight,) * len(group), "caller", 1.0)] * len(asked)
        return answered(how, asked, given, run.asker, new_tokens=run.new_tokens)
    one = merged("merged", [run.model.router.bank[name] for name in group], how)
    with instead(run.model, bank_of(run.model, [one])) as other:
        given = [Route(("merged",), (1.0,), "caller", 1.0)] * len(asked)
        return answered(how, asked, given, run.asker_of(other), new_tokens=run.new_tokens)


def _grouped(run: Run, size: int) -> Iterator[tuple[Group, list[Question]]]:
    """Each group with the questions that the headline scores and one of its memories holds; what takes several memories
    is left out, since a group need not hold them all."""
    asked = zip(run.asked, headline(run.asked), strict=True)
    counted = [q for q, counts in asked if counts and len(q.memories) == 1]
    if not counted:
        raise ValueError(
            "every question takes several memories, so a bank of some cannot be asked; leave the study out"
        )
    by_group: dict[Group, list[Question]] = {}
    members: Mapping[str, Group] = groups(run.model.memories, size, run.seed)
    for question in counted:
        by_group.setdefault(members[question.memory], []).append(question)
    yield from by_group.items()
