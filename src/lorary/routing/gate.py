"""Gate: features of a query (or of each token) → logits over the memories and "none"."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from lorary.errors import LoraryError
from lorary.routing.features import KINDS, Features
from lorary.routing.reading import Reading
from lorary.routing.recognition import START, recognised, signs, sum_of, words_unknown

FEATURES = ("embedding", "asked", "names", "contents", "hidden", "window")
DEFAULT_FEATURES = ("asked", "names", "contents")
TOKEN_FEATURES = ("asked", "names", "contents", "window")
RUNNING_FEATURES = ("embedding", "asked", "names", "hidden")
"""What gates of tokens read before they read the window: a running mean over all tokens, which follows no change of topic."""
_CONTENT_SCALES = {
    "wordings": 16.0,
    "passages": 12.0,
    "wording_grams": 8.0,
    "passage_grams": 40.0,
    "document_grams": 30.0,
}
"""What the contents weigh in a gate that nothing trained, logits each."""
_APART = ("contents", "window")
"""Features whose weights are not among those of the trained terms."""
_NONE = 0.4
"""Where the logit of none starts, as a share of the most that the trained terms can say together: between what they say of
known questions and of others. Above both, training would only lower it, and the keys would not learn to tell memories apart."""
_NEARLY = 8
"""The power of a wording's similarity: only one that is nearly the question decides, others tell of the topic alone."""


def cosines(
    queries: Float[Tensor, "*batch embedding"], keys: Float[Tensor, "memories embedding"]
) -> Float[Tensor, "*batch memories"]:
    """The cosine similarity of each query and each key."""
    return functional.linear(functional.normalize(queries, dim=-1), functional.normalize(keys, dim=-1))


def weighed(
    terms: Mapping[str, Float[Tensor, "*#batch memories"]], scales: Mapping[str, Tensor], none: Float[Tensor, ""]
) -> Float[Tensor, "*batch memories_and_none"]:
    """The logits: the sum of the terms by their scales, and the logit of none last."""
    logits = sum((scales[name] * term for name, term in terms.items()), torch.zeros(()))
    return torch.cat([logits, none.expand(*logits.shape[:-1], 1)], dim=-1)


