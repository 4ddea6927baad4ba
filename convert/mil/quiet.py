"""coremltools without what it prints where it cannot run models; this is the one place that imports it."""

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType


@contextmanager
def quiet() -> Iterator[None]:
    """Drop warnings and log records below ERROR inside, whoever sends them; exceptions and errors pass."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@cache
def coremltools() -> ModuleType:
    """The package. Its first import takes seconds, and warns of an untested torch and of the frameworks of a Mac."""
    with quiet():
        return importlib.import_module("coremltools")
