"""Facts → bank: reads and checks everything first, writes what is not written yet, commits after each group."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorary.bank.bank import MemoryBank
from lorary.bank.documents import Passage, replaced
from lorary.bank.facts import Fact
from lorary.bank.files import MANIFEST, BankError, writing
from lorary.bank.manifest import read_manifest
from lorary.bank.upkeep import facts_before
from lorary.base.layers import block_linears, fingerprint, layers_path
from lorary.base.loading import EMBEDDED, Base, load_base
from lorary.base.rows import default_split
from lorary.errors import LoraryError
from lorary.memories.base_beliefs import with_base
from lorary.memories.contradictions import Contradiction, with_bank
from lorary.memories.groups import Take
from lorary.memories.planner import Planner
from lorary.memories.rewriting import Plan, written, written_from
from lorary.memories.rows import kept_for_validation
from lorary.memories.topics import read_documents_of_topics, read_topics, warn_of_few_wordings
from lorary.memories.writing import Recipe
from lorary.routing.encoder import EMBEDDED as EMBEDDED_ENCODER
from lorary.routing.encoder import encoder_name, load_encoder

BUILD = "build"
"""The note of versions that a build wrote."""


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
    check_base: bool = False,
    tell: Callable[[Sequence[Contradiction]], None] | None = None,
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
        budget: minutes that all memories may take, by this machine's speed beside the work that it has now; there are as
            many passes as fit.
        check_base: also look for what the base answers otherwise by itself.
        tell: is told what the facts contradict, before anything is written; also those of memories that an interrupted run
            wrote, so that a run which goes on tells what the whole would have told.

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
        kept = {t: kept_for_validation(own, recipe.validation_wordings) for t, own in topics.items()}
        if budget is not None and kept:
            recipe = planner.within(budget, [*kept.values()])
        for topic in topics:
            if topic not in bank.memories:
                bank.check_new_name(topic)
        missing = [t for t in topics if fresh or not _stands(bank, t, topics[t], recipe, base_fingerprint)]
        if tell is not None:
            tell(_contradictions(bank, kept, {*topics} - {*missing}, out, loaded if check_base else None))
        plans = {t: Plan(kept[t], recipe) for t in missing}
        warn_of_few_wordings({topic: plan.facts for topic, plan in plans.items()})
        order = [*dict.fromkeys((*bank.names, *missing))]
        if missing and not quiet and cluster is None:
            print(planner.plan([plan.facts for plan in plans.values()], recipe), file=sys.stderr)
        for memories in written(loaded, plans, **where, processes=writers, take=take, quiet=quiet):
            for memory in memories:
                own = bank[memory.name].documents if memory.name in bank.memories else ()
                memory = replace(memory, documents=replaced(own, documents.get(memory.name, ())))
                bank.add(memory, encoder=load_encoder(encoder), replace_existing=True)
            # Groups end in any order; the bank's must not depend on it.
            bank.memories = {name: bank.memories[name] for name in order if name in bank.memories}
            bank.save(out, note=BUILD)
        if _add_documents(bank, documents, encoder):
            bank.save(out, note=BUILD)
        return bank


def _contradictions(
    bank: MemoryBank, new: Mapping[str, Sequence[Fact]], written: Collection[str], folder: Path, base: Base | None
) -> list[Contradiction]:
    """What facts of memories that are to hold nothing else contradict in the bank in a folder, and of what a base is sure.

    Args:
        written: the memories that hold them already; what a build wrote took the places of the version before.
    """
    if not new:
        return []
    before = {topic: facts_before(folder, topic, BUILD) for topic in written}
    elsewhere, others = with_bank(bank, new, new, load_encoder(bank.encoder), before=before, again=new)
    by_base = [told for topic, facts in new.items() for told in with_base(topic, facts, base)] if base else []
    return [*elsewhere, *others, *by_base]


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


def _stands(bank: MemoryBank, topic: str, facts: Sequence[Fact], recipe: Recipe, base_fingerprint: str) -> bool:
    """Whether a memory was written from these facts; an update knows them with their wordings kept for validation."""
    source = bank.memories[topic].card.get("source") if topic in bank.memories else None
    kept = kept_for_validation(facts, recipe.validation_wordings)
    return source in [written_from(own, recipe, base_fingerprint) for own in (facts, kept)]
