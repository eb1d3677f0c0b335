"""How the numbers were made: studies and benchmarks. It may import all; nobody imports it."""
