"""Recall against a number: of memories in the bank, and of memories merged."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import product

import torch

from lorary.bank.bank import MemoryBank
from lorary.bank.merging import COMBINED, MergeError, merged
from lorary.errors import LoraryError
from lorary.eval.conditions import CONDITIONS
from lorary.eval.deciders import Lookup
from lorary.eval.questions import Question, headline
from lorary.eval.records import BankStudy, MergeStudy, Prediction
from lorary.eval.routing_scores import RoutingScores
from lorary.eval.run import Run, answered, bank_of, looked_up
from lorary.eval.scoring import figures
from lorary.model.modeling import LoraryForCausalLM
from lorary.routing.policy import Route
from lorary.routing.router import Router
from lorary.tables import counted

ROUTED = ("lookup", "oracle", "gate", "index", "policy")
"""Conditions whose recall is told against the number of memories in the bank."""
MERGES = ("exact", "sum", *COMBINED)
"""Ways to merge: the exact mean of updates, their exact sum, and PEFT's."""
Group = tuple[str, ...]


def groups(names: Sequence[str], size: int, seed: int) -> dict[str, Group]:
    """Memory → the memories of its group, `size` of them: a drawn order is cut in runs, the last is filled from the start.

    Every memory has one group, so every question is asked once at each size.

    Raises:
        LoraryError: a size that is not 1 to the number of memories.
    """
    if not 1 <= size <= len(names):
        raise LoraryError(f"groups of {size} cannot be made of {counted(len(names), 'memory')}; give 1 to {len(names)}")
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
    """Raises LoraryError for a number that the composite cannot be studied at, before anything is asked."""
    if counts and model.config.granularity == "token":
        raise LoraryError("recall against the number of memories needs routes by query; this composite routes by token")
    for size in (*counts, *merges):
        groups(model.memories, size, 0)


def in_bank(run: Run, counts: Sequence[int], conditions: Sequence[str], note: Callable[..., None]) -> None:
    """Adds what each condition recalls in banks of so many memories; each question's own memory is in its bank."""
    routers: dict[Group, RoutingScores] = {}
    for count, name in product(counts, conditions):
        rows = run.results.studies.in_bank
        if not any((row.memories, row.condition) == (count, name) for row in rows):
            kept: list[Prediction] = []
            for group, questions in _grouped(run, count):
                if group not in routers:
                    routers[group] = RoutingScores(run.model, part_of(run.model.router, group))
                decider, scores = CONDITIONS[name].decider, routers[group]
                if isinstance(decider, Lookup):
                    kept += looked_up(name, questions, decider, scores)
                else:
                    routes = decider.routes(questions, scores, run.seed)
                    kept += answered(name, questions, routes, run.asker, new_tokens=run.new_tokens)
            top1 = sum(p.found for p in kept) / len(kept)
            rows.append(BankStudy(memories=count, condition=name, top1=top1, **figures(kept, run.seed)))
            run.write()
        note(1, f"{count} {name}")


def by_merging(run: Run, counts: Sequence[int], note: Callable[..., None]) -> None:
    """Adds what is recalled under so many memories merged, each question's own among them.

    `how` is one of `MERGES`; all give each memory the same weight. What cannot be merged so has no figures, and why.
    """
    for count, how in product(counts, MERGES):
        rows = run.results.studies.by_merging
        if not any((row.merged, row.how) == (count, how) for row in rows):
            try:
                kept = [p for group, questions in _grouped(run, count) for p in _under(run, how, group, questions)]
                rows.append(MergeStudy(merged=count, how=how, **figures(kept, run.seed)))
            except MergeError as error:
                rows.append(MergeStudy(merged=count, how=how, skipped=str(error)))
            run.write()
        note(1, f"{count} {how}")


def _under(run: Run, how: str, group: Group, questions: Sequence[Question]) -> list[Prediction]:
    """The predictions of questions under a merge of a group."""
    if how not in COMBINED:
        weight = 1.0 if how == "sum" else 1 / len(group)
        routes = [Route(group, (weight,) * len(group), "caller", 1.0)] * len(questions)
        return answered(how, questions, routes, run.asker, new_tokens=run.new_tokens)
    memory = merged("merged", [run.model.router.bank[name] for name in group], how)
    with run.model.with_bank(bank_of(run.model, [memory])) as other:
        routes = [Route(("merged",), (1.0,), "caller", 1.0)] * len(questions)
        return answered(how, questions, routes, run.asker_of(other), new_tokens=run.new_tokens)


def _grouped(run: Run, size: int) -> Iterator[tuple[Group, list[Question]]]:
    """Each group with the questions that the headline scores and one of its memories holds; what takes several memories
    is left out, since a group need not hold them all."""
    questions = zip(run.questions, headline(run.questions), strict=True)
    counted = [q for q, counts in questions if counts and len(q.memories) == 1]
    if not counted:
        raise LoraryError(
            "every question takes several memories, so a bank of some cannot be asked; leave the study out"
        )
    by_group: dict[Group, list[Question]] = {}
    members: Mapping[str, Group] = groups(run.model.memories, size, run.seed)
    for question in counted:
        by_group.setdefault(members[question.memory], []).append(question)
    yield from by_group.items()
