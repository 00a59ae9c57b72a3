"""Imports without what they would drag along: the resident agent has 30 MB, and some libraries load for functions that it never calls."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def without(*names: str) -> Iterator[None]:
    """While the block imports, empty modules stand in for these; whoever imports one of them afterwards gets the real one.

    Modules that are loaded already are left alone. The import system has no lock for this: use it at the top of a module, not in threads.
    """
    stand_ins = {name: ModuleType(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]
