"""SepViT against the sheet's figures, and against the equations written out window by window."""

import pytest
import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from edgevit.models import sepvit, weights
from edgevit.models.sepvit import CONFIGS, Block, SeparableAttention, SepViT

LITE = "sepvit_lite"
TOKENS = {"sepvit_lite": 4_864, "sepvit_tiny": 14_592, "sepvit_small": 20_736, "sepvit_base": 27_648}
WITHOUT_HEAD = {
    "sepvit_lite": 3_404_128,
    "sepvit_tiny": 30_413_856,
    "sepvit_small": 45_801_504,
    "sepvit_base": 81_352_064,
}
KEYS = {"sepvit_lite": 190, "sepvit_tiny": 190, "sepvit_small": 306, "sepvit_base": 306}
ATTENTION_MACS = {  # Lite at 224, by stage and block
    (0, 0): 29_966_336,
    (1, 0): 19_111_936,
    (1, 1): 32_998_912,
    **{(2, block): (22_679_552 if block % 2 else 15_835_136) for block in range(6)},
    (3, 0): 14_074_368,
    (3, 1): 14_074_368,
}


def meta(name: str, image_size: int = 224) -> SepViT:
    with torch.device("meta"):
        return sepvit.build(name, image_size).eval()


def randomised(image_size: int, classes: int = 5, **form: bool) -> SepViT:
    """Narrow and short, every norm, token and bias random."""
    torch.manual_seed(0)
    model = SepViT(sepvit.Config(32, (1, 2, 2, 1)), image_size, classes, **form).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
        for norm in model.modules():
            if isinstance(norm, nn.LayerNorm):
                norm.weight.uniform_(0.5, 1.5)
    return model


def images(count: int, image_size: int) -> Tensor:
    return torch.randn(count, 3, image_size, image_size, generator=torch.Generator().manual_seed(1))


# Figures


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_keys_and_tokens(name: str) -> None:
    model = meta(name)
    headless = sum(p.numel() for key, p in model.named_parameters() if not key.startswith("head."))
    tokens = sum(p.numel() for key, p in model.named_parameters() if key.endswith("win_tokens"))
    assert (headless, tokens) == (WITHOUT_HEAD[name], TOKENS[name])
    assert len(model.state_dict()) == KEYS[name]


def test_key_grammar() -> None:
    keys = set(meta(LITE).state_dict())
    assert {"patch_embeds.0.proj.weight", "patch_embeds.3.norm.bias", "pos_block.2.proj.0.weight"} <= keys
    first = {key.removeprefix("blocks.0.0.").rsplit(".", 1)[0] for key in keys if key.startswith("blocks.0.0.")}
    attention = {"attn.DSA_qkv", "attn.win_tokens_norm", "attn.PSA_qk", "attn.proj"}
    assert first == {"win_tokens", "norm1", "norm2", "mlp.fc1", "mlp.fc2", *attention}
    assert not any(key.startswith("blocks.2.1.win_tokens") for key in keys)


