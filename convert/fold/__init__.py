"""Exact algebraic rewrites of a model before export, one a file."""

from convert.fold.apply import RULES, RULES_BEFORE_INT8, FoldReport, Rule, fold

__all__ = ["RULES", "RULES_BEFORE_INT8", "FoldReport", "Rule", "fold"]
