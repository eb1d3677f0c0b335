"""The plan that a capacity study gives for a corpus: how many memories, which rank, what cost, with the working."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from lorary.bank.facts import Fact
from lorary.base.loading import load_tokenizer
from lorary.errors import LoraryError
from lorary.memories.capacity_study import SHIPPED, CapacityStudy, Cell, read_capacity
from lorary.memories.recipe import Recipe
from lorary.memories.rewording import distinct
from lorary.memories.rows import kept_for_validation, rows
from lorary.memories.work import KEY_BYTES
from lorary.tables import counted, markdown_table


class PlanError(LoraryError):
    """A study that no plan can be made from: says why and what to do."""


@dataclass(frozen=True)
class Topic:
    """What a plan needs to know of a topic: its facts, the tokens of its answers and of its rows, its wordings, and the texts
    that are made of them by rule for facts that have few."""

    name: str
    facts: int
    answer_tokens: int
    row_tokens: int
    wordings: int
    made: int = 0


def count_topics(tokenizer: PreTrainedTokenizerBase, topics: Mapping[str, Sequence[Fact]]) -> list[Topic]:
    """The counts of each topic as `lorary build` would train on it."""
    counts = []
    for name, own in topics.items():
        facts = kept_for_validation(own, Recipe().validation_wordings)
        shown = rows(tokenizer, [facts], **Recipe().rows)
        answers = {row.fact: len(row.ids) - row.start for row in shown}
        tokens, wordings = sum(len(row.ids) for row in shown), sum(len(fact.trained) for fact in facts)
        made = len(shown) - sum(len(distinct(fact.trained)) + len(fact.cloze) for fact in facts)
        counts.append(Topic(name, len(facts), sum(answers.values()), tokens, wordings, made))
    return counts


@dataclass(frozen=True, kw_only=True)
class Option:
    """What a corpus takes at one rank.

    Args:
        knee: the study's mean cell at the knee.
        largest: whether the knee is the largest load that the study measured, so that more may fit.
        parts: memories of each topic.
        expected: recall under an unseen wording that the study had at this many facts a memory.
    """

    rank: int
    knee: Cell
    largest: bool
    parts: Mapping[str, int]
    memories: int
    adapter_bytes: int
    key_bytes: int
    minutes: float
    expected: float


def parts_of(topic: Topic, limit: Cell) -> int:
    """How many memories a topic needs, so that none holds more facts, or more answer tokens, than `limit`."""
    return max(math.ceil(topic.facts / limit.load), math.ceil(topic.answer_tokens / limit.answer_tokens))


def options(topics: Sequence[Topic], study: CapacityStudy, recall: float) -> list[Option]:
    """What the corpus takes at each rank that reaches `recall`, best first: fewest memories, then fewest bytes.

    Raises:
        PlanError: no rank reaches it.
    """
    reaching = []
    for rank in study.ranks:
        limit = study.knee(rank, recall)
        if limit is None:
            continue
        parts = {topic.name: parts_of(topic, limit) for topic in topics}
        points, facts = study.points(rank), sum(topic.facts for topic in topics)
        loads, shares = [c.load for c in points], [c.recall_unseen for c in points]
        expected = [t.facts / facts * float(np.interp(t.facts / parts[t.name], loads, shares)) for t in topics]
        memories = sum(parts.values())
        reaching.append(
            Option(
                rank=rank,
                knee=limit,
                largest=limit.load == loads[-1],
                parts=parts,
                memories=memories,
                adapter_bytes=memories * limit.bytes,
                key_bytes=KEY_BYTES * sum(topic.wordings for topic in topics),
                minutes=sum(t.row_tokens for t in topics) * passes() * token_seconds(study, limit) / 60,
                expected=sum(expected),
            )
        )
    if not reaching:
        best = max(study.cells, key=lambda cell: cell.recall_unseen)
        raise PlanError(
            f"no rank of the study recalls {recall:g} of its facts under unseen wordings; the best is rank {best.rank} "
            f"with {best.recall_unseen:.2f} of {counted(best.load, 'fact')}; give a lower --recall, or a larger study"
        )
    return sorted(reaching, key=lambda option: (option.memories, option.adapter_bytes))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a corpus takes, by a study: its topics, the options at each rank (the first is the best), and the study."""

    topics: list[Topic]
    options: list[Option]
    recall: float
    study: CapacityStudy
    source: str