def counted(module: nn.Module, x: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        module(x)
    return counter.get_total_flops() // 2


def formula(side: int, width: int, window: int) -> int:
    """MODELS.md 2.3: attention within windows and among them, or over the one window that there is."""
    area, size = side * side, min(window, side) ** 2
    count = area // size
    if count == 1:
        return 3 * area * width**2 + 2 * area**2 * width + area * width**2
    within = 3 * area * width**2 + 3 * count * width**2 + 2 * count * (size + 1) ** 2 * width
    among = area * width**2 + 2 * count * width**2 + count**2 * width + count * area * width
    return within + among


@pytest.mark.parametrize("name", CONFIGS)
def test_attention_macs_of_every_block(name: str) -> None:
    model, config = meta(name), CONFIGS[name]
    for stage, (width, side) in enumerate(zip(config.widths, model.sides, strict=True)):
        x = torch.zeros(1, side * side, width, device="meta")
        for index in range(config.depths[stage]):
            block = model.get_submodule(f"blocks.{stage}.{index}")
            assert isinstance(block, Block)
            attention = counted(block, x) - counted(block.mlp, x)
            assert attention == formula(side, width, config.window(stage, index))
            if name == LITE:
                assert attention == ATTENTION_MACS[stage, index]


@pytest.mark.parametrize(
    ("image_size", "sides"),
    [(56, (14, 7, 4, 2)), (112, (28, 14, 7, 4)), (224, (56, 28, 14, 7)), (448, (112, 56, 28, 14))],
)
def test_other_sizes(image_size: int, sides: tuple[int, ...]) -> None:
    model = meta(LITE, image_size)
    assert model.sides == sides
    assert model(torch.zeros(2, 3, image_size, image_size, device="meta")).shape == (2, 1000)
    assert image_size in sepvit.IMAGE_SIZES


@pytest.mark.parametrize("image_size", [0, 96, 168, 223, 336, 672])
def test_sizes_that_windows_do_not_divide(image_size: int) -> None:
    with pytest.raises(
        ValueError, match=f"image size {image_size} does not fit SepViT.*: take 28, 56, 112, 224 or 448"
    ):
        sepvit.build(LITE, image_size)


# The equations, written out


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """``[T, C]`` each; v may be wider than q and k, with the channels of a head side by side."""
    parts = zip(q.chunk(heads, 1), k.chunk(heads, 1), v.chunk(heads, 1), strict=True)
    return torch.cat([(a @ b.T * 32**-0.5).softmax(-1) @ c for a, b, c in parts], 1)


def written_out(block: Block, z: Tensor, side: int) -> Tensor:
    """One image's tokens ``[side * side, C]`` through a block."""
    attention, m, width = block.attn, block.window, z.shape[1]
    assert isinstance(attention, SeparableAttention)
    heads, grid = attention.heads, side // m
    plane = z.reshape(side, side, width)
    places = [(r, c) for r in range(grid) for c in range(grid)]
    inside = []
    for n, (r, c) in enumerate(places):
        window = plane[r * m : (r + 1) * m, c * m : (c + 1) * m].reshape(-1, width)
        if len(places) > 1:
            window = torch.cat([block.win_tokens[0, n], window])
        y = block.norm1(window)
        a = attend(*attention.DSA_qkv(y).chunk(3, 1), heads)
        inside.append(a + y if attention.inner_residuals else a)
    if len(places) > 1:
        tokens = attention.win_tokens_norm(torch.stack([a[0] for a in inside]))
        q, k = attention.PSA_qk(nn.functional.gelu(tokens)).chunk(2, 1)
        pixels = torch.stack([a[1:] for a in inside])  # [N, M * M, C]
        by_head = torch.cat([part.flatten(1) for part in pixels.chunk(heads, 2)], 1)
        mixed = attend(q, k, by_head, heads)
        mixed = torch.stack([part.reshape(-1, m * m, width // heads) for part in mixed.chunk(heads, 1)], 2)
        mixed = mixed.permute(0, 1, 3, 2, 4) if mixed.ndim == 5 else mixed
        outputs = mixed.reshape(len(places), m * m, width)
        inside = list(outputs + pixels if attention.inner_residuals else outputs)
    merged = torch.zeros_like(plane)
    for (r, c), a in zip(places, inside, strict=True):
        merged[r * m : (r + 1) * m, c * m : (c + 1) * m] = a.reshape(m, m, width)
    z = z + attention.proj(merged.reshape(-1, width))
    return z + block.mlp(block.norm2(z))


@pytest.mark.parametrize("form", [{}, {"inner_residuals": False}, {"learnable_tokens": False}])
@torch.no_grad()
def test_blocks_are_the_equations(form: dict[str, bool]) -> None:
    model = randomised(112, **form)
    for stage, side in enumerate(model.sides):
        for name, block in model.get_submodule(f"blocks.{stage}").named_children():
            assert isinstance(block, Block)
            z = torch.randn(2, side * side, block.width, generator=torch.Generator().manual_seed(stage))
            expected = torch.stack([written_out(block, image, side) for image in z])
            torch.testing.assert_close(block(z), expected, rtol=1e-4, atol=1e-4 * expected.abs().max(), msg=name)


@torch.no_grad()
def test_position_follows_the_first_block_of_a_stage() -> None:
    model, x = randomised(56), images(1, 56)
    tokens = x
    for stage in range(4):
        tokens = model.patch_embeds[stage](tokens)
        for index, block in enumerate(model.get_submodule(f"blocks.{stage}").children()):
            tokens = block(tokens)
            if index == 0:
                side = model.sides[stage]
                plane = tokens.transpose(1, 2).reshape(1, -1, side, side)
                plane = plane + model.get_submodule(f"pos_block.{stage}.proj.0")(plane)
                tokens = plane.flatten(2).transpose(1, 2)
        tokens = tokens.transpose(1, 2).reshape(1, -1, model.sides[stage], model.sides[stage])
    expected = model.head(model.norm(tokens.flatten(2).transpose(1, 2)).mean(1))
    torch.testing.assert_close(model(x), expected)


def test_fixed_tokens_are_no_parameters() -> None:
    fixed, learnt = randomised(56, learnable_tokens=False), randomised(56)
    assert not any(key.endswith("win_tokens") for key in fixed.state_dict())
    tokens = [p for key, p in learnt.named_parameters() if key.endswith("win_tokens")]
    assert [tuple(p.shape) for p in tokens] == [(1, 4, 1, 32)]
    learnt(images(1, 56)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in learnt.parameters())


# Export


@torch.no_grad()
def test_images_of_a_batch_are_independent() -> None:
    model, x = randomised(112), images(3, 112)
    torch.testing.assert_close(model(x), torch.cat([model(image[None]) for image in x]), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_traced_and_exported_with_a_free_batch_in_five_dimensions() -> None:
    model, x = randomised(112), images(3, 112)
    torch.testing.assert_close(fx.symbolic_trace(model)(x), model(x))
    free = torch.export.export(model, (x[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.testing.assert_close(free.module()(x), model(x))
    fixed = torch.export.export(model, (x[:1],))
    ranks = {len(node.meta["val"].shape) for node in fixed.graph.nodes if isinstance(node.meta.get("val"), Tensor)}
    assert max(ranks) <= 5


@pytest.mark.slow
def test_onnx_has_no_more_nodes_than_the_plain_export() -> None:
    model, _ = weights.load(LITE, "random")
    program = torch.onnx.export(model, (images(1, 224),), dynamo=True, opset_version=21, verbose=False)
    assert program is not None
    assert len(program.model.graph) <= 593
