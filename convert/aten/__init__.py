"""Exact rewrites of a captured program for ExecuTorch, one a file: each edits a module and counts."""
