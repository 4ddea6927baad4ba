"""A narrow SepViT of one to eight heads, with and without window tokens, on every target."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from calibrate.program import QuantizedProgram
from calibrate.ptq import calibrate
from calibrate.recipes import SEPVIT
from convert.registry import TARGETS
from convert.source import Source
from convert.target import Run, target
from edgevit.metrics import sqnr_db
from edgevit.models import sepvit
from edgevit.models.sepvit import Config, SepViT
from edgevit.models.weights import randomize_
from tests.calibrate.subjects import images

SIDE = 56
X = images(16, 9, SIDE)
ASKED = {"conv": 3, "linear": 17}  # the later patch embeddings; 4 blocks of 4 layers, and the head
every = pytest.mark.parametrize("name", TARGETS)


@cache
def net() -> SepViT:
    torch.manual_seed(0)
    model = SepViT(Config(32, (1, 1, 1, 1)), SIDE, classes=10)
    randomize_(model, sepvit, 0)
    return model.eval()


@cache
def quantized() -> QuantizedProgram:
    batches = [images(8, seed, SIDE) for seed in (1, 2)]
    return calibrate(net(), SEPVIT, batches, batches[0][:1])


def answers(run: Run) -> np.ndarray:
    return np.concatenate([run(x[None].numpy()) for x in X])


def test_openvino_compiles_the_attention_with_one_head_in_float(tmp_path: Path) -> None:
    """Its plugin crashes on another form of it."""
    module = target("openvino")
    module.lower(Source(torch.export.export(net(), (X[:1],)), "fp32"), tmp_path, {})
    with torch.no_grad():
        assert sqnr_db(net()(X).numpy(), answers(module.load(tmp_path))) > 90


@every
def test_every_operator_that_was_asked_runs_in_integers_on_the_programs_grids(name: str, tmp_path: Path) -> None:
    module, asked = target(name), quantized().asked
    dropped = module.lower(Source(quantized(), "int8"), tmp_path, {})
    census = module.census(tmp_path, asked)
    assert census.missing == ()
    assert {kind: census.int8[kind] for kind in ASKED} == ASKED
    assert module.grid(tmp_path) == {key: grid for key, grid in quantized().tensors.items() if key not in dropped}
    logits, *_ = quantized().outputs(X)
    assert sqnr_db(logits.numpy(), answers(module.load(tmp_path))) > 20
