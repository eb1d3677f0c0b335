"""A token study: what deciding at each token is worth on text that changes topic, and on questions on two topics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lorary.answering.passages import Prompt
from lorary.answering.routed import by_route
from lorary.bank.facts import Fact
from lorary.bank.files import MANIFEST
from lorary.base.prompts import longest_answer
from lorary.base.several import uncapitalised
from lorary.errors import LoraryError
from lorary.eval.scoring import contains
from lorary.eval.tasks.joined import both
from lorary.model.active_route import ActiveRoute, apply_route
from lorary.model.composite import load_composite
from lorary.model.modeling import LoraryForCausalLM
from lorary.progress import progress_bars
from lorary.resume import REPORT, go_on, write_results
from lorary.router_training.sequences import TokenSequence, drawn_texts, sentences_by_memory
from lorary.statistics import interval, weightings
from lorary.tables import markdown_table, with_interval

STUDY, SCHEMA = "token-study", 1
CONDITIONS = {
    "token": "the gate decides at each token",
    "query": "one route for the whole text, which the gate decides on all of it",
    "oracle": "each span under its own memory, given",
    "uniform": "all memories at once, with equal weights",
    "base": "the base alone",
}
KINDS = {"two sentences": "in two sentences", "one sentence": "in one sentence: who … and who …?"}
_AT_ONCE = 16


@dataclass(frozen=True)
class Told:
    """What a text's tokens took under a condition.

    Args:
        nats: the negative log-likelihood of all of its tokens but the first, together.
        tokens: how many those are.
    """

    nats: float
    tokens: int


def token_study(
    composite: str | Path,
    *,
    out: str | Path,
    texts: int = 60,
    questions: int = 40,
    seed: int = 0,
    quiet: bool = False,
) -> dict[str, Any]:
    """The results on a composite whose gate reads the window; `results.json` and `report.md` are written into `out`.

    Texts and questions are made of the bank's own statements, passages and held-out wordings, drawn by the seed. No memory
    and no gate has seen the texts, the wordings or how two questions are joined; the sentences of the texts were trained on.

    Args:
        texts: how many texts of two to five spans.
        questions: how many questions on two topics, of each kind.

    Raises:
        LoraryError: a composite whose gate does not decide at each token, or without two memories that state anything.
    """
    manifest = sha256((Path(composite) / MANIFEST).read_bytes()).hexdigest()  # with the hash of the gate's file
    settings = {"composite": str(composite), "manifest": manifest, "texts": texts, "questions": questions, "seed": seed}
    stands = go_on(out, STUDY, SCHEMA, {"settings": settings})
    if stands is not None:
        return stands
    model = load_composite(composite)
    if model.gate.reading is None:
        raise LoraryError(f"{composite} decides once a query; train its router with --granularity token")
    stated = sentences_by_memory(model.router.bank)
    drawn = drawn_texts(model.tokenizer, stated, [], texts, Random(f"texts{seed}"))
    if not drawn:
        raise LoraryError(
            f"{composite} has no two memories with statements or passages; build it of facts with statements"
        )
    asked = two_topic_questions(model, questions, seed)
    with progress_bars(quiet) as bars:
        bar = bars.start("texts and questions", len(drawn) + sum(map(len, asked.values())))
        nats = {name: list[Told]() for name in CONDITIONS}
        for text in drawn:
            for name in CONDITIONS:
                nats[name].append(_nats(text, logits_under(model, text, name)))
            bar.advance()
        answers = {kind: _answered(model, own, bar.advance) for kind, own in asked.items()}
    results: dict[str, Any] = {"study": STUDY, "schema": SCHEMA, "settings": settings}
    results["perplexity"] = perplexities(nats, seed)
    results["questions"] = {kind: shares(own, seed) for kind, own in answers.items()}
    results["answers"] = answers
    results["gate"] = model.config.router_training.get("tokens")
    write_results(Path(out), results, {REPORT: tell_tokens(results).encode()})
    return results


@torch.no_grad()
def logits_under(model: LoraryForCausalLM, text: TokenSequence, condition: str) -> Float[Tensor, "seq vocabulary"]:
    """A text's logits under one of `CONDITIONS`. By query the route may read all of the text, by token nothing ahead."""
    ids, names = torch.tensor([text.ids]), model.memories
    if condition == "token":
        return model(ids, routing_text=list(text.questions), use_cache=False).logits[0]
    if condition == "query":
        whole = str(model.tokenizer.decode(text.ids, skip_special_tokens=True))
        weights = model.router.decide(model.router.query_features([whole])).weights.unsqueeze(1)
    elif condition == "oracle":
        weights = functional.one_hot(torch.tensor([text.memory]), len(names)).float()
    else:
        weights = torch.full((1, 1, len(names)), 1 / len(names) if condition == "uniform" else 0.0)
    with apply_route(ActiveRoute(weights), model.factors):
        return model.base(input_ids=ids, use_cache=False).logits[0]


