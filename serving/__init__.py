"""Composite → server: an OpenAI-compatible server whose requests are batched as they come, each under its own route."""
