"""How fast memories are written, side by side in one run: by `lorary build`, as it was before, and by PEFT with Trainer.

All write one topic at a time on the same rows, and are asked the same held-out wordings. Seconds are of the processor and
of the clock, from facts to factors, the base loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed
from transformers import logging as transformers_logging

from lorary.bank.facts import Fact, FactError
from lorary.base.layers import bare_twin
from lorary.base.loading import EMBEDDED, Base, load_base
from lorary.base.rows import SplitRows, default_split, pad
from lorary.memories.recipe import QUICK, Recipe
from lorary.memories.rows import EVALUATED, Row, kept_for_validation, rows, tokenise
from lorary.memories.topics import read_topics
from lorary.memories.writing import write
from lorary.model.active_route import ActiveRoute, apply_route
from lorary.model.mixture import install
from lorary.progress import progress_bars
from lorary.research.bench_settings import WriteBench
from lorary.research.memory_study import heading
from lorary.research.write_bench_report import tell_bench
from lorary.research.write_profile import matmul_rates, profile_of
from lorary.resume import REPORT, go_on, write_results
from lorary.tables import counted

STUDY, SCHEMA = "write-bench", 1
BEFORE = Recipe(lr=3e-3, max_epochs=8, batch_size=8, texts=0, texts_a_pass=None, compared=None)
"""The recipe by which `lorary build` wrote before it was made fast; above the split the base's own code runs, as it did then."""
Hits = list[bool]


