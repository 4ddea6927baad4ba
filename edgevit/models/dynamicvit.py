"""DynamicViT with a static ratio: DeiT and LV-ViT that drop the patches they need least, at three sites.

Source: "DynamicViT: Efficient Vision Transformers with Dynamic Token Sparsification", NeurIPS 2021, arXiv 2106.02034.
Module names follow the authors' checkpoints, so that those load unchanged; as there, output 0 of a predictor is *keep*
(the paper's text has 1).

A patch's id is its place, row by row, among the N0 = (image_size / 16)² of its image. How many are kept is fixed by the
ratio; which, is decided by the image, so every shape is static and only indices depend on data.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor, isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevit.models.vit import PATCH, Block, ConvolutionalEmbedding, PatchEmbedding, initialise

SITES = 3
RATIOS = (0.5, 0.6, 0.7, 0.8, 0.9)
UNPRUNED = 1.0  # the ratio of a backbone without sites and predictors
PREDICTOR_EPS = 1e-5
AUXILIARY_SHARE = 0.5
MIN_IMAGE_SIZE, MAX_IMAGE_SIZE, IMAGE_SIZE_STEP = 64, 512, PATCH

Decide = Callable[[int, Tensor], Tensor]  # site 0..2 and log-probabilities [B, N0, 2] → keep decisions [B, N0], float


@dataclass(frozen=True)
class Config:
    """A backbone; ``labels_tokens`` is LV-ViT with all that sets it apart from DeiT."""

    width: int
    heads: int
    depth: int = 12
    mlp_ratio: int = 4
    labels_tokens: bool = False

    @property
    def sites(self) -> tuple[int, ...]:
        """The blocks, counted from 0, before which patches are dropped: after each quarter of them."""
        return tuple(self.depth * site // (SITES + 1) for site in range(1, SITES + 1))

    @property
    def eps(self) -> float:
        return 1e-5 if self.labels_tokens else 1e-6


CONFIGS = {
    "dynamicvit_deit_tiny": Config(192, 3),
    "dynamicvit_deit_256": Config(256, 4),
    "dynamicvit_deit_small": Config(384, 6),
    "dynamicvit_deit_base": Config(768, 12),
    "dynamicvit_lvvit_small": Config(384, 6, depth=16, mlp_ratio=3, labels_tokens=True),
    "dynamicvit_lvvit_medium": Config(512, 8, depth=20, mlp_ratio=3, labels_tokens=True),
}


class Predictor(nn.Module):
    """Scores patch tokens ``[B, n, width]`` by themselves and by the mean of those kept: z ``[B, n, 2]``, keep first.

    ``mask`` is ``[B, n]``, 1 where a token is kept; without it all are. Paper section 3.2, up to the softmax.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.local = width // 2
        self.in_conv = nn.Sequential(nn.LayerNorm(width, eps=PREDICTOR_EPS), nn.Linear(width, width), nn.GELU())
        self.out_conv = nn.Sequential(
            nn.Linear(width, width // 2),
            nn.GELU(),
            nn.Linear(width // 2, width // 4),
            nn.GELU(),
            nn.Linear(width // 4, 2),
        )

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        features = self.in_conv(tokens)
        whole = features[:, :, self.local :]
        whole = whole.mean(1, keepdim=True) if mask is None else masked_mean(whole, mask)
        z: Tensor = self.out_conv(torch.cat([features[:, :, : self.local], whole.expand(-1, tokens.shape[1], -1)], 2))
        return z


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Over the tokens of ``[B, n, C]`` that the mask ``[B, n]`` keeps: ``[B, 1, C]``, zero where it keeps none."""
    return (x * mask[:, :, None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None].clamp(min=1)


@dataclass(frozen=True)
class MaskedOutputs:
    """What training sees. Nothing is dropped, so every patch has its token; only those of the last mask count."""

    logits: Tensor  # [B, classes]
    masks: tuple[Tensor, ...]  # a site each: [B, N0], 1 where a patch is still kept; gradients reach the predictors
    tokens: Tensor  # [B, N0, width], after the last norm
    token_logits: Tensor | None  # [B, N0, classes] of LV-ViT's auxiliary head


class DynamicViT(nn.Module):
    """``[B, 3, image_size, image_size]`` float → ``[B, classes]`` logits.

    ``counts[s]`` patches are kept from site ``s`` on, which lies before block ``sites[s]``. ``image_size`` is a
    multiple of 16 from 64 to 512, ``keep_ratio`` one of ``RATIOS``, or 1.0 for the backbone alone (ValueError
    otherwise).

    With ``returns_selection`` set, before any tracing, ``forward`` returns what ``replay`` does.
    """

    def __init__(self, config: Config, image_size: int = 224, classes: int = 1000, keep_ratio: float = 0.7) -> None:
        super().__init__()
        check_image_size(image_size)
        check_keep_ratio(keep_ratio)
        self.image_size, self.classes, self.keep_ratio = image_size, classes, keep_ratio
        self.patches = (image_size // PATCH) ** 2
        self.sites = () if keep_ratio == UNPRUNED else config.sites
        self.counts = kept_counts(self.patches, keep_ratio, len(self.sites))
        self.returns_selection = False
        width = config.width
        self.patch_embed = ConvolutionalEmbedding(width) if config.labels_tokens else PatchEmbedding(width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.patches + 1, width))
        self.blocks = nn.ModuleList(
            Block(
                width,
                config.heads,
                config.mlp_ratio,
                config.eps,
                qkv_bias=not config.labels_tokens,
                halved=config.labels_tokens,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, eps=config.eps)
        self.head = nn.Linear(width, classes)
        self.aux_head = nn.Linear(width, classes) if config.labels_tokens else None
        self.score_predictor = nn.ModuleList(Predictor(width) for _ in self.sites)
        self.apply(initialise)
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        logits, places, scores = self.prune(x, self.best)
        return (logits, *composed(places), *scores) if self.returns_selection else logits

    def replay(self, x: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run with the patches that ``kept`` names, a tensor of ids [B, counts[s]] a site, in any order.

        Returns logits, then each site's kept ids, int64 ``[B, counts[s]]``, then each site's scores, float ``[B, n]``,
        of the n tokens that reached it in the order of the ids of the site before (ascending at the first): in all
        ``1 + 2 * len(sites)`` tensors. Raises ValueError for ids that no selection can be.
        """
        places = self.places(kept, x)
        logits, _, scores = self.prune(x, lambda site, _: places[site])
        return (logits, *composed(places), *scores)

    def masked(self, x: Tensor, decide: Decide) -> MaskedOutputs:
        """The training pass: patches are hidden instead of dropped, and stay so. Paper section 3.3.

        ``decide`` is given the site and its log-probabilities; its decisions count for patches that are still kept.
        Up to the first site nothing is hidden, and the blocks run as in ``forward``.
        """
        tokens = self.embed(x)
        mask = tokens.new_ones(len(x), self.patches)
        masks: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            if index in self.sites:
                z = self.score_predictor[len(masks)](tokens[:, 1:], mask)
                mask = mask * decide(len(masks), z.log_softmax(-1))
                masks.append(mask)
            tokens = block(tokens, F.pad(mask, (1, 0), value=1.0) if masks else None)
        features = self.norm(tokens)
        logits, token_logits = self.head(features[:, 0]), None
        if self.aux_head is not None:
            token_logits = self.aux_head(features[:, 1:])
            logits = logits + AUXILIARY_SHARE * masked_max(token_logits, mask)
        return MaskedOutputs(logits, tuple(masks), features[:, 1:], token_logits)

    def embed(self, x: Tensor) -> Tensor:
        """``[B, 3, S, S]`` → ``[B, 1 + N0, width]``, the class token first."""
        cls = self.cls_token.expand(x.shape[0], -1, -1)
        return torch.cat([cls, self.patch_embed(x)], 1) + self.pos_embed

    def best(self, site: int, scores: Tensor) -> Tensor:
        return torch.topk(scores, self.counts[site], sorted=False)[1]

    def prune(self, x: Tensor, choose: Callable[[int, Tensor], Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Logits, and what each site chose and saw.

        ``choose`` takes a site and its scores ``[B, n]`` to the places ``[B, k]``, among these n, of what is kept. A
        score is z0 - z1: it ranks as log p(keep) does and, unlike it, does not saturate.
        """
        tokens = self.embed(x)
        places: list[Tensor] = []
        scores: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            if index in self.sites:
                patches, site = tokens[:, 1:], len(places)
                z = self.score_predictor[site](patches)
                scores.append((z[:, :, :1] - z[:, :, 1:]).flatten(1))
                places.append(choose(site, scores[site]))
                kept = patches.gather(1, places[site].unsqueeze(2).expand(-1, -1, patches.shape[2]))
                tokens = torch.cat([tokens[:, :1], kept], 1)
            tokens = block(tokens)
        return self.classify(tokens), places, scores

    def classify(self, tokens: Tensor) -> Tensor:
        """``[B, 1 + n, width]`` → ``[B, classes]``."""
        if self.aux_head is None:
            logits: Tensor = self.head(self.norm(tokens[:, 0]))
        else:
            features = self.norm(tokens)
            logits = self.head(features[:, 0]) + AUXILIARY_SHARE * self.aux_head(features[:, 1:]).amax(1)
        return logits

    def places(self, kept: Sequence[Tensor], x: Tensor) -> list[Tensor]:
        """Where each site's kept ids stand among those of the site before, int64 ``[B, counts[s]]``."""
        if len(kept) != len(self.counts):
            raise ValueError(f"there are kept ids of {len(kept)} sites for {len(self.counts)}: give a tensor a site")
        before = torch.arange(self.patches, device=x.device).expand(len(x), -1)
        places = []
        for site, (ids, count) in enumerate(zip(kept, self.counts, strict=True), 1):
            if ids.shape != (len(x), count):
                raise ValueError(
                    f"the kept ids of site {site} have the shape {tuple(ids.shape)}, where {(len(x), count)} is needed"
                )
            same = ids[:, :, None] == before[:, None]  # [B, counts[s], n]
            if not same.any(2).all() or (same.sum(1) > 1).any():
                raise ValueError(
                    f"the kept ids of site {site} repeat, or were not there to be kept: give the ids of one selection"
                )
            places.append(same.int().argmax(2))
            before = ids
        return places


def composed(places: Sequence[Tensor]) -> list[Tensor]:
    """Places among the survivors of the site before → patch ids."""
    ids = list(places[:1])
    for place in places[1:]:
        ids.append(ids[-1].gather(1, place))
    return ids


def masked_max(token_logits: Tensor, mask: Tensor) -> Tensor:
    """Over the tokens of ``[B, N0, K]`` that the mask ``[B, N0]`` keeps: ``[B, K]``, zero where it keeps none."""
    dropped = mask == 0
    best = token_logits.masked_fill(dropped[:, :, None], -torch.inf).amax(1)
    return best.masked_fill(dropped.all(1)[:, None], 0.0)


def gumbel_keep(generator: torch.Generator) -> Decide:
    """Decisions for ``DynamicViT.masked``, drawn by hard Gumbel-softmax with temperature 1 (arXiv 1611.01144).

    They are exactly 0 or 1, and straight-through: their gradient is that of the soft sample. ``generator`` is on the
    log-probabilities' device.
    """

    def decide(site: int, log_probs: Tensor) -> Tensor:
        noise = -torch.empty_like(log_probs).exponential_(generator=generator).log()
        soft = (log_probs + noise).softmax(-1)[:, :, 0]
        return (soft > 0.5).to(soft.dtype) + (soft - soft.detach())

    return decide


def kept_counts(patches: int, keep_ratio: float, sites: int) -> tuple[int, ...]:
    """Patches kept from each site on: ``floor(patches * keep_ratio^s)``, s = 1 to ``sites``, of the first count."""
    ratio = Fraction(str(keep_ratio))  # 0.7 is seven tenths here, not the double below it
    return tuple(floor(patches * ratio**site) for site in range(1, sites + 1))


def check_image_size(image_size: int) -> None:
    """Raise ValueError unless DynamicViT can be built for ``image_size`` pixels."""
    if not MIN_IMAGE_SIZE <= image_size <= MAX_IMAGE_SIZE or image_size % IMAGE_SIZE_STEP:
        raise ValueError(
            f"image size {image_size} does not fit DynamicViT: "
            f"take a multiple of {IMAGE_SIZE_STEP} from {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE}"
        )


def check_keep_ratio(keep_ratio: float) -> None:
    """Raise ValueError unless DynamicViT can be built with ``keep_ratio``."""
    if keep_ratio not in (*RATIOS, UNPRUNED):
        raise ValueError(
            f"keep ratio {keep_ratio} does not fit DynamicViT: "
            f"take {', '.join(map(str, RATIOS))}, or {UNPRUNED} for the backbone unpruned"
        )


def build(name: str, image_size: int = 224, classes: int = 1000, keep_ratio: float = 0.7) -> DynamicViT:
    """The named model (a key of ``CONFIGS``) with freshly initialised weights, in training mode."""
    return DynamicViT(CONFIGS[name], image_size, classes, keep_ratio)


# Its checkpoints; see ``registry.Family``.

IMAGE_SIZES = range(MIN_IMAGE_SIZE, MAX_IMAGE_SIZE + 1, IMAGE_SIZE_STEP)
HEADS = ("head", "aux_head")
SIZED = "position embeddings"


def own_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """See ``registry.Family``: the names of DeiT, DynamicViT and LV-ViT are ours."""
    return dict(tensors)


def is_sized(key: str) -> bool:
    """See ``registry.Family``."""
    return key == "pos_embed"


def resized(value: Tensor, shape: torch.Size) -> Tensor | None:
    """Positions ``[1, 1 + g * g, C]`` for another grid: the class token's as it is, the others bicubically."""
    old, new, width = isqrt(value.shape[1] - 1), isqrt(shape[1] - 1), shape[-1]
    if value.shape != (1, 1 + old * old, width):
        return None
    image = value[:, 1:].reshape(1, old, old, width).permute(0, 3, 1, 2)
    places = F.interpolate(image, (new, new), mode="bicubic").permute(0, 2, 3, 1).reshape(1, new * new, width)
    return torch.cat([value[:, :1], places], 1)


def is_conditional(key: str) -> bool:
    """See ``registry.Family``: every size has the same parameters."""
    return False
