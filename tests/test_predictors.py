"""What token predictors learn from, and what their training leaves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from edgevit.images import open_images
from edgevit.metrics import paired_drop
from edgevit.models import fitting, weights
from edgevit.models.dynamicvit import DynamicViT, MaskedOutputs, gumbel_keep
from edgevit.predictors import (
    EndToEnd,
    Saliency,
    freeze_backbone,
    generator,
    listwise,
    ratio_loss,
    salient,
    ship_predictors,
    token_distillation,
)
from edgevit.train import Data, Recipe, check, predict, prepare, rounded, train
from tests.test_train import CLASSES, SIZE, ignore, silent, write_idx

TINY, LVVIT = "dynamicvit_deit_tiny", "dynamicvit_lvvit_small"
RECIPE = Recipe(epochs=1, batch=20, lr=3e-3)


def pruned(name: str = TINY, seed: int = 0) -> DynamicViT:
    """Its backbone answers what depends on the image, and its patches differ."""
    model = fitting.seeded(name, SIZE, CLASSES, seed)
    assert isinstance(model, DynamicViT)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim == 2 and not key.startswith("score_predictor."):
                parameter.mul_(4)
    return model.eval()


def backbone_of(model: DynamicViT, name: str = TINY) -> DynamicViT:
    backbone = fitting.unpruned(name, model)
    assert isinstance(backbone, DynamicViT)
    return backbone


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return prepare(open_images(write_idx(tmp_path_factory.mktemp("data") / "idx")), RECIPE, SIZE)


# Saliency


@pytest.mark.parametrize("name", [TINY, LVVIT])
def test_saliency_is_the_slope_of_the_answer_where_a_patch_is_hidden(name: str) -> None:
    model, x, site, patch, step = pruned(name), images(2), 1, 5, 1e-2
    answer = backbone_of(model, name)(x).argmax(1)

    def answers(value: float) -> Tensor:
        def dim(at: int, log_probs: Tensor) -> Tensor:
            mask = torch.ones_like(log_probs[..., 0])
            if at == site:
                mask[:, patch] = value
            return mask

        with torch.no_grad():
            return model.masked(x, dim).logits.log_softmax(-1).gather(1, answer[:, None])[:, 0]

    found = salient(model, x)
    assert [tuple(s.shape) for s in found] == [(2, model.patches)] * 3
    slope = (answers(1 + step) - answers(1 - step)) / (2 * step)
    expected = torch.where(slope > 0, slope, -0.5 * slope)
    torch.testing.assert_close(found[site][:, patch], expected, rtol=0.02, atol=1e-5)


def test_listwise_is_least_where_scores_rank_as_saliency() -> None:
    saliency = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    assert listwise(saliency, saliency.log() + 7).item() == pytest.approx(0, abs=1e-6)
    assert listwise(3 * saliency, saliency.log()).item() == pytest.approx(0, abs=1e-6)
    assert listwise(saliency, -saliency.log()) > listwise(saliency, torch.zeros(2, 3)) > 0


def test_saliency_teaches_predictors_alone_and_each_site_by_the_tokens_that_reach_it() -> None:
    model = pruned()
    freeze_backbone(model)
    Saliency(RECIPE)(model, images(4), torch.zeros(4, dtype=torch.int64), 0).backward()
    taught = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert taught == {name for name, _ in model.named_parameters() if name.startswith("score_predictor.")}
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.score_predictor.parameters() if parameter.ndim > 1)


def test_saliency_training_keeps_more_of_what_the_backbone_needs(data: Data, tmp_path: Path) -> None:
    """Of the images that it was trained on, and of nothing else: the backbone stays as it was, bit for bit."""
    model = pruned()
    with torch.no_grad():
        for predictor in model.score_predictor:
            predictor.out_conv[4].weight.neg_()  # type: ignore[index, union-attr]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    freeze_backbone(model)
    x = torch.from_numpy(np.concatenate(list(data.train.batches(data.preprocess, 40))))

    def kept(some: DynamicViT) -> float:
        saliency = salient(some, x)[0]
        some.returns_selection = True
        ids = some(x)[1]
        some.returns_selection = False
        return (saliency.gather(1, ids).sum() / saliency.sum()).item()

    untrained = kept(model)
    recipe = replace(RECIPE, epochs=12, warmup_steps=1)
    average, history = train(model, recipe, data, check(data.train, ignore), tmp_path, silent, Saliency(recipe))
    assert isinstance(average, DynamicViT)
    assert history[-1].loss < 0.9 * history[0].loss
    assert kept(average) > untrained + 0.1
    for key, value in average.state_dict().items():
        assert key.startswith("score_predictor.") or torch.equal(value, before[key])


# The paper's objective


def test_ratio_loss_is_zero_on_the_kept_shares_and_a_mean_over_images_and_sites() -> None:
    masks = [torch.cat([torch.ones(2, kept), torch.zeros(2, 100 - kept)], 1) for kept in (50, 25)]
    assert ratio_loss(masks, 0.5).item() == pytest.approx(0)
    masks[1][0] = 1  # one image of two keeps all at one site of two
    assert ratio_loss(masks, 0.5).item() == pytest.approx(0.75**2 / 4)


def outputs(tokens: Tensor, mask: Tensor, token_logits: Tensor | None = None) -> MaskedOutputs:
    return MaskedOutputs(tokens[:, 0], (mask,), tokens, token_logits)


def test_token_distillation_looks_at_what_is_kept_alone() -> None:
    ours, theirs = images(2)[:, :, :4, 0].transpose(1, 2), images(2, 1)[:, :, :4, 0].transpose(1, 2)  # [2, 4, 3]
    mask = torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 0]])
    expected = sum((ours[i, j] - theirs[i, j]).square().mean() for i, j in ((0, 0), (0, 3), (1, 2))) / 3
    assert torch.isclose(token_distillation(outputs(theirs, mask), outputs(ours, mask)), torch.as_tensor(expected))
    nothing = outputs(ours, torch.zeros(2, 4))
    assert token_distillation(outputs(theirs, mask), nothing).item() == 0


def test_token_distillation_of_lvvit_compares_what_the_auxiliary_head_answers() -> None:
    tokens, mask = torch.zeros(1, 2, 3), torch.tensor([[1.0, 0]])
    ours, theirs = torch.tensor([[[1.0, 0], [9, 9]]]), torch.tensor([[[0.0, 2], [5, 0]]])
    p, q = ours[0, 0].softmax(0), theirs[0, 0].softmax(0)
    found = token_distillation(outputs(tokens, mask, theirs), outputs(tokens, mask, ours))
    assert found.item() == pytest.approx((q * (q / p).log()).sum().item(), rel=1e-5)


@pytest.mark.parametrize("name", [TINY, LVVIT])
def test_end_to_end_is_the_sum_of_its_parts_and_teaches_all_but_the_teacher(name: str) -> None:
    model = pruned(name)
    teacher = backbone_of(model, name)
    x, labels = images(3), torch.tensor([0, 1, 2])
    loss = EndToEnd(RECIPE, teacher)(model, x, labels, step=4)
    taught = teacher.masked(x, lambda site, log_probs: pytest.fail("it has no sites"))
    seen = model.masked(x, gumbel_keep(generator(RECIPE.seed, 4)))
    parts = [
        torch.nn.functional.cross_entropy(seen.logits, labels, label_smoothing=RECIPE.smoothing),
        0.5
        * torch.nn.functional.kl_div(
            seen.logits.log_softmax(-1), taught.logits.log_softmax(-1), reduction="batchmean", log_target=True
        ),
        0.5 * token_distillation(taught, seen),
        2 * ratio_loss(seen.masks, 0.7),
    ]
    assert loss.item() == pytest.approx(sum(part.item() for part in parts), rel=1e-5)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    again = EndToEnd(RECIPE, teacher)(model, x, labels, step=4)
    assert again.item() == loss.item() != EndToEnd(RECIPE, teacher)(model, x, labels, step=5).item()


# What is shipped


def test_what_is_shipped_joins_the_backbone_and_prunes_as_it_was_scored(data: Data, tmp_path: Path) -> None:
    model = pruned(seed=3)
    backbone, path = backbone_of(model), tmp_path / "predictors.safetensors"
    drop = ship_predictors(model, backbone, data, path, {"model": TINY, "keep_ratio": "0.7"})
    assert all(key.startswith("score_predictor.") for key in load_file(path))
    assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    weights.save(tmp_path / "backbone.safetensors", backbone, {"model": TINY, "image_size": str(SIZE)})
    joined, _ = weights.load(TINY, str(tmp_path / "backbone.safetensors"), predictors=str(path))
    expected = predict(rounded(model), data.test, data.preprocess)
    np.testing.assert_array_equal(predict(joined, data.test, data.preprocess), expected)
    labels = data.test.labels()
    assert labels is not None
    assert drop == paired_drop(predict(backbone, data.test, data.preprocess), expected, labels)
    with safe_open(path, "pt") as file:
        assert file.metadata()["top1"] == f"{drop.to:.2f}"
        assert file.metadata()["top1_unpruned"] == f"{drop.from_:.2f}"
