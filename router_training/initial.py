"""Where a gate's training starts, beside the facts' embeddings: how it reads hidden states, a gate trained before."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.bank.bank import MemoryBank
from lorary.bank.files import MANIFEST, BankError
from lorary.model.saved import read_gate
from lorary.routing.encoder import encoder_name
from lorary.routing.gate import Gate

_PENALTY = 1e-3
"""Of the squared weights with which hidden states are read at first."""


@torch.no_grad()
def start_reading(
    gate: Gate,
    hidden: Float[Tensor, "queries hidden"],
    embedding: Float[Tensor, "queries embedding"],
    *,
    centred: bool = True,
) -> None:
    """Sets how a gate reads hidden states by those of its trained questions, where it reads them and has learned nothing.

    Beside the embedding its reading starts from zero: from the query's route. Alone it would compare nothing with the
    keys, which are embeddings; it starts as a ridge regression of them (Hoerl and Kennard 1970).

    Args:
        centred: centres and scales them. Not for tokens: the ends of prompts, where gates are trained, say too little of
            the tokens before and after (routed so by token, questions on two topics told 0.04 of their facts, not 0.21).
    """
    if "hidden" not in gate.features or bool(gate.from_hidden.any()):
        return
    if centred:
        gate.hidden_mean.copy_(hidden.mean(0))
        spread = (hidden - gate.hidden_mean).square().sum(-1).mean().sqrt()
        gate.hidden_spread.copy_(spread.clamp(min=1e-6))
    if "embedding" not in gate.features:
        gate.from_hidden.copy_(ridge((hidden - gate.hidden_mean) / gate.hidden_spread, embedding, _PENALTY))


def ridge(
    inputs: Float[Tensor, "rows inputs"], targets: Float[Tensor, "rows targets"], penalty: float
) -> Float[Tensor, "targets inputs"]:
    """The linear map from inputs to targets with the least squared error, and its squared weights times `penalty`, the
    mean square of an input and the rows."""
    scale = penalty * inputs.square().mean() * len(inputs)
    return torch.linalg.solve(inputs.T @ inputs + scale * torch.eye(inputs.shape[1]), inputs.T @ targets).T


def start_from(gate: Gate, bank: MemoryBank, folder: Path, *, by_token: bool = False) -> None:
    """Gives a new gate the weights of the trained one in a composite's folder; new memories keep their own keys.

    Args:
        by_token: whether the new gate decides at each token.

    Raises:
        BankError: no gate is there, or it reads embeddings or hidden states of another kind or size.
    """
    trained, names, features = read_gate(folder)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if encoder_name(manifest.get("encoder", bank.encoder)) != encoder_name(bank.encoder):
        raise BankError(
            f"{folder}: its gate reads embeddings of {manifest['encoder']!r}, this bank's are of {bank.encoder!r}; "
            "start from a composite with the same encoder, or give it with --encoder"
        )
    reads_hidden = "hidden" in features and "hidden" in gate.features
    if reads_hidden and manifest.get("fingerprint", bank.fingerprint) != bank.fingerprint:
        raise BankError(
            f"{folder}: its gate reads hidden states of another base than {bank.base!r}; start from a composite over the "
            "same base, or from nothing"
        )
    if by_token and reads_hidden and bool(trained.get("hidden_mean", torch.zeros(1)).any()):
        raise BankError(
            f"{folder}: its gate reads the hidden states of whole queries, not of tokens; start from a composite that was "
            "trained with --granularity token, or from nothing"
        )
    own = gate.state_dict()
    weights = {
        name: tensor
        for name, tensor in trained.items()
        if name in own and "keys" not in name and not name.startswith("reading.") and own[name].numel()
    }
    if wrong := [name for name, tensor in weights.items() if own[name].shape != tensor.shape]:
        raise BankError(
            f"{folder}: its gate's {wrong[0]!r} is {tuple(weights[wrong[0]].shape)}, this bank needs "
            f"{tuple(own[wrong[0]].shape)}; start from a composite with the same base, encoder and features"
        )
    # Keys that nothing trained, or that a gate of an earlier version lacks, are no better than the new ones.
    read = {"keys": {"embedding", "hidden"}, "asked_keys": {"asked"}}
    known = {kind for kind, by in read.items() if by & {*features}}
    for kind in ("keys", "asked_keys"):
        weights[kind] = own[kind].clone()
    gate.load_state_dict(own | weights)  # whose projection the keys of new memories need
    for number, name in enumerate(bank.names):
        if name in names:
            for kind in known:
                weights[kind][number] = trained[kind][names.index(name)]
        else:
            weights["keys"][number] = gate.project(own["keys"][number])
    gate.load_state_dict(own | weights)
