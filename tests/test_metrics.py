import math

import numpy as np
import pytest

from edgevit.metrics import (
    MAX_DB,
    cosine,
    paired_drop,
    paired_interval,
    self_noise,
    sqnr_db,
    top1,
    top1_agreement,
)

LOGITS = np.random.default_rng(0).standard_normal((400, 10)).astype(np.float32)


def one_hot(classes, count=4):
    return np.eye(count, dtype=np.float32)[classes]


def drop(reference, output):
    return paired_drop(reference, output, np.zeros(len(reference), int))


@pytest.mark.parametrize("db", [-3.0, 0.0, 20.0, 60.0])
def test_sqnr_recovers_the_noise_that_was_added(db, random):
    signal = random.standard_normal((2000, 50))
    noisy = signal + 10 ** (-db / 20) * random.standard_normal(signal.shape)
    assert sqnr_db(signal, noisy) == pytest.approx(db, abs=0.1)


def test_sqnr_by_hand():
    # 3² + 4² over 0.5²: 100
    assert sqnr_db(np.array([[3.0, 4.0]]), np.array([[3.0, 4.5]])) == pytest.approx(20.0, abs=1e-12)


def test_sqnr_has_a_scale_free_reference_and_is_not_symmetric():
    noisy = LOGITS + np.float32(0.1)
    assert sqnr_db(LOGITS * 1024, noisy * 1024) == pytest.approx(sqnr_db(LOGITS, noisy), abs=1e-9)
    assert sqnr_db(LOGITS, 2 * LOGITS) == pytest.approx(0)
    assert sqnr_db(2 * LOGITS, LOGITS) == pytest.approx(20 * math.log10(2))


def test_equal_logits_get_the_cap_and_nothing_gets_more():
    assert sqnr_db(LOGITS, LOGITS.copy()) == MAX_DB
    nearly = np.array([[1.0, 1e-12]])
    assert sqnr_db(nearly, np.array([[1.0, 0.0]])) == MAX_DB  # 240 dB


def test_half_precision_sums_do_not_overflow():
    half = np.full((100, 100), 300, np.float16)
    assert sqnr_db(half, half * np.float16(0.5)) == pytest.approx(20 * math.log10(2))


def test_cosine_is_the_mean_over_rows():
    reference = np.array([[1.0, 0.0], [0.0, 10.0], [1.0, 1.0], [1.0, 2.0]])
    output = np.array([[2.0, 0.0], [0.0, -1.0], [1.0, 0.0], [0.0, 0.0]])
    assert cosine(reference, output) == pytest.approx((1 - 1 + math.sqrt(0.5) + 0) / 4)


def test_cosine_is_symmetric_and_one_for_a_positive_scale(random):
    noisy = LOGITS + random.standard_normal(LOGITS.shape).astype(np.float32)
    assert cosine(LOGITS, noisy) == pytest.approx(cosine(noisy, LOGITS), abs=1e-12)
    assert cosine(LOGITS, 7 * LOGITS) == pytest.approx(1)


def test_agreement_counts_equal_first_classes():
    assert top1_agreement(one_hot([0, 1, 2, 3]), one_hot([0, 1, 3, 3])) == 0.75
    assert top1_agreement(LOGITS, LOGITS) == 1


def test_top1_is_in_percent():
    assert top1(one_hot([0, 1, 2, 3]), np.array([0, 1, 2, 0])) == 75


def test_drop_has_the_sign_of_the_loss():
    labels = np.array([0, 1, 2, 3])
    right, wrong = one_hot(labels), one_hot([0, 1, 2, 0])
    loss, gain = paired_drop(right, wrong, labels), paired_drop(wrong, right, labels)
    assert (loss.from_, loss.to, loss.drop_points) == (100, 75, 25)
    assert (gain.from_, gain.to, gain.drop_points) == (75, 100, -25)
    assert gain.ci95 == pytest.approx((-loss.ci95[1], -loss.ci95[0]))


def test_drop_looks_at_which_images_changed_not_at_the_totals():
    labels = np.zeros(100, np.int64)
    reference = one_hot([0] * 50 + [1] * 50)
    swapped = one_hot([1] * 50 + [0] * 50)
    same, changed = paired_drop(reference, reference, labels), paired_drop(reference, swapped, labels)
    assert same.drop_points == changed.drop_points == 0
    assert changed.ci95[1] > 4 * same.ci95[1] > 0


def test_interval_is_the_published_one():
    # Fagerland et al. (2014), tables II and V: airway hyper-responsiveness, 1 and 7 discordant of 21.
    assert paired_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize("n", [1, 20, 1000, 50_000])
def test_interval_without_discordant_pairs_keeps_a_width(n):
    bound = 1.96**2 / (n + 1.96**2)  # solves (n d)² = z² n d (1 - d)
    assert paired_interval(0, 0, n) == pytest.approx((-bound, bound), rel=1e-3)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_interval_holds_its_estimate_and_stays_in_range(n):
    for lost in range(n + 1):
        for gained in range(n + 1 - lost):
            low, high = paired_interval(lost, gained, n)
            assert -1 <= low <= (lost - gained) / n <= high <= 1
            assert low < high


