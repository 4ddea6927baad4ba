"""One link of the chain: its numbers, its limits, and outputs that compare with nothing."""

import io
import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgevit import metrics
from edgevit.errors import ClaimError
from edgevit.images import ImageSet, Item, Preprocess
from edgevit.verify import parity
from edgevit.verify.parity import Limits, Link, Outputs, Predicted, Stage

ANY = Limits(min_sqnr_db=-math.inf, min_agreement=0, max_drop=100)
REFERENCE = np.array([[9, 1], [8, 2], [1, 7], [2, 6]], np.float32)
ONE_FLIP = np.array([[9, 1], [8, 2], [1, 7], [6, 2]], np.float32)
LABELS = np.array([0, 0, 1, 1])


def make_link(output: NDArray[np.float32] = ONE_FLIP, labelled: bool = True, limits: Limits = ANY) -> Link:
    ends = (("original", Predicted("original", (REFERENCE,))), ("onnx", Predicted("onnx", (output,))))
    return parity.link(*ends, 30.0, LABELS if labelled else None, limits)


def images(count: int) -> ImageSet:
    def item(index: int) -> Item:
        return Item(str(index), bytes, lambda data: Image.new("RGB", (8, 8), (40 * index, 90, 17)))

    return ImageSet("made", [item(index) for index in range(count)])


def test_a_link_measures_what_metrics_define() -> None:
    link = make_link()
    assert link.name == "parity original → onnx"
    assert link.sqnr_db == metrics.sqnr_db(REFERENCE, ONE_FLIP)
    assert link.cosine == metrics.cosine(REFERENCE, ONE_FLIP)
    assert link.top1_agreement == 0.75
    assert link.top1 is not None
    assert (link.top1.from_, link.top1.to, link.top1.drop_points) == (100, 75, 25)


def test_unlabelled_images_have_no_top1() -> None:
    manifest = make_link(labelled=False).manifest()
    assert [key for key in manifest if key.startswith("top1_")] == ["top1_agreement"]
    labelled = make_link().manifest()
    assert labelled.keys() - manifest.keys() == {"top1_from", "top1_to", "top1_drop", "top1_drop_ci95"}


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(99, 0, 100), "dB SQNR, less than 99"),
        (Limits(0, 0.76, 100), "75.0% top-1 agreement, less than 76.0%"),
        (Limits(0, 0, 24.9), "top-1 drops 25.00 points, more than 24.9"),
        (Limits(0, 0.75, 25), None),
    ],
)
def test_limits(limits: Limits, reason: str | None) -> None:
    broken = make_link(limits=limits).broken()
    assert broken is None if reason is None else reason in str(broken)


def test_a_drop_cannot_break_a_link_without_labels() -> None:
    assert make_link(labelled=False, limits=Limits(0, 0, 0)).broken() is None


def test_a_float_step_is_not_asked_for_more_than_the_noise_floor() -> None:
    assert parity.above_noise(parity.EXACT, 69.8) == Limits(69.8, 0.99, 0.2)
    assert parity.above_noise(parity.EXACT, 120) == parity.EXACT


@pytest.mark.parametrize("output", [ONE_FLIP * np.nan, ONE_FLIP[:3], ONE_FLIP[:, :1]])
def test_outputs_that_do_not_compare_are_a_failed_claim(output: NDArray[np.float32]) -> None:
    with pytest.raises(ClaimError, match=r"^parity original → onnx: the .*logits"):
        make_link(output)


def test_labels_beyond_the_classes_are_a_failed_claim() -> None:
    ends = (("a", Predicted("a", (REFERENCE,))), ("b", Predicted("b", (ONE_FLIP,))))
    with pytest.raises(ClaimError, match="labels run from 0 to 5"):
        parity.link(*ends, 30.0, np.array([0, 0, 1, 5]), ANY)


