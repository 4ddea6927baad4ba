"""Selections compared: a small program in numpy that scores, keeps and forgets as DynamicViT does, well and badly."""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convert.source import Precision
from edgevit.verify import tokens
from edgevit.verify.tokens import Kept, Overlap, Verdict

IMAGES, PATCHES, COUNTS = 12, 49, (34, 24, 16)
NOISE: dict[Precision, float] = {"fp32": 5e-6, "fp16": 0.01, "int8": 0.4}  # as measured, in standard deviations
Array = NDArray[Any]
Choose = Callable[[int, Array], Array]  # site, from 0, and scores [images, n] → places [images, k]


def table(seed: int) -> Array:
    """What each site thinks of each patch: ``[sites, images, patches]``."""
    return np.random.default_rng(seed).standard_normal((len(COUNTS), IMAGES, PATCHES)).astype(np.float32)


def noise(seed: int, precision: Precision) -> Array:
    """With the heavy tail that was measured."""
    errors = np.random.default_rng(seed + 1000).standard_t(3, (len(COUNTS), IMAGES, PATCHES))
    return (NOISE[precision] * errors / np.sqrt(np.square(errors).mean())).astype(np.float32)


def best(site: int, scores: Array) -> Array:
    return np.argsort(-scores, 1, kind="stable")[:, : COUNTS[site]]


def last_of_ties(site: int, scores: Array) -> Array:
    return scores.shape[1] - 1 - best(site, scores[:, ::-1])


def worst(site: int, scores: Array) -> Array:
    return best(site, -scores)


def one_far(site: int, scores: Array) -> Array:
    """At the second site, in one image, the worst token in place of the best."""
    places = best(site, scores)
    if site == 1:
        places[3, 0] = scores[3].argmin()
    return places


def shuffled(seed: int) -> Choose:
    random = np.random.default_rng(seed)
    return lambda site, scores: random.permuted(best(site, scores), axis=1)


def run(values: Array, choose: Choose = best, sign: int = 1, gather: int = 0, id_gather: int = 0) -> list[Array]:
    """The flat outputs of a program. What is kept moves every later score, so a replay is not what was run.

    ``gather`` and ``id_gather`` are how far beside its place a token, or its id, is taken.
    """
    ids = computed = np.tile(np.arange(PATCHES), (IMAGES, 1))
    kept, scores = [], []
    for site, value in enumerate(values):
        seen = np.take_along_axis(value, computed, 1)
        scores.append(sign * (seen + seen.mean(1, keepdims=True)))
        places = choose(site, scores[-1])
        ids = np.take_along_axis(ids, (places + id_gather * (site > 0)) % ids.shape[1], 1)
        computed = np.take_along_axis(computed, (places + gather) % computed.shape[1], 1)
        kept.append(ids)
    return [np.take_along_axis(values[-1], computed, 1).sum(1, keepdims=True), *kept, *scores]


def replay(values: Array, kept: Kept) -> list[Array]:
    """The same program, with these ids."""
    before = np.tile(np.arange(PATCHES), (IMAGES, 1))
    places = []
    for ids in kept.ids:
        places.append((ids[:, :, None] == before[:, None]).argmax(2))
        before = ids
    return run(values, lambda site, scores: places[site])


def judged(values: Array, outputs: list[Array], precision: Precision) -> Verdict:
    """As a parity chain does it: replay where the selections differ, and compare."""
    own, runtime = run(values), Kept.of(outputs)
    where = tokens.differing(Kept.of(own), runtime)
    replayed = [array[where] for array in replay(values, runtime)]
    return tokens.check(Kept.of(tokens.substituted(own, replayed, where)), runtime, precision)


def with_output(index: int, edit: Callable[[Array], Array]) -> list[Array]:
    outputs = run(table(0))
    outputs[index] = edit(outputs[index])
    return outputs


def with_entry(index: int, where: tuple[int, int], value: float) -> list[Array]:
    def edit(array: Array) -> Array:
        array = array.copy()
        array[where] = value
        return array

    return with_output(index, edit)


# What passes


