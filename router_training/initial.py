"""Where a gate's training starts, if not from the facts' embeddings: a gate that was trained before."""

from __future__ import annotations

from pathlib import Path

from lorary.composite import read_gate
from lorary.files import BankError
from lorary.gate import Gate
from lorary.memory import MemoryBank


def start_from(gate: Gate, bank: MemoryBank, folder: Path) -> None:
    """Gives a new gate the weights of the trained one in a composite's folder; new memories keep their own keys.

    Raises:
        BankError: that gate reads embeddings or hidden states of another size.
    """
    trained, names, features = read_gate(folder)
    own = gate.state_dict()
    given = {
        name: tensor for name, tensor in trained.items() if name in own and "keys" not in name and own[name].numel()
    }
    if wrong := [name for name, tensor in given.items() if own[name].shape != tensor.shape]:
        raise BankError(
            f"{folder}: its gate's {wrong[0]!r} is {tuple(given[wrong[0]].shape)}, this bank needs "
            f"{tuple(own[wrong[0]].shape)}; start from a composite with the same base, encoder and features"
        )
    # Keys that nothing trained, or that a gate of an earlier version lacks, are no better than the new ones.
    known = {"keys"} | ({"asked_keys"} if "asked" in features else set())
    for kind in ("keys", "asked_keys"):
        given[kind] = own[kind].clone()
    for number, name in enumerate(bank.names):
        if name in names:
            for kind in known:
                given[kind][number] = trained[kind][names.index(name)]
        else:
            given["keys"][number] = gate.project(own["keys"][number])
    gate.load_state_dict(own | given)