def test_predict_batches_in_order_and_tells_how_far_it_is() -> None:
    told: list[int] = []
    seen: list[int] = []

    def run(x: NDArray[np.float32]) -> Outputs:
        seen.append(len(x))
        return (x.mean(axis=(2, 3)),)

    stages = [Stage("single", run), Stage("pairs", run, batch=2)]
    predicted = parity.predict(stages, images(5), Preprocess.imagenet(8), told.append)
    logits = predicted["pairs"].logits
    assert logits.shape == (5, 3)
    assert (np.diff(logits[:, 0]) > 0).all()
    assert (predicted["single"].logits == logits).all()
    assert predicted["pairs"].kept is None
    assert told == [2, 2, 1]
    assert seen == [1, 1, 2, 1, 1, 2, 1, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_name_the_stage(value: float) -> None:
    stage = Stage("folded", lambda x: (np.full((len(x), 2), value, np.float32),))
    with pytest.raises(ClaimError, match="the folded model gives logits that are not finite"):
        parity.predict([stage], images(1), Preprocess.imagenet(8), lambda count: None)
    with pytest.raises(ClaimError, match=r"self-noise of the folded model: .*NaN or infinite"):
        parity.self_noise(stage, images(1), Preprocess.imagenet(8), seed=0)


def test_self_noise_looks_at_the_first_images_only() -> None:
    counted = io.StringIO()

    def run(x: NDArray[np.float32]) -> Outputs:
        counted.write("." * len(x))
        return (x.mean(axis=(2, 3)),)

    noise = parity.self_noise(Stage("made", run, 10), images(parity.NOISE_IMAGES + 30), Preprocess.imagenet(8), 0)
    assert len(counted.getvalue()) == 2 * parity.NOISE_IMAGES  # still, and moved
    assert 100 < noise < 160


def test_the_floor_is_the_lowest_of_several_draws() -> None:
    """Of a stage that few nudges move, and those far."""
    stage = Stage("original", lambda x: (np.round(1e5 * x[:, :, 0, :4].reshape(len(x), -1)),), 10)
    several = [parity.self_noise(stage, images(2), Preprocess.imagenet(8), seed) for seed in range(7, 11)]
    assert max(several) - min(several) > 1
    assert parity.noise_floor(stage, images(2), Preprocess.imagenet(8), seed=7) == min(several)


# Models that prune tokens

SITES = ((4, 6), (2, 4))  # tokens kept of those that reach the site


def selection(count: int, seed: int = 0) -> Outputs:
    """Logits, ids and scores of a program that keeps the best, as ``Kept`` wants them."""
    random = np.random.default_rng(seed)
    reached = np.tile(np.arange(SITES[0][1]), (count, 1))
    ids, scores = [], []
    for kept, of in SITES:
        score = random.normal(size=(count, of)).astype(np.float32)
        best = np.argsort(-score, 1)[:, :kept]
        reached = np.take_along_axis(reached, best, 1)
        ids.append(reached)
        scores.append(score)
    return (random.normal(size=(count, 3)).astype(np.float32), *ids, *scores)


def test_only_images_that_keep_other_tokens_are_run_again() -> None:
    own, other = Predicted("original", selection(5)), Predicted("onnx", selection(5, seed=1))
    assert own.kept is not None
    assert other.kept is not None
    rows = [0, 3]
    mixed = tuple(array.copy() for array in own.outputs)
    for array, from_other in zip(mixed, other.outputs, strict=True):
        array[rows] = from_other[rows]
    kept = Predicted("onnx", mixed).kept
    assert kept is not None
    asked: list[tuple[NDArray[np.float32], list[NDArray[np.int64]]]] = []

    def replay(x: NDArray[np.float32], forced: Sequence[NDArray[np.int64]]) -> Outputs:
        asked.append((x, list(forced)))
        row = rows[len(asked) - 1]
        return tuple(array[row : row + 1] for array in other.outputs)

    stage = Stage("original", lambda x: (), 1, replay)
    found = parity.forced(stage, own, kept, images(5), Preprocess.imagenet(8))
    assert [x.shape[0] for x, _ in asked] == [1, 1]
    shown = [next(images(5).take([row]).batches(Preprocess.imagenet(8))) for row in rows]
    for (x, forced), image, row in zip(asked, shown, rows, strict=True):
        assert (x == image).all()
        assert all((ids == kept.ids[site][row]).all() for site, ids in enumerate(forced))
    assert all((array == expected).all() for array, expected in zip(found.outputs, mixed, strict=True))
    assert parity.forced(stage, own, own.kept, images(5), Preprocess.imagenet(8)) is own
    assert len(asked) == 2


def test_numbers_are_of_the_same_tokens_and_accuracy_of_each_with_its_own() -> None:
    own = Predicted("original", (REFERENCE, *selection(4)[1:]))
    output = Predicted("onnx", (ONE_FLIP, *selection(4, seed=1)[1:]))
    same = Predicted("original", (ONE_FLIP, *output.outputs[1:]))
    link = parity.link(("original", own), ("onnx", output), 30.0, LABELS, ANY, same, "int8")
    assert (link.sqnr_db, link.top1_agreement) == (metrics.MAX_DB, 1)
    assert link.top1 is not None
    assert (link.top1.from_, link.top1.to) == (100, 75)
    assert link.broken() is None
    manifest = link.manifest()
    assert manifest["tokens"]["each_its_own"] == {
        "sqnr_db": metrics.sqnr_db(REFERENCE, ONE_FLIP),
        "top1_agreement": 0.75,
    }
    assert len(manifest["kept_token_overlap"]) == len(SITES)
    assert 0 < min(manifest["kept_token_overlap"]) < 1
    assert manifest["tokens"]["images_that_differ"] > 0


def test_scores_that_do_not_explain_the_tokens_break_the_link() -> None:
    outputs = selection(4)
    output = Predicted("onnx", (*outputs[:3], *(-scores for scores in outputs[3:])))
    own = Predicted("original", outputs)
    link = parity.link(("original", own), ("onnx", output), 30.0, LABELS[:4], ANY, own, "int8")
    assert "site 1 drops tokens it scores higher than some it keeps" in str(link.broken())


def test_outputs_that_are_no_selection_name_the_stage() -> None:
    outputs = list(selection(4))
    outputs[1] = outputs[1] + 6
    with pytest.raises(ClaimError, match=r"the onnx model: site 1 keeps ids from \d+ to \d+, where patches end at 5"):
        Predicted("onnx", tuple(outputs))
