"""The rounding of least error in an operator's output."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.fx import Node

from calibrate.prepared import Prepared, convert
from calibrate.ptq import prepare
from calibrate.quantizer import OPERATOR_META
from calibrate.recipe import Recipe, Rule
from calibrate.recipes import EFFICIENTVIT
from calibrate.rounding import (
    choose_rounding,
    grid_of,
    nearest_planes,
    second_moments,
    watch,
    weighted_nodes,
    weights_of,
)
from edgevit.errors import InputError
from tests.calibrate.subjects import INT8_RESIDUAL, SIDE, TOKENS, images, net, token_net, vit

ALL_INT8 = Recipe((Rule("*", "int8", ""),), "minmax")
NEAREST = replace(EFFICIENTVIT, rounding=False, bias_correction=False)
SUBJECTS = {
    "net": (net, INT8_RESIDUAL, 16),
    "efficientvit": (vit, NEAREST, SIDE),
    "tokens": (token_net, TOKENS, 16),
}


class Kinds(nn.Module):
    """``[B, 3, 16, 16]`` → ``[B, 10]``: an operator of each kind, with each setting of a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(8, 12, (3, 5), padding=(1, 2), groups=4)
        self.dilated = nn.Conv2d(12, 12, 3, stride=(1, 2), padding=2, dilation=2, groups=12)
        self.pointwise, self.tokens = nn.Conv2d(12, 32, 1), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.grouped(torch.relu(self.strided(x))))
        x = torch.relu(self.pointwise(self.dilated(x)))
        return self.tokens(x.flatten(2).transpose(1, 2)).mean(1)


def kinds() -> nn.Module:
    torch.manual_seed(0)
    return Kinds().eval()


def batches(count: int = 3) -> list[Tensor]:
    return [images(4, seed, 16) for seed in range(count)]


def prepared_kinds(shown: list[Tensor] | None = None) -> Prepared:
    return prepare(kinds(), ALL_INT8, shown or batches(), images(1, 0, 16))


def inputs(prepared: Prepared, shown: list[Tensor]) -> dict[Node, tuple[Tensor, Tensor]]:
    """What each operator reads of all images, and its rounded weight."""
    read: dict[Node, list[tuple[Tensor, Tensor]]] = {}
    watch(prepared, shown, lambda node, x, weight: read.setdefault(node, []).append((x, weight)))
    return {node: (torch.cat([x for x, _ in pairs]), pairs[0][1]) for node, pairs in read.items()}


def squares(node: Node, x: Tensor, weight: Tensor) -> float:
    """|W X|², by the operator itself."""
    return float(node.target(x.double(), weight.double(), None, *node.args[3:]).square().sum())


def test_the_moments_are_those_of_what_the_operator_itself_reads() -> None:
    prepared = prepared_kinds()
    moments, random = second_moments(prepared, batches()), torch.Generator().manual_seed(1)
    assert [len(moment) for moment in moments.values()] == [1, 4, 12, 1, 1]
    for node, (x, weight) in inputs(prepared, batches()).items():
        other = torch.randn(weight.shape, generator=random).double()
        rows = other.reshape(len(moments[node]), -1, moments[node].shape[1])
        found = (
            torch.einsum("gof,gfh,goh->", rows, moments[node], rows) * float(grid_of(prepared, node.args[0]).scale) ** 2
        )
        assert float(found) == pytest.approx(squares(node, x, other), rel=1e-6)


def test_the_output_moves_less_than_by_the_nearest_rounding() -> None:
    shown = [batch + 2 for batch in batches()]  # or no two of the first operator's inputs would go together
    prepared = prepared_kinds(shown)
    exact, read = weights_of(prepared), inputs(prepared, shown)
    choose_rounding(prepared, shown)
    chosen = weights_of(prepared)
    for node, (x, nearest) in read.items():
        name = node.meta[OPERATOR_META]
        by_chosen, by_nearest = (squares(node, x, other - exact[name]) for other in (chosen[name], nearest))
        assert by_chosen < 0.9 * by_nearest
        assert float((chosen[name] - exact[name]).norm()) > float((nearest - exact[name]).norm())


