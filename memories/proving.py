"""Proving that facts are forgotten: a rewritten memory and the base are asked for them, and for facts that it never knew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lorary.bank.facts import Fact, comparable
from lorary.bank.memory import Memory
from lorary.base.layers import bare_twin
from lorary.base.loading import Base
from lorary.base.rows import SplitRows
from lorary.memories.proof import Measured, Proof, measured, proof
from lorary.memories.rewording import distinct, thinned
from lorary.memories.rows import Row, tokenise
from lorary.memories.wrong_answers import FEWEST, about, subject_of, tells_of, wrong_answers
from lorary.model.active_route import ActiveRoute, apply_route
from lorary.model.mixture import install
from lorary.progress import ProgressBar, progress_bars

_COMPARED = 4
"""Wordings of a fact under which that is done."""
_CONTROLS = 24
"""Facts that the memory never knew, at most."""
_TOGETHER = 32
_FRAMES = ("Tell me: {}", "{} Answer briefly.", "I forgot. {}")
_THINNED = 3


@dataclass(frozen=True)
class Probe:
    """A fact, the wordings that it is asked in, and wrong answers of its kind."""

    fact: Fact
    wordings: tuple[str, ...]
    wrong: tuple[str, ...]


def all_wordings(fact: Fact, seed: int = 0) -> tuple[str, ...]:
    """All wordings that a fact is asked in: its own of every kind, its cloze, and generated ones.

    Generated are the question within a frame, and wordings that leave words out.
    """
    own = [*fact.wordings, *fact.held_out, *fact.cloze]
    chance = Random(f"{seed} {fact.question}")
    framed = [frame.format(fact.question) for frame in _FRAMES]
    few = [thinned(chance.choice(own), 0.3, chance) for _ in range(_THINNED)]
    return tuple(distinct([*own, *framed, *few]))


def probes(
    forgotten: Sequence[Fact], memory: Memory, others: Sequence[Memory], seed: int = 0
) -> tuple[list[Probe], list[Probe]]:
    """(a probe for each forgotten fact, probes of facts that the memory never knew).

    The latter are facts of the bank's other memories, spread over them; without any they are the forgotten questions with
    a wrong answer in the place of the right one.
    """
    known = [fact.answer for fact in memory.facts]
    stated = {comparable(wording) for fact in memory.facts for wording in (fact.question, *fact.questions)}
    strange = [(fact, other) for other in others for fact in other.facts if comparable(fact.question) not in stated]
    strange = strange[:: max(1, -(-len(strange) // _CONTROLS))]
    own = subject_of((*memory.facts, *forgotten))
    subjects = {other.name: subject_of(other.facts) for other in others}
    answers = [(fact.answer, subjects[other.name]) for fact, other in strange]
    if len(answers) < FEWEST:
        # A memory that still knows them all finds them all likely, so they are no yardstick where there is another.
        answers += [(fact.answer, own) for fact in forgotten]

    def probe(fact: Fact, subject: str | None) -> Probe:
        told = subject if tells_of(fact.answer, subject) else None
        pool = [about(answer, its, told) for answer, its in answers]
        return Probe(fact, all_wordings(fact, seed), wrong_answers(fact, pool, known, seed))

    asked = [probe(fact, own) for fact in forgotten]
    controls = [probe(fact, subjects[other.name]) for fact, other in strange]
    controls = [replace(control, wordings=control.wordings[:_COMPARED]) for control in controls]
    if len(controls) < 2:
        controls = [
            Probe(
                replace(probe.fact, answer=wrong),
                probe.wordings[:_COMPARED],
                tuple(other for other in probe.wrong if other != wrong),
            )
            for probe in asked
            for wrong in probe.wrong
        ]
    return asked, controls


def prove(
    base: Base,
    memory: Memory,
    forgotten: Sequence[Fact],
    others: Sequence[Memory],
    shapes: Mapping[str, tuple[int, int]],
    layers_path: str,
    *,
    seed: int = 0,
    quiet: bool = False,
) -> Proof:
    """What a memory that was rewritten without them still knows of facts, beside the base and beside controls.

    Args:
        others: the bank's other memories.
        shapes: the base's block linears, path → (d_in, d_out).
    """
    asked, controls = probes(forgotten, memory, others, seed)
    rows = [row for probe in (*asked, *controls) for row in _rows(base, probe)]
    with progress_bars(quiet) as bars:
        bar = bars.start(f"asking {memory.name}", len(rows))
        by_base, by_memory = _asked(base, memory, rows, shapes, layers_path, bar)
    figures, place = list[tuple[Measured, Measured]](), 0
    for probe in (*asked, *controls):
        end = place + len(probe.wordings) + min(_COMPARED, len(probe.wordings)) * len(probe.wrong)
        figures.append((_figures(probe, by_memory, place, end), _figures(probe, by_base, place, end)))
        place = end
    told = [
        (p.fact.id, p.fact.question, p.fact.answer, len(p.wordings), *own)
        for p, own in zip(asked, figures, strict=False)
    ]
    return proof(told, figures[len(asked) :])


def _rows(base: Base, probe: Probe) -> list[Row]:
    """The rows of a probe: the right answer under each wording, then the wrong ones under the first wordings."""
    pairs = [(wording, probe.fact.answer) for wording in probe.wordings]
    pairs += [(wording, wrong) for wording in probe.wordings[:_COMPARED] for wrong in probe.wrong]
    return [tokenise(base.tokenizer, 0, 0, wording, answer) for wording, answer in pairs]


def _figures(probe: Probe, asked: tuple[Tensor, Tensor], start: int, end: int) -> Measured:
    likelihood, whole = (values[start:end] for values in asked)
    count = len(probe.wordings)
    return measured(likelihood[:count], likelihood[count:].reshape(-1, len(probe.wrong)), whole[:count].tolist())


@torch.no_grad()
def _asked(
    base: Base,
    memory: Memory,
    rows: Sequence[Row],
    shapes: Mapping[str, tuple[int, int]],
    layers_path: str,
    bar: ProgressBar,
) -> list[tuple[Float[Tensor, " rows"], Bool[Tensor, " rows"]]]:
    """For the base and for the memory: (mean log-probability of each row's answer, whether greedy decoding gives it)."""
    model = bare_twin(base.model)
    install(model, [memory.factors(shapes)])
    split = memory.split_layer(layers_path)
    results = [(torch.zeros(len(rows)), torch.zeros(len(rows), dtype=torch.bool)) for _ in range(2)]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    for start in range(0, len(order), _TOGETHER):
        numbers = order[start : start + _TOGETHER]
        states = SplitRows(model, split, [rows[i] for i in numbers], int(base.tokenizer.pad_token_id))
        for weight, (likelihood, whole) in enumerate(results):
            weights = torch.full((len(numbers), 1, 1), float(weight), device=model.device, dtype=model.dtype)
            with apply_route(ActiveRoute(weights)):
                logits, labels, place = states.logits(range(len(numbers)))
            own = logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
            sums, counts, wrong = (torch.zeros(len(numbers), device=own.device) for _ in range(3))
            sums.index_add_(0, place, own)
            counts.index_add_(0, place, torch.ones_like(own))
            wrong.index_add_(0, place, (logits.argmax(-1) != labels).float())
            likelihood[numbers], whole[numbers] = (sums / counts).cpu(), (wrong == 0).cpu()
        bar.advance(len(numbers))
    return results
