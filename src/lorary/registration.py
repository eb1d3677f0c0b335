"""Lets transformers' Auto classes know `lorary` without importing either of them early.

`lorary.model.configuration` and `lorary.model.modeling` register their classes, as every extension of transformers does.
This module sees to it that they are imported in time: as soon as the modules of transformers that hold the registries are,
whether that was before `import lorary` or comes after it. Importing them at once would cost seconds and is needless for
`lorary --help` or for reading a bank.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

REGISTERED_WITH = {
    "transformers.models.auto.configuration_auto": "lorary.model.configuration",
    "transformers.models.auto.modeling_auto": "lorary.model.modeling",
}
"""The module that holds a registry → the module of ours that registers with it."""


class _ThenOurs(Loader):
    """Loads a module as its own loader does, then imports ours, which registers with it."""

    def __init__(self, loader: Loader, ours: str) -> None:
        self.loader, self.ours = loader, ours

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Whatever asks a module for its loader later must get the module's own.
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        importlib.import_module(self.ours)


class _Registries(MetaPathFinder):
    """Finds the modules that hold the registries, each once, through the finders that stand behind this one."""

    def __init__(self, awaited: dict[str, str]) -> None:
        self.awaited = awaited

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        ours = self.awaited.pop(fullname, None)
        if ours is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenOurs(spec.loader, ours)
        return spec


def register_in_time() -> None:
    """Imports what registers with registries that are there, and waits for the others."""
    awaited = {registry: ours for registry, ours in REGISTERED_WITH.items() if registry not in sys.modules}
    if awaited:
        sys.meta_path.insert(0, _Registries(awaited))
    for registry in REGISTERED_WITH.keys() - awaited.keys():
        importlib.import_module(REGISTERED_WITH[registry])
