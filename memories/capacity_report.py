"""A capacity study and a plan from it, for people: tables, and the working of each number."""

from __future__ import annotations

from lorary.memories.planning import Option, Plan, Study, passes, token_seconds
from lorary.memories.tables import markdown, wilson

_COSTS = ("seconds", "of the processor", "bytes", "parameters")


def report(study: Study) -> str:
    """The study in Markdown: every cell, the knee of each rank, and what made it."""
    made = study.configuration
    rows = [
        ["rank", "facts", "answer tokens", "shown", "every trained wording", "an unseen wording (95 %)", *_COSTS],
        *(
            [
                str(cell.rank),
                str(cell.load),
                f"{cell.answer_tokens:,}",
                f"{cell.shown:.1f}",
                f"{cell.recall_trained:.3f}",
                "{:.3f} ({:.3f} to {:.3f})".format(cell.recall_unseen, *wilson(cell.recall_unseen, cell.load)),
                f"{cell.seconds:.0f}",
                f"{cell.processor_seconds:.0f}",
                f"{cell.bytes:,}",
                f"{cell.parameters:,}",
            ]
            for rank in study.ranks
            for cell in study.points(rank)
        ),
    ]
    lines = [
        "# Capacity",
        "",
        *(["**Partial**: the run is not finished; the same command goes on.", ""] if study.partial else []),
        *markdown(rows),
        "",
        f"The knee is the largest load that recalls {study.recall:g} of its facts under an unseen wording:",
        "",
        *markdown(_knees(study)),
        "",
        f"- Every load makes {made['exposures']} passes over the {made['wordings']} wordings of its facts; a row whose "
        "every token is certain is passed over three times in four, and `shown` is how often a fact was shown. Intervals "
        "are over facts, of one set of facts.",
        f"- Base {made['base']}, layers from {made['split_layer']}, {len({c.seed for c in study.cells})} seeds.",
        f"- {study.footer()}. Seconds are of that machine as it was then, shared by row tokens among the memories that "
        "were written together.",
        "",
    ]
    return "\n".join(lines)


def _knees(study: Study) -> list[list[str]]:
    rows = [["rank", "knee", "answer tokens", "facts a 1,000 parameters", "answer tokens a 1,000 parameters"]]
    for rank in study.ranks:
        cell = study.knee(rank, study.recall)
        if cell is None:
            rows.append([str(rank), "none measured", "–", "–", "–"])
            continue
        most = " or more" if cell.load == study.points(rank)[-1].load else ""
        density = [f"{1000 * count / cell.parameters:.3f}" for count in (cell.load, cell.answer_tokens)]
        rows.append([str(rank), f"{cell.load} facts{most}", f"{cell.answer_tokens:,}", *density])
    return rows


def tell(plan: Plan) -> str:
    """The plan in words: what to do, then each number with its formula, then the other ranks."""
    best, study, many = plan.options[0], plan.study, len(plan.topics)
    facts, answers = sum(t.facts for t in plan.topics), sum(t.answer_tokens for t in plan.topics)
    split = [f"{name} into {parts}" for name, parts in best.parts.items() if parts > 1]
    machine, alpha = study.machine, best.rank * study.configuration["alpha_over_rank"]
    lines = [
        f"{best.memories} memories of rank {best.rank}, {megabytes(best.adapter_bytes + best.key_bytes)}, "
        f"at most {best.minutes:.0f} minutes: lorary build FACTS --out BANK --r {best.rank} --lora_alpha {alpha}",
        *([f"Topics to split first: {', '.join(split)}."] if split else []),
        "",
        f"By {plan.source} ({study.made}, base {study.configuration['base']}, seeds "
        f"{sorted({c.seed for c in study.cells})}, {machine['cpu']}, {machine['threads']} threads"
        f"{', not finished' if study.partial else ''}):",
        "",
        f"  corpus    {facts} facts in {many} topics, {answers} answer tokens",
        *working(plan, best),
        "",
        f"All ranks whose memories recall {plan.recall:g} of some load, fewest memories first, then fewest bytes:",
        "",
        *markdown(
            [
                ["rank", "knee", "memories", "size", "minutes", "recall there"],
                *(
                    [
                        str(o.rank),
                        f"{o.knee.load}{'+' if o.largest else ''} facts",
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
    held, tokens = option.knee, sum(t.row_tokens for t in plan.topics)
    more = ", the largest load measured, so more may fit" if option.largest else ""
    made = plan.study.configuration
    wordings = sum(t.wordings for t in plan.topics)
    a_fact = wordings / sum(t.facts for t in plan.topics)
    return [
        f"  knee      {held.load} facts or {held.answer_tokens} answer tokens a memory: rank {option.rank} recalled "
        f"{held.recall_unseen:.2f} >= {plan.recall:g} of them under an unseen wording{more}",
        f"  memories  sum over topics of max(ceil(facts / {held.load}), ceil(answer tokens / {held.answer_tokens})) "
        f"= {option.memories}",
        f"  bytes     {option.memories} memories x {held.bytes:,} + {wordings:,} wordings x "
        f"{option.key_bytes // wordings:,} (keys to route by) = {option.adapter_bytes + option.key_bytes:,}",
        f"  minutes   {tokens:,} row tokens x {passes()} passes x {1000 * token_seconds(plan.study, held):.2f} ms / 60,000 "
        f"= {option.minutes:.1f}, of one process of that machine; a memory that recalls all of its facts stops earlier",
        f"  recall    {option.expected:.2f} by the line between the study's loads, for invented facts in "
        f"{made['wordings']} wordings; yours have {a_fact:.1f} to train on, and oblique questions are harder",
    ]


def megabytes(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 1e6:.1f} MB"
