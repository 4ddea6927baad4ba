"""Mixed precision: the operators to leave in float so that the quantised program meets a limit, at the least work.

Operators are taken in the order of noise for their work, as HAWQ does (arXiv 1905.03696: sensitivity divided by size);
the shortest start of that list with which the program meets the limit is found by halving, since noise falls along it;
then each of its members, the one of the most work first, is quantised again where the limit still holds. Every step is
measured on images, none predicted, and no clock is read: the same images give the same choice.
"""

import glob
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import Interpreter, Node

from calibrate.fake_quantize import FakeQuantize
from calibrate.prepared import Prepared
from calibrate.quantizer import OPERATOR_META
from calibrate.recipe import Recipe, Rule
from calibrate.sensitivity import OperatorCost, Sensitivity, finite, joined
from edgevit.errors import InputError
from edgevit.metrics import Drop, Logits, paired_drop, sqnr_db

MOVED = 4  # multiplications that take as long as it takes to move an element, in float and in int8, roughly


@dataclass(frozen=True)
class Limits:
    """What a program must keep beside the float one; at least one of the two."""

    max_drop: float | None = None  # points of top-1
    min_sqnr: float | None = None  # dB

    def __post_init__(self) -> None:
        if self.max_drop is None and self.min_sqnr is None:
            raise ValueError("a choice needs a limit: give the largest drop or the least SQNR")

    def __str__(self) -> str:
        sqnr = [] if self.min_sqnr is None else [f"an SQNR of {self.min_sqnr:g} dB"]
        drop = [] if self.max_drop is None else [f"a drop of at most {self.max_drop:g} points"]
        return " and ".join(sqnr + drop)


@dataclass(frozen=True)
class Kept:
    """What a program keeps. ``drop`` is of top-1 against the labels, or of the float program's own answers."""

    sqnr_db: float
    drop: Drop

    def meets(self, limits: Limits) -> bool:
        return (limits.min_sqnr is None or self.sqnr_db >= limits.min_sqnr) and (
            limits.max_drop is None or self.drop.drop_points <= limits.max_drop
        )

    def __str__(self) -> str:
        return f"{self.sqnr_db:.1f} dB and {self.drop.drop_points:.1f} points"


@dataclass(frozen=True)
class Choice:
    """``kept`` was measured on ``images``; a drop that few images show is as uncertain as its interval says.

    Measured was the frozen program with the operators in float. What ``recipe`` prepares may differ from it a little:
    a tensor between an operator left in float and a quantised one stayed on its grid for all that read it, and ranges
    and migrated norms stayed what all operators made of them. ``Trial(anew, ...).keeps(set())`` measures that program.
    """

    limits: Limits
    floats: tuple[OperatorCost, ...]  # in the program's order
    work: float  # of these, as a fraction of all operators'
    before: Kept  # with nothing left in float
    kept: Kept
    images: int
    labelled: bool  # else the float program's answers were the labels

    @property
    def met(self) -> bool:
        return self.kept.meets(self.limits)

    @property
    def problem(self) -> str | None:
        """One sentence where no choice that leaves anything quantised meets the limit."""
        if self.met:
            return None
        return (
            f"no choice of float operators reaches {self.limits} on {self.images} images: the best that was found, "
            f"with {len(self.floats)} in float, keeps {self.kept}, and nothing in float {self.before}: "
            "allow more loss, or export with --quant fp16"
        )

    def recipe(self, recipe: Recipe) -> Recipe:
        """``recipe``, the operators that were chosen in front."""
        return replace(recipe, rules=tuple(map(rule, self.floats)) + recipe.rules)

    def manifest(self) -> dict[str, Any]:
        return asdict(self) | {"floats": [cost.name for cost in self.floats], "met": self.met}


def rule(cost: OperatorCost) -> Rule:
    """For this operator alone: a bracket in its name would be a pattern."""
    because = f"mixed precision: {cost.alone.sqnr_db:.1f} dB alone, {cost.spared.sqnr_db:.1f} with all others quantised"
    return Rule(glob.escape(cost.name), "float", because)


def choose(
    prepared: Prepared,
    sensitivity: Sensitivity,
    batches: Iterable[Tensor],
    labels: NDArray[np.integer[Any]] | None,
    limits: Limits,
    advance: Callable[[int], None],
) -> Choice:
    """Choose among the operators of ``prepared``, and leave all of them quantised.

    ``batches`` ([B, 3, S, S]) are gone through once a program that is tried, at most two and a half times as many as
    there are operators; ``advance`` is told of each batch. ``labels`` is ``[N]``; without them the float program's own
    answers take their place. Raises InputError if there is no image or logits are not finite, and TypeError if
    ``batches`` can be gone through only once.
    """
    if isinstance(batches, Iterator):
        raise TypeError("the images are needed several times: give a list, or what makes a new iterator each time")
    trial = Trial(prepared, batches, labels, advance)
    before = trial.keeps(set())
    left, kept = (set[str](), before) if before.meets(limits) else search(prepared, sensitivity, trial, limits)
    prepared.quantise(prepared.asked.keys())
    costs, effort = {cost.name: cost for cost in sensitivity.operators}, work(prepared)
    return Choice(
        limits,
        floats=tuple(costs[name] for name in prepared.asked if name in left),
        work=sum(effort[name] for name in left) / sum(effort.values()),
        before=before,
        kept=kept,
        images=len(trial.reference),
        labelled=labels is not None,
    )


