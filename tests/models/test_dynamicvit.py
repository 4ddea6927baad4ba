"""DynamicViT against the figures of the authors' code, its training form against its inference form, and its graphs."""

from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import torch
from onnxruntime import InferenceSession
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils.flop_counter import FlopCounterMode

from edgevit.models import dynamicvit, vit
from edgevit.models.dynamicvit import RATIOS, UNPRUNED, Config, DynamicViT

NAMES = list(dynamicvit.CONFIGS)
RAN = ["dynamicvit_deit_tiny", "dynamicvit_lvvit_small"]  # the smaller of each kind, where arithmetic is looked at
NARROW = {  # of each kind, where graphs are looked at
    "narrow_deit": Config(48, 3, depth=4),
    "narrow_lvvit": Config(48, 3, depth=4, mlp_ratio=3, labels_tokens=True),
}
SIDE, CLASSES = 64, 10
TOLERANCE = 2e-6  # of the largest logit
DEIT_TINY = Path(__file__).parents[3] / "shared" / "weights" / "deit_tiny_patch16_224.safetensors"

PARAMS = {  # without predictors, and with them
    "dynamicvit_deit_tiny": (5_717_416, 5_899_582),
    "dynamicvit_deit_256": (9_982_184, 10_304_942),
    "dynamicvit_deit_small": (22_050_664, 22_774_414),
    "dynamicvit_deit_base": (86_567_656, 89_452_846),
    "dynamicvit_lvvit_small": (26_151_824, 26_875_574),
    "dynamicvit_lvvit_medium": (55_830_544, 57_115_030),
}
MACS_RATIOS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
MACS = {
    "dynamicvit_deit_tiny": (1_253_683_200, 1_091_495_616, 931_905_120, 801_198_048, 690_086_688, 601_627_680),
    "dynamicvit_deit_256": (2_136_358_912, 1_868_159_232, 1_597_927_552, 1_374_597_760, 1_183_347_072, 1_030_126_976),
    "dynamicvit_deit_small": (4_598_882_304, 4_040_734_080, 3_463_053_504, 2_980_897_728, 2_564_715_072, 2_229_060_672),
    "dynamicvit_deit_base": (
        17_563_828_224,
        15_512_439_552,
        13_323_080_064,
        11_475_801_984,
        9_867_596_928,
        8_561_342_592,
    ),
    "dynamicvit_lvvit_small": (
        6_551_485_440,
        5_876_306_304,
        5_206_240_704,
        4_650_082_752,
        4_173_004_608,
        3_790_170_432,
    ),
    "dynamicvit_lvvit_medium": (
        12_678_045_696,
        11_206_734_336,
        9_782_630_656,
        8_593_229_056,
        7_567_424_256,
        6_740_554_496,
    ),
}
COUNTS = {
    0.9: (176, 158, 142),
    0.8: (156, 125, 100),
    0.7: (137, 96, 67),
    0.6: (117, 70, 42),
    0.5: (98, 49, 24),
    1.0: (),
}


@cache
def meta(name: str, keep_ratio: float = 0.7, image_size: int = 224) -> DynamicViT:
    with torch.device("meta"):
        return dynamicvit.build(name, image_size, keep_ratio=keep_ratio).eval()


def randomised(name: str, image_size: int = SIDE, keep_ratio: float = 0.7) -> DynamicViT:
    """Seeded weights, in evaluation mode: norms that do something, and predictors that tell patches clearly apart."""
    torch.manual_seed(1)
    model = DynamicViT((dynamicvit.CONFIGS | NARROW)[name], image_size, CLASSES, keep_ratio).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2.0)
            if isinstance(module, nn.Linear):
                module.weight.mul_(3)
                if module.bias is not None:
                    module.bias.uniform_(-0.1, 0.1)
        for predictor in model.score_predictor:
            predictor.out_conv[4].weight.mul_(30)
    return model