@pytest.mark.parametrize("seed", range(10))
def test_the_same_in_another_order_passes(seed: int) -> None:
    outputs = run(table(seed), shuffled(seed))
    assert not np.array_equal(outputs[1], run(table(seed))[1])
    verdict = judged(table(seed), outputs, "fp32")
    assert verdict.broken() is None
    assert verdict.images_with_flips == 0
    assert [site.flips for site in verdict.sites] == [0, 0, 0]


@pytest.mark.parametrize("precision", NOISE)
@pytest.mark.parametrize("seed", range(10))
def test_what_measured_errors_swap_passes(seed: int, precision: Precision) -> None:
    outputs = run(table(seed) + noise(seed, precision), shuffled(seed))
    verdict = judged(table(seed), outputs, precision)
    assert verdict.broken() is None
    for site in verdict.sites:
        assert 0.4 * NOISE[precision] < site.score_error < 1.7 * NOISE[precision]
        assert site.farthest_flip <= 2 * site.largest_score_error
    if precision == "int8":  # or nothing needed an excuse
        assert all(site.images_with_flips > IMAGES / 2 for site in verdict.sites)
        assert max(site.farthest_flip for site in verdict.sites) > 0.5


@pytest.mark.parametrize("seed", range(10))
def test_ties_are_flips_that_pass(seed: int) -> None:
    """Scores on a coarse grid, of which one breaks the ties to the first and the other to the last."""
    values = np.round(table(seed) * 2) / 2
    verdict = judged(values, run(values, last_of_ties), "fp32")
    assert verdict.broken() is None
    assert all(site.flips > 0 for site in verdict.sites)
    assert [site.farthest_flip for site in verdict.sites] == [0, 0, 0]


def test_scores_that_are_all_alike_excuse_any_choice() -> None:
    values = np.full((len(COUNTS), IMAGES, PATCHES), 0.25, np.float32)
    verdict = judged(values, run(values + 1e-6 * table(0)), "fp32")
    assert verdict.broken() is None
    assert verdict.images_with_flips == IMAGES


# What does not


DROPS = "drops tokens it scores higher than some it keeps"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "keeps the worst": ({"choose": worst}, f"^site 1 {DROPS}, in 12 images$"),
    "swaps one token far away": ({"choose": one_far}, f"^site 2 {DROPS}, in 1 images$"),
    "takes the token beside": ({"gather": 1}, r"^the scores of site 2 are off by [01]\.\d+ standard deviations"),
    "takes the id beside": ({"id_gather": 1}, f"^site 2 {DROPS}, in 12 images$"),
    "scores with the other sign": ({"sign": -1}, "^the scores of site 1 are off by 2"),
}


@pytest.mark.parametrize("precision", NOISE)
@pytest.mark.parametrize("fault", WRONG)
@pytest.mark.parametrize("seed", range(3))
def test_a_wrong_program_is_caught(seed: int, fault: str, precision: Precision) -> None:
    how, reason = WRONG[fault]
    outputs = run(table(seed) + noise(seed, precision), **how)
    assert re.search(reason, str(judged(table(seed), outputs, precision).broken()))


@pytest.mark.parametrize("precision", NOISE)
def test_scores_reported_with_the_other_sign_contradict_what_is_kept(precision: Precision) -> None:
    logits, *selection = run(table(0))
    outputs = [logits, *selection[:3], *(-scores for scores in selection[3:])]
    assert judged(table(0), outputs, precision).broken() == f"site 1 {DROPS}, in 12 images"


def test_places_instead_of_ids_are_no_selection() -> None:
    places: list[Array] = []

    def noted(site: int, scores: Array) -> Array:
        places.append(best(site, scores))
        return places[-1]

    outputs = run(table(0), noted)
    with pytest.raises(
        ValueError, match=r"^site 2 keeps a patch that was dropped before in 12 images: export it again"
    ):
        Kept.of([outputs[0], *places, *outputs[4:]])


