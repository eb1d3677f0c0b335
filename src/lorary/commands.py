"""The commands `ask` and `demo`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from lorary.answering.parts import joined
from lorary.routing.policy import Policy

if TYPE_CHECKING:
    from lorary.answering.answers import Answer


def ask(argv: list[str]) -> None:
    """Asks a composite a question and prints its answer."""
    parser = ArgumentParser(prog="lorary ask", description="Asks a composite a question.")
    parser.add_argument("composite", type=str, help="folder of the composite")
    parser.add_argument("question", type=str, help="what to ask")
    parser.add_argument(
        "--trace",
        action="store_true",
        help="also print how likely the answer was and its route: memories, weights, source, passages",
    )
    parser.add_argument("--json", action="store_true", help="print the answer, how likely it was and its route as JSON")
    parser.add_argument("--max-new-tokens", type=int, default=32, help="the longest answer, in tokens")
    parser.add_argument(
        "--passages", type=int | None, default=None, help="how many of the index's passages stand in the prompt"
    )
    parser.add_argument("--no-memory", action="store_true", help="let no memory take part")
    parser.add_argument(
        "--parts", action="store_true", help="answer each part of the question, up to its question mark, on its own"
    )
    parser.add_argument(
        "--heatmap", type=str | None, default=None, help="also draw the weights token by token: FILE.png or FILE.html"
    )
    given = parser.parse_args(argv)
    from lorary.answering.heatmap import check_ending

    if given.heatmap:
        check_ending(given.heatmap)
        if given.parts:
            raise ValueError("--heatmap draws one answer; leave --parts out, or ask the parts one by one")
    switches: dict[str, Any] = {"sources": ()} if given.no_memory else {}
    if given.passages is not None:
        switches["passages"] = given.passages
    replace(Policy(), **switches)  # a bad number is told before the model is loaded
    from lorary.answering.answers import answer, answer_parts
    from lorary.model.composite import load_composite

    model = load_composite(given.composite)
    policy = replace(model.router.policy, **switches)
    asked: dict[str, Any] = {"policy": policy, "max_new_tokens": given.max_new_tokens}
    found = answer_parts(model, given.question, **asked) if given.parts else [answer(model, given.question, **asked)]
    if given.heatmap:
        from lorary.answering.heatmap import heat_map

        heat_map(model, found[0]).write(given.heatmap)
    print(_json(given.question, found) if given.json else _told(found, given.trace))


def _json(question: str, found: list[Answer]) -> str:
    """Answers as JSON: one with its route, its outcome and its passages; those of several parts joined, then one by one."""
    each = [
        {
            "question": one.asked.routing_text,
            "answer": one.text,
            "probability": one.probability,
            "route": asdict(one.route),
            "outcome": one.route.outcome,
            "passages": [asdict(passage) for passage in one.asked.passages],
        }
        for one in found
    ]
    whole = {"question": question, "answer": joined(one.text for one in found), "parts": each}
    return json.dumps(each[0] | {"question": question} if len(each) == 1 else whole, ensure_ascii=False)


def _told(found: list[Answer], trace: bool) -> str:
    """Answers for people, joined; with their trace, each part's own answer, route and passages follow, a line each."""
    lines = [joined(one.text for one in found)]
    for one in found if trace else ():
        if len(found) > 1:
            lines.append(f"part: {one.asked.routing_text} {one.text}")
        if one.probability is not None:
            lines.append(f"probability: {one.probability:.3f} a token of the answer")
        lines += [f"route: {one.route}", f"outcome: {one.route.outcome}"]
        lines += [f"passage: {p.text} ({p.memory}, similarity {p.similarity:.2f})" for p in one.asked.passages]
    return "\n".join(lines)


def demo(argv: list[str]) -> None:
    """Runs the demo."""
    parser = ArgumentParser(prog="lorary demo", description="Writes, routes, asks and scores the shipped topics.")
    parser.add_argument("--out", type=str, default="runs/demo", help="folder of the run")
    parser.add_argument("--fresh", action="store_true", help="reuse nothing of an earlier run")
    parser.add_argument(
        "--samples", type=str | None, default=None, help="folder of facts instead of the shipped topics"
    )
    parser.add_argument("--base", type=str | None, default=None, help="another base than the embedded default")
    given = parser.parse_args(argv)
    import importlib.util

    from lorary.demo import demo as run

    spec = importlib.util.find_spec("lorary.memories")
    assert spec is not None
    assert spec.origin is not None
    samples = Path(given.samples) if given.samples else Path(spec.origin).parent / "samples"
    run(given.out, fresh=given.fresh, samples=samples, base=given.base)
