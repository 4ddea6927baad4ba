"""Checkpoints of SepViT and DynamicViT: other sizes, plain backbones, token predictors of their own."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.models import dynamicvit, fitting, registry, sepvit, weights
from tests.models.test_weights import refused, saved

LITE, TINY, LV = "sepvit_lite", "dynamicvit_deit_tiny", "dynamicvit_lvvit_small"
State = dict[str, Tensor]


def state_of(name: str, image_size: int, classes: int = 7, keep_ratio: float | None = None) -> State:
    return dict(fitting.seeded(name, image_size, classes, seed=1, keep_ratio=keep_ratio).state_dict())


@pytest.fixture(scope="module")
def deit() -> State:
    """A plain DeiT-Tiny at 64 px with 7 classes."""
    return state_of(TINY, 64, keep_ratio=1)


@pytest.fixture(scope="module")
def predictors() -> State:
    return {key: value for key, value in state_of(TINY, 64).items() if key.startswith(fitting.PREDICTOR)}


# SepViT


@pytest.mark.parametrize("image_size", [56, 112])
def test_the_image_size_of_a_sepvit_follows_from_its_window_tokens(image_size: int, tmp_path: Path) -> None:
    model, described = weights.load(LITE, saved(tmp_path / "a.pth", state_of(LITE, image_size)))
    assert (model.image_size, model.classes) == (image_size, 7)
    assert described.notes == (f"image size not stated: {image_size} px is the smallest that the window tokens fit",)


def test_a_sepvit_at_a_larger_size_gets_windows_and_says_so(tmp_path: Path) -> None:
    state = state_of(LITE, 56)
    tokens = "blocks.0.0.win_tokens"
    rows = torch.tensor([1.0, 1.0, 2.0, 2.0]).reshape(1, 4, 1, 1)  # of the 2 x 2 windows
    state[tokens] = rows.expand(1, 4, 1, 32)
    model, described = weights.load(LITE, saved(tmp_path / "a.pth", state), image_size=112)
    fresh = state_of(LITE, 112).keys() - state.keys()
    assert fresh
    assert described.notes == (
        "window tokens resized for 112 px",
        f"{len(fresh)} tensors that 56 px do not need are freshly initialised: train further",
    )
    resized = model.state_dict()[tokens].reshape(4, 4, 32)
    torch.testing.assert_close(resized, resized[:, :1, :1].expand(4, 4, 32))
    assert (resized[:, 0, 0].diff() > 0).all()
    assert torch.equal(model.state_dict()["head.weight"], state["head.weight"])


def test_a_sepvit_at_a_smaller_size_drops_windows_and_says_so(tmp_path: Path) -> None:
    state = state_of(LITE, 112)
    model, described = weights.load(LITE, saved(tmp_path / "a.pth", state), image_size=56)
    dropped = len(state) - len(model.state_dict())
    assert described.notes[-1] == f"{dropped} tensors that 56 px do not need are dropped"


def test_at_its_own_size_nothing_of_a_sepvit_may_be_missing(tmp_path: Path) -> None:
    state = state_of(LITE, 112)
    del state["blocks.0.0.attn.PSA_qk.weight"]
    message = refused(LITE, saved(tmp_path / "a.pth", state), image_size=112)
    assert message.endswith("does not fit sepvit_lite: blocks.0.0.attn.PSA_qk.weight [64, 32] is missing")


def test_window_tokens_of_another_width_do_not_fit(tmp_path: Path) -> None:
    state = state_of(LITE, 56) | {"blocks.0.0.win_tokens": torch.zeros(1, 3, 1, 32)}
    message = refused(LITE, saved(tmp_path / "a.pth", state), image_size=112)
    assert "blocks.0.0.win_tokens is [1, 3, 1, 32] instead of [1, 16, 1, 32]" in message


def test_no_weights_of_sepvit_are_published() -> None:
    with pytest.raises(InputError, match="the authors publish no file of sepvit_tiny that can be fetched"):
        weights.load("sepvit_tiny", "official")


# DynamicViT


def test_a_plain_deit_needs_predictors(deit: State, tmp_path: Path) -> None:
    message = refused(TINY, saved(tmp_path / "a.pth", {"model": deit}))
    assert message.endswith(
        "a.pth holds no token predictors: add --predictors (bundled or a file), or take --keep-ratio 1 to leave "
        "dynamicvit_deit_tiny unpruned"
    )


def test_a_plain_deit_is_the_unpruned_model(deit: State, tmp_path: Path) -> None:
    model, described = weights.load(TINY, saved(tmp_path / "a.pth", {"model": deit}), keep_ratio=1)
    assert (model.keep_ratio, model.image_size, described.notes) == (
        1,
        64,
        ("image size not stated: 64 px is the smallest that the position embeddings fit",),
    )
    assert {key: value.shape for key, value in model.state_dict().items()} == {k: v.shape for k, v in deit.items()}


def test_predictors_join_a_plain_deit(deit: State, predictors: State, tmp_path: Path) -> None:
    backbone = saved(tmp_path / "deit.pth", {"model": deit})
    added = saved(tmp_path / "predictors.pth", predictors)
    model, described = weights.load(TINY, backbone, predictors=added, keep_ratio=0.5)
    assert model.keep_ratio == 0.5
    assert all(torch.equal(value, (deit | predictors)[key]) for key, value in model.state_dict().items())
    assert described.predictors_sha256 is not None
    assert described.predictors_sha256 != described.sha256
    whole, alone = weights.load(TINY, saved(tmp_path / "whole.pth", {"model": deit | predictors}))
    assert (whole.keep_ratio, alone.predictors_sha256) == (0.7, None)


def test_predictors_that_nothing_needs(deit: State, predictors: State, tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.pth", deit | predictors)
    _, described = weights.load(TINY, whole, keep_ratio=1)
    assert described.notes[-1] == "the token predictors are dropped: with keep ratio 1 nothing is pruned"
    added = saved(tmp_path / "predictors.pth", predictors)
    for name, spec, options in (
        (TINY, whole, {}),
        (TINY, whole, {"keep_ratio": 1}),
        (TINY, "random", {}),
        ("efficientvit_m0", "bundled", {}),
    ):
        with pytest.raises(InputError, match="leave --predictors away"):
            weights.load(name, spec, predictors=added, **options)  # type: ignore[arg-type]


def test_files_that_hold_no_predictors_for_the_model(deit: State, predictors: State, tmp_path: Path) -> None:
    backbone = saved(tmp_path / "deit.pth", deit)
    with pytest.raises(InputError, match="holds more than token predictors: give it as --weights"):
        weights.load(TINY, backbone, predictors=backbone)
    other = nn.Module()
    weights.save(tmp_path / "other.safetensors", other, {"model": "dynamicvit_deit_small"})
    with pytest.raises(InputError, match="predictors of dynamicvit_deit_small, not of dynamicvit_deit_tiny"):
        weights.load(TINY, backbone, predictors=str(tmp_path / "other.safetensors"))
    del predictors[next(iter(predictors))]
    with pytest.raises(InputError, match=r"score_predictor\.0\.in_conv\.0\.weight \[192\] is missing"):
        weights.load(TINY, backbone, predictors=saved(tmp_path / "few.pth", predictors))
    with pytest.raises(InputError, match="no token predictors for dynamicvit_deit_base are bundled"):
        weights.load("dynamicvit_deit_base", backbone, predictors="bundled")


def test_the_official_backbone_is_checked_by_the_digits_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = registry.entry(TINY)
    assert entry.official_url is not None
    assert entry.official_sha256 == "a1311bcf"
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path))
    (tmp_path / entry.official_url.rsplit("/", 1)[1]).write_bytes(b"another file")
    with pytest.raises(Exception, match=r"has SHA-256 [0-9a-f]{64}, not the published a1311bcf: delete"):
        weights.load(TINY, "official", keep_ratio=1)


def test_positions_are_resized_but_for_the_class_tokens(deit: State, tmp_path: Path) -> None:
    positions = torch.ones(1, 17, 192)
    positions[:, 0] = 5
    path = saved(tmp_path / "a.pth", deit | {"pos_embed": positions})
    model, described = weights.load(TINY, path, image_size=96, keep_ratio=1)
    assert described.notes == ("position embeddings resized for 96 px",)
    torch.testing.assert_close(
        model.state_dict()["pos_embed"], torch.cat([positions[:, :1], torch.ones(1, 36, 192)], 1)
    )


def test_both_heads_of_lvvit_get_other_classes(tmp_path: Path) -> None:
    state = state_of(LV, 64)
    model, described = weights.load(LV, saved(tmp_path / "a.pth", state), classes=3)
    assert described.notes[-1] == "head rows dropped: 7 -> 3 classes, the head is freshly initialised"
    shapes = {key: value.shape[0] for key, value in model.state_dict().items() if "head" in key}
    assert shapes == {"head.weight": 3, "head.bias": 3, "aux_head.weight": 3, "aux_head.bias": 3}


def test_another_backbone_is_recognised_with_and_without_predictors(tmp_path: Path) -> None:
    for ratio in (None, 1.0):
        path = saved(tmp_path / "a.pth", state_of("dynamicvit_deit_small", 64, keep_ratio=ratio))
        assert "what looks like dynamicvit_deit_small: name that model instead" in refused(
            TINY, path, keep_ratio=ratio or 0.7
        )


# Random weights


@pytest.mark.parametrize("name", [LITE, TINY, LV])
def test_random_weights_are_random_everywhere(name: str) -> None:
    model, _ = weights.load(name, "random", image_size=112 if name == LITE else 64, classes=10)
    for key, value in model.state_dict().items():
        if value.is_floating_point() and ("norm" in key or "bn" in key or "win_tokens" in key or key == "pos_embed"):
            assert value.std() > 0, key
    x = torch.rand(2, 3, int(model.image_size), int(model.image_size), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = model(x)
    assert (logits[0] - logits[1]).std() > 0.01 * logits.std() > 0


def test_random_scores_lie_further_apart_than_rounding() -> None:
    model, _ = weights.load(TINY, "random", image_size=64, classes=10)
    assert isinstance(model, dynamicvit.DynamicViT)
    model.returns_selection = True
    with torch.no_grad():
        scores = model(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)))[4:]
    assert all(site.std() > 0.1 for site in scores)


def test_sepvit_names_what_windows_need() -> None:
    keys = state_of(LITE, 112).keys()
    needed = {key for key in keys if sepvit.is_conditional(key)}
    assert {key.split(".")[3] for key in needed if key.count(".") > 3} == {"attn"}
    assert keys - state_of(LITE, 56).keys() <= needed
