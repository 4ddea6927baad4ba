"""How fast a runtime multiplies on this host: the arithmetic's share of a latency is counted against that.

Measured, not looked up: one linear layer that is as large as its weights stay in a core's cache, made, lowered and run
as every other program. So it has the kernels that the artifact has, and a host without INT8 kernels shows it.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from calibrate.ptq import calibrate
from calibrate.recipe import Recipe, Rule
from convert.source import Precision, Source
from convert.target import Target
from edgevit.bench import protocol
from edgevit.errors import ClaimError

ROWS, WIDTH = 384, 768
LAYER = Recipe((Rule("*", "int8", ""),), "minmax")


@dataclass(frozen=True)
class Peak:
    """The fastest of ``runs`` products ``[rows, inputs] @ [inputs, outputs]``, with whatever the runtime adds."""

    gmacs: float  # 10^9 multiply-accumulates a second
    rows: int
    inputs: int
    outputs: int
    runs: int


def peak(name: str, module: Target, precision: Precision, threads: int) -> Peak:
    """Of the runtime of target ``name``, in "fp32" or "int8".

    Raises ClaimError if the runtime has no INT8 kernel for it here.
    """
    random = torch.Generator().manual_seed(0)
    layer, x = nn.Sequential(nn.Linear(WIDTH, WIDTH)).eval(), torch.randn(1, ROWS, WIDTH, generator=random)
    quantized = calibrate(layer, LAYER, [x], x) if precision == "int8" else None
    source = Source(quantized or torch.export.export(layer, (x,)), precision)
    with tempfile.TemporaryDirectory(prefix="edgevit-") as scratch:
        folder = Path(scratch)
        module.lower(source, folder, {})
        if quantized is not None and module.census(folder, quantized.asked).missing:
            raise ClaimError(f"{name} has no INT8 kernel for a linear layer here: edgevit doctor tells of this host")
        run, feed = module.load(folder, threads), x.numpy().astype(np.float32)
        timing, _ = protocol.measure(lambda: run(feed), runs=400, warmup_seconds=1, max_seconds=1)
    return Peak(ROWS * WIDTH * WIDTH / timing.min_ms / 1e6, ROWS, WIDTH, WIDTH, timing.runs)