def _nats(text: TokenSequence, logits: Float[Tensor, "seq vocabulary"]) -> Told:
    losses = functional.cross_entropy(logits[:-1].float(), torch.tensor(text.ids[1:]), reduction="sum")
    return Told(float(losses), len(text.ids) - 1)


def perplexities(nats: Mapping[str, Sequence[Told]], seed: int) -> dict[str, Any]:
    """Condition → its perplexity over all spans, and that of tokens as a ratio to it, with intervals that resample texts."""
    weights = weightings(range(len(nats["base"])), seed=seed).double()
    tokens = weights @ torch.tensor([told.tokens for told in nats["base"]], dtype=torch.double)
    logs = {n: weights @ torch.tensor([t.nats for t in own], dtype=torch.double) / tokens for n, own in nats.items()}
    return {
        name: {"perplexity": interval(own.exp()), "token_ratio": interval((logs["token"] - own).exp())}
        for name, own in logs.items()
    }


def two_topic_questions(model: LoraryForCausalLM, count: int, seed: int) -> dict[str, list[dict[str, Any]]]:
    """So many questions of each kind that ask a fact of each of two memories, in held-out wordings."""
    facts = {memory.name: [fact for fact in memory.facts if fact.held_out] for memory in model.router.bank}
    pairs = [*permutations([name for name, own in facts.items() if own], 2)]
    if not pairs:
        raise LoraryError("questions on two topics need held-out wordings in two memories; give the facts 'held_out'")
    random = Random(f"questions{seed}")
    random.shuffle(pairs)
    lines: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for number in range(count):
        first, second = (random.choice(facts[name]) for name in pairs[number % len(pairs)])
        lines["two sentences"].append(both(first, second, random))
        lines["one sentence"].append({**both(first, second, random), "question": _one_sentence(first, second, random)})
    return lines


def _one_sentence(first: Fact, second: Fact, random: Random) -> str:
    return f"{random.choice(first.held_out).rstrip('?. ')} and {uncapitalised(random.choice(second.held_out))}"


def _answered(
    model: LoraryForCausalLM, lines: Sequence[Mapping[str, Any]], advance: Callable[[int], None]
) -> list[dict[str, Any]]:
    """The questions with what the model says in one generation, and whether it tells each fact."""
    longest = 2 * longest_answer(model.tokenizer, [part["answer"] for line in lines for part in line["parts"]]) + 4
    answers = []
    for start in range(0, len(lines), _AT_ONCE):
        part = lines[start : start + _AT_ONCE]
        prompts = [Prompt([{"role": "user", "content": line["question"]}], line["question"]) for line in part]
        said = by_route(model, prompts, model.router.policy, longest, {})
        for line, answer in zip(part, said, strict=True):
            told = [bool(contains(answer.text, each["answer"])) for each in line["parts"]]
            answers.append({"question": line["question"], "parts": line["parts"], "said": answer.text, "told": told})
        advance(len(part))
    return answers


def shares(answers: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """The share of facts told, and of questions with both told, with intervals that resample questions."""
    weights = weightings(range(len(answers)), seed=seed).double()
    measures = {"facts": [sum(a["told"]) / len(a["told"]) for a in answers], "both": [all(a["told"]) for a in answers]}
    measures["first"] = [a["told"][0] for a in answers]
    measures["second"] = [a["told"][1] for a in answers]
    total = weights.sum(-1)
    return {name: interval(weights @ torch.tensor(own, dtype=torch.double) / total) for name, own in measures.items()}


def tell_tokens(results: Mapping[str, Any]) -> str:
    """The report: perplexity by condition, then the facts told."""
    spans = [["condition", "perplexity of the spans (95 %)", "by token ÷ this (95 %)"]]
    for name, own in results["perplexity"].items():
        ratio = "1" if name == "token" else with_interval(own["token_ratio"])
        spans.append([CONDITIONS[name], with_interval(own["perplexity"], 2), ratio])
    facts = [["questions on two topics", "facts told (95 %)", "the first", "the second", "both told (95 %)"]]
    for kind, own in results["questions"].items():
        cells = [with_interval(own["facts"]), f"{own['first']['value']:.3f}", f"{own['second']['value']:.3f}"]
        facts.append([KINDS[kind], *cells, with_interval(own["both"])])
    head = f"# Token study: {results['settings']['composite']}\n\nSeed {results['settings']['seed']}."
    return "\n\n".join([head, markdown_table(spans), markdown_table(facts)]) + "\n"
