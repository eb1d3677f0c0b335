"""A composite is written: a bank, a config, the gate, a card, the tokenizer; with `include_base` the base and encoder too."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from safetensors.torch import save
from torch import Tensor

from lorary.bank.bank import MemoryBank
from lorary.bank.files import write_aside, writing
from lorary.base.layers import bare_twin
from lorary.base.quantising import is_quantised
from lorary.errors import LoraryError
from lorary.model.card import card_part
from lorary.model.configuration import BASE_PART, CONFIG_PART, ENCODER_PART, GATE_PART, LoraryConfig
from lorary.model.modeling import LoraryForCausalLM
from lorary.model.trained_factors import keep_trained_factors
from lorary.model.uploading import upload_of
from lorary.routing.router import Router

_STUB = "lorary_remote.py"
_REMOTE = '''"""Loads this composite with trust_remote_code=True; the code is the installed package `lorary`."""

from lorary import LoraryConfig, LoraryForCausalLM

__all__ = ["LoraryConfig", "LoraryForCausalLM"]
'''
_AUTO_MAP = {
    "AutoConfig": f"{_STUB.removesuffix('.py')}.LoraryConfig",
    "AutoModelForCausalLM": f"{_STUB.removesuffix('.py')}.LoraryForCausalLM",
}


def save_composite(
    model: LoraryForCausalLM,
    folder: Path,
    *,
    include_base: bool = False,
    is_main_process: bool = True,
    state_dict: Mapping[str, Tensor] | None = None,
    push_to_hub: bool = False,
    **options: Any,
) -> str | None:
    """Writes the composite; `bank.json`, which lists the memories, is written before what depends on it.

    Args:
        include_base: the folder then needs nothing else, neither base nor encoder.
        is_main_process: False writes nothing, as one process of several does.
        state_dict: the weights to write, instead of the model's own; factors that were trained come from it, too.
        push_to_hub: also uploads the folder, and returns the address of the commit.
        options: what `uploading.Upload` takes, and with `include_base` what the base's own `save_pretrained` does.

    Raises:
        LoraryError: an option that nothing takes.
        BankError: another writer holds the folder, or changed its bank since this composite was loaded from it.
    """
    upload = upload_of(options)
    unknown = sorted({*options} - (_OF_BASE if include_base else set()) - {"safe_serialization"})
    if unknown or options.pop("safe_serialization", True) is False:
        name = unknown[0] if unknown else "safe_serialization=False"
        raise LoraryError(
            f"save_pretrained does not take {name!r} for a composite; it takes include_base, is_main_process, state_dict, "
            f"push_to_hub, {', '.join(vars(upload))}, and with include_base=True {sorted(_OF_BASE)}"
        )
    if include_base and is_quantised(model.base):
        raise LoraryError(
            "include_base=True writes the base, and this one is quantised; load the composite without quantization_config"
        )
    if not is_main_process:
        return None
    with writing(folder):
        _write(model, folder, model.state_dict() if state_dict is None else state_dict, include_base)
        if include_base:
            _save_base(model, folder, options)
    return upload.send(folder) if push_to_hub else None


def push_composite(
    model: LoraryForCausalLM,
    repo_id: str,
    *,
    include_base: bool = False,
    max_shard_size: int | str | None = None,
    **options: Any,
) -> str | None:
    """Writes the composite into a folder for the time being, and uploads it to `repo_id`, with its card; returns the address
    of the commit.

    Args:
        max_shard_size: of the files of the base, with `include_base`; nothing else is sharded.
        options: what `uploading.Upload` takes, and what else `save_composite` does.
    """
    if include_base and max_shard_size is not None:
        options["max_shard_size"] = max_shard_size
    bank = model.router.bank
    contents, stored = bank.contents, bank.stored
    with TemporaryDirectory() as folder:
        try:
            place = Path(folder)
            return save_composite(model, place, include_base=include_base, push_to_hub=True, repo_id=repo_id, **options)
        finally:  # what lies in that folder is gone soon
            bank.contents, bank.stored = contents, stored


def _write(model: LoraryForCausalLM, folder: Path, state: Mapping[str, Tensor], include_base: bool) -> None:
    keep_trained_factors(model, state)
    bank, config = model.router.bank, cast(LoraryConfig, model.config)
    policy = asdict(model.router.policy)
    config.policy = {**config.policy, **policy, "sources": list(policy["sources"])}
    config.auto_map, config.architectures = _AUTO_MAP, [type(model).__name__]
    gate = {name: state[f"gate.{name}"] for name in model.gate.state_dict()}
    save_bank(folder, model.router, bank, gate, config, with_base=include_base)
    write_aside(folder / _STUB, _REMOTE.encode())
    for part in (model.tokenizer, model.generation_config):
        for name, content in _files_of(part).items():
            write_aside(folder / name, content)


def save_bank(
    folder: Path,
    router: Router,
    bank: MemoryBank,
    gate: Mapping[str, Tensor],
    config: LoraryConfig,
    *,
    with_base: bool = False,
) -> None:
    """Writes a composite's bank, its gate, whose keys stand for the bank's memories, its configuration and its card, at once.

    Then what its router has made of the bank's contents is kept beside it.

    Args:
        with_base: the base is written there, too; where it stands there already, that is seen.
    """
    config.trained = bank.names
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in gate.items()}
    own_card = card_part(folder, bank, with_base=with_base or (folder / BASE_PART).is_dir())
    parts = {GATE_PART: save(tensors, metadata={"format": "pt"}), **_files_of(config), **own_card}
    bank.save(folder, overwrite=True, companions=parts)
    from lorary.routing.kept_contents import keep_contents  # faiss is heavy: only who routes or saves pays for it

    if bank.contents is not None:
        with suppress(LoraryError):  # a memory that cannot be read: the bank is saved, and nothing needs what is kept
            keep_contents(router, *bank.contents)


def card_beside(folder: Path, bank: MemoryBank) -> dict[str, bytes]:
    """The card of the composite in a folder, as a companion of its bank; nothing where the folder holds a bank alone."""
    if not (folder / CONFIG_PART).is_file():
        return {}
    return card_part(folder, bank, with_base=(folder / BASE_PART).is_dir())


def _files_of(part: Any) -> dict[str, bytes]:
    """What transformers' `save_pretrained` writes of a part: the name of each file → its content."""
    with TemporaryDirectory() as work:
        part.save_pretrained(work)
        files = sorted(path for path in Path(work).rglob("*") if path.is_file())
        return {str(file.relative_to(work)): file.read_bytes() for file in files}


_OF_BASE = {"max_shard_size", "variant"}
"""Options of a base's `save_pretrained` that hold for a composite, too."""


def _save_base(model: LoraryForCausalLM, folder: Path, options: dict[str, Any]) -> None:
    """The base as a stock folder, without the mixtures, and the encoder beside it."""
    bare_twin(model.base).save_pretrained(folder / BASE_PART, **options)
    model.tokenizer.save_pretrained(folder / BASE_PART)
    encoder = model.router.get_encoder()
    if hasattr(encoder, "save"):
        encoder.save(folder / ENCODER_PART)