KEPT = int(run(table(0))[2][3, 0])  # by the second site, in the fourth image
IMPOSSIBLE: dict[str, Callable[[], list[Array]]] = {
    "^site 1 keeps ids from 0 to 49, where patches end at 48: export it": lambda: with_entry(1, (0, 0), PATCHES),
    "^site 2 keeps ids from -1 to 4[78],": lambda: with_entry(2, (5, 7), -1),
    "^site 2 keeps a patch twice in 1 images: export it": lambda: with_entry(2, (3, 1), KEPT),
    "^the scores of site 1 are NaN or infinite in 1 images: export it": lambda: with_entry(4, (0, 3), np.nan),
    "^the scores of site 3 are NaN or infinite in 1 images": lambda: with_entry(6, (11, 0), -np.inf),
    r"^site 3 has ids of shape \(12, 16\) and scores of shape \(12, 23\)": lambda: with_output(6, lambda a: a[:, 1:]),
    r"^site 1 has ids of shape \(11, 34\)": lambda: with_output(1, lambda a: a[1:]),
    r"^site 2 has ids of shape \(11, 24\)": lambda: [a[1:] if i in (2, 5) else a for i, a in enumerate(run(table(0)))],
    r"^site 1 has ids of shape \(0, 34\)": lambda: [array[:0] for array in run(table(0))],
    r"^site 1 has ids of shape \(12, 0\)": lambda: with_output(1, lambda a: a[:, :0]),
    r"^site 1 has ids of shape \(12, 49\)": lambda: with_output(1, lambda a: np.tile(np.arange(PATCHES), (IMAGES, 1))),
    r"^site 2 has ids of shape \(288,\)": lambda: with_output(2, np.ravel),
    r"^site 1 has .* scores of shape \(12, 49, 1\)": lambda: with_output(4, lambda a: a[:, :, None]),
    "^there are ids of 2 sites and scores of 3": lambda: run(table(0))[:3] + run(table(0))[4:],
    "^there are ids of 0 sites and scores of 0": lambda: run(table(0))[:1],
    "^the ids of kept tokens are float32": lambda: with_output(2, lambda a: a.astype(np.float32)),
    "^the scores of tokens are int64": lambda: with_output(5, lambda a: a.astype(np.int64)),
}


@pytest.mark.parametrize("message", IMPOSSIBLE)
def test_what_no_selection_can_be_raises(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Kept.of(IMPOSSIBLE[message]())


def test_other_images_or_counts_do_not_compare() -> None:
    a = Kept.of(run(table(0)))
    others = [Kept.of([array[1:] for array in run(table(0))]), Kept(a.ids[:2], a.scores[:2])]
    for b in others:
        for compare in (tokens.overlap, tokens.differing, lambda a, b: tokens.check(a, b, "int8")):
            with pytest.raises(ValueError, match=r"shapes .* differ: run both on the same images"):
                compare(a, b)


def test_a_reference_that_was_not_replayed_is_refused() -> None:
    runtime = Kept.of(run(table(0), one_far))
    with pytest.raises(ValueError, match=r"^the reference keeps other patches in 1 images: replay it"):
        tokens.check(Kept.of(run(table(0))), runtime, "int8")


# By hand


def single(scores: list[float], kept: list[int]) -> Kept:
    """One image and one site."""
    return Kept((np.array([kept]),), (np.array([scores], np.float32),))


STEP = 2.0**-12


@pytest.mark.parametrize(
    ("kept", "own", "distance"),
    [
        ([0, 2], [4, 2, 2 - 4 * STEP, 0], 4 * STEP),
        ([1, 2], [2 + 4 * STEP, 2, 2 - 2 * STEP, 0], 6 * STEP),  # 0 left from farther above than 2 entered from below
        ([0, 4], [4, 2, 2 - 2 * STEP, 0, 2 - 6 * STEP], 6 * STEP),  # 4 entered from farther below than 1 left
        ([0, 2], [4, 2, 2, 0], 0),
        ([0, 1], [4, 2, 2 - 4 * STEP, 0], 0),
    ],
)
@pytest.mark.parametrize("share", [0.49, 0.5])
def test_a_flip_lies_at_most_twice_the_largest_error_beyond_the_edge(
    kept: list[int], own: list[float], distance: float, share: float
) -> None:
    """From the last that the reference keeps, for what enters; from the first that it drops, for what leaves.

    The runtime's scores are the reference's but for that of token 3, which decides nothing.
    """
    runtime_scores = [score + distance * share * (token == 3) for token, score in enumerate(own)]
    verdict = tokens.check(single(own, kept), single(runtime_scores, kept), "int8")
    (site,) = verdict.sites
    deviation = np.std(np.array(own, np.float32), dtype=np.float64)
    assert site.farthest_flip == pytest.approx(distance / deviation, rel=1e-9)
    holds = distance == 0 or share == 0.5
    assert verdict.broken() is None if holds else "beyond the threshold" in str(verdict.broken())


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("apart", "contradictions"), [(2.0**-10, 0), (2.0**-10 + 2.0**-22, 1)])
def test_a_runtime_may_compare_in_half(apart: float, contradictions: int, sign: int) -> None:
    scores = [1 - apart, 1.0, 0.0] if sign > 0 else [-1.0, apart - 1, -9.0]
    kept = single(scores, [0])
    (site,) = tokens.check(kept, kept, "fp16").sites
    assert site.contradictions == contradictions


