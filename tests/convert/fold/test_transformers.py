"""All rules together on the models with LayerNorm and attention over tokens: DynamicViT and SepViT."""

import pytest
import torch
from torch import nn

from convert.fold import fold
from edgevit.models import dynamicvit, sepvit
from tests.convert.fold.conftest import Randomise, error

RESIDUAL = "the normalised value is also read by what is no linear layer"
RULES = (
    "batchnorm_into_convolution",
    "layernorm_into_linear",
    "residual_into_depthwise",
    "attention_scale_into_query",
)

# model: size of the image, how often each of these rules applies, norms of the attention that a residual reads too
EXPECTED = {
    "dynamicvit_deit_tiny": (64, (0, 2 * 12 + 3 + 1, 0, 12), 0),
    "dynamicvit_lvvit_small": (64, (3, 2 * 16 + 3 + 1, 0, 16), 0),
    "sepvit_lite": (224, (0, 11 + 1, 4, 11 + 6), 11),  # six blocks have a second attention, among windows
}


def probe(image_size: int) -> torch.Tensor:
    return torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(1))


def build(name: str, image_size: int) -> nn.Module:
    return (sepvit if name.startswith("sepvit") else dynamicvit).build(name, image_size, 10)


def sharpened(model: nn.Module) -> nn.Module:
    """Learnt tokens and positions that do something, and scores far enough apart that no rounding swaps two tokens."""
    for name, parameter in model.named_parameters():
        if name.endswith(("win_tokens", "cls_token", "pos_embed")):
            nn.init.normal_(parameter)
        elif name.startswith("score_predictor") and len(parameter) == 2:
            parameter.data *= 100
    return model


@pytest.mark.parametrize("name", EXPECTED)
def test_folds_every_norm_residual_and_scale(randomise: Randomise, name: str) -> None:
    image_size, counts, residuals = EXPECTED[name]
    model = sharpened(randomise(build(name, image_size)))
    expected = model(probe(image_size)).detach()
    folded, reports = fold(model, probe(image_size))

    assert {r.rule: r.count for r in reports if r.count} == {r: n for r, n in zip(RULES, counts, strict=True) if n}
    assert [r.skipped for r in reports if r.skipped] == ([{RESIDUAL: residuals}] if residuals else [])
    largest = float(expected.abs().max())
    assert all(report.max_abs_error <= 1e-5 * largest for report in reports)
    assert error(folded(probe(image_size)), expected) <= 1e-5 * largest
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


@pytest.mark.parametrize("name", ["dynamicvit_deit_tiny", "dynamicvit_lvvit_small"])
def test_folds_a_model_that_returns_its_selection(randomise: Randomise, name: str) -> None:
    model = sharpened(randomise(build(name, 96)))
    assert isinstance(model, dynamicvit.DynamicViT)
    model.returns_selection = True
    expected = [output.detach() for output in model(probe(96))]
    folded, reports = fold(model, probe(96))
    outputs = folded(probe(96))
    assert len(outputs) == len(expected) == 7
    assert not any(report.integers_changed for report in reports)
    assert all(torch.equal(a.sort().values, b.sort().values) for a, b in zip(outputs[1:4], expected[1:4], strict=True))
    largest = float(expected[0].abs().max())
    assert error(outputs[0], expected[0]) <= 1e-5 * largest


@pytest.mark.parametrize(("name", "size"), [("dynamicvit_deit_tiny", 64), ("sepvit_lite", 56)])
def test_export_keeps_values_and_names(randomise: Randomise, name: str, size: int) -> None:
    """With a batch of any size; every node of a layer carries the layer's own name last."""
    model = sharpened(randomise(build(name, size)))
    folded, _ = fold(model, probe(size))
    batch = torch.export.Dim("batch", min=1, max=32)
    program = torch.export.export(folded, (probe(size),), dynamic_shapes=({0: batch},))
    three = torch.cat([probe(size), probe(size)])[:3]
    assert torch.equal(program.module()(three), folded(three))
    layers = {name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    weighted = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)
    nodes = [node for node in program.graph.nodes if node.target in weighted]
    assert sorted([*node.meta["nn_module_stack"].values()][-1][0] for node in nodes) == sorted(layers)
