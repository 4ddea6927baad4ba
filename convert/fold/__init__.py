"""Exact algebraic rewrites of a model before export, one a file."""

from convert.fold.apply import RULES, FoldReport, Rule, fold

__all__ = ["RULES", "FoldReport", "Rule", "fold"]
