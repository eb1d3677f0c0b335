"""Facts → bank: reads and checks everything first, writes what is not written yet, commits after each group."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor

from lorary.bank.adapters import PREFIX
from lorary.bank.bank import MemoryBank
from lorary.bank.documents import Passage, replaced
from lorary.bank.facts import Fact
from lorary.bank.files import MANIFEST, BankError, writing
from lorary.bank.manifest import read_manifest
from lorary.bank.memory import Memory
from lorary.base.layers import block_linears, fingerprint, layer_of, layers_path, mlp_targets
from lorary.base.loading import EMBEDDED, Base, load_base
from lorary.base.rows import default_split
from lorary.errors import LoraryError
from lorary.memories.certifying import damage, failing, fullness, measured_under
from lorary.memories.groups import Take, side_by_side, write_groups
from lorary.memories.planner import Planner
from lorary.memories.rows import kept_for_validation
from lorary.memories.topics import read_documents_of_topics, read_topics, warn_of_few_wordings
from lorary.memories.writing import Recipe, Written
from lorary.progress import progress_bars
from lorary.routing.encoder import EMBEDDED as EMBEDDED_ENCODER
from lorary.routing.encoder import encoder_name, load_encoder


def build(
    facts: Sequence[str | Path],
    *,
    out: str | Path,
    base: str | Base = EMBEDDED,
    encoder: str = EMBEDDED_ENCODER,
    recipe: Recipe | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    as_one: str | None = None,
    processes: int | None = None,
    cluster: str | None = None,
    fresh: bool = False,
    budget: float | None = None,
    quiet: bool = False,
) -> MemoryBank:
    """Writes a memory for each topic into the bank at `out`; memories that stand there already are reused.

    A topic's documents are the files that have its name; a topic of documents alone gets a memory whose adapter adds
    nothing.

    Args:
        facts: JSONL files, Markdown or text files, or folders of them.
        out: folder of the bank; it is saved after each group of memories, so an interrupted run goes on.
        revision, local_files_only: of a base from a hub, as transformers takes them.
        as_one: the name of one memory that all facts go into, whatever their topics: one large LoRA to compare with.
        processes: that write groups of memories side by side, where the base is given by name; None: one a core.
        cluster: address of a Dask scheduler whose workers write the groups instead, such as "tcp://10.0.0.5:8786".
        fresh: write every memory anew.
        budget: minutes that all memories may take, by this machine's speed now; there are as many passes as fit.

    Raises:
        FactError, DocumentError, BaseError, BankError, BudgetError: bad input, before anything is trained.
        ClusterError: the cluster cannot be used, or its workers cannot write.
    """
    if cluster is not None and processes is not None:
        raise LoraryError("processes of this machine or a cluster's workers write, not both; give processes or cluster")
    if cluster is not None and budget is not None:
        raise LoraryError(
            "a budget is measured on this machine, and a cluster's workers are others; give budget or cluster"
        )
    recipe, out = recipe or Recipe(), Path(out)
    documents = read_documents_of_topics(facts, as_one)
    topics = read_topics(facts, as_one, beside=documents)
    encoder = encoder_name(encoder)
    where: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only}
    # The folder is locked for the whole run: a change by another writer would forbid to save what was trained.
    with _workers(cluster) as take, writing(out):
        began = time.perf_counter()
        loaded = load_base(base, **where) if isinstance(base, str) else base
        loading = time.perf_counter() - began
        base_fingerprint = fingerprint(loaded.model)
        bank = _open(out, loaded, base_fingerprint, encoder)
        split_layer = recipe.split_layer if recipe.split_layer is not None else default_split(loaded.model)
        writers = processes if isinstance(base, str) else 1
        planner = Planner(loaded, recipe, split_layer, writers, loading)
        every = [kept_for_validation(own, recipe.validation_wordings) for own in topics.values()]
        if budget is not None and every:
            recipe = planner.within(budget, every)
        sources = {topic: written_from(group, recipe, base_fingerprint) for topic, group in topics.items()}
        for topic in topics:
            if topic not in bank.memories:
                bank.check_new_name(topic)
        missing = [t for t in topics if fresh or not _stands(bank, t, topics[t], recipe, base_fingerprint)]
        facts_of = {t: kept_for_validation(topics[t], recipe.validation_wordings) for t in missing}
        warn_of_few_wordings(facts_of)
        groups = [missing[i : i + recipe.memories_at_once] for i in range(0, len(missing), recipe.memories_at_once)]
        order = [*dict.fromkeys((*bank.names, *missing))]
        processes = side_by_side(len(groups), writers, loaded.model.device)
        if missing and not quiet and cluster is None:
            print(planner.plan([facts_of[topic] for topic in missing], recipe), file=sys.stderr)
        with progress_bars(quiet) as bars:
            reports = [bars.start(f"writing {named(group)}", recipe.max_epochs).report for group in groups]
            facts_of_groups = [[facts_of[t] for t in group] for group in groups]
            recipes = [recipe] * len(groups)
            by = {"processes": processes, "take": take}
            for made in write_groups(loaded, where, facts_of_groups, recipes, split_layer, reports, **by):
                results = made.written
                for topic, result in zip(groups[made.number], results, strict=True):
                    memory = to_memory(topic, facts_of[topic], result, loaded, recipe, split_layer)
                    card = {**memory.card, "source": sources[topic], "seconds": round(made.seconds / len(results), 1)}
                    kept = bank[topic].documents if topic in bank.memories else ()
                    memory = replace(memory, card=card, documents=replaced(kept, documents.get(topic, ())))
                    bank.add(memory, encoder=load_encoder(encoder), replace_existing=True)
                # Groups end in any order; the bank's must not depend on it.
                bank.memories = {name: bank.memories[name] for name in order if name in bank.memories}
                bank.save(out, note="build")
        if _add_documents(bank, documents, encoder):
            bank.save(out, note="build")
        return bank


def _workers(cluster: str | None) -> AbstractContextManager[Take | None]:
    """What has a cluster write; None without an address."""
    if cluster is None:
        return nullcontext()
    from lorary.memories.cluster import connected  # not above: the extra `cluster` brings what it needs

    return connected(cluster)


def _add_documents(bank: MemoryBank, documents: Mapping[str, tuple[Passage, ...]], encoder: str) -> list[str]:
    """Gives memories their documents; returns the names of those that did not hold them as they are."""
    held = {topic: bank.memories[topic].documents if topic in bank.memories else () for topic in documents}
    changed = [topic for topic in documents if replaced(held[topic], documents[topic]) != held[topic]]
    for topic in changed:
        bank.add(name=topic, documents=documents[topic], encoder=load_encoder(encoder))
    return changed


def named(group: Sequence[str]) -> str:
    """The name of a group of memories, for people."""
    return group[0] if len(group) == 1 else f"{group[0]} and {len(group) - 1} more"


def new_bank(base: Base, encoder: str = EMBEDDED_ENCODER) -> MemoryBank:
    """An empty bank over a loaded base."""
    model = base.model
    return MemoryBank(base.name, fingerprint(model), encoder, block_linears(model), layers_path(model), base.revision)


def started(out: str | Path, base: str | None = None) -> None:
    """Lets a bank stand at `out`: an empty one over the base, the embedded one where it is None, where there is none yet.

    Raises:
        BankError: another base is named than that of the bank which stands there.
    """
    if not (Path(out) / MANIFEST).exists():
        new_bank(load_base(base or EMBEDDED)).save(out)
    elif base is not None and base != (own := read_manifest(Path(out)).base):
        raise BankError(
            f"{out} holds a bank over base {own!r}, not {base!r}; leave the base out, or give another folder"
        )


def _open(out: Path, base: Base, base_fingerprint: str, encoder: str) -> MemoryBank:
    if not (out / MANIFEST).exists():
        return new_bank(base, encoder)
    bank = MemoryBank.load(out)
    if bank.fingerprint != base_fingerprint or encoder_name(bank.encoder) != encoder:
        raise BankError(
            f"{out} holds a bank over base {bank.base!r} with encoder {bank.encoder!r}, not {base.name!r} with "
            f"{encoder!r}; give another folder, or the same base and encoder"
        )
    return bank


_LATER = {"formats": ("questions", "cloze"), "visits": None, "texts_a_pass": None, "reach": None, "texts": 0}
"""Fields that recipes did not always have, at values that change nothing: banks written before them go on."""


def _stands(bank: MemoryBank, topic: str, facts: Sequence[Fact], recipe: Recipe, base_fingerprint: str) -> bool:
    """Whether a memory was written from these facts; an update knows them with their wordings kept for validation."""
    written = bank.memories[topic].card.get("source") if topic in bank.memories else None
    kept = kept_for_validation(facts, recipe.validation_wordings)
    return written in [written_from(own, recipe, base_fingerprint) for own in (facts, kept)]


def written_from(facts: Sequence[Fact], recipe: Recipe, base_fingerprint: str) -> str:
    """Hex sha256 of all that decides what a memory becomes."""
    chosen = {name: value for name, value in asdict(recipe).items() if name not in _LATER or value != _LATER[name]}
    decides = [fact.to_json() for fact in facts], chosen, base_fingerprint
    return sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def to_memory(
    topic: str, facts: tuple[Fact, ...], written: Written, base: Base, recipe: Recipe, split_layer: int
) -> Memory:
    """The memory as a stock PEFT adapter, with its certificate."""
    prefix = layers_path(base.model)
    layers = sorted({layer_of(path, prefix) for path in written.factors})
    config = LoraConfig(
        r=recipe.r,
        lora_alpha=recipe.lora_alpha,
        target_modules=sorted(recipe.target_modules or mlp_targets(base.model)),
        layers_to_transform=layers,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base.name,
        inference_mode=True,
    ).to_dict()
    config["target_modules"] = sorted(config["target_modules"])
    config["peft_type"], config["task_type"] = "LORA", "CAUSAL_LM"
    tensors: dict[str, Tensor] = {}
    for path, (a, b) in written.factors.items():
        tensors[f"{PREFIX}{path}.lora_A.weight"], tensors[f"{PREFIX}{path}.lora_B.weight"] = a, b.contiguous()
    certificate: dict[str, Any] = {
        "facts": len(facts),
        "recall_trained_wordings": written.trained_recall,
        "recall_validation_wordings": written.validation_recall,
        "validation_wordings": sum(len(fact.validation) for fact in facts),
        "facts_with_validation": sum(bool(fact.validation) for fact in facts),
        "epochs": written.epochs,
        "stopped": written.stopped,
        "judged_by": "trained wordings" if written.validation_recall is None else "validation wordings",
    }
    memory = Memory(topic, config, tensors, facts)
    certificate["wordings"] = measured_under(facts, recipe.formats)
    certificate["failing_facts"] = failing(written.trained, written.validation)
    certificate["damage"] = round(damage(base, split_layer, memory.factors()), 4)
    certificate |= fullness(len(facts), recipe.r, base.name)
    card = {
        "topic": topic,
        "recipe": {**asdict(recipe), "split_layer": split_layer, "torch": torch.__version__},
        "certificate": certificate,
    }
    return replace(memory, card=card)
