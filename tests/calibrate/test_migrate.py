"""Large channels of a normalised tensor → the weights that read it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from calibrate.migrate import migrate
from calibrate.prepared import capture
from calibrate.ptq import calibrate
from calibrate.recipe import Recipe, Rule
from edgevit.metrics import sqnr_db
from tests.calibrate.subjects import TOKENS, images, token_net

EXAMPLE = images(1, 0, 16)
EVERYTHING = Recipe((Rule("*", "int8", ""),), "minmax", migration=0.5)


class Normed(nn.Module):
    """``[B, 3, 16, 16]`` → ``[B, 5]``: a norm with one channel a hundred times as large, read by two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.a, self.b = nn.LayerNorm(48), nn.Linear(48, 5), nn.Linear(48, 5, bias=False)
        with torch.no_grad():
            self.norm.weight.uniform_(0.5, 1.5)[3] = 100
            self.norm.bias.uniform_(-0.5, 0.5)
            self.a.weight[:, 3] /= 100
            self.b.weight[:, 3] /= 100

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm(x.reshape(-1, 16, 48))
        return (self.a(n) * torch.sigmoid(self.b(n))).mean(1)


def largest(values: Tensor) -> Tensor:
    return values.abs().flatten(0, -2).amax(0).detach()


@pytest.mark.parametrize("strength", [0.25, 0.5, 1.0])
def test_the_scale_is_that_of_the_equation(strength: float) -> None:
    model, batches = Normed().eval(), [images(8, seed, 16) for seed in (1, 2)]
    captured = capture(model, EXAMPLE)
    assert migrate(captured, replace(EVERYTHING, migration=strength), batches) == 1
    seen = largest(model.norm(torch.cat(batches).reshape(-1, 16, 48)))
    weights = largest(torch.cat([model.a.weight, model.b.weight]))
    scale = seen**strength / weights ** (1 - strength)
    assert torch.allclose(captured.norm.weight, model.norm.weight / scale, rtol=1e-5)
    assert torch.allclose(captured.norm.bias, model.norm.bias / scale, rtol=1e-5)
    assert torch.allclose(captured.a.weight, model.a.weight * scale, rtol=1e-5)
    assert torch.allclose(captured.b.weight, model.b.weight * scale, rtol=1e-5)
    assert torch.equal(captured.a.bias, model.a.bias)


def test_the_float_program_computes_what_it_did() -> None:
    model, x = token_net(), images(8, 9, 16)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    captured = capture(model, EXAMPLE)
    assert migrate(captured, replace(TOKENS, migration=0.5), [images(8, 1, 16)]) == 5
    changed = {name for name, value in captured.named_parameters() if not torch.equal(value, before[name])}
    layers = {f"blocks.{block}.{layer}" for block in range(2) for layer in ("norm1", "norm2", "qkv", "fc1")}
    assert {name.rsplit(".", 1)[0] for name in changed} == layers | {"norm", "head"}
    with torch.no_grad():
        logits, _, scores = model(x)
        again, _, scores_again = captured(x)
    assert torch.allclose(again, logits, rtol=1e-4, atol=1e-5)
    assert torch.allclose(scores_again, scores, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_no_migration_unless_the_recipe_asks() -> None:
    captured = capture(Normed().eval(), EXAMPLE)
    assert migrate(captured, replace(EVERYTHING, migration=None), [EXAMPLE]) == 0
    assert torch.equal(captured.norm.weight, Normed().norm.weight)


def test_one_grid_then_serves_all_channels() -> None:
    model, batches, x = Normed().eval(), [images(8, 1, 16)], images(32, 2, 16)
    with torch.no_grad():
        expected = model(x).numpy()
    plain, migrated = (
        sqnr_db(expected, calibrate(model, replace(EVERYTHING, migration=strength), batches, EXAMPLE).run(x).numpy())
        for strength in (None, 0.5)
    )
    assert migrated > plain + 10


def test_a_layer_in_float_keeps_its_norm() -> None:
    captured = capture(Normed().eval(), EXAMPLE)
    recipe = Recipe((Rule("b", "float", ""), Rule("*", "int8", "")), "minmax", migration=0.5)
    assert migrate(captured, recipe, [EXAMPLE]) == 0


class ReadElsewhere(Normed):
    def forward(self, x: Tensor) -> Tensor:
        n = self.norm(x.reshape(-1, 16, 48))
        return (self.a(n) * torch.sigmoid(self.b(n))).mean(1) + n.mean((1, 2)).unsqueeze(1)


class SharedNorm(Normed):
    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, 16, 48)
        return (self.a(self.norm(rows)) * torch.sigmoid(self.b(self.norm(2 - rows)))).mean(1)


class NoAffine(Normed):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(48, elementwise_affine=False)


@pytest.mark.parametrize("kind", [ReadElsewhere, SharedNorm, NoAffine])
def test_a_norm_whose_scale_others_would_see_is_left_alone(kind: type[nn.Module]) -> None:
    model = kind().eval()
    captured = capture(model, EXAMPLE)
    assert migrate(captured, EVERYTHING, [EXAMPLE]) == 0
    assert all(torch.equal(value, captured.get_parameter(name)) for name, value in model.named_parameters())


def test_a_channel_that_calibration_saw_at_zero_stays_finite() -> None:
    model, x = Normed().eval(), images(4, 1, 16)
    with torch.no_grad():
        model.norm.weight[5], model.norm.bias[5] = 0, 0
        model.a.weight[:, 6], model.b.weight[:, 6] = 0, 0
        expected = model(x)
    captured = capture(model, EXAMPLE)
    assert migrate(captured, EVERYTHING, [x]) == 1
    with torch.no_grad():
        assert torch.allclose(captured(x), expected, atol=1e-5)
