"""The commands `ask` and `demo`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from jsonargparse import ArgumentParser


def ask(argv: list[str]) -> None:
    """Asks a composite a question and prints its answer."""
    parser = ArgumentParser(prog="lorary ask", description="Asks a composite a question.")
    parser.add_argument("composite", type=str, help="folder of the composite")
    parser.add_argument("question", type=str, help="what to ask")
    parser.add_argument("--trace", action="store_true", help="also print the route: memories, weights, source")
    parser.add_argument("--json", action="store_true", help="print the answer and its route as JSON")
    parser.add_argument("--max-new-tokens", type=int, default=32, help="the longest answer, in tokens")
    given = parser.parse_args(argv)
    from lorary.composite import load_composite
    from lorary.prompts import prompt

    model = load_composite(given.composite)
    tokenizer = model.tokenizer
    inputs = tokenizer(prompt(tokenizer, given.question), return_tensors="pt", add_special_tokens=False)
    output = model.generate(**inputs, max_new_tokens=given.max_new_tokens, do_sample=False)
    answer = str(tokenizer.decode(output[0, inputs.input_ids.shape[1] :], skip_special_tokens=True)).strip()
    route = model.last_routes[0]
    if given.json:
        print(json.dumps({"question": given.question, "answer": answer, "route": asdict(route)}, ensure_ascii=False))
        return
    print(answer)
    if given.trace:
        print(f"route: {route}")


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
