"""Topics by meaning: facts and passages that are near each other become a topic, named by its most telling words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import silhouette_score

from lorary.bank.documents import Passage
from lorary.bank.facts import Fact
from lorary.intake.source import Source
from lorary.intake.topics import slug
from lorary.routing.encoder import Encoder

FEWEST = 4
"""Of facts and passages in a topic, on average."""
_MOST = 16
_SEED = 0


def clustered(source: Source, encoder: Encoder) -> list[Source]:
    """A source parted into topics by k-means on the embeddings; k has the best silhouette (Rousseeuw 1987), 2 to 16.

    A source of few facts and passages stays one topic.
    """
    items: list[Fact | Passage] = [*source.facts, *source.passages]
    texts = [
        item.text if isinstance(item, Passage) else item.statement or f"{item.question} {item.answer}" for item in items
    ]
    labels = _labels(np.asarray(encoder.encode(texts)), len(items))
    groups = {label: [i for i, other in enumerate(labels) if other == label] for label in dict.fromkeys(labels)}
    names = _names([" ".join(texts[i] for i in group) for group in groups.values()])
    topics = []
    for name, group in zip(names, groups.values(), strict=True):
        within = [items[i] for i in group]
        passages = tuple(item for item in within if isinstance(item, Passage))
        facts = tuple(replace(item, topic=name) for item in within if isinstance(item, Fact))
        topics.append(Source(name, passages, facts, "\n\n".join(passage.text for passage in passages)))
    return topics


def _labels(embeddings: np.ndarray, count: int) -> list[int]:
    best, labels = -1.0, [0] * count
    for clusters in range(2, min(_MOST, count // FEWEST) + 1):
        found = KMeans(clusters, n_init=4, random_state=_SEED).fit_predict(embeddings)
        if len(set(found)) < 2:
            continue
        score = silhouette_score(embeddings, found, metric="cosine", sample_size=min(count, 2000), random_state=_SEED)
        if score > best:
            best, labels = float(score), [int(label) for label in found]
    return labels


def _names(texts: Sequence[str]) -> list[str]:
    """A name for each text of the two words that tell it best from the others."""
    vectorizer = TfidfVectorizer(stop_words="english", token_pattern=r"(?u)\b[^\W\d_]{3,}\b", sublinear_tf=True)
    try:
        weights = vectorizer.fit_transform(texts).toarray()
    except ValueError:  # no word at all
        return [f"topic-{number}" for number in range(1, len(texts) + 1)]
    words = vectorizer.get_feature_names_out()
    names: list[str] = []
    for number, row in enumerate(weights, 1):
        told = slug("-".join(words[i] for i in np.argsort(-row, kind="stable")[:2] if row[i] > 0)) or f"topic-{number}"
        names.append(told if told not in names else f"{told}-{number}")
    return names
