"""Large channels between two operators → the weights that read them."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibrate.channels import LEAST
from calibrate.equalize import equalize
from calibrate.prepared import capture, freeze, observe, with_observers
from calibrate.recipe import Recipe, Rule
from calibrate.recipes import EFFICIENTVIT
from edgevit.metrics import sqnr_db
from tests.calibrate.subjects import SIDE, images, vit

EXAMPLE = images(1, 0, 16)
EVERYTHING = Recipe((Rule("*", "int8", ""),), "minmax")
GROUPS = 2


class Chain(nn.Module):
    """``[B, 3, 16, 16]`` → ``[B, 5]``: dense, depthwise, grouped and dense convolutions, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.dw = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, 2, padding=1, groups=8)
        self.grouped, self.b = nn.Conv2d(8, 12, 3, padding=1, groups=GROUPS, bias=False), nn.Conv2d(12, 6, 1)
        self.c, self.d = nn.Linear(6, 16), nn.Linear(16, 5)
        for layer in (self.a, self.dw, self.c):
            nn.init.uniform_(layer.bias, 0.5, 1)  # no ReLU leaves a channel at 0

    def values(self, x: Tensor) -> list[Tensor]:
        """What dw, grouped, b and d read, then the output."""
        spread = torch.relu(self.a(x))
        filtered = torch.relu(self.dw(spread))
        grouped = self.grouped(filtered)
        hidden = torch.relu(self.c(self.b(grouped).mean((2, 3))))
        return [spread, filtered, grouped, hidden, self.d(hidden)]

    def forward(self, x: Tensor) -> Tensor:
        return self.values(x)[-1]


class Two(nn.Module):
    """``[B, 3, 16, 16]`` → ``[B, 6]``: two convolutions; between them one channel is a hundred times as large."""

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1, groups=groups)
        with torch.no_grad():
            self.a.weight[3] *= 100
            self.a.bias[3] *= 100
            if groups == 1:
                self.b.weight[:, 3] /= 100
            else:
                self.b.weight[3] /= 100

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x))).mean((2, 3))


def largest(value: Tensor) -> Tensor:
    """``[C]`` of a map's or a row's channels."""
    return value.detach().abs().amax([dimension for dimension in range(value.ndim) if dimension != 1])


def rows(factors: Tensor) -> Tensor:
    return factors.reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("strength", [0.25, 0.5, 1.0])
def test_the_scales_are_those_of_the_equation_after_one_pass(strength: float) -> None:
    model, batches = Chain().eval(), [images(8, seed, 16) for seed in (1, 2)]
    captured = capture(model, EXAMPLE)
    assert equalize(captured, replace(EVERYTHING, equalisation=strength), iter(batches)) == 4
    spread, filtered, grouped, hidden = (largest(value) for value in model.values(torch.cat(batches))[:-1])
    of_groups = torch.cat([largest(part) for part in model.grouped.weight.chunk(GROUPS)])
    depthwise = spread
    into_groups = filtered**strength / of_groups ** (1 - strength)
    pointwise = grouped**strength / largest(model.b.weight) ** (1 - strength)
    linear = hidden**strength / largest(model.d.weight) ** (1 - strength)
    columns = into_groups.reshape(GROUPS, -1).repeat_interleave(len(pointwise) // GROUPS, 0)[:, :, None, None]
    expected = {
        "a.weight": model.a.weight / rows(depthwise),
        "a.bias": model.a.bias / depthwise,
        "dw.weight": model.dw.weight * rows(depthwise) / rows(into_groups),
        "dw.bias": model.dw.bias / into_groups,
        "grouped.weight": model.grouped.weight * columns / rows(pointwise),
        "b.weight": model.b.weight * pointwise.reshape(1, -1, 1, 1),
        "b.bias": model.b.bias,
        "c.weight": model.c.weight / linear[:, None],
        "c.bias": model.c.bias / linear,
        "d.weight": model.d.weight * linear,
        "d.bias": model.d.bias,
    }
    found = dict(captured.named_parameters())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-5), name


def test_channels_that_one_row_reads_get_one_range() -> None:
    captured, x = capture(Two(groups=6).eval(), EXAMPLE), images(8, 1, 16)
    assert equalize(captured, replace(EVERYTHING, equalisation=0.5), [x]) == 1
    between = torch.relu(F.conv2d(x, captured.a.weight, captured.a.bias))
    assert torch.allclose(largest(between), torch.ones(6))


# What is rewritten of the narrow EfficientViT: where a residual sum or a gate reads too, nothing is.
STEM = {f"patch_embed.{layer}.c" for layer in (0, 2, 4, 6)} | {"blocks1.0.dw0.m.c"}
BLOCKS = {
    f"{block}.{ffn}.m.{layer}.c"
    for block in ("blocks1.0", "blocks2.3", "blocks3.3")
    for ffn in ("ffn0", "ffn1")
    for layer in ("pw1", "pw2")
}
MERGING = {
    f"{stage}.{layer}.c"
    for stage in ("blocks2", "blocks3")
    for layer in ("0.1.m.pw1", "0.1.m.pw2", "1.conv1", "1.conv2", "1.conv3", "2.0.m", "2.1.m.pw1", "2.1.m.pw2")
}


