"""The commands `ask` and `demo`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from lorary.routing import Policy

if TYPE_CHECKING:
    from lorary.answering import Answer


def ask(argv: list[str]) -> None:
    """Asks a composite a question and prints its answer."""
    parser = ArgumentParser(prog="lorary ask", description="Asks a composite a question.")
    parser.add_argument("composite", type=str, help="folder of the composite")
    parser.add_argument("question", type=str, help="what to ask")
    parser.add_argument(
        "--trace", action="store_true", help="also print the route: memories, weights, source, passages"
    )
    parser.add_argument("--json", action="store_true", help="print the answer and its route as JSON")
    parser.add_argument("--max-new-tokens", type=int, default=32, help="the longest answer, in tokens")
    parser.add_argument(
        "--passages", type=int | None, default=None, help="how many of the index's passages stand in the prompt"
    )
    parser.add_argument("--no-memory", action="store_true", help="let no memory take part")
    parser.add_argument(
        "--heatmap", type=str | None, default=None, help="also draw the weights token by token: FILE.png or FILE.html"
    )
    given = parser.parse_args(argv)
    from lorary.heatmap import check_ending

    if given.heatmap:
        check_ending(given.heatmap)
    switches: dict[str, Any] = {"sources": ()} if given.no_memory else {}
    if given.passages is not None:
        switches["passages"] = given.passages
    replace(Policy(), **switches)  # a bad number is told before the model is loaded
    from lorary.answering import answer
    from lorary.composite import load_composite

    model = load_composite(given.composite)
    policy = replace(model.router.policy, **switches)
    found = answer(model, given.question, policy=policy, max_new_tokens=given.max_new_tokens)
    if given.heatmap:
        from lorary.heatmap import heat_map

        heat_map(model, found).write(given.heatmap)
    print(_json(given.question, found) if given.json else _told(found, given.trace))


def _json(question: str, found: Answer) -> str:
    """An answer as JSON: with its route, its outcome and its passages."""
    told: dict[str, Any] = {"question": question, "answer": found.text, "route": asdict(found.route)}
    told |= {"outcome": found.route.outcome, "passages": [asdict(passage) for passage in found.asked.passages]}
    return json.dumps(told, ensure_ascii=False)


def _told(found: Answer, trace: bool) -> str:
    """An answer for people; with its trace, the route and the passages follow, a line each."""
    lines = [found.text]
    if trace:
        lines += [f"route: {found.route}", f"outcome: {found.route.outcome}"]
        lines += [f"passage: {p.text} ({p.memory}, similarity {p.similarity:.2f})" for p in found.asked.passages]
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
