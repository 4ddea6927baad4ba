"""A trained program: prepared, converted and lowered, each is the one before it."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from calibrate.prepared import Prepared, convert
from calibrate.program import QuantizedProgram
from calibrate.ptq import prepare
from calibrate.qat import Training, train
from calibrate.recipes import EFFICIENTVIT
from convert.source import Source
from convert.target import target
from edgevit.metrics import sqnr_db
from tests.calibrate.subjects import SIDE, images, vit

STEPS = 3
X = images(32, 5, SIDE)


@cache
def trained() -> tuple[Prepared, torch.Tensor]:
    """The program, and its logits of ``X`` as it was trained."""
    prepared = prepare(vit(), EFFICIENTVIT, [images(8, 1, SIDE)], images(1, 0, SIDE))
    with TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        batches = lambda first: (images(8, 100 + step, SIDE) for step in range(first, STEPS))  # noqa: E731
        train(prepared, vit(), Training(), STEPS, batches, state, {}, lambda step: None)
    return prepared, prepared.logits(X)


@cache
def converted() -> QuantizedProgram:
    return convert(trained()[0])


def test_conversion_changes_no_bit() -> None:
    assert torch.equal(converted().run(X), trained()[1])


@pytest.mark.parametrize("name", ["onnx", "openvino", "executorch", "coreml"])
def test_the_artifact_is_the_program(name: str, tmp_path: Path) -> None:
    module, program = target(name), converted()
    dropped = module.lower(Source(program, "int8"), tmp_path, {})
    expected = {tensor: grid for tensor, grid in program.tensors.items() if tensor not in dropped}
    assert module.grid(tmp_path) == expected
    run = module.load(tmp_path)
    logits = np.concatenate([run(x[None].numpy()) for x in X])
    assert sqnr_db(program.run(X).numpy(), logits) > 35  # a step of a logit here and there