def write_bench(
    out: str | Path,
    *,
    facts: Sequence[str | Path],
    bench: WriteBench | None = None,
    base: str | Base = EMBEDDED,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measures every way of writing with every seed; writes `results.json` and `report.md` into `out` after each.

    What stands in `out` already, under the same settings, is kept.

    Args:
        facts: JSONL files, or folders of them.

    Raises:
        FactError: a fact of the chosen topics has no held-out wording.
    """
    bench, loaded = bench or WriteBench(), load_base(base) if isinstance(base, str) else base
    topics = _topics(facts, bench)
    configuration = {
        **asdict(bench),
        "base": loaded.name,
        "topics": sorted(topics),
        "recipe": asdict(Recipe()),
        "before": asdict(BEFORE),
    }
    results = {"study": STUDY, **heading(SCHEMA, loaded, configuration, 1), "partial": True}
    results |= {"runs": [], "matmul": matmul_rates(loaded.model), "profile": {}}
    if (stands := go_on(out, STUDY, SCHEMA, {"configuration": results["configuration"]})) is not None:
        results["runs"] = stands["runs"]
    done = {(run["way"], run["seed"], run["topic"]) for run in results["runs"]}
    ways = _ways(bench)
    missing = [
        (seed, topic, way)
        for seed in range(bench.seeds)
        for topic in topics  # ways in turn, so that what else the machine does meets them all
        for way in ways
        if (way, seed, topic) not in done
    ]
    with progress_bars(quiet) as bars:
        bar = bars.start("writing memories", len(missing))
        for seed, topic, way in missing:
            results["runs"].append({"way": way, "seed": seed, "topic": topic, **ways[way](loaded, topics[topic], seed)})
            bar.advance(1, way)
            _save(out, results)
    results["profile"] = profile_of(loaded, next(iter(topics.values())), Recipe())
    results["partial"] = False
    _save(out, results)
    return results


def _save(out: str | Path, results: Mapping[str, Any]) -> None:
    write_results(Path(out), results, {REPORT: (tell_bench(results) + "\n").encode()})


def _topics(facts: Sequence[str | Path], bench: WriteBench) -> dict[str, tuple[Fact, ...]]:
    """The first topics, the first facts of each, with their wordings for validation."""
    chosen = dict(list(read_topics(facts).items())[: bench.topics])
    for topic, own in chosen.items():
        if bare := [fact.question for fact in own if not fact.held_out]:
            raise FactError(f"{bare[0]!r} of {topic!r} has no held-out wording to ask; give facts that have some")
    return {
        t: kept_for_validation(own[: bench.facts_a_topic], Recipe().validation_wordings) for t, own in chosen.items()
    }


Way = Callable[[Base, Sequence[Fact], int], dict[str, Any]]


def _ways(bench: WriteBench) -> dict[str, Way]:
    """Name → what writes a memory of some facts with a seed and tells how it went."""

    def built(recipe: Recipe, plain: bool = False) -> Way:
        return lambda base, facts, seed: by_build(base, facts, replace(recipe, seed=seed), plain)

    def trained(epochs: int, lr: float) -> Way:
        return lambda base, facts, seed: by_trainer(base, facts, epochs, lr, bench.trainer_batch, seed)

    ways = {
        "build": built(Recipe()),
        "build --quick": built(Recipe(**QUICK)),
        "build before": built(BEFORE, plain=True),
    }
    settings = [(epochs, lr) for epochs in bench.trainer_epochs for lr in bench.trainer_lrs]
    return ways | {f"Trainer, {counted(e, 'epoch')}, lr {lr:g}": trained(e, lr) for e, lr in settings}


def by_build(base: Base, facts: Sequence[Fact], recipe: Recipe, plain: bool = False) -> dict[str, Any]:
    """A memory as `lorary build` writes it, or with the base's own code above the split."""
    split = default_split(base.model)
    with _measured() as took:
        [written] = write(base, [facts], recipe, split, plain=plain)
    scale = recipe.lora_alpha / recipe.r
    twin = bare_twin(base.model)
    install(twin, [{path: (a, b * scale) for path, (a, b) in written.factors.items()}])
    with apply_route(ActiveRoute(torch.ones(1, 1, 1, dtype=twin.dtype, device=twin.device))):
        hits = recalled(twin, split, base, facts)
    shown = rows(base.tokenizer, [facts])
    tokens = written.shown * sum(len(row.ids) - 1 for row in shown) / len(shown)
    return {**took, **_told(facts, hits, written.shown, tokens), "epochs": written.epochs, "stopped": written.stopped}


def by_trainer(base: Base, facts: Sequence[Fact], epochs: int, lr: float, batch_size: int, seed: int) -> dict[str, Any]:
    """The same memory by PEFT and transformers' Trainer: LoRA of rank 8 on all linears, the loss on the answers."""
    set_seed(seed)
    pad_id = int(base.tokenizer.pad_token_id)
    with _measured() as took, _quiet():
        shown = rows(base.tokenizer, [facts])
        model = get_peft_model(
            bare_twin(base.model),
            LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        model.train()
        arguments = TrainingArguments(
            output_dir="unused",
            num_train_epochs=epochs,
            per_device_train_batch_size=batch_size,
            learning_rate=lr,
            lr_scheduler_type="linear",
            warmup_steps=0.05,
            seed=seed,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=base.model.device.type == "cpu",
            train_sampling_strategy="group_by_length",
        )
        data: Any = [{"input_ids": row.ids, "row": row} for row in shown]  # it tells lengths by `input_ids`
        trainer = Trainer(model, arguments, lambda batch: _batch([each["row"] for each in batch], pad_id), data)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    model.eval()
    hits = recalled(model.base_model.model, 0, base, facts)
    tokens = float(epochs * sum(len(row.ids) - 1 for row in shown))
    return {**took, **_told(facts, hits, epochs * len(shown), tokens), "epochs": epochs, "stopped": "cap"}


def _batch(batch: Sequence[Row], pad_id: int) -> dict[str, Tensor]:
    """Rows as a causal language model takes them: it shifts the labels itself."""
    ids, labels = pad(batch, pad_id)
    return {"input_ids": ids, "labels": torch.nn.functional.pad(labels, (1, 0), value=-100)[:, :-1]}


@torch.no_grad()
def recalled(model: Any, split: int, base: Base, facts: Sequence[Fact]) -> list[Hits]:
    """Of each fact, whether greedy decoding gives its whole answer under each of its held-out wordings."""
    asked = [
        tokenise(base.tokenizer, 0, f, text, fact.answer) for f, fact in enumerate(facts) for text in fact.held_out
    ]
    states = SplitRows(model, split, asked, int(base.tokenizer.pad_token_id))
    hits: list[Hits] = [[] for _ in facts]
    for start in range(0, len(asked), EVALUATED):
        chunk = range(start, min(start + EVALUATED, len(asked)))
        logits, labels, place = states.logits(chunk)
        right = logits.argmax(-1) == labels
        for at, i in enumerate(chunk):
            hits[asked[i].fact].append(bool(right[place == at].all()))
    return hits


def _told(facts: Sequence[Fact], hits: Sequence[Hits], shown: int, tokens: float) -> dict[str, Any]:
    return {"facts": len(facts), "hits": hits, "shown": shown, "tokens": round(tokens)}


@contextmanager
def _measured() -> Iterator[dict[str, float]]:
    """Seconds of what runs inside, of the clock and of the processor."""
    took: dict[str, float] = {}
    began, spent = time.perf_counter(), time.process_time()
    yield took
    took["processor_seconds"] = round(time.process_time() - spent, 2)
    took["seconds"] = round(time.perf_counter() - began, 2)


@contextmanager
def _quiet() -> Iterator[None]:
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
