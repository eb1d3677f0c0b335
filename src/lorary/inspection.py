"""The commands that look into a bank or composite, `list` and `route`: nothing is answered or changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lorary.options import Options, taken
from lorary.printing import print_json
from lorary.tables import ABSENT, aligned_table, counted, left_aligned, percent

if TYPE_CHECKING:
    from lorary.bank.memory import Memory
    from lorary.routing.explanation import Explanation

_SHOWN = 8
"""Memories that `lorary route` shows of many."""


def route(argv: list[str]) -> None:
    """Shows which memory a question reaches, and why."""
    parser = Options(
        "route",
        "Shows which memory a question reaches and why: each term's part of the gate's logits, the index's nearest wording, "
        "and the thresholds. Nothing is generated; the base is loaded only where the gate reads its hidden state.",
        'COMPOSITE "QUESTION"',
    )
    parser.add_argument("composite", metavar="COMPOSITE", help="folder of the composite")
    parser.add_question("the question to route")
    parser.add_argument("--base", metavar="NAME", help="where the base is, if the gate reads it")
    parser.add_json("route, reason and all scores")
    options = parser.parse_args(argv)
    from lorary.model.composite import load_composite, load_router
    from lorary.routing.explanation import explain
    from lorary.routing.pooling import pooled_prompts

    router, config = load_router(options.composite)
    hidden = None
    if "hidden" in router.gate.features:
        model = load_composite(options.composite, **taken(options, "base"))
        hidden = pooled_prompts(model.base, model.tokenizer, config.split_layer, [options.question])
    explanation = explain(router, options.question, hidden)
    if options.json:
        print_json(explanation.to_json())
    else:
        print(_explained(explanation))


def _explained(explanation: Explanation) -> str:
    """An explanation for people."""
    policy, nearest = explanation.policy, explanation.nearest
    memories = dict(list(explanation.memories.items())[:_SHOWN])
    terms = list(next(iter(memories.values())).terms) if memories else []
    rows = [["memory", "probability", "logit", *terms, "index"]]
    for name, scores in memories.items():
        parts = [f"{scores.terms[term]:.2f}" for term in terms]
        rows.append([name, f"{scores.probability:.3f}", f"{scores.logit:.2f}", *parts, f"{scores.similarity:.2f}"])
    none = explanation.none
    rows.append(["none", f"{none.probability:.3f}", f"{none.logit:.2f}", *("" for _ in terms), ""])
    lines = [f"route: {explanation.route}", f"why: {explanation.reason}", "", *aligned_table(rows)]
    if len(memories) < len(explanation.memories):
        lines.append(f"and {counted(len(explanation.memories) - len(memories), 'more memory')}, less likely")
    lines += ["", f"thresholds: gate {policy.t_gate:.2f}, index {policy.t_index:.2f}"]
    if nearest is not None:
        lines.append(f"nearest wording: {nearest.text} ({nearest.memory}, similarity {nearest.similarity:.2f})")
    return "\n".join(lines)


_OF_FACT = ("memory", "id", "question", "answer")


def list_memories(argv: list[str]) -> None:
    """Lists the memories of a bank or composite."""
    parser = Options("list", "Lists the memories of a bank or composite.", "BANK")
    parser.add_argument("bank", metavar="BANK", help="folder of the bank or composite")
    parser.add_argument(
        "--facts", action="store_true", help="list their facts, with the ids that `lorary forget` takes"
    )
    parser.add_json("the memories, or their facts")
    options = parser.parse_args(argv)
    from lorary.bank.bank import MemoryBank

    bank = MemoryBank.load(options.bank)
    if options.facts:
        facts = [{"memory": memory.name, "id": fact.id, **fact.to_json()} for memory in bank for fact in memory.facts]
        rows = [["memory", "id", "question", "answer"], *([f[name] for name in _OF_FACT] for f in facts)]
        print_json(facts) if options.json else print("\n".join(left_aligned(rows)))
        return
    memories = [{**described(memory), "version": bank.versions[memory.name][1].number} for memory in bank]
    if options.json:
        header = {"base": bank.base, "revision": bank.revision, "encoder": bank.encoder}
        print_json({**header, "memories": memories})
        return
    rows = [["memory", "version", "facts", "wordings", "passages", "rank", "size", *_MEASURED, "origin"]]
    for memory in memories:
        measured = _measured(memory["certificate"])
        size = (
            f"{memory['bytes'] / 2**20:.1f} MiB" if memory["bytes"] >= 2**20 else f"{memory['bytes'] / 2**10:.0f} KiB"
        )
        counts = [str(memory[name]) for name in ("version", "facts", "wordings", "passages", "rank")]
        rows.append([memory["name"], *counts, size, *measured, memory["origin"]])
    print(f"base: {bank.base}\nencoder: {bank.encoder}\n")
    print("\n".join(aligned_table(rows)) if memories else "no memory yet; `lorary add` and `lorary build` put some in")


_MEASURED = ("recall by wording", "by fact", "full", "damage")


def _measured(certificate: Mapping[str, Any]) -> list[str]:
    """What a certificate tells under each heading of `_MEASURED`; one of an earlier version has no recall by wording."""
    alone, full, damage = map(certificate.get, ("recall_validation_wordings", "full", "damage"))
    wording, fact = (certificate.get(f"recall_by_{of}", {}).get("validation") for of in ("wording", "fact"))
    recall = "not measured" if alone is None else percent(wording)
    by_fact = percent(fact) if fact else ABSENT if alone is None else f"{alone:.0%}"
    return [recall, by_fact, ABSENT if full is None else f"{full:.0%}", ABSENT if damage is None else f"× {damage:.3f}"]


def described(memory: Memory) -> dict[str, Any]:
    """What is told of a memory: its passages are those of its documents, and recall, failing facts, damage and how full it is
    are as its certificate has them."""
    from lorary.bank.joining import DOCUMENTS

    tensors, certificate = memory.outline.values(), dict(memory.card.get("certificate", {}))
    failing = {number for own in certificate.get("failing_facts", {}).values() for number in own}
    return {
        "name": memory.name,
        "facts": len(memory.facts),
        "wordings": len(memory.wordings),
        "passages": len(memory.documents),
        "examples": len(memory.examples),
        "rank": max((min(tensor.shape) for tensor in tensors), default=0),
        "bytes": sum(tensor.nbytes for tensor in tensors),
        "origin": recipe if (recipe := memory.card.get("recipe")) in ("imported", DOCUMENTS) else "built",
        "certificate": certificate,
        "failing": [fact.question for number, fact in enumerate(memory.facts) if number in failing],
    }
