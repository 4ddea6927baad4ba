"""Training a frozen program on its own grids: it learns, converts bit for bit, and goes on to the same bits."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from calibrate.fake_quantize import FakeQuantize
from calibrate.prepared import Prepared, convert
from calibrate.program import outputs_of
from calibrate.ptq import prepare
from calibrate.qat import Step, Training, train
from calibrate.recipes import EFFICIENTVIT
from edgevit.errors import InputError
from edgevit.metrics import sqnr_db
from tests.calibrate.subjects import FLOAT_RESIDUAL, SIDE, TOKENS, images, net, token_net, vit

STEPS = 40
QUICK = Training(lr=1e-3, scale_lr=1e-2, ema=0.9)
SUBJECTS = {
    "net": (net, FLOAT_RESIDUAL, 16),
    "efficientvit": (vit, EFFICIENTVIT, SIDE),
    "tokens": (token_net, TOKENS, 16),
}


def prepared_for(subject: str) -> Prepared:
    make, recipe, side = SUBJECTS[subject]
    return prepare(make(), recipe, [images(4, seed, side) for seed in range(2)], images(1, 0, side))


def batches(side: int = 16, steps: int = STEPS):  # type: ignore[no-untyped-def]
    return lambda first: (images(8, 100 + step, side) for step in range(first, steps))


def trained(
    checkpoint: Path, subject: str = "net", training: Training = QUICK, steps: int = STEPS
) -> tuple[Prepared, list[Step]]:
    make, _, side = SUBJECTS[subject]
    prepared, seen = prepared_for(subject), []
    train(prepared, make(), training, steps, batches(side, steps), checkpoint, {"images": "x"}, seen.append)
    return prepared, seen


def quality(prepared: Prepared, subject: str = "net") -> float:
    make, _, side = SUBJECTS[subject]
    x = images(64, 9, side)
    with torch.no_grad():
        wanted = outputs_of(make(), x)[0]
    return sqnr_db(wanted.numpy(), prepared.logits(x).numpy())


def state(prepared: Prepared) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in prepared.module.state_dict().items()}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_trained_program_converts_bit_for_bit(subject: str, tmp_path: Path) -> None:
    prepared, seen = trained(tmp_path / "state", subject, steps=3)
    x = images(8, 9, SUBJECTS[subject][2])
    logits = prepared.logits(x)
    assert not torch.equal(logits, prepared_for(subject).logits(x))
    assert torch.equal(convert(prepared).run(x), logits)
    assert [step.step for step in seen] == [1, 2, 3]


def coarse() -> Prepared:
    """With steps eight times as large as they should be."""
    prepared = prepared_for("net")
    for grid in set(grids(prepared)):
        grid.scale *= 8
    return prepared


def test_it_learns(tmp_path: Path) -> None:
    prepared, seen = coarse(), list[Step]()
    before = quality(prepared)
    training = replace(QUICK, scale_lr=5e-2)
    train(prepared, net(), training, STEPS, batches(), tmp_path / "state", {}, seen.append)
    assert quality(prepared) > before + 4
    assert seen[0].sqnr_db == pytest.approx(before, abs=3)
    assert seen[-1].sqnr_db > seen[0].sqnr_db + 4


def test_scales_are_learned_and_stay_float16_numbers(tmp_path: Path) -> None:
    before = [grid.scale for grid in grids(prepared_for("net"))]
    prepared, _ = trained(tmp_path / "state")
    scales = [grid.scale for grid in grids(prepared)]
    assert all(torch.equal(scale, scale.half().float()) for scale in scales)
    assert not any(torch.equal(old, new) for old, new in zip(before, scales, strict=True))


def grids(prepared: Prepared) -> list[FakeQuantize]:
    return [module for module in prepared.module.modules() if isinstance(module, FakeQuantize)]


def test_the_teacher_stays_as_it_was(tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in net().state_dict().items()}
    trained(tmp_path / "state", steps=2)
    assert all(torch.equal(value, before[name]) for name, value in net().state_dict().items())
    assert all(parameter.grad is None for parameter in net().parameters())


@pytest.mark.parametrize("stop", [0, 1, 3, 5])
def test_stopped_at_any_step_it_goes_on_to_the_same_bits(stop: int, tmp_path: Path) -> None:
    whole, _ = trained(tmp_path / "whole", steps=6)

    def interrupted(first: int) -> Iterator[Tensor]:
        yield from itertools.islice(batches(steps=6)(first), stop)
        raise KeyboardInterrupt

    prepared = prepared_for("net")
    with pytest.raises(KeyboardInterrupt):
        train(prepared, net(), QUICK, 6, interrupted, tmp_path / "state", {"images": "x"}, lambda step: None)
    resumed, seen = trained(tmp_path / "state", steps=6)
    assert [step.step for step in seen] == list(range(stop + 1, 7))
    expected = state(whole)
    assert expected.keys() == state(resumed).keys()
    assert all(torch.equal(value, expected[name]) for name, value in state(resumed).items())
    again, seen = trained(tmp_path / "state", steps=6)  # nothing is left to do
    assert not seen
    assert all(torch.equal(value, expected[name]) for name, value in state(again).items())


def test_refuses_the_state_of_another_training(tmp_path: Path) -> None:
    trained(tmp_path / "state", steps=2)
    with pytest.raises(InputError, match="another batch, lr"):
        trained(tmp_path / "state", training=replace(QUICK, lr=1.0, batch=3), steps=2)


@pytest.mark.parametrize("damage", [b"", b"x" * 100])
def test_refuses_a_damaged_state(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(damage)
    with pytest.raises(InputError, match="damaged"):
        trained(tmp_path / "state", steps=2)


def test_a_learning_rate_that_is_much_too_high_is_said_and_the_last_good_state_kept(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"training diverges: .*lower --lr"):
        trained(tmp_path / "state", training=replace(QUICK, lr=3.0), steps=200)
    kept = load_file(tmp_path / "state")
    assert all(value.isfinite().all() for value in kept.values())


def test_an_image_of_nan_is_said_and_changes_nothing(tmp_path: Path) -> None:
    prepared = prepared_for("net")
    poisoned = lambda first: iter([images(8, 1, 16), torch.full((8, 3, 16, 16), torch.nan)])  # noqa: E731
    with pytest.raises(InputError, match="after 1 steps the loss or its gradient is not finite"):
        train(prepared, net(), QUICK, 2, poisoned, tmp_path / "state", {}, lambda step: None)
    assert all(value.isfinite().all() for value in load_file(tmp_path / "state").values())


def test_products_in_bfloat16_train_a_program_that_converts_bit_for_bit(tmp_path: Path) -> None:
    prepared, seen = trained(tmp_path / "state", "efficientvit", replace(QUICK, bf16=True), steps=2)
    exact, _ = trained(tmp_path / "exact", "efficientvit", steps=2)
    x = images(4, 9, SIDE)
    logits = prepared.logits(x)
    assert seen[0].sqnr_db > 10
    assert not torch.equal(logits, exact.logits(x))
    assert torch.equal(convert(prepared).run(x), logits)


def test_one_seed_gives_one_result(tmp_path: Path) -> None:
    first, second = (state(trained(tmp_path / name, steps=3)[0]) for name in "ab")
    assert all(torch.equal(value, first[name]) for name, value in second.items())


def test_a_state_that_cannot_be_written_is_found_out_before_training(tmp_path: Path) -> None:
    seen: list[Step] = []
    with pytest.raises(OSError, match="nowhere"):
        train(prepared_for("net"), net(), QUICK, 2, batches(), tmp_path / "nowhere" / "state", {}, seen.append)
    assert not seen
