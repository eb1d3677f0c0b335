"""The commands that use a composite: `ask`, `chat`, `route` and `list`; and the `demo`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorary.errors import LoraryError
from lorary.options import Options, taken

if TYPE_CHECKING:
    from lorary.answering.answers import Answer
    from lorary.bank.memory import Memory
    from lorary.model.modeling import LoraryForCausalLM
    from lorary.routing.explanation import Explanation
    from lorary.routing.policy import Policy

_SHOWN = 8
"""Memories that `lorary route` shows of many."""


def _add_answering(parser: Options) -> None:
    parser.add_argument("--base", metavar="NAME", help="where the base is, if not where the composite says")
    parser.add_argument("--max-new-tokens", metavar="N", type=int, default=32, help="length of the longest answer")
    parser.add_argument("--passages", metavar="N", type=int, help="passages that the index puts before the question")
    parser.add_argument("--no-memory", action="store_true", help="let no memory take part")


def _policy_changes(options: Any) -> dict[str, Any]:
    """The fields of the policy that the options change."""
    from lorary.routing.policy import Policy

    changes: dict[str, Any] = {"sources": ()} if options.no_memory else {}
    changes |= taken(options, "passages")
    replace(Policy(), **changes)  # a bad number is told before the model is loaded
    if options.max_new_tokens < 1:
        raise LoraryError(f"--max-new-tokens {options.max_new_tokens} leaves no room for an answer; give 1 or more")
    return changes


def _loaded(options: Any, changes: dict[str, Any]) -> tuple[LoraryForCausalLM, Policy]:
    """(the composite, the policy to ask it under)."""
    from lorary.model.composite import load_composite

    model = load_composite(options.composite, **taken(options, "base"))
    return model, replace(model.router.policy, **changes)


def ask(argv: list[str]) -> None:
    """Asks a composite a question and prints its answer."""
    parser = Options("ask", "Asks a composite a question and prints the answer.", 'COMPOSITE "QUESTION"')
    parser.add_argument("composite", metavar="COMPOSITE", help="folder of the composite")
    parser.add_argument("question", metavar="QUESTION", help="what to ask")
    parser.add_argument(
        "--trace",
        action="store_true",
        help="also print the answer's probability and its route: memories, source, passages",
    )
    parser.add_argument("--parts", action="store_true", help="answer each part of the question on its own")
    parser.add_argument("--heatmap", metavar="FILE", help="also draw the weights token by token, as .png or .html")
    _add_answering(parser)
    parser.add_json("answer, probability, route and passages")
    options = parser.parse_args(argv)
    from lorary.answering.heatmap import check_ending

    if options.heatmap:
        check_ending(options.heatmap)
        if options.parts:
            raise LoraryError("--heatmap draws one answer; leave --parts out, or ask the parts one by one")
    changes = _policy_changes(options)
    from lorary.answering.answers import answer, answer_parts

    model, policy = _loaded(options, changes)
    settings: dict[str, Any] = {"policy": policy, "max_new_tokens": options.max_new_tokens}
    whole = not options.parts
    answers = (
        [answer(model, options.question, **settings)] if whole else answer_parts(model, options.question, **settings)
    )
    if options.heatmap:
        from lorary.answering.heatmap import heat_map

        heat_map(model, answers[0]).write(options.heatmap)
    print(_json(options.question, answers) if options.json else _text(answers, options.trace))


def _json(question: str, answers: Sequence[Answer]) -> str:
    """Answers as JSON: one with its route, its outcome and its passages; those of several parts joined, then one by one."""
    from lorary.answering.parts import joined

    parts = [
        {
            "question": answer.asked.routing_text,
            "answer": answer.text,
            "probability": answer.probability,
            "route": asdict(answer.route),
            "outcome": answer.route.outcome,
            "passages": [asdict(passage) for passage in answer.asked.passages],
        }
        for answer in answers
    ]
    whole = {"question": question, "answer": joined(answer.text for answer in answers), "parts": parts}
    return json.dumps(parts[0] | {"question": question} if len(parts) == 1 else whole, ensure_ascii=False)


def _text(answers: Sequence[Answer], trace: bool) -> str:
    """Answers for people, joined; with their trace, each part's own answer, route and passages follow, a line each."""
    from lorary.answering.parts import joined

    lines = [joined(answer.text for answer in answers)]
    for answer in answers if trace else ():
        if len(answers) > 1:
            lines.append(f"part: {answer.asked.routing_text} {answer.text}")
        if answer.probability is not None:
            lines.append(f"probability: {answer.probability:.3f} a token of the answer")
        lines += [f"route: {answer.route}", f"outcome: {answer.route.outcome}"]
        lines += [f"passage: {p.text} ({p.memory}, similarity {p.similarity:.2f})" for p in answer.asked.passages]
    return "\n".join(lines)


def chat(argv: list[str]) -> None:
    """Talks to a composite until the input ends."""
    parser = Options(
        "chat",
        "Talks to a composite: a line in, an answer and its route out. /reset forgets the conversation, /quit ends it. The "
        "lines may come from a pipe.",
        "COMPOSITE",
    )
    parser.add_argument("composite", metavar="COMPOSITE", help="folder of the composite")
    _add_answering(parser)
    options = parser.parse_args(argv)
    changes = _policy_changes(options)
    from lorary.answering.answers import answer

    model, policy = _loaded(options, changes)
    turns: list[dict[str, str]] = []
    for line in _lines():
        if line == "/quit":
            break
        if line == "/reset":
            turns = []
            continue
        turns.append({"role": "user", "content": line})
        try:
            reply = answer(model, turns, policy=policy, max_new_tokens=options.max_new_tokens)
        except LoraryError as error:  # the conversation goes on without the turn
            turns.pop()
            print(f"lorary: error: {error}", file=sys.stderr)
            continue
        turns.append({"role": "assistant", "content": reply.text})
        print(f"{reply.text}\n  [{reply.route}]", flush=True)


