from dataclasses import replace

import pytest
import torch
from torch import nn

from calibrate.prepared import capture
from calibrate.quantizer import operators
from calibrate.recipe import Recipe
from calibrate.recipes import DEFAULTS, DYNAMICVIT, SEPVIT
from convert.fold import fold
from edgevit.models import dynamicvit, sepvit
from edgevit.models.efficientvit import CONFIGS, EfficientViT
from edgevit.models.registry import ENTRIES

RECIPE = DEFAULTS["efficientvit"]
FFN = ("ffn0.m.pw1.c", "ffn0.m.pw2.c", "ffn1.m.pw1.c", "ffn1.m.pw2.c")
BLOCK = ("dw0.m.c", *FFN, "mixer.m.attn.proj.1.c", "dw1.m.c")
MERGING = ("0.0.m.c", "0.1.m.pw1.c", "0.1.m.pw2.c", "1.conv1.c", "1.conv2.c", "1.conv3.c")
MERGING += ("2.0.m.c", "2.1.m.pw1.c", "2.1.m.pw2.c")


def named_operators(model: nn.Module, image_size: int) -> list[str]:
    """Folded: a residual addition takes its branch's last convolution only once the norm between them is gone."""
    example = torch.zeros(1, 3, image_size, image_size)
    folded, _ = fold(model, example)
    return [op.name for op in operators(capture(folded, example).graph)]


def named_int8(recipe: Recipe, names: list[str]) -> set[str]:
    return {name for name in names if recipe.precision(name) == "int8"}


def expected_int8(depths: tuple[int, ...]) -> set[str]:
    names = {"patch_embed.2.c", "patch_embed.4.c", "patch_embed.6.c", "head.l"}
    for stage, depth in enumerate(depths, start=1):
        first = 0 if stage == 1 else 3
        names |= {f"blocks{stage}.{first + i}.{layer}" for i in range(depth) for layer in BLOCK}
        names |= {f"blocks{stage}.{layer}" for layer in MERGING if stage > 1}
    return names


def test_every_family_has_a_default() -> None:
    assert set(DEFAULTS) == {entry.family for entry in ENTRIES.values()}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_default_names_what_it_means_to_in_every_efficientvit(name: str) -> None:
    """One block a stage does for all but the first: the others repeat it."""
    config = CONFIGS[name] if name == "efficientvit_m0" else replace(CONFIGS[name], depths=(1, 1, 1))
    names = named_operators(EfficientViT(config, 64, 10), 64)
    heads = sum(depth * heads for depth, heads in zip(config.depths, config.heads, strict=True))
    assert len(names) == len(set(names))
    assert RECIPE.unused(names) == []
    assert named_int8(RECIPE, names) == expected_int8(config.depths)
    floats = [n for n in names if RECIPE.precision(n) == "float"]
    assert [n for n in floats if n.startswith("patch_embed")] == ["patch_embed.0.c"]
    assert sum(".attn.qkvs." in n and not n.endswith(".residual") for n in floats) == heads
    assert sum(".attn.dws." in n for n in floats) == heads
    assert sum(".se." in n for n in floats) == 4


@pytest.mark.parametrize("keep_ratio", [0.7, 1.0])
@pytest.mark.parametrize("name", dynamicvit.CONFIGS)
def test_the_default_names_what_it_means_to_in_every_dynamicvit(name: str, keep_ratio: float) -> None:
    """Four blocks, the fewest that three pruning sites lie between, stand for all."""
    config = replace(dynamicvit.CONFIGS[name], depth=4)
    names = named_operators(dynamicvit.DynamicViT(config, 64, 10, keep_ratio), 64)
    layers = {f"blocks.{i}.{layer}" for i in range(4) for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}
    if config.labels_tokens:
        expected = layers | {"head", "aux_head", *(f"patch_embed.{part}" for part in ("conv1", "conv2", "conv3"))}
    else:
        expected = layers | {"head"}
    assert DYNAMICVIT.unused(names) == []
    assert named_int8(DYNAMICVIT, names) == expected
    floats = {name for name in names if not name.endswith(".residual")} - expected
    assert "patch_embed.proj" in floats
    assert len(floats) == (13 if keep_ratio < 1 else 1)
    assert all(name.startswith("score_predictor.") for name in floats - {"patch_embed.proj"})


@pytest.mark.parametrize("image_size", [28, 112])
@pytest.mark.parametrize("name", sepvit.CONFIGS)
def test_the_default_names_what_it_means_to_in_every_sepvit(name: str, image_size: int) -> None:
    """Two blocks a stage at most: the others repeat them."""
    depths = (1, 2, 2, 2)
    model = sepvit.SepViT(replace(sepvit.CONFIGS[name], depths=depths), image_size, 10)
    names = named_operators(model, image_size)
    layers = ("attn.DSA_qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    blocks = {f"blocks.{stage}.{i}.{layer}" for stage in range(4) for i in range(depths[stage]) for layer in layers}
    expected = blocks | {"head", *(f"patch_embeds.{stage}.proj" for stage in (1, 2, 3))}
    assert SEPVIT.unused(names) == []
    assert named_int8(SEPVIT, names) == expected
    floats = {name for name in names if not name.endswith(".residual")} - expected
    positions = {f"pos_block.{stage}.proj.0" for stage in range(4)}
    pointwise = {name for name in floats if name.endswith(".attn.PSA_qk")}
    assert floats == positions | pointwise | {"patch_embeds.0.proj"}
    assert bool(pointwise) == (image_size == 112)


@pytest.mark.parametrize("recipe", DEFAULTS.values(), ids=DEFAULTS)
def test_every_rule_of_a_default_says_why_and_comes_before_the_one_for_all(recipe: Recipe) -> None:
    assert all(rule.because for rule in recipe.rules)
    assert [rule.operators for rule in recipe.rules].index("*") == len(recipe.rules) - 1
