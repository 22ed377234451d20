"""Keeps what the sessions' own code uses apart from what a model's code can replace.

`os.close = None` in a cell changes a module that all share. So our modules look such names up in their own copies.
"""

import types
from collections.abc import Iterable

_SHARED = ("builtins", "sys", "tempfile", "warnings")
"""Modules in which we set what cells should see; our code binds what it calls of them."""


def keep_own(modules: Iterable[types.ModuleType]) -> None:
    """Gives these modules copies of the modules that they use, except one another.

    Args:
        modules: all of ours.
    """
    ours = list(modules)
    copies: dict[int, types.ModuleType] = {}
    for module in ours:
        for name, used in list(vars(module).items()):
            if isinstance(used, types.ModuleType) and used not in ours and used.__name__ not in _SHARED:
                vars(module)[name] = copies.setdefault(id(used), _copy(used))


def _copy(module: types.ModuleType) -> types.ModuleType:
    copy = types.ModuleType(module.__name__)
    vars(copy).update(vars(module))
    return copy