class Trial:
    """Runs the images through the program with some operators in float."""

    def __init__(
        self,
        prepared: Prepared,
        batches: Iterable[Tensor],
        labels: NDArray[np.integer[Any]] | None,
        advance: Callable[[int], None],
    ) -> None:
        self.prepared, self.batches, self.advance = prepared, batches, advance
        self.reference = self.logits(prepared.asked.keys())
        self.labels = self.reference.argmax(1) if labels is None else labels

    def logits(self, left: Set[str]) -> Logits:
        self.prepared.quantise(self.prepared.asked.keys() - left)
        found = []
        for batch in self.batches:
            found.append(self.prepared.logits(batch))
            self.advance(len(batch))
        if not found:
            raise InputError("there is no image to measure with: give at least one")
        return finite(joined(found), f"the program with {len(left)} of {len(self.prepared.asked)} operators in float")

    def keeps(self, left: Set[str]) -> Kept:
        logits = self.logits(left)
        return Kept(sqnr_db(self.reference, logits), paired_drop(self.reference, logits, self.labels))


def search(prepared: Prepared, sensitivity: Sensitivity, trial: Trial, limits: Limits) -> tuple[set[str], Kept]:
    """The operators to leave in float, of which there are some, and what the program then keeps.

    Where noise for work does not lead to the limit noise alone does, if anything: it ends with the quietest operator.
    """
    effort = work(prepared)
    noise = {cost.name: cost.noise for cost in sensitivity.operators}
    for ranking in (ranked({name: noise[name] / effort[name] for name in noise}), ranked(noise)):
        candidates = starts(prepared, ranking)
        kept = trial.keeps(candidates[-1])
        if kept.meets(limits):
            left, kept = shortest(candidates, kept, trial, limits)
            return taken_back(prepared, left, kept, trial, limits)
    return candidates[-1], kept


def ranked(values: dict[str, float]) -> list[str]:
    """The largest first; of equal ones that which comes first."""
    return sorted(values, key=lambda name: -values[name])


def starts(prepared: Prepared, ranking: Sequence[str]) -> list[set[str]]:
    """What each start of ``ranking`` leaves in float, from none on, as long as something is quantised."""
    candidates = (closed(prepared, set(ranking[:length])) for length in range(len(ranking)))
    return [left for left in candidates if len(left) < len(ranking)]


def shortest(candidates: Sequence[set[str]], kept: Kept, trial: Trial, limits: Limits) -> tuple[set[str], Kept]:
    """By halving, of candidates whose first does not meet the limit and whose last does, keeping ``kept``."""
    fails, meets = 0, len(candidates) - 1
    while meets - fails > 1:
        middle = (fails + meets) // 2
        found = trial.keeps(candidates[middle])
        if found.meets(limits):
            meets, kept = middle, found
        else:
            fails = middle
    return candidates[meets], kept


def taken_back(prepared: Prepared, left: set[str], kept: Kept, trial: Trial, limits: Limits) -> tuple[set[str], Kept]:
    """``left`` without those that the limit does not need, which are tried from the most work to the least."""
    effort = work(prepared)
    for name in ranked({name: effort[name] for name in prepared.asked if name in left}):
        fewer = closed(prepared, left - {name})
        if name in fewer:
            continue
        found = trial.keeps(fewer)
        if found.meets(limits):
            left, kept = fewer, found
    return left, kept


def closed(prepared: Prepared, left: set[str]) -> set[str]:
    """``left`` and the sums that cannot be quantised then: conversion names one of two summands after the sum.

    The other must be what a quantised layer gives, or what an earlier quantised operator reads.
    """
    named: set[FakeQuantize] = set()
    found = set(left)
    for name, grids in prepared.grids().items():
        if prepared.asked[name] == "add" and named.isdisjoint(grids.inputs):
            found.add(name)
        if name not in found:
            named |= {*grids.inputs, *(grids.outputs if prepared.asked[name] != "add" else ())}
    return found


def work(prepared: Prepared) -> dict[str, int]:
    """What stands for each operator's time: its multiplications, and MOVED for each element that it reads or writes.

    Of one run of the example. It leaves out what lies between operators: a float one between quantised ones also
    costs a change of grid on either side.
    """
    found: dict[str, int] = {}

    class Count(Interpreter):
        def run_node(self, n: Node) -> Any:
            value = super().run_node(n)
            name = n.meta.get(OPERATOR_META)
            if name in prepared.asked:
                operands = self.fetch_args_kwargs_from_env(n)[0][:2]
                products = 0 if prepared.asked[name] == "add" else value.numel() * operands[1][0].numel()
                found[name] = products + MOVED * sum(tensor.numel() for tensor in (*operands, value))
            return value

    with torch.no_grad():
        Count(prepared.module).run(prepared.example)
    return found
