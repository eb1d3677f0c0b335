"""Proofs of forgetting, for people."""

from __future__ import annotations

from lorary.memories.proof import Proof
from lorary.tables import aligned_table, counted


def proof_lines(proof: Proof) -> list[str]:
    """A line a fact, what the memory and the base say of it; and what all say together."""
    rows = [["fact", "wordings", "recalled", "base", "p(answer)", "base", "truth ratio", "base", "lift", "bound", ""]]
    for fact in proof.facts:
        memory, base = fact.memory, fact.base
        figures = [f"{memory.probability:.3f}", f"{base.probability:.3f}"]
        figures += [f"{memory.truth_ratio:.2f}", f"{base.truth_ratio:.2f}", f"{fact.lift:.2f}", f"{fact.bound:.2f}"]
        counts = [str(fact.wordings), str(memory.recalled), str(base.recalled)]
        rows.append([fact.id, *counts, *figures, "forgotten" if fact.forgotten else "still known"])
    return [
        *aligned_table(rows),
        "",
        f"likelier than {counted(len(proof.controls), 'fact')} that it never knew: p = {proof.p_never_known:.3f}; truth "
        f"ratios other than the base's: p = {proof.p_base:.3f} (Kolmogorov–Smirnov)",
    ]


def why_not(memory: str, proof: Proof) -> list[str]:
    """Why a memory's proof does not hold; nothing where it does."""
    if proof.known:
        return [f"{memory!r} still knows {', '.join(f'{fact.id} ({fact.question})' for fact in proof.known)}"]
    if not proof.holds:
        likelier = "finds them likelier, together, than facts that it never knew"
        return [f"{memory!r} {likelier} (p = {proof.p_never_known:.3f})"]
    return []