class Gate(nn.Module):
    """logit_m = τ ⟨z, k_m⟩ + τ' ⟨a, k'_m⟩ + γ n_m + Σ_c σ_c c_m, logit_none = b, with z = normalise(P e + H (h − μ) / σ).

    Each term is there if its feature is. The first compares the question's embedding e (and the hidden state h) with a key a
    memory; the second does so for a, the embedding of the question without its names; n are the votes of the lexicon of
    names, c the contents (`features.KINDS`). What the terms weigh against each other is fitted on validation wordings
    (`scales`): trained wordings flatter what was fitted to them. All hidden states have most in common, which tells no
    memory: μ is their mean over the questions trained on, σ their distance from it, and nothing is read as farther than σ.
    A gate of tokens reads them as they are: μ is 0, σ is 1.

    With the contents, "none" is no class beside the others: the gate recognises whether any memory knows what is asked
    (`recognition`), and logit_none = log Σ exp logit_m − s, where s are the log-odds of that. So p_none is 1 − p(known),
    and what memories there are besides changes nothing of it.

    With the window it decides at each token: what it says of the parts of the question is weighed, and what the text so far
    tells is added (`reading.Reading`).

    It stays in fp32, whatever dtype the model around it is cast to or runs in: it is small, and a route that hangs on
    rounding would differ from dtype to dtype.

    Args:
        keys: [memories, embedding], where the memories' keys start: the means of their facts' embeddings.
        hidden_size: of the base's hidden state at the split.
        features: which of `FEATURES` take part.
        asked_keys: [memories, embedding], where the keys for questions without names start; as `keys` where None.
    """

    hidden_mean: Float[Tensor, " hidden"]
    hidden_spread: Float[Tensor, ""]
    recognition: Float[Tensor, "2 signs_and_constant"]

    def __init__(
        self,
        keys: Float[Tensor, "memories embedding"],
        hidden_size: int,
        features: tuple[str, ...] = DEFAULT_FEATURES,
        asked_keys: Float[Tensor, "memories embedding"] | None = None,
    ) -> None:
        super().__init__()
        if unknown := sorted(set(features) - set(FEATURES)):
            raise LoraryError(f"unknown gate feature {unknown[0]!r}; choose from {list(FEATURES)}")
        dimension = keys.shape[1]
        self.features = tuple(features)
        self.reading = Reading(len(keys), hidden_size) if "window" in features else None
        self.from_embedding = nn.Parameter(torch.eye(dimension))
        # From zero: tokens start from the query's route and learn how to leave it.
        self.from_hidden = nn.Parameter(torch.zeros(dimension, hidden_size if "hidden" in features else 0))
        self.register_buffer("hidden_mean", torch.zeros(self.from_hidden.shape[1]))
        self.register_buffer("hidden_spread", torch.ones(()))
        self.keys = nn.Parameter(functional.normalize(keys.float(), dim=-1))
        self.log_tau = nn.Parameter(torch.tensor(2.3))
        self.asked_keys = nn.Parameter(
            functional.normalize((keys if asked_keys is None else asked_keys).float(), dim=-1)
        )
        self.log_tau_asked = nn.Parameter(torch.tensor(1.6))
        self.log_gamma = nn.Parameter(torch.tensor(math.log(10.0)))
        self.log_contents = nn.Parameter(torch.tensor([*_CONTENT_SCALES.values()]).log())
        trained = {self.parts_of(feature)[-1] for feature in self.features if feature not in _APART}
        most = sum((scale.detach().exp() for scale in trained), torch.zeros(()))
        self.none = nn.Parameter(_NONE * most)
        self.register_buffer("recognition", START.clone())

    def forward(self, features: Features) -> Float[Tensor, "*batch memories_and_none"]:
        """Logits over the memories, and none last; one a token where the features hold a hidden state a token."""
        if self.reads(features):
            assert self.reading is not None
            assert features.parts is not None
            return self.reading(features.parts.flatten(0, -3), features.hidden)
        terms, scales = (
            self.terms(features),
            {name: scale.exp() for name, scale in self.scales.items() if name != "none"},
        )
        if not terms:  # contents alone, in training: nothing is learned that tells the memories apart
            terms, scales = {"": torch.zeros_like(features.votes)}, {"": torch.ones(())}
        logits = weighed(terms, scales, self.none)
        if features.contents is None or "contents" not in self.features:
            return logits
        with torch.no_grad():
            told = signs(features.contents, terms.get("names"), sum_of(terms, scales))
            sure = recognised(told, words_unknown(features.contents), self.recognition)
        known = logits[..., :-1]
        none = known.logsumexp(-1) - sure if known.shape[-1] else torch.zeros_like(sure)
        return torch.cat([known, none.unsqueeze(-1)], dim=-1)

    def reads(self, features: Features) -> bool:
        """Whether it decides at each token by the window, and not by the query alone."""
        return self.reading is not None and features.hidden is not None and features.parts is not None

    @torch.no_grad()
    def signs(self, features: Features) -> Float[Tensor, "*batch signs"]:
        """The signs by which queries are recognised (`recognition.SIGNS`), under the gate's own scales."""
        assert features.contents is not None, "the signs need what the contents say"
        terms, scales = self.terms(features), {name: scale.exp() for name, scale in self.scales.items()}
        return signs(features.contents, terms.get("names"), sum_of(terms, scales))

    def terms(self, features: Features) -> dict[str, Float[Tensor, "*#batch memories"]]:
        """What each term says of each memory, unscaled, by the name of its scale."""
        terms: dict[str, Tensor] = {}
        if {"embedding", "hidden"} & set(self.features):
            z = torch.zeros_like(features.embedding)
            if "embedding" in self.features:
                z = functional.linear(features.embedding, self.from_embedding)
            if features.hidden is not None and "hidden" in self.features:
                z = z + functional.linear(self._apart(features.hidden.to(z.dtype)), self.from_hidden)
            terms["embedding"] = cosines(z, self.keys)
        if "asked" in self.features:
            assert features.asked is not None, (
                "the feature 'asked' needs embeddings of the questions without their names"
            )
            terms["asked"] = cosines(features.asked, self.asked_keys)
        if "names" in self.features:
            assert features.names is not None, "the feature 'names' needs the votes of the lexicon of names"
            terms["names"] = features.names
        if "contents" in self.features and features.contents is not None:
            terms |= dict(zip(KINDS, features.contents.unbind(-1), strict=True))
            terms["wordings"] = terms["wordings"] ** _NEARLY
        return terms

    def _apart(self, hidden: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        """(h − μ) / σ, no longer than 1: a mean of the first few tokens lies far from all that was trained on. Zero where no
        token was counted yet."""
        apart = (hidden - self.hidden_mean) / self.hidden_spread
        return apart / apart.norm(dim=-1, keepdim=True).clamp(min=1) * hidden.any(-1, keepdim=True)

    def parts_of(self, feature: str) -> tuple[nn.Parameter, ...]:
        """The weights that a feature uses."""
        parts: dict[str, tuple[nn.Parameter, ...]] = {
            "embedding": (self.from_embedding, self.keys, self.log_tau),
            "asked": (self.asked_keys, self.log_tau_asked),
            "names": (self.log_gamma,),
            "contents": (self.log_contents,),
            "hidden": (self.from_hidden, self.keys, self.log_tau),
        }
        return parts[feature]

    @property
    def used(self) -> list[nn.Parameter]:
        """The weights that are trained: those that the features use, the contents apart, and the logit of none."""
        trained = [feature for feature in self.features if feature not in _APART]
        return [self.none, *(weight for feature in trained for weight in self.parts_of(feature))]

    def project(self, embedding: Float[Tensor, "*batch embedding"]) -> Float[Tensor, "*batch embedding"]:
        """P e, normalised: where the gate compares questions with its keys."""
        return functional.normalize(functional.linear(embedding, self.from_embedding), dim=-1)

    @property
    def scales(self) -> dict[str, Tensor]:
        """What the terms that take part weigh against each other, as logarithms, and the logit of none."""
        # The hidden state and the embedding share a term.
        taken = {"embedding" if feature == "hidden" else feature for feature in self.features} - {*_APART}
        scales: dict[str, Tensor] = {name: self.parts_of(name)[-1] for name in FEATURES if name in taken}
        if "contents" in self.features:
            scales |= dict(zip(KINDS, self.log_contents, strict=True))
        return {**scales, "none": self.none}

    @torch.no_grad()
    def append(self, key: Float[Tensor, " embedding"], asked_key: Float[Tensor, " embedding"] | None = None) -> None:
        """Adds a memory at the end by its mean fact embedding, and by that of its facts without names (as `key` where
        it is None); no other weight changes.

        Its keys start half way between that mean and the mean of the others' keys: a key that nothing trained is drawn
        to what all have in common (shrinkage; Stein 1956), or it would pull questions from memories that know them. A
        key of zeros, of a memory without facts, stays one: nothing leads there.
        """
        unit = functional.normalize
        asked = unit((key if asked_key is None else asked_key).to(self.asked_keys), dim=-1)
        pairs = ((self.project(unit(key.to(self.keys), dim=-1)), self.keys), (asked, self.asked_keys))
        started = [near + near.any() * unit(unit(others, dim=-1).sum(0), dim=-1) for near, others in pairs]
        self._set_keys(torch.cat([self.keys, started[0][None]]), torch.cat([self.asked_keys, started[1][None]]))
        if self.reading is not None:
            self.reading.append()

    @torch.no_grad()
    def keep(self, memories: Int[Tensor, " kept"]) -> None:
        """Keeps only the memories given by number, in that order."""
        self._set_keys(self.keys[memories], self.asked_keys[memories])
        if self.reading is not None:
            self.reading.keep(memories)

    def _set_keys(self, keys: Tensor, asked_keys: Tensor) -> None:
        self.keys = nn.Parameter(keys, requires_grad=self.keys.requires_grad)
        self.asked_keys = nn.Parameter(asked_keys, requires_grad=self.asked_keys.requires_grad)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As any module's, but in fp32 under a caller's autocast, too."""
        with torch.autocast(self.none.device.type, enabled=False):
            return super().__call__(*args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Gate:
        """Does to each tensor what `fn` does, but for a change of its dtype: what moves is moved, what casts is left."""

        def without_cast(tensor: Tensor) -> Tensor:
            probe = fn(torch.empty(0, dtype=tensor.dtype, device=tensor.device))
            return fn(tensor) if probe.dtype == tensor.dtype else tensor.to(probe.device)

        return super()._apply(without_cast, recurse)