def test_the_float_program_computes_what_it_did() -> None:
    model, x = vit(), images(4, 9, SIDE)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    captured = capture(model, images(1, 0, SIDE))
    assert equalize(captured, replace(EFFICIENTVIT, equalisation=0.5), [images(4, 1, SIDE)]) == 18
    changed = {name for name, value in captured.named_parameters() if not torch.equal(value, before[name])}
    assert {name.rsplit(".", 1)[0] for name in changed} == STEM | BLOCKS | MERGING
    with torch.no_grad():
        assert torch.allclose(captured(x), model(x), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("groups", [1, 6])
def test_one_grid_then_serves_all_channels(groups: int) -> None:
    model, x = Two(groups).eval(), images(32, 2, 16)
    with torch.no_grad():
        expected = model(x).numpy()
    plain, equalised = (sqnr_db(expected, quantised(model, strength, x).numpy()) for strength in (None, 0.5))
    assert equalised > plain + 6


def quantised(model: nn.Module, strength: float | None, x: Tensor) -> Tensor:
    captured, batches = capture(model, EXAMPLE), [images(8, 1, 16)]
    if strength is not None:
        equalize(captured, replace(EVERYTHING, equalisation=strength), batches)
    prepared = with_observers(captured, EVERYTHING, EXAMPLE)
    observe(prepared, batches)
    freeze(prepared)
    return prepared.logits(x)


@pytest.mark.parametrize(("name", "pairs"), [("a", 1), ("b", 0)])
def test_what_reads_must_be_in_int8_and_what_writes_need_not(name: str, pairs: int) -> None:
    captured = capture(Two().eval(), EXAMPLE)
    recipe = Recipe((Rule(name, "float", ""), Rule("*", "int8", "")), "minmax")
    assert equalize(captured, replace(recipe, equalisation=0.5), [EXAMPLE]) == pairs
    assert torch.equal(captured.a.weight, Two().a.weight) == (pairs == 0)


class ReadElsewhere(Two):
    def forward(self, x: Tensor) -> Tensor:
        between = torch.relu(self.a(x))
        return (self.b(between) + between).mean((2, 3))


class ReadBeforeTheReLU(Two):
    def forward(self, x: Tensor) -> Tensor:
        before = self.a(x)
        return (self.b(torch.relu(before)) + before).mean((2, 3))


class FirstTwice(Two):
    def forward(self, x: Tensor) -> Tensor:
        return (self.b(torch.relu(self.a(x))) + self.a(2 - x)).mean((2, 3))


class SecondTwice(Two):
    def forward(self, x: Tensor) -> Tensor:
        return (self.b(torch.relu(self.a(x))) + self.b(x.repeat(1, 2, 1, 1))).mean((2, 3))


class OneBias(Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x))).mean((2, 3)) + self.a.bias


class GELUBetween(Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.gelu(self.a(x))).mean((2, 3))


class Returned(Two):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        between = torch.relu(self.a(x))
        return self.b(between).mean((2, 3)), between


class LinearOnColumns(Two):
    """Whose channels are not those of the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x))).mean((1, 2))


OTHERS = [ReadElsewhere, ReadBeforeTheReLU, FirstTwice, SecondTwice, OneBias, GELUBetween, Returned, LinearOnColumns]


@pytest.mark.parametrize("kind", OTHERS)
def test_a_pair_whose_scale_others_would_see_is_left_alone(kind: type[nn.Module]) -> None:
    model = kind().eval()
    captured = capture(model, EXAMPLE)
    assert equalize(captured, replace(EVERYTHING, equalisation=0.5), [EXAMPLE]) == 0
    assert all(torch.equal(value, captured.get_parameter(name)) for name, value in model.named_parameters())


@pytest.mark.parametrize("groups", [1, 6])
def test_a_channel_of_zeros_stays_finite_and_its_scale_in_bounds(groups: int) -> None:
    model, x = Two(groups).eval(), images(4, 1, 16)
    with torch.no_grad():
        model.a.weight[5], model.a.bias[5] = 0, -1
        model.b.weight[0] = 0
        expected = model(x)
        most = largest(torch.relu(model.a(x))).max()
    captured = capture(model, EXAMPLE)
    assert equalize(captured, replace(EVERYTHING, equalisation=1.0), [x]) == 1
    assert torch.allclose(captured.a.bias[5], -1 / (LEAST * most))
    with torch.no_grad():
        assert torch.allclose(captured(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", ["a", "b"])
def test_a_layer_of_zeros_stays_one(layer: str) -> None:
    model, x = Two().eval(), images(4, 1, 16)
    with torch.no_grad():
        for value in model.get_submodule(layer).parameters():
            value.zero_()
        expected = model(x)
    captured = capture(model, EXAMPLE)
    assert equalize(captured, replace(EVERYTHING, equalisation=0.5), [x]) == 1
    with torch.no_grad():
        assert torch.allclose(captured(x), expected)


def test_no_equalisation_unless_the_recipe_asks() -> None:
    captured = capture(vit(), images(1, 0, SIDE))
    assert equalize(captured, EFFICIENTVIT, [images(4, 1, SIDE)]) == 0
    assert all(torch.equal(value, captured.get_parameter(name)) for name, value in vit().named_parameters())