@pytest.mark.parametrize(("subject", "recipe", "side"), SUBJECTS.values(), ids=SUBJECTS.keys())
def test_conversion_keeps_every_choice(subject, recipe: Recipe, side: int) -> None:  # type: ignore[no-untyped-def]
    shown = [images(4, seed, side) for seed in range(2)]
    prepared = prepare(subject(), recipe, shown, images(1, 0, side))
    x, scales = images(8, 9, side), {}
    nearest = prepared.logits(x)
    choose_rounding(prepared, shown)
    chosen = weights_of(prepared)
    for node in weighted_nodes(prepared):
        grid, weight = grid_of(prepared, node.args[1]), chosen[node.meta[OPERATOR_META]]
        assert weight.dtype == torch.float32
        assert torch.equal(grid(weight), weight)
        scales[node.meta[OPERATOR_META]] = grid.scale
    frozen = prepared.logits(x)
    assert not torch.equal(frozen, nearest)
    quantized = convert(prepared)
    assert torch.equal(quantized.run(x), frozen)
    for name, weight in chosen.items():
        integers = quantized.module.get_buffer(f"{name}.weight")
        assert integers.dtype == torch.int8
        assert torch.equal(integers.flatten(1) * scales[name][:, None], weight.flatten(1))


def test_the_model_and_the_grids_stay_as_they_are() -> None:
    model = kinds()
    prepared = prepare(model, ALL_INT8, batches(), images(1, 0, 16))
    scales = {name: buffer.clone() for name, buffer in prepared.module.named_buffers()}
    choose_rounding(prepared, batches())
    expected = kinds().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(buffer, scales[name]) for name, buffer in prepared.module.named_buffers())


def test_neither_the_order_of_the_images_nor_their_batches_matter() -> None:
    first, second = prepared_kinds(), prepared_kinds()
    choose_rounding(first, batches())
    choose_rounding(second, list(torch.cat(batches()).flip(0).split(5)))
    for name, weight in weights_of(first).items():
        assert torch.equal(weights_of(second)[name], weight)


def test_one_image_of_fewer_pixels_than_columns_is_enough() -> None:
    shown = [images(1, 0, 2)]
    prepared = prepared_kinds(shown)
    assert all(
        int(torch.linalg.matrix_rank(moment).max()) < moment.shape[1]
        for moment in second_moments(prepared, shown).values()
    )
    exact, read = weights_of(prepared), inputs(prepared, shown)
    choose_rounding(prepared, shown)
    for node, (x, nearest) in read.items():
        name = node.meta[OPERATOR_META]
        assert squares(node, x, weights_of(prepared)[name] - exact[name]) <= squares(node, x, nearest - exact[name])


class Dead(nn.Module):
    """Half of what ``fc`` reads is always 0, and all that ``dead`` does."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.dead = nn.Linear(96, 10), nn.Conv2d(3, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        pixels = x[:, :, :4, :4].flatten(1)
        return self.fc(torch.cat([pixels, pixels * 0], 1)) + self.dead(x * 0).mean((2, 3))


def test_what_is_always_zero_is_rounded_to_nearest() -> None:
    torch.manual_seed(0)
    prepared = prepare(Dead().eval(), ALL_INT8, batches(), images(1, 0, 16))
    nearest = {node.meta[OPERATOR_META]: weight for node, (_, weight) in inputs(prepared, batches()).items()}
    choose_rounding(prepared, batches())
    chosen = weights_of(prepared)
    assert torch.equal(chosen["dead"], nearest["dead"])
    assert torch.equal(chosen["fc"][:, 48:], nearest["fc"][:, 48:])
    assert not torch.equal(chosen["fc"][:, :48], nearest["fc"][:, :48])


def correlated(random: np.random.Generator, features: int) -> Tensor:
    mixed = random.normal(0, 1, (features, features)) @ random.normal(0, 10, (features, 400)) + 20
    return torch.from_numpy(mixed @ mixed.T)[None]


def test_columns_that_are_read_apart_are_rounded_to_nearest(random: np.random.Generator) -> None:
    steps = torch.from_numpy(random.uniform(-120, 120, (1, 6, 50)))
    apart = torch.diag(torch.arange(1, 7).double() * 1000)[None]
    assert torch.equal(nearest_planes(steps, apart, -127, 127), steps.round())


def test_two_columns_that_are_read_alike_are_rounded_to_their_sum() -> None:
    steps = torch.tensor([[[0.4], [0.4]]]).double()
    alike = torch.full((1, 2, 2), 1e6).double()
    assert nearest_planes(steps, alike, -127, 127).flatten().tolist() == [1, 0]


def test_no_choice_leaves_the_grid(random: np.random.Generator) -> None:
    steps = torch.from_numpy(random.uniform(-127, 127, (1, 12, 200)).clip(-127, 127)).sign() * 126.6
    moments = correlated(random, 12)
    free, held = (nearest_planes(steps, moments, -end, end) for end in (1000, 127))
    assert float(free.abs().max()) > 127
    assert float(held.abs().max()) == 127

    def error(chosen: Tensor) -> float:
        rows = (chosen - steps)[0].T
        return float(((rows @ moments[0]) * rows).sum())

    assert error(held) < error(steps.round())


def test_refuses_to_choose_by_no_image() -> None:
    with pytest.raises(InputError, match="no image"):
        choose_rounding(prepared_kinds(), [])
