"""coremltools without what it prints where it cannot run models; this is the one place that imports it."""

import importlib
from functools import cache
from types import ModuleType

from convert.quiet import quiet


@cache
def coremltools() -> ModuleType:
    """The package. Its first import takes seconds, and warns of an untested torch and of the frameworks of a Mac."""
    with quiet():
        return importlib.import_module("coremltools")