def plan(
    topics: Mapping[str, Sequence[Fact]],
    *,
    capacity: str | Path | None = None,
    recall: float | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Plan:
    """How many memories, of which rank, at what cost, the facts of `topics` take by a measured study.

    Args:
        capacity: folder of the study; the shipped one by default.
        recall: the share of facts to recall under unseen wordings; the study's own by default.
        tokenizer: of the study's base; loaded by default, without the base.

    Raises:
        PlanError: a `recall` that is no share, no such study, or no rank of it that reaches `recall`.
    """
    if recall is not None and not 0 < recall <= 1:
        raise PlanError(f"recall {recall:g} is no share of the facts; give more than 0 and at most 1")
    if capacity is None and not SHIPPED.exists():
        raise PlanError(
            "no study is shipped with this version; measure one by `lorary research capacity --out FOLDER` and give it as "
            "--capacity FOLDER"
        )
    study = read_capacity(capacity or SHIPPED)
    if not study.cells:
        raise PlanError(f"{capacity} holds no finished cell yet; let `lorary research capacity` go on")
    made, wanted = study.configuration, study.recall if recall is None else recall
    topic_counts = count_topics(tokenizer or load_tokenizer(made["base"], revision=made.get("revision")), topics)
    by_rank = options(topic_counts, study, wanted)
    source = f"the study in {capacity}" if capacity else f"the shipped study, {SHIPPED.parent.name}/{SHIPPED.name}"
    return Plan(topics=topic_counts, options=by_rank, recall=wanted, study=study, source=source)


def other_recipe(study: CapacityStudy) -> list[str]:
    """What was otherwise in the recipe of a study than it is by default now; `compared` was not always there."""
    now, made = Recipe(), study.configuration
    fields = {
        "passes": (made.get("exposures"), now.max_epochs),
        "learning rate": (made.get("lr"), now.lr),
        "rows a step": (made.get("rows_a_step"), now.batch_size),
        "tokens compared": (made.get("compared", "all"), now.compared),
    }
    return [f"{name} {then}, now {today}" for name, (then, today) in fields.items() if then not in (None, today)]


def passes() -> int:
    """At most, of writing: those over the layers with memories, and one below, which costs about as much.

    A study's cells tell the seconds of the former alone: it runs its facts below the split once for all of them.
    """
    return Recipe().max_epochs + 1


def token_seconds(study: CapacityStudy, cell: Cell) -> float:
    """Seconds a row token and pass; of wall clock and processor the lesser, since others may have kept it waiting."""
    return min(cell.seconds, cell.processor_seconds) / (cell.row_tokens * int(study.configuration["exposures"]))


def tell_plan(plan: Plan) -> str:
    """The plan in words: what to do, then each number with its formula, then the other ranks."""
    best, study, many = plan.options[0], plan.study, len(plan.topics)
    facts, answers = sum(t.facts for t in plan.topics), sum(t.answer_tokens for t in plan.topics)
    split = [f"{name} into {parts}" for name, parts in best.parts.items() if parts > 1]
    machine, other = study.machine, other_recipe(study)
    alpha = best.rank * study.configuration["alpha_over_rank"]
    lines = [
        f"{counted(best.memories, 'memory')} of rank {best.rank}, {megabytes(best.adapter_bytes + best.key_bytes)}, "
        f"at most {counted(math.ceil(best.minutes), 'minute')}: lorary build FACTS --out BANK --r {best.rank} --lora-alpha "
        f"{alpha}",
        *([f"Topics to split first: {', '.join(split)}."] if split else []),
        "",
        f"By {plan.source} ({study.made}, base {study.configuration['base']}, seeds "
        f"{sorted({c.seed for c in study.cells})}, {machine['cpu']}, {counted(machine['threads'], 'thread')}"
        f"{', not finished' if study.partial else ''}):",
        *([f"It is of another recipe than the default ({', '.join(other)})."] if other else []),
        "",
        f"  corpus    {counted(facts, 'fact')} in {counted(many, 'topic')}, {counted(answers, 'answer token')}",
        *working(plan, best),
        "",
        f"All ranks whose memories recall {plan.recall:g} of some load, fewest memories first, then fewest bytes:",
        "",
        markdown_table(
            [
                ["rank", "knee", "memories", "size", "minutes", "recall there"],
                *(
                    [
                        str(o.rank),
                        f"{o.knee.load}+ facts" if o.largest else counted(o.knee.load, "fact"),
                        str(o.memories),
                        megabytes(o.adapter_bytes + o.key_bytes),
                        f"{o.minutes:.0f}",
                        f"{o.expected:.2f}",
                    ]
                    for o in plan.options
                ),
            ]
        ),
    ]
    return "\n".join(lines)


def working(plan: Plan, option: Option) -> list[str]:
    """Each number of an option with the formula that gave it."""
    knee, tokens = option.knee, sum(t.row_tokens for t in plan.topics)
    more = ", the largest load measured, so more may fit" if option.largest else ""
    made = plan.study.configuration
    wordings = sum(t.wordings for t in plan.topics)
    a_fact, made_texts = wordings / sum(t.facts for t in plan.topics), sum(t.made for t in plan.topics)
    by_rule = f"  texts     {counted(made_texts, 'text')} of the rows are made by rule, for facts with few wordings"
    return [
        f"  knee      {counted(knee.load, 'fact')} or {counted(knee.answer_tokens, 'answer token')} a memory: rank "
        f"{option.rank} recalled {knee.recall_unseen:.2f} >= {plan.recall:g} of them under an unseen wording{more}",
        f"  memories  sum over topics of max(ceil(facts / {knee.load}), ceil(answer tokens / {knee.answer_tokens})) "
        f"= {option.memories}",
        f"  bytes     {counted(option.memories, 'memory')} x {knee.bytes:,} + {counted(wordings, 'wording')} x "
        f"{option.key_bytes // wordings:,} (keys to route by) = {option.adapter_bytes + option.key_bytes:,}",
        *([by_rule] if made_texts else []),
        f"  minutes   {counted(tokens, 'row token')} x {counted(passes(), 'pass')} x "
        f"{1000 * token_seconds(plan.study, knee):.2f} ms / 60,000 = {option.minutes:.1f}, of one process of "
        f"that machine; a memory that recalls all of its facts stops earlier",
        f"  recall    {option.expected:.2f} by the line between the study's loads, for invented facts in "
        f"{counted(made['wordings'], 'wording')}; yours have {a_fact:.1f} to train on, and oblique questions are harder",
    ]


def megabytes(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 1e6:.1f} MB"
