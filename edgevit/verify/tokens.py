"""Token selection in the parity chain: which patches two stages keep of the same images, and whether that is right.

Top-k cuts a continuous score, so a rounding can swap the tokens at its edge. What is compared are sets of patch ids,
never places: top-k promises no order. A difference passes where the runtime's scores explain it, and its scores are
themselves compared with those of the reference over the same survivors (see ``check``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.source import Precision

# What the scores of a site may be off by: root mean square, in standard deviations of an image's scores. Measured on a
# DeiT-T with random predictors at three gains, 50 photographs, the worst site: fp32 5e-6, fp16 0.012, int8 0.40. Scores
# of other tokens came to 1.1 and more, of the other sign to 2.2. The largest error is no measure: where
# all was well it came to 0.3 in fp16 and 3.9 in int8.
SCORE_ERROR_CAPS: dict[Precision, float] = {"fp32": 1e-3, "fp16": 0.05, "int8": 0.7}
HALF_STEP = 2**-10  # relative: scores no further apart may tie in float16, in which a runtime may compare them


@dataclass(frozen=True)
class Kept:
    """What a stage kept of a set of images, site by site.

    ``ids`` are original patch ids, int64 ``[images, k]`` a site in any order; ``scores`` are float32 ``[images, n]`` a
    site, of the n tokens that reached it in the order of the ids of the site before, ascending at the first. Raises
    ValueError for other shapes, for scores that are not finite, and for ids that no selection can be.
    """

    ids: tuple[NDArray[np.int64], ...]
    scores: tuple[NDArray[np.float32], ...]

    def __post_init__(self) -> None:
        if not self.ids or len(self.ids) != len(self.scores):
            raise ValueError(f"there are ids of {len(self.ids)} sites and scores of {len(self.scores)}: give both")
        for site in range(len(self.ids)):
            check_arrays(self, site)
            check_ids(self, site)

    @classmethod
    def of(cls, outputs: Sequence[NDArray[Any]]) -> "Kept":
        """From what a program with ``returns_selection`` gives: logits, the ids of each site, the scores of each.

        Integers and floats of any width; ValueError for other types.
        """
        sites = (len(outputs) - 1) // 2
        return cls(tuple(map(as_ids, outputs[1 : 1 + sites])), tuple(map(as_scores, outputs[1 + sites :])))

    @classmethod
    def concatenated(cls, parts: Sequence["Kept"]) -> "Kept":
        """Of all their images, in this order."""
        ids = tuple(np.concatenate(arrays) for arrays in zip(*(part.ids for part in parts), strict=True))
        return cls(ids, tuple(np.concatenate(arrays) for arrays in zip(*(part.scores for part in parts), strict=True)))

    @property
    def patches(self) -> int:
        return int(self.scores[0].shape[1])

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """Images, tokens kept and tokens that reached it, a site each."""
        return [(*ids.shape, scores.shape[1]) for ids, scores in zip(self.ids, self.scores, strict=True)]

    def chosen(self, site: int) -> NDArray[np.bool_]:
        """``[images, patches]``: whether the site keeps it."""
        return marked(self.ids[site], self.patches)

    def scores_by_id(self, site: int) -> NDArray[np.float64]:
        """``[images, patches]``, NaN for patches that did not reach the site."""
        if site == 0:
            return self.scores[0].astype(np.float64)
        scores = np.full((len(self.ids[site]), self.patches), np.nan)
        np.put_along_axis(scores, self.ids[site - 1], self.scores[site], 1)
        return scores


def as_ids(array: NDArray[Any]) -> NDArray[np.int64]:
    """Some runtimes know no int64."""
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"the ids of kept tokens are {array.dtype}, where integers are needed: export it again")
    return array.astype(np.int64)


def as_scores(array: NDArray[Any]) -> NDArray[np.float32]:
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"the scores of tokens are {array.dtype}, where floats are needed: export it again")
    return array.astype(np.float32)


def marked(ids: NDArray[np.int64], patches: int) -> NDArray[np.bool_]:
    marks = np.zeros((len(ids), patches), np.bool_)
    np.put_along_axis(marks, ids, True, 1)
    return marks


def check_arrays(kept: Kept, site: int) -> None:
    """Raise ValueError unless ids and scores of ``site``, from 0, have the shapes of a selection, and are numbers."""
    ids, scores = kept.ids[site], kept.scores[site]
    as_many = ids.ndim == scores.ndim == 2 and len(ids) == len(scores) and 0 < ids.size < scores.size
    if not as_many or (site and scores.shape != kept.ids[site - 1].shape):
        raise ValueError(
            f"site {site + 1} has ids of shape {ids.shape} and scores of shape {scores.shape}, "
            "where those of the tokens kept and of all that reached it are needed, an image each: export it again"
        )
    if broken := int((~np.isfinite(scores)).any(1).sum()):
        raise ValueError(f"the scores of site {site + 1} are NaN or infinite in {broken} images: export it again")


def check_ids(kept: Kept, site: int) -> None:
    """Raise ValueError unless the ids of ``site``, from 0, are of different patches that survived to it."""
    ids = kept.ids[site]
    if ids.min() < 0 or ids.max() >= kept.patches:
        raise ValueError(
            f"site {site + 1} keeps ids from {ids.min()} to {ids.max()}, where patches end at {kept.patches - 1}: "
            "export it again"
        )
    if repeated := int((kept.chosen(site).sum(1) < ids.shape[1]).sum()):
        raise ValueError(f"site {site + 1} keeps a patch twice in {repeated} images: export it again")
    if site and (revived := int((kept.chosen(site) & ~kept.chosen(site - 1)).any(1).sum())):
        raise ValueError(f"site {site + 1} keeps a patch that was dropped before in {revived} images: export it again")


@dataclass(frozen=True)
class Overlap:
    """What two stages, each running by itself, keep in common; a difference at one site is carried to the next."""

    shares: tuple[float, ...]  # a site each: of the patches that one keeps those that the other keeps too, 0..1
    images: int  # that differ at any site
    swapped: int  # tokens kept instead of others, over all sites and images


def overlap(a: Kept, b: Kept) -> Overlap:
    """Of the same images. Raises ValueError if ``a`` and ``b`` have other shapes."""
    differences = swaps(a, b)
    shares = tuple(float(1 - swapped.mean() / ids.shape[1]) for swapped, ids in zip(differences.T, a.ids, strict=True))
    return Overlap(shares, int(differences.any(1).sum()), int(differences.sum()))


def differing(a: Kept, b: Kept) -> NDArray[np.bool_]:
    """``[images]``: which keep other patches, at any site. Raises ValueError if the two have other shapes."""
    return np.asarray(swaps(a, b).any(1))


def swaps(a: Kept, b: Kept) -> NDArray[np.int64]:
    """``[images, sites]``: patches that ``a`` keeps and ``b`` does not, which are as many as the reverse."""
    if a.shapes != b.shapes:
        raise ValueError(f"the selections' shapes {a.shapes} and {b.shapes} differ: run both on the same images")
    return np.stack([(a.chosen(site) & ~b.chosen(site)).sum(1) for site in range(len(a.ids))], 1)


def substituted(
    own: Sequence[NDArray[Any]], replayed: Sequence[NDArray[Any]], where: NDArray[np.bool_]
) -> tuple[NDArray[Any], ...]:
    """The reference's outputs, ``[images, ...]`` each, with those of a replay for the images ``where`` is set.

    An image of which both stages keep the same needs no replay. Raises ValueError unless ``replayed`` has as many
    outputs, each of as many images as are set.
    """
    merged = tuple(array.copy() for array in own)
    for array, other in zip(merged, replayed, strict=True):
        if other.shape != (where.sum(), *array.shape[1:]):
            raise ValueError(f"{other.shape} was replayed for {where.sum()} of {array.shape}: replay the set images")
        array[where] = other
    return merged


@dataclass(frozen=True)
class Site:
    """One site of the runtime beside the reference over the same survivors.

    Errors and distances are in standard deviations of an image's scores at this site, in the reference.
    """

    number: int  # from 1
    kept: int
    of: int  # tokens that reach the site
    flips: int  # tokens kept, over all images, where the reference would keep as many others
    images_with_flips: int
    farthest_flip: float  # beyond the reference's threshold, see ``check``
    score_error: float  # root mean square
    score_error_cap: float
    largest_score_error: float
    contradictions: int  # images in which the runtime drops a token that it scores higher than one it keeps

    def broken(self) -> str | None:
        """Why the selection does not hold, or None."""
        if self.contradictions:
            return (
                f"site {self.number} drops tokens it scores higher than some it keeps, in {self.contradictions} images"
            )
        if self.score_error > self.score_error_cap:
            error = f"{self.score_error:.3g} standard deviations (root mean square)"
            return f"the scores of site {self.number} are off by {error}, more than {self.score_error_cap:g}"
        if self.farthest_flip > 2 * self.largest_score_error:
            flip, error = f"{self.farthest_flip:.3g} standard deviations", f"{self.largest_score_error:.3g}"
            return f"site {self.number} flips a token {flip} beyond the threshold, its scores off by at most {error}"
        return None

    def manifest(self) -> dict[str, Any]:
        return {
            "kept": self.kept,
            "of": self.of,
            "flips": self.flips,
            "images_with_flips": self.images_with_flips,
            "farthest_flip": self.farthest_flip,
            "score_error": self.score_error,
            "score_error_cap": self.score_error_cap,
            "largest_score_error": self.largest_score_error,
            "contradictions": self.contradictions,
        }


@dataclass(frozen=True)
class Verdict:
    """What ``check`` found, site by site."""

    sites: tuple[Site, ...]
    images_with_flips: int  # at any site

    def broken(self) -> str | None:
        """Why the selection does not hold, or None."""
        return next((reason for site in self.sites if (reason := site.broken())), None)


def check(reference: Kept, runtime: Kept, precision: Precision) -> Verdict:
    """Whether what the runtime keeps follows from its scores, and its scores from the model.

    ``reference`` is the reference replayed with the ids of ``runtime`` (in any order), so that both score the same
    tokens at every site. Raises ValueError if it is not. Three things must hold of each site:

    * No token that the runtime drops has a higher score, by the runtime's own account, than one it keeps. No numeric
      error excuses that, so it finds a wrong top-k in every precision.
    * The scores are off by no more than ``SCORE_ERROR_CAPS``. This finds wrong scores: of the other sign, or of other
      tokens than the ids say.
    * A token that only the runtime keeps scores, in the reference, at most 2 eps less than the last that the reference
      keeps; one that only the reference keeps, at most 2 eps more than the first that the reference drops. eps is the
      largest score error over all images. A correct top-k goes no further: where the runtime keeps i and drops j, the
      reference scores j at most 2 eps above i. For every i that it keeps alone, it drops some j of the reference's k
      best; and for every such j, it keeps some i outside of them. A tie lies at both edges, at distance 0.

    A gather that takes wrong tokens behind the last site leaves no trace here; the replayed logits show it.
    """
    if others := int(differing(reference, runtime).sum()):
        raise ValueError(f"the reference keeps other patches in {others} images: replay it with the runtime's ids")
    sites = range(len(runtime.ids))
    flipped = [(runtime.chosen(site) & ~preferred(reference, site)).any(1) for site in sites]
    found = tuple(compared(reference, runtime, site, SCORE_ERROR_CAPS[precision]) for site in sites)
    return Verdict(found, int(np.any(flipped, 0).sum()))


def compared(reference: Kept, runtime: Kept, site: int, cap: float) -> Site:
    """``site`` counts from 0."""
    chosen, wanted = runtime.chosen(site), preferred(reference, site)
    scores, own_scores = reference.scores_by_id(site), runtime.scores_by_id(site)
    entered, left = chosen & ~wanted, wanted & ~chosen
    last, first = edges(scores, wanted)
    beyond = np.concatenate([(last - scores)[entered], (scores - first)[left]])
    errors = np.abs(own_scores - scores)[~np.isnan(scores)]
    # Within images: what all scores of an image have in common moves no token. Scores that are all alike have no unit.
    deviation = root_mean_square(reference.scores[site].std(1, dtype=np.float64)) or 1.0
    return Site(
        number=site + 1,
        kept=runtime.ids[site].shape[1],
        of=runtime.scores[site].shape[1],
        flips=int(entered.sum()),
        images_with_flips=int(entered.any(1).sum()),
        farthest_flip=float(beyond.max(initial=0)) / deviation,
        score_error=root_mean_square(errors) / deviation,
        score_error_cap=cap,
        largest_score_error=float(errors.max()) / deviation,
        contradictions=contradictions(own_scores, chosen),
    )


def preferred(kept: Kept, site: int) -> NDArray[np.bool_]:
    """``[images, patches]``: the k that score best of those that reached the site; of a tie, the lowest ids."""
    best = np.argsort(-kept.scores_by_id(site), axis=1, kind="stable")  # NaN comes last
    return marked(best[:, : kept.ids[site].shape[1]], kept.patches)


def edges(scores: NDArray[np.float64], chosen: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``[images, 1]`` each: the lowest score among the chosen, and the highest among the others that have one."""
    dropped = ~chosen & ~np.isnan(scores)
    lowest = np.where(chosen, scores, np.inf).min(1, keepdims=True)
    return lowest, np.where(dropped, scores, -np.inf).max(1, keepdims=True)


def contradictions(scores: NDArray[np.float64], chosen: NDArray[np.bool_]) -> int:
    """Images in which a token outside ``chosen`` has a higher score than one inside, by more than ``HALF_STEP``."""
    lowest, highest = edges(scores, chosen)
    return int((highest - lowest > HALF_STEP * np.maximum(np.abs(lowest), np.abs(highest))).sum())


def root_mean_square(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(values).mean()))


def manifest(common: Overlap, verdict: Verdict) -> dict[str, Any]:
    """Both as one claim: ``common`` of the stages as they run, ``verdict`` with the reference replayed."""
    sites = zip(verdict.sites, common.shares, strict=True)
    return {
        "sites": [site.manifest() | {"overlap": share} for site, share in sites],
        "images_with_flips": verdict.images_with_flips,
        "images_that_differ": common.images,
        "swapped": common.swapped,
    }
