"""Trace a model and apply the folding rules, measuring what each one costs."""

import copy
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, fx, nn, no_grad
from torch.fx.passes.shape_prop import ShapeProp

from convert.fold import (
    attention_bias_table,
    attention_scale_into_query,
    batchnorm_after_linear,
    batchnorm_before_linear,
    batchnorm_into_convolution,
    residual_into_depthwise,
)


class Rule(Protocol):
    """An exact rewrite of a traced model: each module in this folder that defines these three functions is one."""

    __name__: str

    def matches(self, model: fx.GraphModule, node: fx.Node) -> bool:
        """Whether ``node`` ends the pattern that the rule is about."""

    def check(self, model: fx.GraphModule, node: fx.Node) -> str | None:
        """Why the rewrite would not be exact at this match, or None where it is."""

    def rewrite(self, model: fx.GraphModule, node: fx.Node) -> None:
        """Rewrite a match that passed the check."""


# The norms go first: the residual and the scale meet their convolution only once its norm is gone.
RULES: tuple[Rule, ...] = (
    batchnorm_into_convolution,
    batchnorm_before_linear,
    batchnorm_after_linear,
    residual_into_depthwise,
    attention_scale_into_query,
    attention_bias_table,
)


@dataclass(frozen=True)
class FoldReport:
    """What one rule did: how often it was applied, the largest absolute difference that this made to the
    model's output, and how many matches it left alone for which reason."""

    rule: str
    count: int
    max_abs_error: float
    skipped: dict[str, int]


def fold(model: nn.Module, probe: Tensor) -> tuple[fx.GraphModule, list[FoldReport]]:
    """``model`` in evaluation mode with every rule applied, and a report for each rule in its order.

    The model maps one tensor to one tensor, and must be traceable by ``torch.fx``; it is left as it was. The result
    keeps the names of its layers. ``probe`` is an input of the model (``[B, 3, S, S]`` float32 for an image model):
    the errors are measured on it, and it must have the rank of all later inputs.
    """
    folded = fx.symbolic_trace(copy.deepcopy(model).eval()).eval()
    with no_grad():
        ShapeProp(folded).propagate(probe)
        output = folded(probe)
        reports = []
        for rule in RULES:
            count, skipped = apply(rule, folded)
            before, output = output, folded(probe)
            error = float((output - before).abs().max())
            reports.append(FoldReport(rule.__name__.rpartition(".")[2], count, error, skipped))
    return folded, reports


def apply(rule: Rule, model: fx.GraphModule) -> tuple[int, dict[str, int]]:
    """Rewrite every match of ``rule`` in ``model``: how many were rewritten, and why the others were not."""
    count, skipped = 0, Counter[str]()
    for node in list(model.graph.nodes):
        if not rule.matches(model, node):
            continue
        if reason := rule.check(model, node):
            skipped[reason] += 1
        else:
            rule.rewrite(model, node)
            count += 1
    model.graph.lint()
    model.recompile()
    return count, dict(skipped)
