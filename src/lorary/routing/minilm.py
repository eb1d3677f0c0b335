"""The embedded encoder without sentence-transformers, whose import takes longer than to open base and encoder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

_BATCH = 32


class MiniLM:
    """all-MiniLM-L6-v2 in a local folder: what `SentenceTransformer` computes of it, bit for bit.

    It is a BERT whose last hidden states are averaged over a text's tokens (Reimers and Gurevych 2019, arXiv 1908.10084).

    Attributes:
        max_seq_length: how many tokens of a text it reads.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer  # slow to import, and a bank is listed without an encoder

        self.max_seq_length = int(json.loads((folder / "sentence_bert_config.json").read_bytes())["max_seq_length"])
        self.tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, model_max_length=self.max_seq_length
        )
        self.bert = AutoModel.from_pretrained(folder, local_files_only=True).eval()

    def get_embedding_dimension(self) -> int:
        """The width of a vector."""
        return int(self.bert.config.hidden_size)

    @torch.inference_mode()
    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "sentences embedding"]:
        """Unit vectors, in batches of texts that are about as long as each other."""
        # In the library's own order, since a batch's width can change the last bit of a vector.
        order = np.argsort([-len(sentence) for sentence in sentences])
        batches = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
        vectors = torch.cat([self._vectors([sentences[number] for number in batch]) for batch in batches])
        return vectors[torch.from_numpy(np.argsort(order))]

    def _vectors(self, sentences: list[str]) -> Float[Tensor, "sentences embedding"]:
        batch = self.tokenizer(sentences, padding=True, truncation="longest_first", return_tensors="pt")
        hidden, mask = self.bert(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1).float()
        means = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
        # Once as the model's last module, once as `normalize_embeddings` does.
        return functional.normalize(functional.normalize(means, dim=1), dim=1)
