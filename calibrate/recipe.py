"""What is quantised: a short, ordered list of rules over operator names, written into every manifest.

An operator is named by the module that holds its weight (``blocks1.0.ffn0.m.pw1.c``); the residual addition
that takes its result is ``<that name>.residual``. The first rule whose pattern matches decides.

The grid itself is not a choice, because every target must be able to represent it (DESIGN.md, "The one
quantised program"): weights int8, symmetric, one scale an output
channel; activations 8-bit, affine, one scale a tensor.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

Precision = Literal["int8", "float"]
Observer = Literal["minmax", "histogram", "percentile", "sqnr", "hessian"]


@dataclass(frozen=True)
class Rule:
    """Operators whose name matches the shell pattern ``operators`` run in ``precision``."""

    operators: str
    precision: Precision
    because: str


@dataclass(frozen=True)
class Recipe:
    """Ordered rules and the observer that turns what calibration saw into a scale and a zero point.

    ``migration`` and ``equalisation`` are the strengths, 0 to 1, of ``calibrate.migrate`` and ``calibrate.equalize``,
    ``rounding`` and ``bias_correction`` say whether ``calibrate.rounding`` and ``calibrate.bias_correction`` take part.
    None and False leave the parameters as they are.

    ``may_lack`` repeats the patterns of those rules that name nothing in some members of the recipe's family. Raises
    ValueError for one that is no rule's: to go unseen, a misspelling must be made twice.
    """

    rules: tuple[Rule, ...]
    observer: Observer
    may_lack: tuple[str, ...] = ()
    migration: float | None = None
    equalisation: float | None = None
    rounding: bool = False
    bias_correction: bool = False

    def __post_init__(self) -> None:
        patterns = {rule.operators for rule in self.rules}
        if unknown := [pattern for pattern in self.may_lack if pattern not in patterns]:
            raise ValueError(f"no rule of the recipe has the pattern {unknown[0]!r}: correct it")
        for strength in (self.migration, self.equalisation):
            if strength is not None and not 0 <= strength <= 1:
                raise ValueError(f"a strength of {strength} is not between 0 and 1: correct the recipe")

    def precision(self, operator: str) -> Precision:
        """What the first matching rule says; float for an operator that no rule names."""
        return next((r.precision for r in self.rules if fnmatchcase(operator, r.operators)), "float")

    @property
    def searches(self) -> bool:
        """Whether a range is one of a list of candidates, of which two may be nearly as good."""
        return self.observer in ("percentile", "sqnr", "hessian")

    def unused(self, operators: Iterable[str]) -> list[Rule]:
        """Rules that match none of ``operators``: a misspelt one would otherwise change nothing, silently."""
        names = list(operators)
        needed = (rule for rule in self.rules if rule.operators not in self.may_lack)
        return [r for r in needed if not any(fnmatchcase(name, r.operators) for name in names)]

    def manifest(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_manifest(cls, stated: Mapping[str, Any]) -> "Recipe":
        """Of what ``manifest`` gave, through JSON or not. Raises TypeError or ValueError for anything else."""
        rules = tuple(Rule(**rule) for rule in stated["rules"])
        if unknown := {rule.precision for rule in rules} - {*get_args(Precision)}:
            raise ValueError(f"a rule has the precision {unknown.pop()!r}: int8 or float are known")
        if stated["observer"] not in get_args(Observer):
            raise ValueError(f"the recipe has the observer {stated['observer']!r}, which is not known")
        return cls(**{**stated, "rules": rules, "may_lack": tuple(stated["may_lack"])})
