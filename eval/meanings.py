"""What the names of a recall run mean to people: its conditions and its parts. Helps read it, so it imports nothing."""

MEANINGS = {
    "base": "the base alone",
    "lookup": "no model; the stored answer of the fact with the nearest trained wording",
    "oracle": "the right memory, told",
    "exchanged": "the right memory, told, asked in its nearest trained wording where one is near",
    "gate": "the gate alone",
    "index": "the index alone",
    "policy": "gate, then index, then none",
    "ask": "what `ask` answers: the policy's memory, a stored answer or the base, the likeliest to be right",
    "centroid": "the memory whose mean fact embedding is nearest",
    "lexicon": "the memory that BM25 puts first",
    "oracle-sum": "the right memories, told, each with weight 1",
    "gate-two": "the gate alone, mixing its two best memories",
    "top-three": "the exact mean of the gate's three best memories",
    "policy-two": "gate, then index, then none; the gate mixes its two best memories",
    "oracle-parts": "each part of the question under the right memory, told",
    "policy-parts": "each part of the question by the policy, on its own",
    "uniform": "all memories, equal weights",
    "shuffled": "a wrong memory",
    "in-context-all": "no memory; all facts in the prompt",
    "in-context-topic": "no memory; the right topic's facts in the prompt, a random topic's where none is right",
    "passages": "no memory; the index's passages in the prompt",
    "bm25": "no memory; BM25's passages in the prompt",
    "hybrid": "the policy's memory and the index's passages",
    "oracle-passages": "the right memory, told, and the index's passages in the prompt",
    "merged-exact": "the exact sum of all memories",
    "merged-ties": "all memories merged by TIES, equal weights",
    "merged-three-ties": "the gate's three best memories merged by TIES, for each question anew",
    "merged-linear": "all memories' A and B averaged apart",
}
"""Condition → one line on it; `conditions.CONDITIONS` says how each is run."""

EACH, ALL = "each", "all"
"""Stand for a condition for each single memory of the composite, and for every condition and each memory."""

FIRST = ("base", "lookup", "oracle", "gate", "index", "policy", "ask", "uniform", "shuffled")
"""The conditions that a composite alone offers: what is run by default."""

PARTS = ("questions", "retention", "latency")
"""What a run measures: answers, damage to text, times."""
