"""Loads PyTorch's compiler when it is used (no torch).

Importing torchvision, creating an optimizer and making its first step each import `torch._dynamo`, to mark functions
that the compiler shall leave alone. A process that compiles nothing pays a third of its start for that, and 150 MB.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"
UTILITIES = f"{COMPILER}.utils"


def postpone_compiler() -> None:
    """Let `import torch._dynamo` give a stand-in, which loads the package at the first use of anything else.

    Without effect where the package is loaded already.
    """
    if COMPILER in sys.modules:
        return
    sys.modules[COMPILER] = _Compiler(COMPILER)
    sys.modules[UTILITIES] = _Utilities(UTILITIES)
    sys.meta_path.insert(0, _SUBMODULES)


def load_compiler() -> ModuleType:
    """The package itself, in the place of its stand-in from now on."""
    if isinstance(sys.modules.get(COMPILER), _Compiler):
        sys.meta_path.remove(_SUBMODULES)
        del sys.modules[COMPILER], sys.modules[UTILITIES]
    return import_module(COMPILER)


def _unmarked(function: Any = None, *_more: object, **_reasons: object) -> Any:
    return function if function is not None else lambda decorated: decorated


class _Compiler(ModuleType):
    """`torch._dynamo`, as far as code uses it that nothing compiles."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []  # a package: imports of submodules come to _SUBMODULES

    # Nothing has to be left alone by a compiler that is not there.
    disable = staticmethod(_unmarked)

    @staticmethod
    def graph_break(msg: str = "") -> None:
        """Nothing is traced here."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by `inspect` of every module, also while torch is imported
            raise AttributeError(name)
        return getattr(load_compiler(), name)


class _Utilities(ModuleType):
    """`torch._dynamo.utils`, of which torchvision imports one function."""

    @staticmethod
    def is_compile_supported(device_type: str) -> bool:
        load_compiler()
        supported: Callable[[str], bool] = import_module(UTILITIES).is_compile_supported
        return supported(device_type)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        load_compiler()
        return getattr(import_module(UTILITIES), name)


class _Loaded(Loader):
    """Gives a module that has been imported meanwhile, so that it is not executed a second time."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """It is executed already."""


class _Submodules(MetaPathFinder):
    """Finds submodules of the package, which must be loaded before them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{COMPILER}."):
            return None
        package = load_compiler()
        if fullname in sys.modules:
            return spec_from_loader(fullname, _Loaded())
        return PathFinder.find_spec(fullname, package.__path__)


_SUBMODULES = _Submodules()
