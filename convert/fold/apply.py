"""Trace a model and apply the folding rules, measuring what each one costs."""

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from calibrate.program import outputs_of
from convert.fold import (
    attention_bias_table,
    attention_scale_into_query,
    batchnorm_after_linear,
    batchnorm_before_linear,
    batchnorm_into_convolution,
    layernorm_into_linear,
    residual_into_depthwise,
)


class Rule(Protocol):
    """An exact rewrite of a traced model: each module in this folder that defines these three functions is one."""

    __name__: str

    def matches(self, model: fx.GraphModule, node: fx.Node) -> bool:
        """Whether the pattern that the rule is about is at ``node``, the place in it that the rule names."""

    def check(self, model: fx.GraphModule, node: fx.Node) -> str | None:
        """Why the rewrite would not be exact at this match, or None where it is."""

    def rewrite(self, model: fx.GraphModule, node: fx.Node) -> None:
        """Rewrite a match that passed the check."""


# The norms go first: the residual and the scale meet their convolution only once its norm is gone.
RULES: tuple[Rule, ...] = (
    batchnorm_into_convolution,
    batchnorm_before_linear,
    batchnorm_after_linear,
    layernorm_into_linear,
    residual_into_depthwise,
    attention_scale_into_query,
    attention_bias_table,
)

# Exact in float, but a norm's gain spreads the weights of a row, and its input loses what the gain took off: DeiT-T's
# INT8 logits lost 1.3 dB by it (0.9 to 1.6), and no target gained time.
RULES_BEFORE_INT8 = tuple(rule for rule in RULES if rule is not layernorm_into_linear)


@dataclass(frozen=True)
class FoldReport:
    """What one rule did: how often it was applied, the largest absolute difference that this made to the
    model's logits, and how many matches it left alone for which reason.

    ``integers_changed``: whether an integer output, such as the ids of kept tokens, holds other values, their order
    aside. A rounding can swap two tokens whose scores tie nearly; the error is then that of another selection.
    """

    rule: str
    count: int
    max_abs_error: float
    skipped: dict[str, int]
    integers_changed: bool = False


def fold(model: nn.Module, probe: Tensor, rules: Sequence[Rule] = RULES) -> tuple[fx.GraphModule, list[FoldReport]]:
    """``model`` in evaluation mode with ``rules`` applied, and a report for each rule in its order.

    The model maps one tensor to logits, or to a tuple of tensors that starts with them, and must be traceable by
    ``torch.fx``; it is left as it was. The result keeps the names of its layers. ``probe`` is an input of the model
    (``[B, 3, S, S]`` float32 for an image model): the errors are measured on it, and but for B it must have the shape
    of all later inputs.
    """
    folded = fx.symbolic_trace(copy.deepcopy(model).eval()).eval()
    with torch.no_grad():
        ShapeProp(folded).propagate(probe)
        outputs = outputs_of(folded, probe)
        reports = []
        for rule in rules:
            count, skipped = apply(rule, folded)
            before, outputs = outputs, outputs_of(folded, probe)
            error = float((outputs[0] - before[0]).abs().max())
            changed = integers_differ(outputs, before)
            reports.append(FoldReport(rule.__name__.rpartition(".")[2], count, error, skipped, changed))
    return folded, reports


def integers_differ(outputs: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> bool:
    """Whether an integer output holds other values along its last dimension; top-k leaves their order open."""
    return any(
        not torch.equal(value.sort().values, other.sort().values)
        for value, other in zip(outputs, others, strict=True)
        if not value.is_floating_point()
    )


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