@pytest.mark.parametrize(
    ("precision", "holds", "too_much"), [("fp32", 0.0009, 0.0011), ("fp16", 0.049, 0.051), ("int8", 0.69, 0.71)]
)
def test_score_errors_are_capped_in_standard_deviations_within_images(
    precision: Precision, holds: float, too_much: float
) -> None:
    """Of ±3 beside 100 in another image: the deviation is 3, however far apart the images are."""
    reference = Kept((np.array([[0], [1]]),), (np.array([[3, -3], [97, 103]], np.float32),))
    for error in (holds, -holds, too_much, -too_much):
        runtime = Kept(reference.ids, (reference.scores[0] + np.float32(3 * error),))
        verdict = tokens.check(reference, runtime, precision)
        (site,) = verdict.sites
        assert site.score_error == pytest.approx(abs(error), rel=1e-2)
        assert site.largest_score_error == pytest.approx(abs(error), rel=1e-2)
        if abs(error) == holds:
            assert verdict.broken() is None
        else:
            cap = tokens.SCORE_ERROR_CAPS[precision]
            assert re.search(rf"^the scores of site 1 are off by .*, more than {cap:g}$", str(verdict.broken()))


def test_score_error_is_the_root_of_the_mean_square() -> None:
    reference = single([1, -1, 1, -1], [0, 2])
    (site,) = tokens.check(reference, single([1, -1, 1.5, -1], [0, 2]), "int8").sites
    assert site.score_error == 0.25
    assert site.largest_score_error == 0.5


A = Kept(
    (np.array([[0, 1, 2, 3], [0, 1, 2, 3]]), np.array([[0, 1], [0, 1]])),
    (np.zeros((2, 6), np.float32), np.zeros((2, 4), np.float32)),
)


def test_overlap_is_of_sets() -> None:
    reordered = Kept((A.ids[0][:, ::-1], A.ids[1][:, ::-1]), A.scores)
    assert tokens.overlap(A, reordered) == Overlap((1.0, 1.0), images=0, swapped=0)
    assert not tokens.differing(A, reordered).any()


def test_overlap_counts_shares_images_and_swapped_tokens() -> None:
    b = Kept((np.array([[3, 2, 1, 0], [5, 3, 2, 4]]), np.array([[1, 0], [2, 5]])), A.scores)
    assert tokens.overlap(A, b) == tokens.overlap(b, A) == Overlap((0.75, 0.5), images=1, swapped=4)
    assert tokens.differing(A, b).tolist() == [False, True]


def test_flips_are_counted_by_site_and_images_once() -> None:
    """Two flips in the first image at the first site; one in each image at the second."""
    scores = (
        np.array([[1, 1, 0, 0, 2, 2], [2, 2, 2, 2, 1, 0]], np.float32),
        np.array([[0, 2, 1, -1], [0, 2, 1, -1]], np.float32),
    )
    verdict = tokens.check(Kept(A.ids, scores), Kept(A.ids, scores), "int8")
    first, second = verdict.sites
    assert (first.kept, first.of, first.flips, first.images_with_flips) == (4, 6, 2, 1)
    assert (second.kept, second.of, second.flips, second.images_with_flips) == (2, 4, 2, 2)
    assert (first.contradictions, second.contradictions) == (1, 2)
    assert verdict.images_with_flips == 2


