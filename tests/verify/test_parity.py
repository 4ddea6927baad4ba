"""One link of the chain: its numbers, its limits, and outputs that compare with nothing."""

import io
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgevit import metrics
from edgevit.errors import ClaimError
from edgevit.images import ImageSet, Item, Preprocess
from edgevit.verify import parity
from edgevit.verify.parity import Limits, Link, Stage

ANY = Limits(min_sqnr_db=-math.inf, min_agreement=0, max_drop=100)
REFERENCE = np.array([[9, 1], [8, 2], [1, 7], [2, 6]], np.float32)
ONE_FLIP = np.array([[9, 1], [8, 2], [1, 7], [6, 2]], np.float32)
LABELS = np.array([0, 0, 1, 1])


def make_link(output: NDArray[np.float32] = ONE_FLIP, labelled: bool = True, limits: Limits = ANY) -> Link:
    return parity.link(("original", REFERENCE), ("onnx", output), 30.0, LABELS if labelled else None, limits)


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
    with pytest.raises(ClaimError, match="labels run from 0 to 5"):
        parity.link(("a", REFERENCE), ("b", ONE_FLIP), 30.0, np.array([0, 0, 1, 5]), ANY)


def test_predict_batches_in_order_and_tells_how_far_it_is() -> None:
    told: list[int] = []
    seen: list[int] = []

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(len(x))
        return x.mean(axis=(2, 3))

    stages = [Stage("single", run), Stage("pairs", run, batch=2)]
    logits = parity.predict(stages, images(5), Preprocess.imagenet(8), told.append)
    assert logits["pairs"].shape == (5, 3)
    assert (np.diff(logits["pairs"][:, 0]) > 0).all()
    assert (logits["single"] == logits["pairs"]).all()
    assert told == [2, 2, 1]
    assert seen == [1, 1, 2, 1, 1, 2, 1, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_name_the_stage(value: float) -> None:
    stage = Stage("folded", lambda x: np.full((len(x), 2), value, np.float32))
    with pytest.raises(ClaimError, match="the folded model gives logits that are not finite"):
        parity.predict([stage], images(1), Preprocess.imagenet(8), lambda count: None)
    with pytest.raises(ClaimError, match=r"self-noise of the folded model: .*NaN or infinite"):
        parity.self_noise(stage, images(1), Preprocess.imagenet(8), seed=0)


def test_self_noise_looks_at_the_first_images_only() -> None:
    counted = io.StringIO()

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        counted.write("." * len(x))
        return x.mean(axis=(2, 3))

    noise = parity.self_noise(Stage("made", run, 10), images(parity.NOISE_IMAGES + 30), Preprocess.imagenet(8), 0)
    assert len(counted.getvalue()) == 2 * parity.NOISE_IMAGES  # still, and moved
    assert 100 < noise < 160
