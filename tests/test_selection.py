"""Which images calibrate and which are scored."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevit.errors import InputError
from edgevit.images import BadImageError, ImageSet, open_images
from edgevit.selection import Selection, check_labels, manifest_images, select, sha256_of_list

NIPS17 = Path(__file__).parents[2] / "shared/data/nips17"


def folder_of(folder: Path, count: int, label: int | None = None) -> Path:
    folder = folder if label is None else folder / str(label)
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(count)
    for i in range(count):
        Image.fromarray(random.integers(0, 256, (3, 3, 3), np.uint8)).save(folder / f"{i:04}.png")
    return folder


def draw(
    images: ImageSet,
    calibration: int | None = None,
    scored: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    said: list[str] | None = None,
) -> Selection:
    report = [].append if said is None else said.append
    return select(images, calibration=calibration, scored=scored, seed=seed, skip_bad=skip_bad, report=report)


def names(images: ImageSet) -> list[str]:
    return [item.name for item in images.items]


def test_draws_are_seeded_and_disjoint(tmp_path: Path) -> None:
    images = open_images(folder_of(tmp_path, 30))
    first, again, other = draw(images, 10, 15), draw(images, 10, 15), draw(images, 10, 15, seed=1)
    assert (len(first.calibration), len(first.scored)) == (10, 15)
    assert names(first.calibration) == names(again.calibration)
    assert names(first.scored) == names(again.scored)
    assert names(first.calibration) != names(other.calibration)
    assert names(first.calibration) != sorted(names(first.calibration))
    assert not set(names(first.calibration)) & set(names(first.scored))
    assert first.bad == ()
    assert first.duplicates == 0


def test_calibration_does_not_depend_on_how_many_are_scored(tmp_path: Path) -> None:
    images = open_images(folder_of(tmp_path, 30))
    assert names(draw(images, 10, 1).calibration) == names(draw(images, 10).calibration)


def test_defaults_are_300_and_the_rest_up_to_1000(tmp_path: Path) -> None:
    said: list[str] = []
    images = open_images(folder_of(tmp_path, 620))
    chosen = draw(images, said=said)
    assert (len(chosen.calibration), len(chosen.scored), said) == (300, 320, [])
    twice = ImageSet("x", [*images.items] * 3)
    assert len(draw(twice, 1).scored) == 1000


def test_a_small_set_is_halved_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    chosen = draw(open_images(folder_of(tmp_path, 21)), said=said)
    assert (len(chosen.calibration), len(chosen.scored)) == (10, 11)
    assert said == ["calibrating on 10 of 21 images: the usual 300 are taken from 600 or more"]


@pytest.mark.parametrize("calibration", [0, -1, 20, 21, 5000])
def test_impossible_calibration_sizes(tmp_path: Path, calibration: int) -> None:
    with pytest.raises(
        InputError, match=f"calibrate on {calibration:,} of the 20 images .* and score others"
    ) as caught:
        draw(open_images(folder_of(tmp_path, 20)), calibration)
    assert caught.value.exit_code == 2


def test_one_image_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="calibrate on 0 of the 1 images"):
        draw(open_images(folder_of(tmp_path, 1)))
    assert len(draw(open_images(folder_of(tmp_path, 2))).scored) == 1


def test_impossible_score_sizes(tmp_path: Path) -> None:
    images = open_images(folder_of(tmp_path, 20))
    assert len(draw(images, 5, 15).scored) == 15
    with pytest.raises(
        InputError, match=r"calibrate on 5 images and score 16 others: 5 and 15 of the 20 .* can be used"
    ):
        draw(images, 5, 16)
    with pytest.raises(InputError, match="cannot score 0 images"):
        draw(images, 5, 0)


def test_the_same_content_is_never_on_both_sides(tmp_path: Path) -> None:
    folder_of(tmp_path, 20)
    for path in sorted(tmp_path.iterdir()):
        (tmp_path / f"copy-{path.name}").write_bytes(path.read_bytes())
    said: list[str] = []
    chosen = draw(open_images(tmp_path), 10, said=said)
    calibration, scored = ({item.sha256() for item in part.items} for part in (chosen.calibration, chosen.scored))
    assert not calibration & scored
    left = 40 - 10 - chosen.duplicates
    assert chosen.duplicates == 2 * len(calibration) - 10 > 0
    assert len(chosen.scored) == left
    assert f"not scored, because calibration images have the same content: {chosen.duplicates} images" in said


def test_nothing_but_copies_cannot_be_scored(tmp_path: Path) -> None:
    folder_of(tmp_path, 1)
    for i in range(5):
        (tmp_path / f"copy{i}.png").write_bytes((tmp_path / "0000.png").read_bytes())
    with pytest.raises(InputError, match="score any others: 3 and 0 of the 6"):
        draw(open_images(tmp_path))


def test_a_bad_image_stops_or_is_skipped_by_name(tmp_path: Path) -> None:
    folder_of(tmp_path, 20)
    (tmp_path / "0007.png").write_bytes(b"")
    (tmp_path / "0011.png").write_bytes((tmp_path / "0011.png").read_bytes()[:50])
    images = open_images(tmp_path)
    with pytest.raises(BadImageError, match=r"^00(07|11)\.png is ") as caught:
        draw(images, 5)
    assert caught.value.exit_code == 2
    said: list[str] = []
    chosen = draw(images, 5, skip_bad=True, said=said)
    assert sorted(name for name, _ in chosen.bad) == ["0007.png", "0011.png"]
    assert ("0007.png", "is empty: replace or remove it") in chosen.bad
    assert "skipped: 0007.png is empty: replace or remove it" in said
    assert (len(chosen.calibration), len(chosen.scored)) == (5, 13)
    assert not {"0007.png", "0011.png"} & {*names(chosen.calibration), *names(chosen.scored)}


def test_too_few_usable_images(tmp_path: Path) -> None:
    folder_of(tmp_path, 10)
    for i in range(8):
        (tmp_path / f"{i:04}.png").write_bytes(b"")
    with pytest.raises(InputError, match="calibrate on 5 images and score any others: 2 and 0 of the 10"):
        draw(open_images(tmp_path), 5, skip_bad=True)


def test_a_split_is_not_filled_up_from_the_other(tmp_path: Path) -> None:
    folder_of(tmp_path, 4)
    (tmp_path / "0000.png").write_bytes(b"")
    images = ImageSet("x", open_images(tmp_path).items, splits={"calibration": range(2), "test": range(2, 4)})
    with pytest.raises(InputError, match="calibrate on 2 images and score any others: 1 and 2 of the 4"):
        draw(images, 2, skip_bad=True)
    chosen = draw(images, 1, skip_bad=True)
    assert (names(chosen.calibration), sorted(names(chosen.scored))) == (["0001.png"], ["0002.png", "0003.png"])


def test_the_bundled_splits_are_kept() -> None:
    images = open_images("bundled")
    chosen = draw(images)
    assert (len(chosen.calibration), len(chosen.scored), chosen.duplicates) == (300, 1000, 0)
    assert set(names(chosen.calibration)) == set(names(images.split("calibration")))
    assert set(names(chosen.scored)) == set(names(images.split("test")))
    assert chosen.scored.classes == images.classes
    few = draw(images, 20, 50)
    assert names(few.calibration) == names(chosen.calibration)[:20]
    assert names(few.scored) == names(chosen.scored)[:50]
    with pytest.raises(InputError, match="calibrate on 301 of the 300 images in bundled: "):
        draw(images, 301)


def test_idx_sets_calibrate_on_train_and_are_scored_on_test(tmp_path: Path) -> None:
    for prefix, count in (("train", 8), ("t10k", 4)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 5, 5), np.uint8)
        for name, array in (("images-idx3", pixels), ("labels-idx1", np.zeros(count, np.uint8))):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (tmp_path / f"{prefix}-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    said: list[str] = []
    chosen = draw(open_images(tmp_path), said=said)
    assert set(names(chosen.calibration)) == {f"train/{i}" for i in range(8)}
    assert set(names(chosen.scored)) == {f"test/{i}" for i in range(4)}
    assert said == ["calibrating on 8 of 8 images: the usual 300 are taken from 300 or more"]


def test_digests_identify_images_and_their_order(tmp_path: Path) -> None:
    images = open_images(folder_of(tmp_path, 3))
    digests = [hashlib.sha256((tmp_path / f"000{i}.png").read_bytes()).hexdigest() for i in range(3)]
    assert manifest_images(images) == [{"name": f"000{i}.png", "sha256": digests[i]} for i in range(3)]
    assert sha256_of_list(images) == hashlib.sha256("".join(f"{d}\n" for d in digests).encode()).hexdigest()
    assert sha256_of_list(images.take([1, 0, 2])) != sha256_of_list(images)
    (tmp_path / "0001.png").write_bytes((tmp_path / "0001.png").read_bytes() + b"\0")
    assert (
        sha256_of_list(open_images(tmp_path)) != hashlib.sha256("".join(f"{d}\n" for d in digests).encode()).hexdigest()
    )


def test_labels_out_of_range_name_the_first_file(tmp_path: Path) -> None:
    for label in (3, 9, 12):
        folder_of(tmp_path, 2, label)
    images = open_images(tmp_path)
    check_labels(images, 13)
    with pytest.raises(InputError, match=r"^12/0000\.png has the label 12, but the model has 12 classes") as caught:
        check_labels(images, 12)
    assert caught.value.exit_code == 2
    with pytest.raises(InputError, match=r"^9/0000\.png has the label 9|^12/0000\.png has the label 12"):
        check_labels(images, 9)


def test_named_class_folders_must_be_all_the_classes(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        folder_of(tmp_path / name, 1)
    check_labels(open_images(tmp_path), 2)
    for classes in (1, 3, 1000):
        with pytest.raises(InputError, match=r"2 named classes and the model .*class index.* labels\.csv"):
            check_labels(open_images(tmp_path), classes)


def test_unlabelled_images_pass(tmp_path: Path) -> None:
    check_labels(open_images(folder_of(tmp_path, 2)), 10)


def test_real_photographs() -> None:
    if not NIPS17.is_dir():
        pytest.skip(f"{NIPS17} is not there")
    images = open_images(NIPS17)
    check_labels(images, 1000)
    chosen = draw(images, 40, 60)
    assert (len(chosen.calibration), len(chosen.scored), chosen.bad) == (40, 60, ())
    assert chosen.scored.labels().max() > 500