def test_scores_are_compared_by_id() -> None:
    """The same scores of the same tokens, in the order of ids that are shuffled."""
    values = table(0)
    plain, moved = Kept.of(run(values)), Kept.of(run(values, shuffled(0)))
    errors = [site.largest_score_error for site in tokens.check(plain, moved, "fp32").sites]
    assert max(errors) < 1e-6
    assert np.abs(plain.scores[1] - moved.scores[1]).max() > 1


# In and out


def test_of_reads_the_types_that_runtimes_give() -> None:
    logits, *selection = run(np.round(table(0), 1))
    ids, scores = selection[:3], selection[3:]
    narrow = Kept.of([logits, *(a.astype(np.int32) for a in ids), *(a.astype(np.float16) for a in scores)])
    assert {array.dtype for array in narrow.ids} == {np.dtype(np.int64)}
    assert {array.dtype for array in narrow.scores} == {np.dtype(np.float32)}
    for array, expected in zip(narrow.ids, ids, strict=True):
        assert np.array_equal(array, expected)
    for array, expected in zip(narrow.scores, scores, strict=True):
        assert np.array_equal(array, expected.astype(np.float16))


def test_batches_are_concatenated_in_order() -> None:
    outputs = run(table(0))
    parts = [Kept.of([array[i : i + 5] for array in outputs]) for i in range(0, IMAGES, 5)]
    whole = Kept.concatenated(parts)
    for array, expected in zip((*whole.ids, *whole.scores), outputs[1:], strict=True):
        assert np.array_equal(array, expected)


def test_only_set_images_are_substituted() -> None:
    own = [np.arange(6.0).reshape(3, 2), np.arange(3)]
    merged = tokens.substituted(own, [np.array([[9.0, 8], [7, 6]]), np.array([5, 4])], np.array([True, False, True]))
    assert merged[0].tolist() == [[9, 8], [2, 3], [7, 6]]
    assert merged[1].tolist() == [5, 1, 4]
    assert own[1].tolist() == [0, 1, 2]


def test_substituting_nothing_changes_nothing() -> None:
    own = [np.arange(6.0).reshape(3, 2)]
    (merged,) = tokens.substituted(own, [np.empty((0, 2))], np.zeros(3, np.bool_))
    assert np.array_equal(merged, own[0])


@pytest.mark.parametrize("replayed", [[np.zeros((1, 2))], [np.zeros((3, 2))], [np.zeros((2, 1))], []])
def test_a_replay_of_other_images_is_not_substituted(replayed: list[Array]) -> None:
    """One image would otherwise be copied to all."""
    with pytest.raises(ValueError):  # noqa: PT011 - zip's own, where there are fewer outputs
        tokens.substituted([np.ones((3, 2))], replayed, np.array([True, False, True]))


def test_manifest() -> None:
    values = table(0)
    outputs = run(values + noise(0, "int8"))
    common, verdict = tokens.overlap(Kept.of(run(values)), Kept.of(outputs)), judged(values, outputs, "int8")
    manifest = tokens.manifest(common, verdict)
    assert json.loads(json.dumps(manifest, allow_nan=False)) == manifest
    assert manifest.keys() == {"sites", "images_with_flips", "images_that_differ", "swapped"}
    assert (manifest["images_that_differ"], manifest["swapped"]) == (common.images, common.swapped)
    assert manifest["images_with_flips"] == verdict.images_with_flips
    for entry, site, share in zip(manifest["sites"], verdict.sites, common.shares, strict=True):
        assert entry == {
            "kept": site.kept,
            "of": site.of,
            "overlap": share,
            "flips": site.flips,
            "images_with_flips": site.images_with_flips,
            "farthest_flip": site.farthest_flip,
            "score_error": site.score_error,
            "score_error_cap": tokens.SCORE_ERROR_CAPS["int8"],
            "largest_score_error": site.largest_score_error,
            "contradictions": 0,
        }
    assert [(entry["kept"], entry["of"]) for entry in manifest["sites"]] == [(34, 49), (24, 34), (16, 24)]
