"""The commands `ask` and `chat`, by which a composite answers."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from lorary.errors import LoraryError
from lorary.options import Options, taken
from lorary.printing import print_json

if TYPE_CHECKING:
    from lorary.answering.routed import Answer
    from lorary.model.modeling import LoraryForCausalLM
    from lorary.routing.policy import Policy


_COMPOSITE = "folder of the composite, or of a bank whose router is not trained yet"


def _add_answering(parser: Options) -> None:
    parser.add_argument("--base", metavar="NAME", help="where the base is, if not where the composite says")
    parser.add_lightness()
    parser.add_argument("--max-new-tokens", metavar="N", type=int, default=32, help="length of the longest answer")
    parser.add_argument("--passages", metavar="N", type=int, help="passages that the index puts before the question")
    parser.add_argument("--no-memory", action="store_true", help="let no memory take part, and give no stored answer")
    parser.add_argument("--no-lookup", action="store_true", help="give no stored answer in place of a memory's")
    parser.add_argument(
        "--exchange",
        action="store_true",
        help="put a question to its memory in the nearest trained wording, where one is near and no stored answer is given",
    )


def _policy_changes(options: Any) -> dict[str, Any]:
    """The fields of the policy that the options change."""
    from lorary.answering.exchange import EXCHANGE_FROM
    from lorary.routing.policy import Policy

    changes: dict[str, Any] = {"sources": ()} if options.no_memory else {}
    changes |= {"lookup": False} if options.no_lookup else {}
    changes |= {"t_exchange": EXCHANGE_FROM} if options.exchange else {}
    changes |= taken(options, "passages")
    replace(Policy(), **changes)  # a bad number is told before the model is loaded
    if options.max_new_tokens < 1:
        raise LoraryError(f"--max-new-tokens {options.max_new_tokens} leaves no room for an answer; give 1 or more")
    return changes


def _loaded(options: Any, changes: dict[str, Any]) -> tuple[LoraryForCausalLM, Policy]:
    """(the composite, or that of a bank without a trained router; the policy to ask it under)."""
    from lorary.model.composite import load_composite
    from lorary.model.untrained import is_bare_bank, load_untrained

    load = load_untrained if is_bare_bank(options.composite) else load_composite
    model = load(options.composite, **taken(options, "base", "dtype", "quantization_config"))
    return model, replace(model.router.policy, **changes)


def ask(argv: list[str]) -> None:
    """Asks a composite a question and prints its answer."""
    parser = Options("ask", "Asks a composite a question and prints the answer.", 'COMPOSITE "QUESTION"')
    parser.add_argument("composite", metavar="COMPOSITE", help=_COMPOSITE)
    parser.add_question("what to ask")
    parser.add_argument(
        "--trace",
        action="store_true",
        help="also print the answer's route, its source, how likely each source is to be right, and passages",
    )
    parser.add_argument("--parts", action="store_true", help="answer each part of the question on its own")
    parser.add_argument("--heatmap", metavar="FILE", help="also draw the weights token by token, as .png or .html")
    _add_answering(parser)
    parser.add_json("answer, probabilities, route, cost and passages")
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
    if options.json:
        print_json(_plain(options.question, answers))
    else:
        print(_text(answers, options.trace))


def _plain(question: str, answers: Sequence[Answer]) -> dict[str, Any]:
    """Answers as plain values: one with its route, outcome and passages; those of several parts joined, then one by one."""
    from lorary.answering.answers import joined

    parts = [
        {
            "question": answer.prompt.routing_text,
            "answer": answer.text,
            "probability": answer.probability,
            "route": asdict(answer.route),
            "outcome": answer.route.outcome,
            "right": answer.right,
            "sources": dict(answer.likely),
            "asked_as": answer.asked_as,
            "cost": {"generated_tokens": answer.generated, "passes": answer.passes},
            "passages": [asdict(passage) for passage in answer.passages],
        }
        for answer in answers
    ]
    whole = {"question": question, "answer": joined(answer.text for answer in answers), "parts": parts}
    return parts[0] | {"question": question} if len(parts) == 1 else whole


def _text(answers: Sequence[Answer], trace: bool) -> str:
    """Answers for people, joined; with their trace, each part's own answer, route and passages follow, a line each."""
    from lorary.answering.answers import joined

    lines = [joined(answer.text for answer in answers)]
    for answer in answers if trace else ():
        if len(answers) > 1:
            lines.append(f"part: {answer.prompt.routing_text} {answer.text}")
        if answer.probability is not None:
            lines.append(f"probability: {answer.probability:.3f} a token of the answer")
        lines += [f"asked as: {answer.asked_as}"] if answer.asked_as is not None else []
        lines += [f"route: {answer.route}", f"outcome: {answer.route.outcome}"]
        if answer.likely:
            lines.append("right: " + ", ".join(f"{source} {likely:.3f}" for source, likely in answer.likely.items()))
        for p in answer.passages:
            place = f"{p.memory}, {p.source}" if p.source else p.memory
            lines.append(f"passage: {p.text} ({place}, similarity {p.similarity:.2f})")
    return "\n".join(lines)


def chat(argv: list[str]) -> None:
    """Talks to a composite until the input ends."""
    parser = Options(
        "chat",
        "Talks to a composite: a line in, an answer and its route out. /reset forgets the conversation, /quit ends it. The "
        "lines may come from a pipe.",
        "COMPOSITE",
    )
    parser.add_argument("composite", metavar="COMPOSITE", help=_COMPOSITE)
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
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # what is no text in the terminal's encoding is still a line
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
