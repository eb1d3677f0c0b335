"""Scores → a route: encoder, index, lexicon, gate, policy."""
