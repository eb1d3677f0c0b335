"""A token study: what deciding at each token is worth on text that changes topic, and on questions on two topics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lorary.bank.files import MANIFEST
from lorary.base.prompts import prompt, prompt_ids
from lorary.errors import LoraryError
from lorary.eval.questions import unrelated_questions, unrelated_text
from lorary.model.active_route import ActiveRoute, apply_route
from lorary.model.composite import load_composite
from lorary.model.modeling import LoraryForCausalLM
from lorary.progress import progress_bars
from lorary.research.token_questions import KINDS, answered, shares, two_topic_questions
from lorary.resume import REPORT, go_on, write_results
from lorary.router_training.sequences import TokenSequence, drawn_texts, sentences_by_memory
from lorary.statistics import interval, weightings
from lorary.tables import markdown_table, with_interval

STUDY, SCHEMA = "token-study", 3
CONDITIONS = {
    "token": "the gate decides at each token",
    "query": "one route for the whole text, which the gate decides on all of it",
    "oracle": "each span under its own memory, given, in turns",
    "apart": "each span under its own memory, given, which reads all of the text by itself",
    "uniform": "all memories at once, with equal weights",
    "base": "the base alone",
}


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
        bar = bars.start("texts and questions", len(drawn) + sum(map(len, asked.values())) + 1)
        nats = {name: list[Told]() for name in CONDITIONS}
        for text in drawn:
            for name in CONDITIONS:
                nats[name].append(_nats(text, logits_under(model, text, name)))
            bar.advance()
        answers = {kind: answered(model, kind, own, bar.advance) for kind, own in asked.items()}
        reached = unrelated(model, bar.advance)
    results: dict[str, Any] = {"study": STUDY, "schema": SCHEMA, "settings": settings}
    results["perplexity"] = perplexities(nats, seed)
    results["questions"] = {kind: shares(own, seed) for kind, own in answers.items()}
    results["unrelated"] = reached
    results["answers"] = answers
    results["gate"] = model.config.router_training.get("tokens")
    write_results(Path(out), results, {REPORT: tell_tokens(results).encode()})
    return results


@torch.no_grad()
def logits_under(model: LoraryForCausalLM, text: TokenSequence, condition: str) -> Float[Tensor, "seq vocabulary"]:
    """A text's logits under one of `CONDITIONS`. By query the route may read all of the text, by token nothing ahead.

    In turns a memory goes on from what others read; apart it reads all of the text by itself, as a stream does.
    """
    ids, names = torch.tensor([text.ids]), model.memories
    if condition == "token":
        return model(ids, routing_text=list(text.questions), use_cache=False).logits[0]
    if condition == "apart":
        memory = torch.tensor(text.memory)
        with apply_route(ActiveRoute(torch.eye(len(names)).unsqueeze(1)), model.factors):
            said = model.base(input_ids=ids.expand(len(names), -1), use_cache=False).logits
        return said[memory, torch.arange(len(memory))]
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


@torch.no_grad()
def unrelated(model: LoraryForCausalLM, advance: Callable[[int], None]) -> dict[str, Any]:
    """What of unrelated questions and prose is read under a memory, which none of it should be.

    Returns the share of questions with a token under one, that of the tokens of prose, and its perplexity ÷ the base's.
    """
    tokenizer, reached = model.tokenizer, []
    for question in unrelated_questions():
        ids = torch.tensor([prompt_ids(tokenizer, [prompt(tokenizer, question)])[0]])
        reached.append(bool(model(ids, routing_text=[question], use_cache=False).route_weights.any()))
    under, nats = list[bool](), {"token": 0.0, "base": 0.0}
    for text in unrelated_text():
        ids = torch.tensor([prompt_ids(tokenizer, [text])[0]])
        read = model(ids, routing_text=[text], use_cache=False)
        under += read.route_weights.any(-1).flatten().tolist()
        for name, logits in (("token", read.logits[0]), ("base", model.base(input_ids=ids, use_cache=False).logits[0])):
            nats[name] += float(functional.cross_entropy(logits[:-1].float(), ids[0, 1:], reduction="sum"))
    advance(1)
    ratio = math.exp((nats["token"] - nats["base"]) / len(under))
    return {"questions": sum(reached) / len(reached), "tokens": sum(under) / len(under), "perplexity_ratio": ratio}


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
    reached = results["unrelated"]
    damage = (
        f"Read under a memory: {reached['questions']:.3f} of the unrelated questions, at one token or more, and "
        f"{reached['tokens']:.4f} of the tokens of unrelated prose, whose perplexity is {reached['perplexity_ratio']:.4f} "
        "times the base's."
    )
    head = f"# Token study: {results['settings']['composite']}\n\nSeed {results['settings']['seed']}."
    return "\n\n".join([head, markdown_table(spans), markdown_table(facts), damage]) + "\n"
