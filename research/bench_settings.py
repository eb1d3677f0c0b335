"""What the benchmarks can be asked: their settings. It imports no torch, as their helps need it."""

from __future__ import annotations

from dataclasses import dataclass

from lorary.research.settings import StudyError, check_positive


@dataclass(frozen=True, kw_only=True)
class WriteBench:
    """What is written, and how Trainer is set.

    Args:
        topics: topics to take, the first ones, a memory each.
        facts_a_topic: facts to take of each topic, the first ones.
        seeds: first weights and orders to write with, from seed 0.
        trainer_epochs: passes of Trainer to measure.
        trainer_lrs: learning rates of Trainer to measure, with each number of passes.
        trainer_batch: rows of a step of Trainer.
    """

    topics: int = 1
    facts_a_topic: int = 20
    seeds: int = 3
    trainer_epochs: tuple[int, ...] = (2, 4)
    trainer_lrs: tuple[float, ...] = (1e-3,)
    trainer_batch: int = 8

    def __post_init__(self) -> None:
        for name in ("topics", "facts_a_topic", "seeds", "trainer_epochs", "trainer_batch"):
            check_positive(name, getattr(self, name))
        if not all(lr > 0 for lr in self.trainer_lrs):
            raise StudyError(f"trainer_lrs must be above 0, {list(self.trainer_lrs)} given")


@dataclass(frozen=True, kw_only=True)
class SpeedBench:
    """What is measured, and how often.

    Args:
        counts: numbers of memories to measure.
        prompts: tokens of a prompt to measure, about.
        cells: names of cells to measure, all by default; one that ends with * stands for all that begin so.
        repeats: blocks of steps in a cell; base and rival take turns in who is first.
        steps: steps of a block, each beside a step of the base.
    """

    counts: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    prompts: tuple[int, ...] = (16, 128, 512)
    cells: tuple[str, ...] = ()
    repeats: int = 5
    steps: int = 8

    def __post_init__(self) -> None:
        for name in ("counts", "prompts", "repeats", "steps"):
            check_positive(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class ServeBench:
    """What is asked of a server.

    Args:
        clients: that ask at once, each one request after the other.
        memories: in the bank.
        prompt: tokens of a prompt, about.
        answer: tokens of an answer.
        requests: of each way to ask, in a round.
        alone: requests that are asked one after the other in a process without a server, in a round.
        dtype: of the base and the memories.
    """

    clients: int = 16
    memories: int = 64
    prompt: int = 64
    answer: int = 24
    requests: int = 48
    alone: int = 8
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("clients", "memories", "prompt", "answer", "requests", "alone"):
            check_positive(name, getattr(self, name))
