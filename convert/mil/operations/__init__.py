"""MIL operations as functions of torch tensors, one file a kind; importing this registers them all.

Sources: the operation definitions of coremltools (``converters/mil/mil/ops/defs``, iOS 15 to iOS 18); where their text
and their code for a constant input differ from each other, the function says so.
"""

from convert.mil.operations import arithmetic, layout, neural, quantised
from convert.mil.operations.registry import FUNCTIONS, HELD

__all__ = ["FUNCTIONS", "HELD", "arithmetic", "layout", "neural", "quantised"]
