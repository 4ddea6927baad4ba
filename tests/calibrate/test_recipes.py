from dataclasses import replace

import pytest
import torch

from calibrate.quantizer import operators
from calibrate.recipes import DEFAULTS
from convert.fold import fold
from edgevit.models.efficientvit import CONFIGS, Config, EfficientViT
from edgevit.models.registry import ENTRIES

RECIPE = DEFAULTS["efficientvit"]
FFN = ("ffn0.m.pw1.c", "ffn0.m.pw2.c", "ffn1.m.pw1.c", "ffn1.m.pw2.c")
BLOCK = ("dw0.m.c", *FFN, "mixer.m.attn.proj.1.c", "dw1.m.c")
MERGING = ("0.0.m.c", "0.1.m.pw1.c", "0.1.m.pw2.c", "1.conv1.c", "1.conv2.c", "1.conv3.c")
MERGING += ("2.0.m.c", "2.1.m.pw1.c", "2.1.m.pw2.c")


def named_operators(config: Config) -> list[str]:
    """Folded: a residual addition takes its branch's last convolution only once the norm between them is gone."""
    example = torch.zeros(1, 3, 64, 64)
    model, _ = fold(EfficientViT(config, 64, 10), example)
    captured = torch.export.export(model, (example,)).module(check_guards=False)
    return [op.name for op in operators(captured.graph)]


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
    names = named_operators(config)
    heads = sum(depth * heads for depth, heads in zip(config.depths, config.heads, strict=True))
    assert len(names) == len(set(names))
    assert RECIPE.unused(names) == []
    assert {n for n in names if RECIPE.precision(n) == "int8"} == expected_int8(config.depths)
    floats = [n for n in names if RECIPE.precision(n) == "float"]
    assert [n for n in floats if n.startswith("patch_embed")] == ["patch_embed.0.c"]
    assert sum(".attn.qkvs." in n and not n.endswith(".residual") for n in floats) == heads
    assert sum(".attn.dws." in n for n in floats) == heads
    assert sum(".se." in n for n in floats) == 4
