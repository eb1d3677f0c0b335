"""The composite as one Hugging Face model."""
