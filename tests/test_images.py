"""Image sets: what is read, in which order, what is refused and how it is said; and the preprocessing."""

import gzip
import io
import os
import runpy
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from edgevit import images
from edgevit.errors import InputError
from edgevit.images import BadImageError, Preprocess, decode_file, open_images

ROOT = Path(__file__).parents[1]


def noise(width: int = 24, height: int = 16, seed: int = 0, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int = 8, colour: int = 2, rows: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG by its specification, for what Pillow will not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def fill(folder: Path, *names: str) -> Path:
    """``folder`` with one small image a name, all different."""
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(noise(seed=seed), "JPEG" if path.suffix == ".jpg" else "PNG"))
    return folder


def names(image_set: images.ImageSet) -> list[str]:
    return [item.name for item in image_set.items]


# Preprocessing


def test_normalise_is_the_written_formula() -> None:
    image = Image.new("RGB", (2, 1))
    image.putdata([(0, 128, 255), (10, 20, 30)])
    preprocess = Preprocess(1, 1, mean=(0.5, 0.25, 0.125), std=(0.5, 0.25, 2.0))
    expected = [[[-1.0, 10 / 255 * 2 - 1]], [[128 / 255 * 4 - 1, 20 / 255 * 4 - 1]], [[0.4375, (30 / 255 - 0.125) / 2]]]
    np.testing.assert_allclose(preprocess.normalise(image), expected, atol=1e-6)


@pytest.mark.parametrize(("size", "left", "top"), [((9, 5), 2, 0), ((5, 9), 0, 2), ((8, 5), 1, 0), ((5, 5), 0, 0)])
def test_crop_is_central_and_rounds_towards_the_top_left(size: tuple[int, int], left: int, top: int) -> None:
    image = noise(*size)  # the short side has the asked length: nothing is resampled
    result = Preprocess(resize=5, crop=5, mean=(0, 0, 0), std=(1, 1, 1))(image)
    expected = np.asarray(image)[top : top + 5, left : left + 5].transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_allclose(result, expected, atol=1e-7)


def test_resize_takes_the_short_side_and_keeps_the_aspect() -> None:
    left_half_white = Image.new("RGB", (40, 20))
    left_half_white.paste((255, 255, 255), (0, 0, 20, 20))
    result = Preprocess(resize=10, crop=8, interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1))(left_half_white)
    # 40 x 20 → 20 x 10, the crop's columns are 6..13 and the edge lies between 9 and 10.
    assert (result[:, :, :3] == 1).all()
    assert (result[:, :, 5:] == 0).all()
    np.testing.assert_allclose(result[:, :, 3] + result[:, :, 4], 1, atol=0.01)


@pytest.mark.parametrize("size", [(224, 224), (225, 301), (301, 225), (7, 5), (1, 1), (1, 40), (500, 20), (3, 1000)])
@pytest.mark.parametrize("preprocess", [Preprocess.imagenet(224), Preprocess(64, 64, "bilinear"), Preprocess(32, 64)])
def test_result_is_a_contiguous_float32_square(size: tuple[int, int], preprocess: Preprocess) -> None:
    result = preprocess(noise(*size))
    assert result.shape == (3, preprocess.crop, preprocess.crop)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert np.isfinite(result).all()


@pytest.mark.parametrize("size", [(10, 10), (10, 30), (30, 10)])
def test_the_crop_is_never_padded(size: tuple[int, int]) -> None:
    white = Image.new("RGB", size, (255, 255, 255))
    assert (Preprocess(resize=32, crop=64, mean=(0, 0, 0), std=(1, 1, 1))(white) == 1).all()


def test_imagenet_preprocessing_and_its_manifest() -> None:
    assert Preprocess.imagenet(224).resize == 256
    assert Preprocess.imagenet(64).resize == 73
    assert Preprocess.imagenet(224).manifest() == {
        "resize": 256,
        "crop": 224,
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "layout": "NCHW",
        "colour": "RGB",
    }