def test_interval_covers_95_percent_by_enumeration():
    n = 40
    counts = [(lost, gained) for lost in range(n + 1) for gained in range(n + 1 - lost)]
    low, high = np.array([paired_interval(lost, gained, n) for lost, gained in counts]).T
    ways = np.array([math.comb(n, lost) * math.comb(n - lost, gained) for lost, gained in counts], float)
    lost, gained = np.array(counts).T
    coverage = []
    for p in np.arange(0.01, 0.5, 0.04):
        for q in np.arange(0.01, 0.5, 0.04):
            probability = ways * p**lost * q**gained * (1 - p - q) ** (n - lost - gained)
            assert probability.sum() == pytest.approx(1)
            coverage.append(probability[(low <= p - q) & (p - q <= high)].sum())
    assert 0.94 < np.mean(coverage) < 0.965
    assert min(coverage) > 0.92


def test_self_noise_of_a_linear_program_is_the_nudge(random):
    batches = [random.standard_normal((500, 40)) for _ in range(4)]
    assert self_noise(lambda x: x, batches, seed=0) == pytest.approx(120, abs=0.2)


def test_self_noise_of_a_coarse_grid_is_lower_than_of_its_float_program(random):
    batches = [random.standard_normal((2000, 40)).astype(np.float32) for _ in range(4)]
    grid = self_noise(lambda x: np.round(x * 128) / 128, batches, seed=0)
    assert 40 < grid < self_noise(lambda x: x, batches, seed=0) - 20


def test_self_noise_follows_its_seed(random):
    batches = [random.standard_normal((5, 4)) for _ in range(2)]
    values = [self_noise(lambda x: x, batches, seed) for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_self_noise_keeps_the_dtype_and_leaves_the_batches_alone(random):
    batch = random.standard_normal((5, 4)).astype(np.float32)
    before, seen = batch.copy(), []
    self_noise(lambda x: seen.append(x.dtype) or x, [batch], seed=0)
    assert seen == [np.float32, np.float32]
    np.testing.assert_array_equal(batch, before)


def test_self_noise_of_a_program_that_does_not_move_is_the_cap():
    assert self_noise(lambda x: np.ones((len(x), 3)), [np.ones((2, 5))], seed=0) == MAX_DB


def test_self_noise_sees_through_a_reused_output_buffer(random):
    buffer = np.empty((5, 4))

    def run(x):
        buffer[:] = x
        return buffer

    assert self_noise(run, [random.standard_normal((5, 4))], seed=0) < 130


@pytest.mark.parametrize("batches", [[], [np.ones((2, 2), np.float16)], [np.ones((2, 2), np.uint8)]])
def test_self_noise_refuses_what_it_cannot_measure(batches):
    with pytest.raises(ValueError, match=r"at least one batch|is lost in"):
        self_noise(lambda x: x, batches, seed=0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("metric", [sqnr_db, cosine, top1_agreement, drop])
def test_one_nan_is_never_a_number(metric, bad):
    good = np.ones((3, 4), np.float32)
    broken = good.copy()
    broken[1, 2] = bad
    for pair in ((good, broken), (broken, good), (broken, broken)):
        with pytest.raises(ValueError, match="1 of 3 images are NaN or infinite"):
            metric(*pair)


def test_top1_refuses_nan():
    with pytest.raises(ValueError, match="NaN"):
        top1(np.array([[np.nan, 1.0]]), np.array([1]))


@pytest.mark.parametrize("metric", [sqnr_db, cosine, top1_agreement, drop])
@pytest.mark.parametrize(
    "shapes", [((3, 4), (3, 5)), ((3, 4), (1, 4)), ((4,), (4,)), ((0, 4), (0, 4)), ((1, 2, 3),) * 2]
)
def test_shapes_that_are_not_the_same_images_are_refused(metric, shapes):
    with pytest.raises(ValueError, match="shape"):
        metric(np.ones(shapes[0]), np.ones(shapes[1]))


@pytest.mark.parametrize(
    ("labels", "reason"), [([0, 1], "one label an image"), ([0, 1, 4], "0 to 4"), ([0, -1, 1], "-1")]
)
def test_labels_that_do_not_fit_are_refused(labels, reason):
    with pytest.raises(ValueError, match=reason):
        top1(np.ones((3, 4)), np.array(labels))


def test_a_reference_without_signal_is_refused():
    with pytest.raises(ValueError, match="all zero"):
        sqnr_db(np.zeros((2, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="all zero"):
        cosine(np.array([[1.0, 0.0], [0.0, 0.0]]), np.ones((2, 2)))
    assert sqnr_db(np.ones((2, 3)), np.zeros((2, 3))) == 0