def images(count: int, image_size: int = SIDE) -> Tensor:
    return torch.randn(count, 3, image_size, image_size, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def selection(model: DynamicViT, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Logits, kept ids and scores of ``forward``."""
    model.returns_selection = True
    logits, *rest = model(x)
    model.returns_selection = False
    return logits, tuple(rest[: len(model.sites)]), tuple(rest[len(model.sites) :])


def as_mask(ids: Tensor, patches: int) -> Tensor:
    return torch.zeros(len(ids), patches).scatter(1, ids, 1.0)


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


# What the published figures say


@pytest.mark.parametrize("name", NAMES)
def test_parameters(name: str) -> None:
    counted = [sum(p.numel() for p in meta(name, ratio).parameters()) for ratio in (UNPRUNED, *RATIOS)]
    backbone, pruned = PARAMS[name]
    assert counted == [backbone] + [pruned] * len(RATIOS)


@pytest.mark.parametrize("ratio", MACS_RATIOS)
@pytest.mark.parametrize("name", NAMES)
def test_multiply_accumulates(name: str, ratio: float) -> None:
    counter = FlopCounterMode(display=False)
    with counter:
        meta(name, ratio)(torch.empty(1, 3, 224, 224, device="meta"))
    assert counter.get_total_flops() == 2 * MACS[name][MACS_RATIOS.index(ratio)]


@pytest.mark.parametrize("ratio", COUNTS)
def test_kept_counts(ratio: float) -> None:
    assert meta("dynamicvit_deit_tiny", ratio).counts == COUNTS[ratio]


def test_kept_counts_are_exact_where_floats_fall_short() -> None:
    assert 100 * 0.7**2 < 49
    assert meta("dynamicvit_deit_tiny", 0.7, 160).counts == (70, 49, 34)
    assert 625 * 0.6**3 < 135
    assert meta("dynamicvit_deit_tiny", 0.6, 400).counts == (375, 225, 135)


@pytest.mark.parametrize(
    ("name", "sites"),
    [
        *((name, (3, 6, 9)) for name in NAMES if "deit" in name),
        ("dynamicvit_lvvit_small", (4, 8, 12)),
        ("dynamicvit_lvvit_medium", (5, 10, 15)),
    ],
)
def test_sites(name: str, sites: tuple[int, ...]) -> None:
    assert meta(name).sites == sites
    assert meta(name, UNPRUNED).sites == ()


def linear(prefix: str, bias: bool = True) -> list[str]:
    return [f"{prefix}.weight", f"{prefix}.bias"] if bias else [f"{prefix}.weight"]


def backbone_keys(depth: int, label_tokens: bool) -> list[str]:
    keys = ["cls_token", "pos_embed", *linear("patch_embed.proj"), *linear("norm"), *linear("head")]
    for i in range(depth):
        keys += linear(f"blocks.{i}.attn.qkv", bias=not label_tokens)
        for layer in ("norm1", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"):
            keys += linear(f"blocks.{i}.{layer}")
    if label_tokens:
        keys += linear("aux_head")
        for i in (1, 2, 3):
            keys += [f"patch_embed.conv{i}.weight", *linear(f"patch_embed.bn{i}")]
            keys += [f"patch_embed.bn{i}.{value}" for value in ("running_mean", "running_var", "num_batches_tracked")]
    return keys


def predictor_keys() -> list[str]:
    layers = ("in_conv.0", "in_conv.1", "out_conv.0", "out_conv.2", "out_conv.4")
    return [key for s in range(3) for layer in layers for key in linear(f"score_predictor.{s}.{layer}")]


@pytest.mark.parametrize(
    ("name", "depth", "count"),
    [
        *((name, 12, 182) for name in NAMES if "deit" in name),
        ("dynamicvit_lvvit_small", 16, 234),
        ("dynamicvit_lvvit_medium", 20, 278),
    ],
)
def test_keys_are_the_authors(name: str, depth: int, count: int) -> None:
    backbone = backbone_keys(depth, label_tokens="lvvit" in name)
    assert sorted(meta(name).state_dict()) == sorted(backbone + predictor_keys())
    assert len(meta(name).state_dict()) == count
    assert sorted(meta(name, UNPRUNED).state_dict()) == sorted(backbone)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_are_the_authors(name: str) -> None:
    width = dynamicvit.CONFIGS[name].width
    state = {key: tuple(value.shape) for key, value in meta(name).state_dict().items()}
    assert state["pos_embed"] == (1, 197, width)
    assert state["blocks.0.attn.qkv.weight"] == (3 * width, width)
    assert state["patch_embed.proj.weight"] == ((width, 64, 8, 8) if "lvvit" in name else (width, 3, 16, 16))
    for s in range(3):
        predictor = [
            state[f"score_predictor.{s}.{layer}.weight"] for layer in ("in_conv.1", "out_conv.0", "out_conv.2")
        ]
        assert predictor == [(width, width), (width // 2, width), (width // 4, width // 2)]
        assert state[f"score_predictor.{s}.out_conv.4.weight"] == (2, width // 4)


@pytest.mark.parametrize(("name", "eps"), [("dynamicvit_deit_tiny", 1e-6), ("dynamicvit_lvvit_small", 1e-5)])
def test_norms_have_the_authors_epsilon(name: str, eps: float) -> None:
    norms = {key: module.eps for key, module in meta(name).named_modules() if isinstance(module, nn.LayerNorm)}
    assert {value for key, value in norms.items() if key.startswith("score_predictor")} == {1e-5}
    assert {value for key, value in norms.items() if not key.startswith("score_predictor")} == {eps}


@pytest.mark.skipif(not DEIT_TINY.exists(), reason="there are no DeiT-Tiny weights beside this checkout")
def test_a_published_deit_fits_all_but_the_predictors() -> None:
    tensors = load_file(DEIT_TINY)
    fit = dynamicvit.build("dynamicvit_deit_tiny").load_state_dict(tensors, strict=False)
    assert sorted(fit.missing_keys) == sorted(predictor_keys())
    assert fit.unexpected_keys == []
    dynamicvit.build("dynamicvit_deit_tiny", keep_ratio=UNPRUNED).load_state_dict(tensors)


# What the parts compute


@pytest.mark.parametrize("lvvit", [False, True])
def test_a_block_equals_pytorchs_encoder_layer(lvvit: bool) -> None:
    torch.manual_seed(0)
    block = vit.Block(48, 3, 4, eps=1e-3, qkv_bias=not lvvit, halved=lvvit)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    layer = nn.TransformerEncoderLayer(48, 3, 192, 0.0, "gelu", 1e-3, batch_first=True, norm_first=True)
    share = 0.5 if lvvit else 1.0
    state = block.state_dict()
    layer.load_state_dict(
        {
            "self_attn.in_proj_weight": state["attn.qkv.weight"],
            "self_attn.in_proj_bias": state.get("attn.qkv.bias", torch.zeros(144)),
            **{f"self_attn.out_proj.{part}": share * state[f"attn.proj.{part}"] for part in ("weight", "bias")},
            **{f"linear1.{part}": state[f"mlp.fc1.{part}"] for part in ("weight", "bias")},
            **{f"linear2.{part}": share * state[f"mlp.fc2.{part}"] for part in ("weight", "bias")},
            **{key: state[key] for key in state if key.startswith("norm")},
        }
    )
    x = torch.randn(2, 7, 48)
    assert_close(block(x), layer(x))


def test_lvvit_embeds_through_three_convolutions() -> None:
    embed = randomised("dynamicvit_lvvit_small").patch_embed
    x = images(2)
    stem = nn.Sequential(embed.conv1, embed.bn1, nn.ReLU(), embed.conv2, embed.bn2, nn.ReLU(), embed.conv3, embed.bn3)
    patches = nn.functional.conv2d(stem(x).relu(), embed.proj.weight, embed.proj.bias, stride=8)
    assert torch.equal(embed(x), torch.stack([patches[:, :, i // 4, i % 4] for i in range(16)], 1))


@pytest.mark.parametrize("name", RAN)
def test_tokens_are_the_class_token_and_patches_row_by_row_with_positions(name: str) -> None:
    model = randomised(name)
    x = images(2)
    first = torch.cat([model.cls_token.expand(2, 1, -1), model.patch_embed(x)], 1) + model.pos_embed
    assert torch.equal(model.embed(x), first)
    moved = x.clone()
    moved[:, :, 24, 56] += 1  # the patch in the second row and last column
    changed = (model.embed(moved) - model.embed(x)).abs().sum((0, 2)) > 0
    assert changed[1 + 7]
    assert name in RAN[1:] or changed.sum() == 1  # LV-ViT's convolutions reach across patches


def test_lvvit_adds_half_the_best_of_its_tokens() -> None:
    model, seen = randomised("dynamicvit_lvvit_small"), []
    for head in (model.head, model.aux_head):
        head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits = model(images(3))
    of_class, of_tokens = seen
    assert of_tokens.shape == (3, model.counts[-1], CLASSES)
    assert torch.equal(logits, of_class + 0.5 * of_tokens.max(1).values)


@pytest.mark.parametrize("masked", [False, True])
def test_predictor_joins_each_token_with_the_mean_of_the_kept(masked: bool) -> None:
    predictor = randomised("dynamicvit_deit_tiny").score_predictor[0]
    tokens = torch.randn(2, 9, 192)
    mask = (torch.rand(2, 9) > 0.5).float() if masked else None
    kept = torch.ones(2, 9) if mask is None else mask
    features = predictor.in_conv(tokens)
    z = predictor(tokens, mask)
    for image in range(2):
        mean = features[image, kept[image] == 1, 96:].mean(0)
        for token in range(9):
            expected = predictor.out_conv(torch.cat([features[image, token, :96], mean]))
            torch.testing.assert_close(z[image, token], expected, rtol=1e-5, atol=1e-5)


def test_masked_softmax_is_the_papers_with_the_authors_epsilon() -> None:
    products = 4 * torch.randn(2 * 3, 5, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1.0, 1, 0, 1, 0], [1, 0, 0, 0, 1]])
    weights = vit.masked_softmax(products, mask)
    for row in range(6):
        for i in range(5):
            e = (products[row, i].double() - products[row, i].max()).exp()
            e = torch.stack([e[j] * (1 if i == j else mask[row // 3, j]) for j in range(5)])
            torch.testing.assert_close(
                weights[row, i].double(), (e + 1e-6 / 5) / (e.sum() + 1e-6), rtol=2e-6, atol=1e-9
            )


def test_masked_softmax_is_computed_in_float32() -> None:
    torch.manual_seed(0)
    products, mask = torch.randn(6, 50, 50), (torch.rand(2, 50) > 0.5).float()
    half = vit.masked_softmax(products.half(), mask)
    assert half.dtype == torch.float16
    assert torch.equal(half, vit.masked_softmax(products.half().float(), mask).half())


# Which patches are kept


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("name", RAN)
def test_each_site_keeps_the_best_of_what_is_left(name: str, ratio: float) -> None:
    model = randomised(name, keep_ratio=ratio)
    _, kept, scores = selection(model, images(4))
    for image in range(4):
        before = torch.arange(16)
        for ids, score, count in zip(kept, (score[image] for score in scores), model.counts, strict=True):
            assert ids.dtype == torch.int64
            assert score.shape == before.shape
            order = score.argsort(descending=True)
            margin = score[order[count - 1]] - score[order[count]]
            assert margin > 1e-3 * (score.max() - score.min())  # not within rounding
            assert set(ids[image].tolist()) == set(before[order[:count]].tolist())
            assert len(set(ids[image].tolist())) == count
            before = ids[image]


@pytest.mark.parametrize("name", RAN)
def test_scores_are_the_log_odds_of_keep(name: str) -> None:
    """Up to the first site the two forms see the same tokens."""
    model = randomised(name)
    seen = []

    def decide(site: int, log_probs: Tensor) -> Tensor:
        seen.append(log_probs)
        return torch.ones(2, 16)

    with torch.no_grad():
        model.masked(images(2), decide)
    _, _, scores = selection(model, images(2))
    assert_close(scores[0], seen[0][:, :, 0] - seen[0][:, :, 1], 1e-5)


@pytest.mark.parametrize("name", RAN)
def test_selection_does_not_change_the_logits(name: str) -> None:
    model = randomised(name)
    logits, _, _ = selection(model, images(2))
    assert torch.equal(model(images(2)), logits)


@pytest.mark.parametrize("name", RAN)
def test_a_batch_equals_its_images_one_by_one(name: str) -> None:
    model, x = randomised(name), images(4)
    logits, kept, scores = selection(model, x)
    alone = [selection(model, x[i : i + 1]) for i in range(4)]
    assert_close(logits, torch.cat([entry[0] for entry in alone]))
    assert len({tuple(sorted(ids.tolist())) for ids in kept[0]}) > 1  # or a batch could share one choice unnoticed
    for site in range(3):
        assert torch.equal(kept[site].sort().values, torch.cat([entry[1][site] for entry in alone]).sort().values)
        assert scores[site].shape[1] == alone[0][2][site].shape[1]


@pytest.mark.parametrize("name", RAN)
def test_replaying_its_own_choice_is_forward(name: str) -> None:
    model, x = randomised(name), images(2)
    logits, kept, scores = selection(model, x)
    with torch.no_grad():
        replayed = model.replay(x, kept)
    assert len(replayed) == 7
    for actual, expected in zip(replayed, (logits, *kept, *scores), strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("name", RAN)
def test_the_order_of_kept_ids_does_not_matter(name: str) -> None:
    model, x = randomised(name, 96), images(2, 96)
    logits, kept, _ = selection(model, x)
    backwards = tuple(ids.flip(1) for ids in kept)
    with torch.no_grad():
        replayed = model.replay(x, backwards)
    assert_close(replayed[0], logits)
    assert all(torch.equal(*pair) for pair in zip(replayed[1:4], backwards, strict=True))


@pytest.mark.parametrize("site", range(3))
@pytest.mark.parametrize("name", RAN)
def test_replaying_another_choice_differs(name: str, site: int) -> None:
    model, x = randomised(name), images(2)
    logits, kept, scores = selection(model, x)
    before = kept[site - 1] if site else torch.arange(16).expand(2, -1)
    forced = [ids.clone() for ids in kept]
    for image in range(2):
        worst = min(set(before[image].tolist()) - set(kept[site][image].tolist()))
        best = kept[-1][image, 0]  # kept to the end, so exchanged from this site on
        for ids in forced[site:]:
            ids[image, ids[image] == best] = worst
    with torch.no_grad():
        replayed = model.replay(x, forced)
    assert (replayed[0] - logits).abs().amax(1).min() > 1e-4 * logits.abs().max()
    assert all(torch.equal(*pair) for pair in zip(replayed[1:4], forced, strict=True))
    for index in range(3):  # up to the exchange nothing has changed
        assert torch.equal(replayed[4 + index], scores[index]) == (index <= site)


def exchanged(ids: Tensor, value: int) -> Tensor:
    ids = ids.clone()
    ids[0, 0] = value
    return ids


def test_ids_that_no_selection_can_be_raise() -> None:
    model, x = randomised("dynamicvit_deit_tiny"), images(2)
    _, (first, second, third), _ = selection(model, x)
    dropped = min(set(range(16)) - set(first[0].tolist()))
    wrong = {
        "2 sites for 3: give a tensor a site": [first, second],
        r"site 2 have the shape \(2, 6\), where \(2, 7\)": [first, second[:, 1:], third],
        r"site 1 have the shape \(1, 11\), where \(2, 11\)": [first[:1], second, third],
        "site 2 repeat, or were not there": [first, exchanged(second, dropped), third],
        "site 3 repeat, or were not there": [first, second, exchanged(third, int(third[0, 1]))],
        "site 1 repeat, or were not there": [exchanged(first, 16), second, third],
    }
    for message, kept in wrong.items():
        with pytest.raises(ValueError, match=message):
            model.replay(x, kept)


@pytest.mark.parametrize("name", RAN)
def test_ratio_one_is_the_backbone(name: str) -> None:
    pruned, backbone = randomised(name), randomised(name, keep_ratio=UNPRUNED)
    backbone.load_state_dict({k: v for k, v in pruned.state_dict().items() if k in backbone.state_dict()})
    x = images(2)
    with torch.no_grad():
        everything = pruned.masked(x, lambda site, log_probs: torch.ones(2, 16))
        bare = backbone.masked(x, lambda site, log_probs: pytest.fail("the backbone has no site"))
        logits = backbone(x)
        assert (pruned(x) - logits).abs().max() > 1e-3 * logits.abs().max()
    assert_close(everything.logits, logits, 1e-5)  # the epsilon of nine blocks
    assert torch.equal(bare.logits, logits)
    assert bare.masks == ()
    assert len(selection(backbone, x)[1]) == 0
    assert torch.equal(backbone.replay(x, [])[0], logits)


# Training


@pytest.mark.parametrize(("image_size", "ratio"), [(64, 0.5), (96, 0.7), (96, 0.9)])
@pytest.mark.parametrize("name", RAN)
def test_hiding_patches_equals_dropping_them(name: str, image_size: int, ratio: float) -> None:
    model, x = randomised(name, image_size, ratio), images(3, image_size)
    logits, kept, _ = selection(model, x)
    masks = [as_mask(ids, model.patches) for ids in kept]
    with torch.no_grad():
        outputs = model.masked(x, lambda site, log_probs: masks[site])
    assert_close(outputs.logits, logits)
    assert [mask.sum(1).tolist() for mask in outputs.masks] == [[count] * 3 for count in model.counts]
    assert all(torch.equal(*pair) for pair in zip(outputs.masks, masks, strict=True))


@pytest.mark.parametrize("name", RAN)
def test_predictors_see_the_same_hidden_or_dropped(name: str) -> None:
    model, x = randomised(name, 96), images(2, 96)
    _, kept, scores = selection(model, x)
    seen = []

    def decide(site: int, log_probs: Tensor) -> Tensor:
        assert site == len(seen)
        assert log_probs.shape == (2, 36, 2)
        torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 36))
        seen.append(log_probs[:, :, 0] - log_probs[:, :, 1])
        return as_mask(kept[site], 36)

    with torch.no_grad():
        model.masked(x, decide)
    assert len(seen) == 3
    for site in (1, 2):
        assert_close(seen[site].gather(1, kept[site - 1]), scores[site], 1e-5)


def test_a_dropped_patch_stays_dropped() -> None:
    model = randomised("dynamicvit_deit_tiny")
    drawn = (torch.rand(3, 2, 16, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    with torch.no_grad():
        masks = model.masked(images(2), lambda site, log_probs: drawn[site]).masks
    assert torch.equal(torch.stack(masks), drawn.cumprod(0))
    assert not torch.equal(masks[2], drawn[2])


@pytest.mark.parametrize("name", RAN)
def test_tokens_for_distillation(name: str) -> None:
    model, x = randomised(name, keep_ratio=UNPRUNED), images(2)
    inputs: list[Tensor] = []
    model.head.register_forward_hook(lambda module, args, output: inputs.append(args[0]))
    with torch.no_grad():
        outputs = model.masked(x, lambda site, log_probs: pytest.fail("the backbone has no site"))
        tokens = model.embed(x)
        for block in model.blocks:
            tokens = block(tokens)
        features = model.norm(tokens)
    assert torch.equal(inputs[0], features[:, 0])
    assert torch.equal(outputs.tokens, features[:, 1:])
    if model.aux_head is None:
        assert outputs.token_logits is None
    else:
        assert torch.equal(outputs.token_logits, model.aux_head(features[:, 1:]))


@pytest.mark.parametrize("name", RAN)
def test_an_image_that_keeps_nothing_trains_on(name: str) -> None:
    model = randomised(name)
    heads: list[Tensor] = []
    model.head.register_forward_hook(lambda module, args, output: heads.append(output))

    def decide(site: int, log_probs: Tensor) -> Tensor:
        return log_probs[:, :, 0] - log_probs[:, :, 0].detach()  # zeros with a gradient

    outputs = model.masked(images(2), decide)
    assert torch.equal(outputs.logits, heads[0])
    outputs.logits.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", RAN)
@pytest.mark.parametrize("loss", ["logits", "masks"])
def test_gradients_reach_every_predictor(name: str, loss: str) -> None:
    torch.manual_seed(0)
    model = dynamicvit.build(name, SIDE, CLASSES)  # fresh predictors waver, so some patches are kept to the end
    outputs = model.masked(images(4), dynamicvit.gumbel_keep(torch.Generator().manual_seed(0)))
    for mask in outputs.masks:
        assert set(mask.unique().tolist()) == {0.0, 1.0}
    value = outputs.logits.square().sum() if loss == "logits" else sum(m.mean() ** 2 for m in outputs.masks)
    value.backward()
    for predictor in model.score_predictor:
        for key, parameter in predictor.named_parameters():
            assert parameter.grad.isfinite().all()
            assert parameter.grad.abs().max() > 0, key


def test_gumbel_keep_is_hard_with_the_gradient_of_the_soft_sample() -> None:
    z = torch.randn(2, 16, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    direction = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    keep = dynamicvit.gumbel_keep(torch.Generator().manual_seed(5))(0, z.log_softmax(-1))
    (actual,) = torch.autograd.grad((keep * direction).sum(), z)
    noise = -torch.empty(2, 16, 2).exponential_(generator=torch.Generator().manual_seed(5)).log()
    soft = torch.nn.functional.softmax(z.log_softmax(-1) + noise, -1)
    (expected,) = torch.autograd.grad((soft[:, :, 0] * direction).sum(), z)
    torch.testing.assert_close(actual, expected)
    assert keep.dtype == torch.float32
    assert torch.equal(keep, 1.0 - soft.argmax(-1))


def test_gumbel_keep_draws_with_the_predicted_probability_and_by_the_seed() -> None:
    log_probs = torch.tensor([0.3, 0.7]).log().expand(50, 400, 2)
    first, again, other = (
        dynamicvit.gumbel_keep(torch.Generator().manual_seed(seed))(0, log_probs) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert abs(first.mean().item() - 0.3) < 0.015  # 4.6 standard deviations


def test_initial_weights() -> None:
    torch.manual_seed(0)
    model = dynamicvit.build("dynamicvit_lvvit_small", SIDE, CLASSES)
    assert model.training
    assert not model.returns_selection
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    for weight in (*(module.weight for module in linears), model.pos_embed):
        assert 0.015 < weight.std() < 0.025
    assert all(not module.bias.any() for module in linears if module.bias is not None)
    assert model.cls_token.abs().max() < 0.2
    assert model.cls_token.any()


# Its graphs


@cache
def exported(name: str, dynamic: bool, selects: bool) -> ExportedProgram:
    """Of a batch of two that may be any, or of one image."""
    model = randomised(name)
    model.returns_selection = selects
    shapes = ({0: Dim("batch", min=1, max=64)},) if dynamic else None
    return torch.export.export(model, (images(2 if dynamic else 1),), dynamic_shapes=shapes)


def symbolic(name: str, selects: bool) -> nn.Module:
    model = randomised(name)
    model.returns_selection = selects
    return torch.fx.symbolic_trace(model)


@pytest.mark.parametrize("selects", [False, True])
@pytest.mark.parametrize("trace", ["symbolic", "dynamic"])
@pytest.mark.parametrize("name", NARROW)
def test_a_graph_takes_any_batch(name: str, trace: str, selects: bool) -> None:
    graph = symbolic(name, selects) if trace == "symbolic" else exported(name, True, selects).module()
    for batch in (1, 5):
        with torch.no_grad():
            outputs = graph(images(batch))
        logits, kept, scores = selection(randomised(name), images(batch))
        expected = (logits, *kept, *scores) if selects else (logits,)
        for actual, wanted in zip(outputs if selects else (outputs,), expected, strict=True):
            torch.testing.assert_close(actual, wanted)


@pytest.mark.parametrize("name", NARROW)
def test_a_graph_of_one_image(name: str) -> None:
    with torch.no_grad():
        torch.testing.assert_close(exported(name, False, False).module()(images(1)), randomised(name)(images(1)))


@pytest.mark.parametrize("name", NAMES)
def test_every_model_is_traced_whole(name: str) -> None:
    graph = torch.fx.symbolic_trace(meta(name)).graph
    kinds = Counter(node.target for node in graph.nodes)
    assert kinds[torch.bmm] == 2 * dynamicvit.CONFIGS[name].depth
    assert kinds[torch.topk] == 3


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", NARROW)
def test_graph_suits_every_runtime(name: str, dynamic: bool) -> None:
    """At most four dimensions, products of three, and nothing that only training needs."""
    nodes = exported(name, dynamic, False).graph.nodes
    ranks = [node.meta["val"].ndim for node in nodes if isinstance(node.meta.get("val"), Tensor)]
    assert max(ranks) == 4
    called = Counter(node.target.name().removeprefix("aten::") for node in nodes if hasattr(node.target, "name"))
    assert called["bmm"] == called["softmax.int"] * 2 == 2 * NARROW[name].depth
    assert called["topk"] == called["gather"] == called["mean.dim"] == 3
    others = {name.split(".")[0] for name in called}
    assert others.isdisjoint({"matmul", "split", "chunk", "pad", "log_softmax", "sort", "argsort", "index"})


def test_ids_are_composed_only_where_they_are_returned() -> None:
    plain, debug = (
        Counter(str(node.target) for node in exported("narrow_deit", True, selects).graph.nodes)
        for selects in (False, True)
    )
    assert debug - plain == {"aten.gather.default": 2}
    assert not plain - debug


@pytest.mark.slow
def test_onnx_is_no_larger_than_need_be(tmp_path: Path) -> None:
    model, x = randomised("dynamicvit_deit_tiny", 224), images(1, 224)
    program = torch.onnx.export(model, (x,), dynamo=True, opset_version=21, verbose=False)
    assert program is not None
    kinds = Counter(node.op_type for node in program.model.graph)
    assert sum(kinds.values()) <= 504  # what the authors' own form takes
    assert kinds["TopK"] == 3
    assert kinds["LogSoftmax"] == 0
    program.save(tmp_path / "model.onnx")
    session = InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        assert_close(torch.from_numpy(logits), model(x), 5e-6)


# What is refused


@pytest.mark.parametrize("image_size", range(64, 513, 16))
def test_every_image_size_runs(image_size: int) -> None:
    dynamicvit.check_image_size(image_size)
    with torch.device("meta"):
        model = DynamicViT(NARROW["narrow_deit"], image_size, CLASSES, keep_ratio=0.5)
        assert model(torch.empty(2, 3, image_size, image_size)).shape == (2, CLASSES)
    assert model.pos_embed.shape[1] == (image_size // 16) ** 2 + 1


@pytest.mark.parametrize("image_size", [0, 48, 63, 100, 225, 528])
def test_other_image_sizes_raise(image_size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 16 from 64 to 512"):
        dynamicvit.build("dynamicvit_deit_tiny", image_size)


@pytest.mark.parametrize("ratio", [0.0, 0.4, 0.75, 0.95, 1.1, -0.7, 70, float("nan")])
def test_other_ratios_raise(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"take 0\.5, 0\.6, 0\.7, 0\.8, 0\.9, or 1\.0 for the backbone"):
        dynamicvit.build("dynamicvit_deit_tiny", keep_ratio=ratio)
