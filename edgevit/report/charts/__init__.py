"""Drawings of a report: inline SVG, of no other colours than the page can change."""
