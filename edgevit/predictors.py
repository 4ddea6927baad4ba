"""Training DynamicViT's token predictors: with their backbone as the paper does, or for one that stays as it is.

Source: "DynamicViT: Efficient Vision Transformers with Dynamic Token Sparsification", NeurIPS 2021, arXiv 2106.02034,
section 3.4, with the weights of the authors' code. ``EndToEnd`` is theirs, and takes 30 epochs of ImageNet. A frozen
backbone cannot learn to live with random draws of tokens, and on 200 photographs those taught its predictors less than
nothing (tokens kept at random were better); ``Saliency`` asks the backbone which tokens it needs, and ranks by that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevit.metrics import Drop, paired_drop
from edgevit.models import weights
from edgevit.models.dynamicvit import DynamicViT, MaskedOutputs, composed, gumbel_keep
from edgevit.models.fitting import PREDICTOR
from edgevit.train import Advance, Data, Recipe, divergence, predict, products, rounded, sha256_of_state

DISTILLATION, TOKEN_DISTILLATION, RATIO = 0.5, 0.5, 2.0  # weights beside the cross-entropy's 1
AGAINST = 0.5  # what a token that speaks against the answer counts, beside one that speaks as much for it


def freeze_backbone(model: nn.Module) -> None:
    """From now on ``model`` learns nothing but its token predictors."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(PREDICTOR))


@dataclass(frozen=True)
class EndToEnd:
    """The paper's: cross-entropy, answers and tokens of the unpruned ``teacher``, and the share that is kept.

    Which patches are hidden is drawn by hard Gumbel-softmax, and gradients pass through that draw.
    """

    recipe: Recipe
    teacher: DynamicViT  # in evaluation mode, without sites

    def __call__(self, model: nn.Module, x: Tensor, labels: Tensor, step: int) -> Tensor:
        model = cast(DynamicViT, model)
        with products(self.recipe, x):
            with torch.no_grad():
                taught = self.teacher.masked(x, undecided)
            seen = model.masked(x, gumbel_keep(generator(self.recipe.seed, step)))
        logits = seen.logits.float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.smoothing)
        loss = loss + DISTILLATION * divergence(taught.logits.float(), logits)
        loss = loss + TOKEN_DISTILLATION * token_distillation(taught, seen)
        return loss + RATIO * ratio_loss(seen.masks, model.keep_ratio)

    def setting(self) -> dict[str, object]:
        return {"objective": "end to end", "teacher": sha256_of_state(self.teacher)}


def undecided(site: int, log_probs: Tensor) -> Tensor:
    raise AssertionError("an unpruned model has no sites")


def generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.default_rng([seed, step]).integers(2**63)))


def token_distillation(taught: MaskedOutputs, seen: MaskedOutputs) -> Tensor:
    """How far the tokens that are kept to the end are from the teacher's, the mean over them; zero where none is.

    DeiT: the mean square of features after the last norm. LV-ViT: the divergence of the auxiliary head's answers.
    """
    if seen.token_logits is not None and taught.token_logits is not None:
        student, teacher = (logits.float().log_softmax(-1) for logits in (seen.token_logits, taught.token_logits))
        each = F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
    else:
        each = (seen.tokens.float() - taught.tokens.float()).square().mean(-1)
    kept = seen.masks[-1].detach()
    return (each * kept).sum() / kept.sum().clamp(min=1)


def ratio_loss(masks: Sequence[Tensor], keep_ratio: float) -> Tensor:
    """The squared distance of each image's kept share from ``keep_ratio ** site``, the mean over images and sites."""
    shares = torch.stack([mask.float().mean(1) for mask in masks], 1)  # [B, sites]
    targets = keep_ratio ** torch.arange(1, len(masks) + 1, device=shares.device)
    return (shares - targets).square().mean()


@dataclass(frozen=True)
class Saliency:
    """Scores learn to rank tokens as their saliency does, among those that the predictors themselves keep.

    Divergence of softmaxed scores from normalised saliency, the sum over sites: ListNet (Cao et al., "Learning to rank:
    from pairwise approach to listwise approach", ICML 2007). Takes no labels. The backbone is frozen.
    """

    recipe: Recipe

    def __call__(self, model: nn.Module, x: Tensor, labels: Tensor, step: int) -> Tensor:
        model = cast(DynamicViT, model)
        with products(self.recipe, x):
            saliency = salient(model, x)
            _, places, scores = model.prune(x, model.best)
        reaching = [
            torch.arange(model.patches, device=x.device).expand(len(x), -1),
            *composed(places),
        ]  # ids that each site sees
        losses = [
            listwise(site.gather(1, ids), seen.float())
            for site, ids, seen in zip(saliency, reaching, scores, strict=False)
        ]
        return torch.stack(losses).sum()

    def setting(self) -> dict[str, object]:
        return {"objective": "saliency"}


def salient(model: DynamicViT, x: Tensor) -> list[Tensor]:
    """How much the unpruned backbone's first answer owes to each patch from each site on: ``[B, N0]``, 0 or more.

    The slope of the answer's log-probability in the patch's mask, where nothing is hidden yet.
    """
    masks: list[Tensor] = []

    def keep_all(site: int, log_probs: Tensor) -> Tensor:
        masks.append(torch.ones_like(log_probs[..., 0]).requires_grad_())
        return masks[-1]

    answers = model.masked(x, keep_all).logits.float().log_softmax(-1)
    slopes = torch.autograd.grad(answers.amax(1).sum(), masks)
    return [torch.where(slope > 0, slope, -AGAINST * slope) for slope in slopes]


def listwise(saliency: Tensor, scores: Tensor) -> Tensor:
    """Of two ``[B, n]``, the mean over images."""
    wanted = saliency / saliency.sum(1, keepdim=True)
    return F.kl_div(scores.log_softmax(1), wanted, reduction="batchmean")


def ship_predictors(
    model: DynamicViT,
    backbone: DynamicViT,
    data: Data,
    path: Path,
    metadata: dict[str, str],
    advance: Advance = lambda count: None,
) -> Drop:
    """Write the predictors of ``model`` as float16 to ``path``; returns what their pruning costs.

    That is top-1 of the rounded model as it infers, tokens dropped, against the unpruned ``backbone``. It is in the
    file's metadata as ``top1`` and ``top1_unpruned``.
    """
    labels = data.test.labels()
    assert labels is not None
    kept, all_kept = (predict(m, data.test, data.preprocess, advance) for m in (rounded(model), backbone))
    drop = paired_drop(all_kept, kept, labels)
    described = {**metadata, "top1": f"{drop.to:.2f}", "top1_unpruned": f"{drop.from_:.2f}"}
    weights.save(path, nn.ModuleDict({PREDICTOR.removesuffix("."): model.score_predictor}), described)
    return drop
