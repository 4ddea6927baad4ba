"""Export errors of every variant of every family at its published size, with random weights and randomised norms."""

from pathlib import Path

import pytest
import torch

from convert.fold import fold
from convert.registry import TARGETS
from convert.source import Source
from convert.target import target
from edgevit.metrics import sqnr_db
from edgevit.models import registry, weights
from tests.convert.fold.test_every_variant import smooth_image

FLOAT32_DB = 90  # rounding alone, in another order


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target_name", TARGETS)
@pytest.mark.parametrize("name", registry.ENTRIES)
def test_every_variant_answers_alike_on_every_target(name: str, target_name: str, tmp_path: Path) -> None:
    model, _ = weights.load(name, "random")
    probe = smooth_image(registry.entry(name).image_size)
    folded, _ = fold(model, probe)
    with torch.no_grad():
        expected, exported = model(probe).numpy(), torch.export.export(folded, (probe,))
    module = target(target_name)
    module.lower(Source(exported, "fp32"), tmp_path, {})
    decibel = sqnr_db(expected, module.load(tmp_path)(probe.numpy()))
    print(f"{name} on {target_name}: {decibel:.1f} dB")  # shown by pytest -rP
    assert decibel > FLOAT32_DB
