"""What each quantised operator of a frozen program costs, measured from both ends.

Alone: only it is quantised, all others compute in float. Spared: only it computes in float, all others are quantised.
Either is compared with the float program. An operator's noise is the mean of what it adds first and what it adds last,

    noise = (n(only it) + n(all) - n(all but it)) / 2,    n = sum (logits - float logits)² / sum float logits²

the two ends of the Shapley value, which takes the mean over every order in which the operators could be quantised.
Negative where errors cancel. Where a model prunes tokens, a score that moves may drop another token: that is part of
what its operators cost here, because the logits alone are compared.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from calibrate.branches import Trunk
from calibrate.prepared import Prepared
from edgevit.errors import InputError
from edgevit.metrics import Logits, sqnr_db, top1_agreement

TRUNK = ""  # among names of operators


@dataclass(frozen=True)
class Fidelity:
    """Of a program's logits beside the float program's."""

    sqnr_db: float
    top1_agreement: float  # 0 to 1

    @property
    def noise(self) -> float:
        """Power, as a fraction of the float logits'."""
        return float(10 ** (-self.sqnr_db / 10))


@dataclass(frozen=True)
class OperatorCost:
    name: str
    kind: str
    alone: Fidelity  # only it is quantised
    spared: Fidelity  # all but it are quantised
    noise: float


@dataclass(frozen=True)
class Sensitivity:
    images: int
    quantised: Fidelity  # all operators
    operators: tuple[OperatorCost, ...]  # the noisiest first

    def manifest(self) -> dict[str, Any]:
        return asdict(self) | {"operators": [asdict(operator) for operator in self.operators]}


def measure(prepared: Prepared, batches: Iterable[Tensor], advance: Callable[[int], None]) -> Sensitivity:
    """Measure every operator of ``prepared`` on ``batches`` ([B, 3, S, S]), and leave all of them quantised.

    ``advance`` is told of images as programs finish with them: in all, ``programs(prepared)`` times each. Kept until
    the end are logits alone. Raises InputError if there is no image or no operator, or if logits are not finite.
    """
    everything = prepared.asked.keys()
    if not everything:
        raise InputError("the recipe quantises no operator of this model: correct it")
    trunks = (
        Trunk(prepared, set(), {TRUNK: set(), **{name: {name} for name in everything}}),
        Trunk(prepared, everything, {TRUNK: everything, **{name: everything - {name} for name in everything}}),
    )
    found: tuple[defaultdict[str, list[Tensor]], ...] = (defaultdict(list), defaultdict(list))
    for x in batches:
        for trunk, logits in zip(trunks, found, strict=True):
            for name, values in trunk.logits(x):
                logits[name].append(values)
                advance(len(x))
    prepared.quantise(everything)
    alone, spared = ({name: joined(parts) for name, parts in logits.items()} for logits in found)
    return compared(prepared.asked, alone, spared)


def programs(prepared: Prepared) -> int:
    """How many programs ``measure`` runs on each image."""
    return 2 * len(prepared.asked) + 2


def compared(asked: dict[str, str], alone: dict[str, Logits], spared: dict[str, Logits]) -> Sensitivity:
    if not alone:
        raise InputError("there is no image to measure with: give at least one")
    reference = finite(alone[TRUNK], "the float program")
    first = {name: fidelity(reference, alone[name], f"the program with only {name} quantised") for name in asked}
    quantised = fidelity(reference, spared[TRUNK], "the quantised program")
    last = {name: fidelity(reference, spared[name], f"the program with all but {name} quantised") for name in asked}
    costs = [
        OperatorCost(name, kind, first[name], last[name], (first[name].noise + quantised.noise - last[name].noise) / 2)
        for name, kind in asked.items()
    ]
    return Sensitivity(len(reference), quantised, tuple(sorted(costs, key=lambda cost: -cost.noise)))


def fidelity(reference: Logits, logits: Logits, program: str) -> Fidelity:
    finite(logits, program)
    return Fidelity(sqnr_db(reference, logits), top1_agreement(reference, logits))


def finite(logits: Logits, program: str) -> Logits:
    """Raises InputError, which names the program, unless they are."""
    if not torch.from_numpy(logits).isfinite().all():
        raise InputError(f"the logits of {program} are not finite: check the model's weights")
    return logits


def joined(batches: Iterable[Tensor]) -> Logits:
    """``[N, classes]`` of all batches."""
    logits: Logits = torch.cat(list(batches)).numpy()
    return logits