def test_batches_keep_the_order_and_the_last_may_be_smaller(tmp_path: Path) -> None:
    image_set = open_images(fill(tmp_path, "a.png", "b.png", "c.png"))
    preprocess = Preprocess(8, 8)
    first, second = image_set.batches(preprocess, 2)
    assert first.shape == (2, 3, 8, 8)
    assert second.shape == (1, 3, 8, 8)
    assert np.array_equal(second[0], preprocess(image_set.items[2].image()))


# Decoding


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_lossless_rgb_decodes_to_its_pixels(kind: str) -> None:
    decoded = decode_file(encode(noise(), kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert decoded.mode == "RGB"
    assert np.array_equal(np.asarray(decoded), np.asarray(noise()))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_ignored(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    turned, plain = decode_file(encode(noise(), kind, exif=exif)), decode_file(encode(noise(), kind))
    assert turned.getexif()[0x0112] == 6
    assert turned.size == (24, 16)
    assert np.array_equal(np.asarray(turned), np.asarray(plain))


def test_a_phone_jpeg_with_a_preview_shows_its_first_image() -> None:
    data = encode(noise(), "MPO", save_all=True, append_images=[noise(seed=1)])
    assert np.array_equal(np.asarray(decode_file(data)), np.asarray(decode_file(encode(noise(), "JPEG"))))


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 16]) + data[position + 1 :]


def animation(kind: str) -> bytes:
    return encode(noise(), kind, save_all=True, append_images=[noise(seed=1)])


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "0-byte": (lambda: b"", "is empty"),
    "text": (lambda: b"not an image at all", "is not a JPEG, PNG, WebP or BMP image"),
    "TIFF": (lambda: encode(noise(), "TIFF"), "is not a JPEG, PNG, WebP or BMP image"),
    "half a JPEG": (lambda: encode(noise(99, 99), "JPEG")[:2000], "is corrupt or truncated"),
    "half a PNG": (lambda: encode(noise(99, 99))[:9000], "is corrupt or truncated"),
    "half a WebP": (lambda: encode(noise(99, 99), "WEBP")[:2000], "is corrupt or truncated"),
    "corrupt PNG": (lambda: flipped(encode(noise(99, 99)), 9000), "is corrupt or truncated"),
    "grey JPEG": (lambda: encode(noise(mode="L"), "JPEG"), "is grey"),
    "grey PNG": (lambda: encode(noise(mode="L")), "is grey"),
    "grey with alpha": (lambda: encode(noise(mode="LA")), "is grey with alpha"),
    "1-bit": (lambda: encode(noise(mode="1")), "is black and white"),
    "CMYK": (lambda: encode(noise(mode="CMYK"), "JPEG"), "is CMYK"),
    "16-bit grey": (lambda: png(2, 2, 16, 0, b"\0\1\2\3\4" * 2), "is 16-bit"),
    "16-bit RGB": (lambda: png(1, 2, 16, 2, b"\0\1\2\3\4\5\6" * 2), "is 16-bit"),
    "palette": (lambda: encode(noise(mode="P")), "is a palette image"),
    "GIF": (lambda: encode(noise(mode="P"), "GIF"), "is a palette image"),
    "RGBA PNG": (lambda: encode(noise(mode="RGBA")), "is RGB with alpha"),
    "RGBA WebP": (lambda: encode(png_rgba(), "WEBP", lossless=True), "is RGB with alpha"),
    "transparent colour": (lambda: encode(noise(), transparency=(1, 2, 3)), "is RGB with a transparent colour"),
    "animated GIF": (lambda: animation("GIF"), r"is animated \(2 frames\)"),
    "animated WebP": (lambda: animation("WEBP"), r"is animated \(2 frames\)"),
    "APNG": (lambda: animation("PNG"), r"is animated \(2 frames\)"),
    "strip": (lambda: encode(noise(1, 51)), "is a strip of 1 x 51 pixels"),
    "70 megapixels": (lambda: png(10_000, 7_000), "has 10000 x 7000 pixels, more than 64,000,000"),
    "100 megapixels": (lambda: png(10_000, 10_000), "has 10000 x 10000 pixels, more than 64,000,000"),
    "900 megapixels": (lambda: png(30_000, 30_000), "has more than 64,000,000 pixels"),
}


