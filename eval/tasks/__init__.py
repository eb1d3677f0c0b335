"""Facts and questions: made by seed, or read from published formats."""
