"""Ranges of the least error in the logits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from calibrate.counted import BINS, expected_errors
from calibrate.hessian import signs
from calibrate.observers import HalfHessian
from calibrate.ptq import calibrate
from calibrate.recipe import Recipe, Rule
from edgevit.errors import InputError
from edgevit.metrics import sqnr_db
from tests.calibrate.subjects import FLOAT_RESIDUAL, images, net, net_batches, quantized_net

HESSIAN = Recipe((Rule("*", "int8", ""),), "hessian")
MINMAX = replace(HESSIAN, observer="minmax")
EXAMPLE = images(1, 0, 4)


def heavy_tailed() -> list[Tensor]:
    """Enough values that clipping the largest pays."""
    return [images(64, seed, 32) ** 3 for seed in range(2)]


def observer() -> HalfHessian:
    return HalfHessian(dtype=torch.int8, quant_min=-128, quant_max=127, qscheme=torch.per_tensor_affine, eps=2**-16)


def test_a_value_weighs_its_squared_gradient() -> None:
    seen, values = observer(), torch.tensor([-1.0, 0.0, 3.0])
    seen(values)
    seen.count_from_here()
    (seen(values.requires_grad_()) * torch.tensor([2.0, 0.5, 3.0])).sum().backward()
    assert seen.counts is not None
    assert {int(i): float(seen.counts[i]) for i in seen.counts.nonzero()} == {
        0: 4.0,
        round((BINS - 1) / 4): 0.25,
        BINS - 1: 9.0,
    }


def test_a_reader_off_the_grid_adds_nothing() -> None:
    seen, values = observer(), torch.tensor([-1.0, 3.0], requires_grad=True)
    seen(values.detach())
    seen.count_from_here()
    (seen(values) + 10 * values).sum().backward()
    assert seen.counts is not None
    assert float(seen.counts.sum()) == 2
    assert values.grad.tolist() == [11, 11]


def test_the_range_is_the_one_of_least_weighted_error(random: np.random.Generator) -> None:
    values = torch.from_numpy(random.standard_t(4, 100_000)).float()
    gradients = torch.from_numpy(random.uniform(0, 1, 100_000)).float()
    seen = observer()
    seen(values)
    extremes = seen.calculate_qparams()
    seen.count_from_here()
    (seen(values.clone().requires_grad_()) * gradients).sum().backward()

    def error(scale: Tensor, zero_point: Tensor) -> float:
        rounded = (torch.round(values.detach() / scale) + zero_point).clamp(-128, 127)
        return float(((rounded - zero_point) * scale - values.detach()).mul(gradients).square().sum())

    found, low, high = seen.calculate_qparams(), values.min(), values.max()
    others = [seen._calculate_qparams(low * a, high * b) for a in (1, 0.5, 0.2, 0.1) for b in (1, 0.5, 0.2, 0.1)]
    assert error(*found) < 0.9 * error(*extremes)
    assert error(*found) < 1.02 * min(error(*other) for other in others)


@pytest.mark.parametrize("low", [-1.0, -0.05, 0.0])
def test_the_expected_error_is_that_of_rounding(low: float, random: np.random.Generator) -> None:
    """On values as many as hide the difference, half of them almost 0."""
    samples = torch.from_numpy(random.normal(0, 1, 200_000) * random.choice([1, 1e-3], 200_000))
    samples = samples[samples >= low]
    values = torch.linspace(float(samples.min()), float(samples.max()), BINS, dtype=torch.float64)
    bins = ((samples - values[0]) / (values[-1] - values[0]) * (BINS - 1)).round().long()
    weights = torch.bincount(bins, minlength=BINS).double()
    steps = torch.tensor([0.01, 0.04, 0.1], dtype=torch.float64)
    lows, highs = torch.ceil(low / steps) * steps, 60 * steps
    expected = [
        float(((samples / step).round() * step).clamp(start, end).sub(samples).square().sum())
        for step, start, end in zip(steps, lows, highs, strict=True)
    ]
    assert expected_errors(values, weights, steps, lows, highs).tolist() == pytest.approx(expected, rel=0.05)


class Columns(nn.Module):
    """A linear layer that does not read its first feature, which is a hundred times as large."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(48, 10)
        nn.init.zeros_(self.fc.weight[:, 0])

    def forward(self, x: Tensor) -> Tensor:
        large = torch.cat([torch.full((1,), 100.0), torch.ones(47)])
        return self.fc(x.flatten(1) * large)


def test_what_no_logit_reads_does_not_widen_the_range() -> None:
    model, batches = Columns().eval(), [images(16, seed, 4) for seed in range(4)]
    wide, narrow = (calibrate(model, recipe, batches, EXAMPLE) for recipe in (MINMAX, HESSIAN))
    rest = torch.cat(batches).flatten(1)[:, 1:]
    assert narrow.tensors["fc.input"].scale[0] < 1.1 * float(rest.max() - rest.min()) / 255
    test = images(64, 9, 4)
    with torch.no_grad():
        logits = model(test).numpy()
    assert sqnr_db(logits, narrow.run(test).numpy()) > sqnr_db(logits, wide.run(test).numpy()) + 15


class Beside(nn.Module):
    """Its second output hangs on a layer that the logits do not."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.a(x).mean((2, 3)), self.b(x)


def test_a_tensor_that_no_logit_hangs_on_keeps_its_extremes() -> None:
    model, batches = Beside().eval(), heavy_tailed()
    extremes, found = (calibrate(model, recipe, batches, EXAMPLE).tensors for recipe in (MINMAX, HESSIAN))
    assert found["b.output"] == extremes["b.output"]
    assert found["a.output"] != extremes["a.output"]


def test_neither_the_order_of_the_images_nor_their_batches_matter() -> None:
    recipe, shuffled = replace(FLOAT_RESIDUAL, observer="hessian"), torch.cat(net_batches()).flip(0)
    again = calibrate(net(), recipe, shuffled.split(5), images(1, 0, 16))
    assert again.tensors == quantized_net(recipe).tensors


def test_an_image_has_its_own_signs_wherever_it_stands() -> None:
    x = images(3, 0, 4)
    assert torch.equal(signs(x, 100).flip(0), signs(x.flip(0), 100))
    assert set(signs(x, 100).flatten().tolist()) == {-1, 1}
    assert len({tuple(row.tolist()) for row in signs(x, 100)}) == 3


@pytest.mark.parametrize("inplace", [True, False])
def test_a_relu_in_place_hides_no_gradient(inplace: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace), nn.Conv2d(4, 5, 1), nn.Flatten()).eval()
    found = calibrate(model, HESSIAN, heavy_tailed(), EXAMPLE).tensors
    extremes = calibrate(model, MINMAX, heavy_tailed(), EXAMPLE).tensors
    assert found["0.output"].scale < extremes["0.output"].scale


class Root(nn.Module):
    """Its logits are finite where their gradient is not."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sqrt(self.a(x).relu()).mean((2, 3))


def test_a_gradient_that_is_not_finite_is_refused() -> None:
    model, batch = Root().eval(), torch.zeros(2, 3, 4, 4)
    nn.init.zeros_(model.a.bias)
    calibrate(model, MINMAX, [batch], EXAMPLE)
    with pytest.raises(InputError, match="gradient of the logits on a calibration image is not finite"):
        calibrate(model, HESSIAN, [batch], EXAMPLE)


def test_images_that_can_be_read_only_once_are_refused() -> None:
    with pytest.raises(TypeError, match="needed several times"):
        calibrate(net(), HESSIAN, iter(net_batches()), EXAMPLE)
