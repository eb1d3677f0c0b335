"""Lets transformers' Auto classes know `lorary` without importing either of them early.

transformers keeps tables of names, model type → class name, and imports a module when a class is first asked for. `lorary` is
entered there as its own models are, with this package in the place of the module: its names, too, come when asked for. So
nothing is imported that is not used, and nothing of ours is imported while a module of ours is half way through its imports.
The entries are made as soon as the tables are there, whether that was before `import lorary` or comes after it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_TYPE, _CONFIG, _MODEL = "lorary", "LoraryConfig", "LoraryForCausalLM"


def _enter_configuration(tables: ModuleType) -> None:
    tables.CONFIG_MAPPING_NAMES[_TYPE] = _CONFIG
    # Where transformers looks for the classes of a model type.
    sys.modules[f"transformers.models.{_TYPE}"] = sys.modules["lorary"]


def _enter_model(tables: ModuleType) -> None:
    tables.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[_TYPE] = _MODEL
    # Made from the configurations' names when the table was; they may have lacked ours then.
    tables.MODEL_FOR_CAUSAL_LM_MAPPING._reverse_config_mapping[_CONFIG] = _TYPE


_ENTER: dict[str, Callable[[ModuleType], None]] = {
    "transformers.models.auto.configuration_auto": _enter_configuration,
    "transformers.models.auto.modeling_auto": _enter_model,
}
"""The module that holds a table → what enters `lorary` there."""


class _ThenEnter(Loader):
    """Loads a module as its own loader does, then makes the entry."""

    def __init__(self, loader: Loader, enter: Callable[[ModuleType], None]) -> None:
        self.loader, self.enter = loader, enter

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Whatever asks a module for its loader later must get the module's own.
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        self.enter(module)


class _Tables(MetaPathFinder):
    """Finds the modules that hold the tables, each once, through the finders that stand behind this one."""

    def __init__(self, awaited: dict[str, Callable[[ModuleType], None]]) -> None:
        self.awaited = awaited

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        enter = self.awaited.pop(fullname, None)
        if enter is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenEnter(spec.loader, enter)
        return spec


def register() -> None:
    """Enters `lorary` in the tables that are there, and waits for the others."""
    awaited = {name: enter for name, enter in _ENTER.items() if name not in sys.modules}
    if awaited:
        sys.meta_path.insert(0, _Tables(awaited))
    for name in _ENTER.keys() - awaited.keys():
        _ENTER[name](sys.modules[name])
