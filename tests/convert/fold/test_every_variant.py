"""Fold errors of every variant of every family at its published size, with random weights and randomised norms."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convert.fold import FoldReport, fold
from edgevit.models import registry, weights
from edgevit.models.dynamicvit import DynamicViT
from tests.convert.fold.conftest import error

FLOAT32, FLOAT64 = 2e-5, 1e-12  # of the largest logit


def smooth_image(size: int) -> Tensor:
    """``[1, 3, size, size]``: on mere noise a random EfficientViT is chaotic, and magnifies any rounding."""
    coarse = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse, size, mode="bilinear")


def relative_error(model: nn.Module, probe: Tensor) -> tuple[float, list[FoldReport]]:
    with torch.no_grad():
        expected = model(probe)
        folded, reports = fold(model, probe)
        actual = folded(probe)
    logits, folded_logits = (value[0] if isinstance(value, tuple) else value for value in (expected, actual))
    return error(folded_logits, logits) / float(logits.abs().max()), reports


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", registry.ENTRIES)
def test_every_variant_keeps_its_logits_and_its_selection(name: str) -> None:
    """In float64 as well, where rounding hides nothing."""
    model, _ = weights.load(name, "random")
    if isinstance(model, DynamicViT):
        model.returns_selection = True
    probe = smooth_image(registry.entry(name).image_size)
    rounded, reports = relative_error(model, probe)
    assert not any(report.integers_changed for report in reports)
    assert sum(report.count for report in reports)
    assert rounded <= FLOAT32
    exact, _ = relative_error(model.double(), probe.double())
    assert exact <= FLOAT64
