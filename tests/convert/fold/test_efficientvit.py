"""All rules together on the models that they were written for."""

import pytest
import torch
from torch import nn

from convert.fold import RULES, fold
from edgevit.models.efficientvit import CascadedGroupAttention, build
from tests.convert.fold.conftest import Randomise, error

# name: ConvBN, residual depthwise convolutions, heads; parameters once the norms are folded (with the bias tables).
EXPECTED = {
    "efficientvit_m0": (112, 16, 24, 2_334_916),
    "efficientvit_m1": (98, 16, 17, 2_964_256),
    "efficientvit_m2": (96, 16, 16, 4_168_338),
    "efficientvit_m3": (108, 16, 22, 6_875_890),
    "efficientvit_m4": (112, 16, 24, 8_776_340),
    "efficientvit_m5": (134, 20, 28, 12_436_260),
}


def probe(image_size: int) -> torch.Tensor:
    return torch.randn(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", EXPECTED)
def test_folds_every_norm_residual_scale_and_table(randomise: Randomise, name: str) -> None:
    model = randomise(build(name))
    convolutions, residuals, heads, parameters = EXPECTED[name]
    tables = [m.attention_biases.numel() for m in model.modules() if isinstance(m, CascadedGroupAttention)]
    expected = model(probe(224)).detach()
    folded, reports = fold(model, probe(224))

    assert [(r.rule, r.count) for r in reports] == [
        ("batchnorm_into_convolution", convolutions),
        ("batchnorm_before_linear", 1),
        ("batchnorm_after_linear", 0),
        ("layernorm_into_linear", 0),
        ("residual_into_depthwise", residuals),
        ("attention_scale_into_query", heads),
        ("attention_bias_table", heads),
    ]
    assert not any(report.skipped for report in reports)
    largest = float(expected.abs().max())
    assert all(report.max_abs_error <= 1e-5 * largest for report in reports)
    assert error(folded(probe(224)), expected) <= 1e-5 * largest
    assert sum(p.numel() for p in folded.parameters()) == parameters - sum(tables)
    assert not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in folded.modules())


@pytest.mark.parametrize("image_size", [64, 256])  # a single window in every stage; a padded one
def test_is_exact_at_other_sizes(randomise: Randomise, image_size: int) -> None:
    model = randomise(build("efficientvit_m0", image_size, classes=10))
    expected = model(probe(image_size)).detach()
    folded, reports = fold(model, probe(image_size))
    assert [report.count for report in reports] == [112, 1, 0, 0, 16, 24, 24]
    assert error(folded(probe(image_size)), expected) <= 1e-5 * float(expected.abs().max())


def test_leaves_the_model_as_it_was(randomise: Randomise) -> None:
    model = randomise(build("efficientvit_m0", 64, classes=10)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded, _ = fold(model, probe(64))
    assert model.training
    assert all(module.training for module in model.modules())
    assert not any(module.training for module in folded.modules())
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_export_keeps_values_and_names(randomise: Randomise) -> None:
    """Every node of the exported program carries the modules that it came from, a layer's node its own name last."""
    model = randomise(build("efficientvit_m0", 64, classes=10))
    folded, _ = fold(model, probe(64))
    program = torch.export.export(folded, (probe(64),))
    assert torch.equal(program.module()(probe(64)), folded(probe(64)))

    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    origins = {node: [path for path, _ in node.meta["nn_module_stack"].values()] for node in nodes}
    layers = {name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    weighted = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)
    assert sorted(origins[node][-1] for node in nodes if node.target in weighted) == sorted(layers)
    products = [origins[node][-1] for node in nodes if node.target is torch.ops.aten.bmm.default]
    assert products.count("blocks1.0.mixer.m.attn") == 8


def test_folding_twice_changes_nothing(randomise: Randomise) -> None:
    once, _ = fold(randomise(build("efficientvit_m0", 64, classes=10)), probe(64))
    twice, reports = fold(once, probe(64))
    assert len(reports) == len(RULES)
    assert not any(report.count or report.skipped for report in reports)
    assert torch.equal(twice(probe(64)), once(probe(64)))
