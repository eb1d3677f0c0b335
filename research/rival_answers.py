"""What the routers of others answer, PEFT's X-LoRA and Arrow, and multilobe: a line a question, as `lorary recall --answers
NAME=FILE` takes it."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from lorary.bank.bank import MemoryBank
from lorary.bank.files import MANIFEST, BankError, hash_of, to_json, write_aside
from lorary.base.loading import Base
from lorary.base.prompts import longest_answer, prompt, prompt_batch
from lorary.eval.questions import held_out
from lorary.memories.rows import tokenise
from lorary.model.composite import base_of
from lorary.progress import ProgressBars, progress_bars
from lorary.randomness import seeded
from lorary.research.multilobe_router import adapter_of, choose, new_lobes, version_of_multilobe
from lorary.research.peft_routers import TOP_K, adapter_folders, check_rival, new_arrow, new_xlora, train_xlora
from lorary.research.settings import ANSWERING, Budget
from lorary.resume import ResumeError, check_same, read_results

_TOGETHER = 32
"""Questions a batch: Arrow computes every memory's update of every token, so that memory bounds it."""
STUDY = "rivals"
SCHEMA = 1
_VERSIONS = ("lorary", "torch", "transformers", "peft")


def rival_answers(
    bank: str | Path,
    *,
    rival: str,
    out: str | Path,
    questions: str | Path | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    base: Base | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """What a rival's run took; its greedy answers are written to `out`, and what the run took beside it.

    The prompt is the one that memories are asked with, and an answer may be as long as `lorary recall` lets theirs be.
    A line is an object of `question` and `answer`; of the same name, `.json` for `.jsonl`, is the file of what the run took.
    Answers that stand there and were made with the same settings are not made again.

    Args:
        questions: JSONL as `lorary recall --questions` takes it; the bank's held-out wordings where it is None.
        budget: of X-LoRA's training on the bank's trained wordings; the others train nothing.
        seed: of X-LoRA's first weights and its order of rows, of the vectors that Arrow's search starts from, and of the
            wordings that multilobe takes the mean of.
        base: the bank's, loaded; it is left changed.

    Raises:
        FactError: nothing to ask, or what `lorary recall` would refuse to ask.
        BankError: no bank, or nothing to train X-LoRA on.
        RivalError: an unknown rival, one whose package is not installed, or a bank that it cannot route over.
        ResumeError: a file is in the way. Nothing is written then, nor under any other error.
    """
    place, budget = Path(out), budget or Budget()
    check_rival(rival, ANSWERING)
    of_its_own = {"multilobe": version_of_multilobe()} if rival == "multilobe" else {}
    if place.suffix != ".jsonl":
        raise ResumeError(f"--out must be a .jsonl file, beside which a .json file tells of the run; {out} given")
    opened = MemoryBank.load(bank)
    if rival == "xlora" and not any(fact.trained for memory in opened for fact in memory.facts):
        raise BankError(f"{bank} holds no facts to train X-LoRA on; give a bank whose memories have facts")
    asked = held_out(opened, questions)[0]
    pairs = [(question.text, question.answer) for question in asked]
    settings = {
        "rival": rival,
        "seed": seed,
        "budget": asdict(budget) if rival == "xlora" else None,
        "bank_sha256": hash_of((Path(bank) / MANIFEST).read_bytes()),
        "questions_sha256": hash_of(json.dumps(pairs).encode()),
        "versions": {name: version(name) for name in _VERSIONS} | of_its_own,
    }
    if (stands := _standing(place, settings)) is not None:
        return stands
    loaded = base_of(opened, base)
    with TemporaryDirectory() as work, progress_bars(quiet) as bars, seeded(seed):
        folders = adapter_folders(opened, Path(work))
        new_tokens = longest_answer(loaded.tokenizer, {answer for _, answer in pairs if answer}) + 1
        texts = list(dict.fromkeys(text for text, _ in pairs))
        if rival == "multilobe":
            began, bar = time.perf_counter(), bars.start(f"{rival} answers", len(texts))
            memories = {question.text: question.memory for question in asked}
            answers, trained = _of_lobes(opened, loaded, folders, texts, memories, seed, new_tokens, bar.advance)
        else:
            model, trained = _prepared(rival, opened, loaded, folders, budget, seed, bars)
            began, bar = time.perf_counter(), bars.start(f"{rival} answers", len(texts))
            answers = greedy(model, loaded.tokenizer, texts, new_tokens, bar.advance)
    took = {
        "study": STUDY,
        "schema": SCHEMA,
        "settings": settings,
        **trained,
        "memories": len(opened),
        "questions": len(texts),
        "new_tokens": new_tokens,
        "seconds_answering": round(time.perf_counter() - began, 1),
    }
    lines = [
        json.dumps({"question": q, "answer": a}, ensure_ascii=False) + "\n" for q, a in zip(texts, answers, strict=True)
    ]
    write_aside(place.with_suffix(".json"), to_json(took))  # first, because it says that the answers are this run's
    write_aside(place, "".join(lines).encode())
    return took


def _standing(answers: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the run took whose answers stand in a file, or None where there are none.

    Raises:
        ResumeError: they were made with other settings, or one of the two files is no such run's.
    """
    run = answers.with_suffix(".json")
    if not run.exists():
        if answers.exists():
            raise ResumeError(f"{answers} stands there without {run.name}, which says what made it; give another file")
        return None
    took = read_results(run, STUDY, SCHEMA)
    check_same(took, {"settings": settings}, str(run))
    return took if answers.exists() else None


def _prepared(
    rival: str,
    bank: MemoryBank,
    base: Base,
    folders: Sequence[Path],
    budget: Budget,
    seed: int,
    bars: ProgressBars,
) -> tuple[PeftModel, dict[str, Any]]:
    """(the rival over the adapters, what there is to tell of its training)."""
    if rival == "arrow":
        return new_arrow(base, folders, seed).eval(), {"top_k": min(TOP_K, len(folders))}
    rows = [
        tokenise(base.tokenizer, number, at, wording, fact.answer)
        for number, memory in enumerate(bank)
        for at, fact in enumerate(memory.facts)
        for wording in fact.trained
    ]
    model = new_xlora(base, folders)
    bar = bars.start("xlora trains", round(budget.seconds))
    steps, spent = train_xlora(
        model,
        rows,
        int(base.tokenizer.pad_token_id),
        budget,
        random.Random(seed),
        spent_so_far=lambda so_far: bar.progress.update(bar.task, completed=so_far),
    )
    bar.progress.update(bar.task, completed=budget.seconds)
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    took = {"seconds_training": round(spent, 1), "steps": steps}
    return model, took | {"trained_wordings": len(rows), "trained_parameters": parameters}


def _of_lobes(
    bank: MemoryBank,
    base: Base,
    folders: Sequence[Path],
    questions: Sequence[str],
    memories: Mapping[str, str],
    seed: int,
    new_tokens: int,
    advance: Callable[[int], None],
) -> tuple[list[str], dict[str, Any]]:
    """(the answer to each question under the memory that multilobe chooses, what there is to tell of its choices).

    Args:
        memories: question → the memory that holds its fact.
    """
    model = new_lobes(base, folders)
    chosen = choose(model, base, bank, questions, seed)
    answers = dict[str, str]()
    for number in range(len(bank)):
        own = [question for question, (memory, _) in zip(questions, chosen, strict=True) if memory == number]
        model.set_adapter(adapter_of(number))
        answers |= zip(own, greedy(model, base.tokenizer, own, new_tokens, advance), strict=True)
    right = [bank.names[memory] == memories[question] for question, (memory, _) in zip(questions, chosen, strict=True)]
    by_router = Counter(router for _, router in chosen)
    told = {"chosen_by": dict(by_router), "right_memory": round(sum(right) / len(right), 4)}
    return [answers[question] for question in questions], told


@torch.no_grad()
def greedy(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    new_tokens: int,
    advance: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """The answer to each question, generated in left-padded batches of like length."""
    texts, answers = [prompt(tokenizer, question) for question in questions], [""] * len(questions)
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    for start in range(0, len(order), _TOGETHER):
        part = order[start : start + _TOGETHER]
        inputs = prompt_batch(tokenizer, [texts[number] for number in part])
        output = model.generate(
            input_ids=inputs.input_ids.to(model.device),
            attention_mask=inputs.attention_mask.to(model.device),
            max_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
        generated = tokenizer.batch_decode(output[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
        for number, text in zip(part, generated, strict=True):
            answers[number] = text.strip()
        advance(len(part))
    return answers