def png_rgba() -> Image.Image:
    image = noise(mode="RGBA")
    image.putalpha(100)
    return image


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name_with_the_reason(case: str, tmp_path: Path) -> None:
    make, reason = REFUSED[case]
    (tmp_path / "x.png").write_bytes(make())
    (item,) = open_images(tmp_path).items
    with pytest.raises(BadImageError, match=rf"^x\.png {reason}") as caught:
        item.image()
    assert caught.value.exit_code == 2
    assert caught.value.name == "x.png"
    assert "\n" not in str(caught.value)
    with pytest.raises(BadImageError):
        item.check()


def test_an_enormous_image_is_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    for side in (9_000, 30_000):
        with pytest.raises(ValueError, match="64,000,000"):
            decode_file(png(side, side))


def test_no_warning_reaches_stderr(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(10_000, 10_000))
    code = """if True:
        import sys
        from edgevit.images import BadImageError, open_images
        try:
            open_images(sys.argv[1]).items[0].image()
        except BadImageError as error:
            print(error.reason)
    """
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.startswith("has 10000 x 10000 pixels")
    assert run.stderr == ""


def test_truncated_images_are_not_loaded() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_damaged_bytes_decode_or_are_refused() -> None:
    """Only ValueError comes out, whatever the damage: anything else would be a traceback."""
    random = np.random.default_rng(0)
    originals = [encode(noise(), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF")] + [animation("PNG")]
    refused = 0
    for data in originals * 60:
        damaged = bytearray(data)
        for position in random.integers(0, min(len(data), 200), 3):
            damaged[position] = random.integers(256)
        try:
            decode_file(bytes(damaged[: random.integers(1, len(data) + 1)]))
        except ValueError:
            refused += 1
    assert refused > 200


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_and_folders_are_named(tmp_path: Path) -> None:
    fill(tmp_path, "0/a.png", "1/b.png")
    (tmp_path / "0/a.png").chmod(0)
    with pytest.raises(BadImageError, match=r"0/a.png cannot be read \(Permission denied\)"):
        open_images(tmp_path).items[0].image()
    (tmp_path / "1").chmod(0)
    with pytest.raises(InputError, match=r"1 cannot be read \(Permission denied\)"):
        open_images(tmp_path)
    (tmp_path / "1").chmod(0o700)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the test above, but for root too: an unlisted class folder would shift the classes after it."""
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    fill(tmp_path, "a/1.png", "b/2.png")
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=r"b cannot be read \(Permission denied\)"):
        open_images(tmp_path)


# Folders


def test_missing_empty_and_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no data folder .*nowhere: check --data"):
        open_images(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no images"):
        open_images(tmp_path)
    with pytest.raises(InputError, match="is a file: --data takes a folder"):
        open_images(fill(tmp_path, "a.png") / "a.png")
    with pytest.raises(InputError, match=r"cannot be read .*too long"):
        open_images(tmp_path / ("x" * 300))


def test_plain_images_have_no_labels_and_are_sorted(tmp_path: Path) -> None:
    image_set = open_images(fill(tmp_path, "b.jpg", "a.PNG", "ü ß.png"))
    assert names(image_set) == ["a.PNG", "b.jpg", "ü ß.png"]
    assert image_set.labels() is None
    assert image_set.classes is None
    assert [item.image().size for item in image_set.items] == [(24, 16)] * 3


def test_class_folders_are_classes_in_sorted_order(tmp_path: Path) -> None:
    image_set = open_images(fill(tmp_path, "dog/b.png", "cat/deep/c.png", "dog/a.png"))
    assert names(image_set) == ["cat/deep/c.png", "dog/a.png", "dog/b.png"]
    assert image_set.classes == ("cat", "dog")
    assert image_set.labels().tolist() == [0, 1, 1]


def test_an_empty_class_folder_keeps_its_index(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "c/2.png")
    (tmp_path / "b").mkdir()
    assert open_images(tmp_path).labels().tolist() == [0, 2]


def test_numbered_folders_are_class_indices(tmp_path: Path) -> None:
    image_set = open_images(fill(tmp_path, "10/a.png", "2/b.png", "007/c.png"))
    assert dict(zip(names(image_set), image_set.labels().tolist(), strict=True)) == {
        "10/a.png": 10,
        "2/b.png": 2,
        "007/c.png": 7,
    }
    assert image_set.classes is None


def test_a_folder_name_too_long_for_an_index_is_a_name(tmp_path: Path) -> None:
    assert open_images(fill(tmp_path, f"{10**30}/a.png")).classes == (str(10**30),)


def test_mixed_folders_and_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"class folders and also loose images, such as loose\.png"):
        open_images(fill(tmp_path, "cat/a.png", "loose.png"))


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "._a.png", ".hidden/b.png", "__MACOSX/._a.png")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "notes.txt").write_text("no image")
    assert names(open_images(tmp_path)) == ["a.png"]
    fill(tmp_path / "classes", "cat/a.png", "cat/._a.png", "cat/.git/b.png", ".Trash/c.png", "__MACOSX/._a.png")
    assert names(open_images(tmp_path / "classes")) == ["cat/a.png"]
    assert open_images(tmp_path / "classes").classes == ("cat",)


@pytest.mark.timeout(20)
def test_links_work_and_loops_end(tmp_path: Path) -> None:
    fill(tmp_path / "set", "cat/a.png")
    fill(tmp_path / "elsewhere", "b.png")
    (tmp_path / "set/dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/loop").symlink_to(tmp_path / "set")
    (tmp_path / "set/cat/up").symlink_to(tmp_path / "set")
    (tmp_path / "set/self").symlink_to("self")
    (tmp_path / "set/cat/broken.png").symlink_to("broken.png")
    os.mkfifo(tmp_path / "set/cat/pipe.png")
    image_set = open_images(tmp_path / "set")
    assert names(image_set) == ["cat/a.png", "cat/broken.png", "dog/b.png"]
    with pytest.raises(BadImageError, match=r"cat/broken\.png cannot be read"):
        image_set.items[1].image()


@pytest.mark.timeout(20)
def test_only_files_are_read(tmp_path: Path) -> None:
    fill(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")  # reading it would wait for ever
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert names(open_images(tmp_path)) == ["a.png", "loop.png"]


def test_strange_names_are_shown_on_one_line(tmp_path: Path) -> None:
    for name in (b"two\nlines.png", b"red\x1b[31m.png", b"latin-\xe9.png"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
    for item in open_images(tmp_path).items:
        with pytest.raises(BadImageError) as caught:
            item.image()
        assert str(caught.value).isprintable()
        str(caught.value).encode()
    with pytest.raises(InputError) as refused:
        open_images(tmp_path / "no\nfolder")
    assert str(refused.value).isprintable()


def test_order_does_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, *(f"{folder}/{name}.png" for folder in "abc" for name in "xyz"))
    expected = names(open_images(tmp_path))
    walk, iterdir = os.walk, Path.iterdir

    def backwards(top: Path, **options: object) -> object:
        for parent, folders, files in walk(top, **options):
            yield parent, sorted(folders, reverse=True), sorted(files, reverse=True)

    monkeypatch.setattr(os, "walk", backwards)
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(sorted(iterdir(self), reverse=True)))
    assert names(open_images(tmp_path)) == expected == [f"{f}/{n}.png" for f in "abc" for n in "xyz"]


# labels.csv


def with_labels(folder: Path, table: str | bytes) -> Path:
    fill(folder, "a.png", "images/b.png", "c, d.png")
    (folder / "labels.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    return folder


@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_labels_csv_gives_order_and_labels(tmp_path: Path, start: str) -> None:
    table = start + 'label,file,author\r\n7,b.png,x\r\n\r\n0,a.png,y\r\n999,"c, d.png",z\r\n'
    image_set = open_images(with_labels(tmp_path, table))
    assert names(image_set) == ["images/b.png", "a.png", "c, d.png"]
    assert image_set.labels().tolist() == [7, 0, 999]
    assert image_set.labels().dtype == np.int64
    assert image_set.classes is None


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("", "needs the columns file and label"),
        ("a.png,3\n", "needs the columns file and label"),
        ("file;label\na.png;3\n", "needs the columns file and label"),
        ("file,label\n", "lists no images"),
        ("file,label\nz.png,3\n", "names z.png, which is not in"),
        ("file,label\n,3\n", "names '', which is not in"),
        ("file,label\na.png\n", "gives a.png the label ''"),
        ("file,label\na.png,-1\n", "gives a.png the label '-1'"),
        ("file,label\na.png,1.0\n", "gives a.png the label '1.0'"),
        ("file,label\na.png,cat\n", "gives a.png the label 'cat'"),
        ("file,label\na.png,²\n", r"gives a.png the label '\\xb2'"),
        (f"file,label\na.png,{'1' * 5000}\n", "gives a.png the label '1{20}'"),
        ("file,label\na.png,1\na.png,1\n", "names a.png twice"),
        ("file,label\nb.png,1\nimages/b.png,2\n", "names images/b.png twice"),
        ("file,label\n./a.png,1\na.png,2\n", "names a.png twice"),
        ("file,label\n../a.png,1\n", "names ../a.png, which may lie outside"),
        ("file,label\nimages/../../a.png,1\n", "which may lie outside"),
        ("file,label\n/etc/passwd,1\n", "names /etc/passwd, which may lie outside"),
        ('file,label\n"x\ny.png",1\n', r"names 'x\\ny.png', which is not in"),
        (f"file,label\n{'x' * 300}.png,1\n", "cannot be read .*too long"),
        ("file,label\na.png,1\n".encode("utf-16"), "is not a CSV file in UTF-8"),
        ("file,label\né.png,1\n".encode("latin-1"), "is not a CSV file in UTF-8"),
        (f"file,label\n{'x' * 200_000},1\n", "is not a CSV file in UTF-8"),
    ],
    ids=range(23),
)
def test_a_wrong_labels_csv_is_refused(tmp_path: Path, table: str | bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(encode(noise()))
    with pytest.raises(InputError, match=reason) as caught:
        open_images(with_labels(tmp_path / "set", table))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


# IDX


def idx(array: np.ndarray, magic: bytes | None = None) -> bytes:
    magic = magic or bytes([0, 0, 8, array.ndim])
    return gzip.compress(magic + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes())


def idx_set(folder: Path, side: int = 5) -> Path:
    random = np.random.default_rng(0)
    for prefix, count in (("train", 4), ("t10k", 3)):
        pixels = random.integers(0, 256, (count, side, side), np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(pixels))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(count, dtype=np.uint8)))
    return folder


def test_idx_set_has_its_two_splits(tmp_path: Path) -> None:
    image_set = open_images(idx_set(tmp_path))
    assert image_set.splits == {"train": range(4), "test": range(4, 7)}
    assert names(image_set) == ["train/0", "train/1", "train/2", "train/3", "test/0", "test/1", "test/2"]
    assert image_set.split("test").labels().tolist() == [0, 1, 2]
    first = np.random.default_rng(0).integers(0, 256, (4, 5, 5), np.uint8)[0]
    assert np.array_equal(np.asarray(image_set.items[0].image()), np.stack([first] * 3, axis=-1))


LABELS = "t10k-labels-idx1-ubyte.gz"
IMAGES = "t10k-images-idx3-ubyte.gz"


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        (LABELS, None, f"{LABELS} is missing: an IDX set is the images and labels of both train and t10k"),
        (IMAGES, None, f"{IMAGES} is missing"),
        (IMAGES, idx(np.zeros((3, 5, 5), np.uint8))[:-9], f"{IMAGES} is not a gzipped IDX file of 3 dimensions"),
        (IMAGES, b"", f"{IMAGES} is not a gzipped IDX file"),
        (IMAGES, b"not gzip", f"{IMAGES} is not a gzipped IDX file"),
        (IMAGES, gzip.compress(b"\0\0\x08\x03\0"), f"{IMAGES} is not a gzipped IDX file"),
        (IMAGES, gzip.compress(b"")[:10] + b"\xff" * 20, f"{IMAGES} is not a gzipped IDX file"),
        (IMAGES, idx(np.zeros((3, 5, 5), np.uint8), b"\0\0\x0d\x03"), "its magic number is 00000d03"),
        (LABELS, idx(np.zeros((3, 5, 5), np.uint8)), "its magic number is 00000803"),
        (LABELS, idx(np.zeros(2, np.uint8)), "has 3 test images but 2 labels"),
        (IMAGES, idx(np.zeros((3, 5, 4), np.uint8)), r"of shape \(3, 5, 4\): only square"),
        (IMAGES, idx(np.zeros((3, 0, 0), np.uint8)), "only square"),
    ],
    ids=range(12),
)
def test_a_wrong_idx_file_is_refused(tmp_path: Path, name: str, data: bytes | None, reason: str) -> None:
    idx_set(tmp_path)
    (tmp_path / name).unlink() if data is None else (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=reason) as caught:
        open_images(tmp_path)
    assert caught.value.exit_code == 2


# The bundled set


def test_the_bundled_set() -> None:
    image_set = open_images("bundled")
    assert image_set.source == "bundled"
    assert image_set.splits == {"calibration": range(300), "test": range(300, 1300)}
    assert image_set.classes is not None
    assert image_set.classes[0] == "T-shirt/top"
    assert image_set.classes[9] == "Ankle boot"
    assert len(image_set.classes) == 10
    assert np.bincount(image_set.split("calibration").labels()).tolist() == [30] * 10
    assert np.bincount(image_set.split("test").labels()).tolist() == [100] * 10
    assert len({item.sha256() for item in image_set.items}) == 1300
    assert len(set(names(image_set))) == 1300
    assert all(item.name.startswith("train/") for item in image_set.split("calibration").items)
    assert image_set.items[0].image().size == (28, 28)
    assert np.asarray(image_set.items[0].image()).std() > 10


def test_the_bundled_set_is_what_the_tool_packs_from_fashion_mnist(tmp_path: Path) -> None:
    source = Path("/usr/share/datasets/fashion-mnist")  # where Debian's dataset-fashion-mnist puts it
    if not source.is_dir():
        pytest.skip(f"{source} is not there: it comes with Debian's package dataset-fashion-mnist")
    runpy.run_path(str(ROOT / "tools/pack_fashion_mnist.py"))["pack"](source, tmp_path / "packed.npz")
    with (
        np.load(tmp_path / "packed.npz") as packed,
        np.load(Path(images.__file__).parent / "assets" / images.BUNDLED) as kept,
    ):
        assert packed.files == kept.files
        assert all(np.array_equal(packed[name], kept[name]) for name in kept.files)


def test_the_bundled_licence_and_size() -> None:
    assets = Path(images.__file__).parent / "assets"
    assert "Copyright (c) 2017 Zalando SE" in (assets / "fashion-mnist.LICENSE.txt").read_text()
    assert (assets / images.BUNDLED).stat().st_size < 1_000_000
