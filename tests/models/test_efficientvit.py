"""EfficientViT against the figures of the authors' code, and in the form that exports well."""

import json

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgevit.models import efficientvit, names, registry, weights
from tests.models.make_timm_logits import GOLDEN, LOGITS, reference_image, reference_state

NAMES = list(efficientvit.CONFIGS)
PARAMS = [2_349_436, 2_980_560, 4_187_554, 6_900_722, 8_804_228, 12_473_772]
PARAMS_WITHOUT_HEAD = [2_156_052, 2_787_176, 3_962_106, 6_579_082, 8_418_460, 12_088_004]
MACS = {
    ("efficientvit_m0", 64): 6_238_976,
    ("efficientvit_m0", 96): 16_003_072,
    ("efficientvit_m0", 128): 26_226_944,
    ("efficientvit_m0", 160): 42_849_536,
    ("efficientvit_m0", 224): 79_193_600,
    ("efficientvit_m1", 224): 167_051_840,
    ("efficientvit_m2", 224): 201_035_712,
    ("efficientvit_m3", 224): 262_662_208,
    ("efficientvit_m4", 224): 299_308_544,
    ("efficientvit_m4", 256): 400_164_480,
    ("efficientvit_m4", 384): 840_095_488,
    ("efficientvit_m4", 512): 1_594_817_152,
    ("efficientvit_m5", 64): 41_451_584,
    ("efficientvit_m5", 96): 103_353_792,
    ("efficientvit_m5", 224): 521_583_104,
    ("efficientvit_m5", 256): 715_589_664,
    ("efficientvit_m5", 384): 1_494_311_936,
    ("efficientvit_m5", 512): 2_799_843_488,
}


def meta(name: str, image_size: int = 224, classes: int = 1000) -> nn.Module:
    with torch.device("meta"):
        return registry.build(name, image_size, classes).eval()


def params(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("name", "count"), list(zip(NAMES, PARAMS, strict=True)))
def test_parameters(name: str, count: int) -> None:
    assert params(meta(name)) == count == registry.ENTRIES[name].params


@pytest.mark.parametrize(("name", "count"), list(zip(NAMES, PARAMS_WITHOUT_HEAD, strict=True)))
def test_parameters_for_other_class_counts(name: str, count: int) -> None:
    width = efficientvit.CONFIGS[name].widths[2]
    assert params(meta(name, classes=10)) == count + 2 * width + (width + 1) * 10


def test_parameters_grow_with_the_bias_tables() -> None:
    assert params(meta("efficientvit_m5", 512)) == 12_474_300


@pytest.mark.parametrize(("name", "image_size"), MACS)
def test_multiply_accumulates(name: str, image_size: int) -> None:
    counter = FlopCounterMode(display=False)
    with counter:
        meta(name, image_size)(torch.empty(1, 3, image_size, image_size, device="meta"))
    assert counter.get_total_flops() == 2 * MACS[name, image_size]


@pytest.mark.parametrize("name", NAMES)
def test_registry_states_the_multiply_accumulates(name: str) -> None:
    assert registry.ENTRIES[name].macs == MACS[name, 224]


@pytest.mark.parametrize("name", NAMES)
def test_logits_equal_timm(name: str) -> None:
    """In float64, which is the same on every processor; what timm gave in float32 is 1.2e-4 of M4's largest from it."""
    model = registry.build(name, 224, 1000).eval()
    timm_shapes = names.to_timm({key: value.shape for key, value in model.state_dict().items()})
    model.load_state_dict(names.to_authors(reference_state(timm_shapes)))
    with torch.no_grad():
        logits = model.double()(reference_image().double())[0, :LOGITS]
    expected = torch.tensor(json.loads(GOLDEN.read_text())["logits"][name], dtype=torch.float64)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1.5e-4 * expected.abs().max().item())


@pytest.mark.parametrize("image_size", range(64, 513, 32))
def test_every_image_size_runs(image_size: int) -> None:
    model, _ = weights.load("efficientvit_m0", "random", image_size=image_size, classes=7)
    with torch.no_grad():
        logits = model(torch.rand(1, 3, image_size, image_size))
    assert logits.shape == (1, 7)
    assert logits.isfinite().all()
    assert logits.std() > 0.1


@pytest.mark.parametrize("image_size", [0, 32, 63, 100, 225, 544])
def test_other_image_sizes_raise(image_size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 32 from 64 to 512"):
        efficientvit.build("efficientvit_m0", image_size)


def test_windows_are_parted_row_by_row_and_put_back() -> None:
    attention = efficientvit.WindowAttention(8, 2, 14, (3, 3))
    x = torch.arange(2 * 8 * 14 * 14.0).reshape(2, 8, 14, 14)
    windows = attention.partition(x)
    for index, (image, y, left) in enumerate((i, y, z) for i in range(2) for y in (0, 7) for z in (0, 7)):
        assert torch.equal(windows[index], x[image, :, y : y + 7, left : left + 7])
    assert torch.equal(attention.merge(windows), x)


def test_bias_offsets_are_absolute_distances_row_by_row() -> None:
    offsets = efficientvit.attention_offsets(7)
    assert offsets.shape == (49, 49)
    assert offsets[0].tolist() == list(range(49))
    assert offsets[8, 0] == 8  # one row and one column away, as token 8 is from token 0
    assert torch.equal(offsets, offsets.T)


@pytest.mark.parametrize(("image_size", "pads"), [(224, 0), (288, 3)])
def test_graph_suits_every_runtime(image_size: int, pads: int) -> None:
    """No tensor beyond five dimensions, a pad where windows do not divide a side, and none that adds nothing."""
    model = efficientvit.build("efficientvit_m0", image_size).eval()
    graph = torch.export.export(model, (torch.zeros(1, 3, image_size, image_size),)).graph
    ranks = [node.meta["val"].ndim for node in graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)]
    assert ranks
    assert max(ranks) <= 5
    amounts = [node.args[1] for node in graph.nodes if "pad" in str(node.target)]
    assert len(amounts) == pads
    assert all(any(amount) for amount in amounts)