def _lines() -> Iterator[str]:
    """What the user types, without empty lines; a prompt and the arrow keys where it is a terminal."""
    interactive = sys.stdin.isatty()
    if interactive:
        import readline  # noqa: F401  (input() edits lines with it)

        print("/reset forgets the conversation, /quit ends it", file=sys.stderr)
    while True:
        try:
            line = input("> " if interactive else "").strip()
        except EOFError:
            return
        if line:
            yield line


def route(argv: list[str]) -> None:
    """Shows which memory a question reaches, and why."""
    parser = Options(
        "route",
        "Shows which memory a question reaches and why: each term's part of the gate's logits, the index's nearest wording, "
        "and the thresholds. Nothing is generated; the base is loaded only where the gate reads its hidden state.",
        'COMPOSITE "QUESTION"',
    )
    parser.add_argument("composite", metavar="COMPOSITE", help="folder of the composite")
    parser.add_argument("question", metavar="QUESTION", help="the question to route")
    parser.add_argument("--base", metavar="NAME", help="where the base is, if the gate reads it")
    parser.add_json("route, reason and all scores")
    options = parser.parse_args(argv)
    from lorary.model.composite import load_composite, load_router
    from lorary.routing.explanation import explain
    from lorary.routing.features import pooled_prompts

    router, config = load_router(options.composite)
    hidden = None
    if "hidden" in router.gate.features:
        model = load_composite(options.composite, **taken(options, "base"))
        hidden = pooled_prompts(model.base, model.tokenizer, config.split_layer, [options.question])
    explanation = explain(router, options.question, hidden)
    print(json.dumps(explanation.to_json(), ensure_ascii=False) if options.json else _explained(explanation))


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
    lines = [f"route: {explanation.route}", f"why: {explanation.reason}", "", *_columns(rows)]
    if len(memories) < len(explanation.memories):
        lines.append(f"and {len(explanation.memories) - len(memories)} more memories that are less likely")
    lines += ["", f"thresholds: gate {policy.t_gate:.2f}, index {policy.t_index:.2f}"]
    if nearest is not None:
        lines.append(f"nearest wording: {nearest.text} ({nearest.memory}, similarity {nearest.similarity:.2f})")
    return "\n".join(lines)


def list_memories(argv: list[str]) -> None:
    """Lists the memories of a bank or composite."""
    parser = Options("list", "Lists the memories of a bank or composite.", "BANK")
    parser.add_argument("bank", metavar="BANK", help="folder of the bank or composite")
    parser.add_json("the memories")
    options = parser.parse_args(argv)
    from lorary.bank.bank import MemoryBank

    bank = MemoryBank.load(options.bank)
    memories = [_described(memory) for memory in bank]
    if options.json:
        header = {"base": bank.base, "revision": bank.revision, "encoder": bank.encoder}
        print(json.dumps({**header, "memories": memories}, ensure_ascii=False))
        return
    rows = [["memory", "facts", "wordings", "rank", "size", "recall", "origin"]]
    for memory in memories:
        recall = memory["certificate"].get("recall_validation_wordings")
        measured = "not measured" if recall is None else f"{recall:.0%}"
        size = (
            f"{memory['bytes'] / 2**20:.1f} MiB" if memory["bytes"] >= 2**20 else f"{memory['bytes'] / 2**10:.0f} KiB"
        )
        counts = [str(memory[name]) for name in ("facts", "wordings", "rank")]
        rows.append([memory["name"], *counts, size, measured, memory["origin"]])
    print(f"base: {bank.base}\nencoder: {bank.encoder}\n")
    print("\n".join(_columns(rows)) if memories else "no memory yet; `lorary add` and `lorary build` put some in")


def _described(memory: Memory) -> dict[str, Any]:
    """What is told of a memory: its recall under validation wordings is in its certificate, where it was measured."""
    tensors = memory.tensors.values()
    return {
        "name": memory.name,
        "facts": len(memory.facts),
        "wordings": len(memory.wordings),
        "rank": max((min(tensor.shape) for tensor in tensors), default=0),
        "bytes": sum(tensor.nbytes for tensor in tensors),
        "origin": "imported" if memory.card.get("recipe") == "imported" else "built",
        "certificate": dict(memory.card.get("certificate", {})),
    }


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        aligned = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *aligned]).rstrip())
    return lines


def demo(argv: list[str]) -> None:
    """Runs the demo."""
    parser = Options(
        "demo", "Writes the shipped topics' memories, trains a gate, scores the composite, and asks five questions.", ""
    )
    parser.add_argument("--out", metavar="FOLDER", default="runs/demo", help="folder of the run")
    parser.add_argument("--fresh", action="store_true", help="reuse nothing of an earlier run")
    parser.add_argument("--samples", metavar="FOLDER", help="facts to use instead of the shipped topics")
    parser.add_argument("--base", metavar="NAME", help="another base than the embedded one")
    options = parser.parse_args(argv)
    import lorary.memories
    from lorary.demo import demo as run

    samples = Path(options.samples or Path(str(lorary.memories.__file__)).parent / "samples")
    run(options.out, fresh=options.fresh, samples=samples, base=options.base)
