"""Image sets, and the one preprocessing that training, calibration, parity and the apps share.

An image set is a folder (class folders, a ``labels.csv``, or plain images), a folder of IDX files as
MNIST-like sets are published, or the set bundled with edgevit. Every image is 8-bit RGB: decoders
disagree about everything else, so a grey, CMYK, 16-bit, palette or animated file is refused by name.
The EXIF orientation is ignored, as the decoders of the mobile runtimes ignore it: pixels are taken as they are stored.
"""

import csv
import gzip
import hashlib
import io
import os
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from edgevit.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # GIF only to say that it is animated or has a palette
MAX_PIXELS = 64_000_000
MAX_ASPECT = 50  # a longer strip would take gigabytes once its short side is resized
BUNDLED = "fashion-mnist.npz"
SPLITS = ("train", "test")  # of a labels.csv
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class BadImageError(InputError):
    """An image file that cannot stand for what a camera would deliver: its ``name``, and the ``reason``."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{printable(name)} {reason}")
        self.name, self.reason = name, reason


@dataclass(frozen=True)
class Preprocess:
    """Resize the short side to ``resize``, crop the centre ``crop`` square, scale to 0..1, normalise."""

    resize: int
    crop: int
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @classmethod
    def imagenet(cls, image_size: int) -> "Preprocess":
        """The evaluation transform of all three papers: 256 / 224 of the crop, then the crop."""
        return cls(resize=int(256 / 224 * image_size), crop=image_size)

    def __call__(self, image: Image.Image) -> NDArray[np.float32]:
        """``[3, crop, crop]`` float32."""
        width, height = image.size
        scale = self.resize / min(width, height)
        size = (max(self.crop, round(width * scale)), max(self.crop, round(height * scale)))
        image = image.resize(size, INTERPOLATIONS[self.interpolation])
        left, top = (size[0] - self.crop) // 2, (size[1] - self.crop) // 2
        return self.normalise(image.crop((left, top, left + self.crop, top + self.crop)))

    def normalise(self, image: Image.Image) -> NDArray[np.float32]:
        """``[3, H, W]`` float32 from an RGB image, without resizing it."""
        pixels = np.asarray(image, np.float32) / 255
        normalised = (pixels - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(normalised.transpose(2, 0, 1))

    def manifest(self) -> dict[str, Any]:
        return asdict(self) | {"layout": "NCHW", "colour": "RGB"}


@dataclass(frozen=True)
class Item:
    """One image: where it comes from, how its bytes are read, its label if it has one.

    ``decode`` raises ValueError with the reason if the bytes are no 8-bit RGB image.
    """

    name: str
    read: Callable[[], bytes] = field(repr=False)
    decode: Callable[[bytes], Image.Image] = field(repr=False)
    label: int | None = None

    def image(self) -> Image.Image:
        """The 8-bit RGB image. Raises BadImageError, naming the file, for anything else."""
        return self.load()[0]

    def check(self) -> str:
        """The SHA-256 of the bytes, once they have been decoded. Raises BadImageError as ``image`` does."""
        return hashlib.sha256(self.load()[1]).hexdigest()

    def load(self) -> tuple[Image.Image, bytes]:
        try:
            data = self.read()
            return self.decode(data), data
        except OSError as error:
            raise BadImageError(self.name, f"cannot be read ({error.strerror}): replace or remove it") from None
        except ValueError as error:
            raise BadImageError(self.name, str(error)) from None

    def sha256(self) -> str:
        """The SHA-256 of the bytes: a file's, or an IDX image's pixels."""
        return hashlib.sha256(self.read()).hexdigest()


@dataclass(frozen=True)
class ImageSet:
    """A sequence of items. ``splits`` names fixed parts of it by their places, where the set comes with them."""

    source: str
    items: Sequence[Item]
    classes: tuple[str, ...] | None = None
    splits: dict[str, Sequence[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def labelled(self) -> bool:
        return self.items[0].label is not None

    @property
    def uncropped(self) -> bool:
        """Whether to show the images whole: those of IDX sets are small squares, whose margin is part of them."""
        return self.items[0].decode is decode_idx

    def labels(self) -> NDArray[np.int64] | None:
        """``[len]`` int64, or None for an unlabelled set."""
        return np.array([item.label for item in self.items], np.int64) if self.labelled else None

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> "ImageSet":
        return ImageSet(self.source, [self.items[i] for i in indices], self.classes)

    def split(self, name: str) -> "ImageSet":
        """The named part; the whole set where it has no such parts."""
        return self.take(self.splits[name]) if name in self.splits else self

    def batches(self, preprocess: Preprocess, size: int = 1) -> Iterator[NDArray[np.float32]]:
        """``[size, 3, crop, crop]`` float32 batches in order; the last one may be smaller."""
        for start in range(0, len(self), size):
            yield np.stack([preprocess(item.image()) for item in self.items[start : start + size]])


def decode_file(data: bytes) -> Image.Image:
    """An image file's bytes → 8-bit RGB image. Raises ValueError with the reason."""
    if not data:
        raise ValueError("is empty: replace or remove it")
    try:
        # What Pillow warns about (decompression bombs, broken metadata) is either refused below or harms no pixel.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            reason = refusal(image)
            if reason is None:
                image.load()
    except UnidentifiedImageError:
        raise ValueError("is not a JPEG, PNG, WebP or BMP image: replace or remove it") from None
    except Image.DecompressionBombError:
        raise ValueError(f"has more than {MAX_PIXELS:,} pixels: shrink it") from None
    except (OSError, EOFError, SyntaxError, ValueError, struct.error) as error:
        raise ValueError(f"is corrupt or truncated ({error}): replace or remove it") from None
    if reason:
        raise ValueError(reason)
    return image


def refusal(image: ImageFile.ImageFile) -> str | None:
    """Why an opened image is not usable, or None. Looks at the header only."""
    if image.width * image.height > MAX_PIXELS:
        return f"has {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}: shrink it"
    if max(image.size) > MAX_ASPECT * min(image.size):
        return f"is a strip of {image.width} x {image.height} pixels, longer than {MAX_ASPECT} to 1: crop it"
    # Phones append previews and gain maps to a JPEG (MPO): every decoder shows the first image only.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        return f"is animated ({frames} frames): keep one frame as 8-bit RGB"
    kind = colour_kind(image)
    return None if kind == "RGB" else f"is {kind}, not 8-bit RGB: convert it, as your app's camera would deliver it"


def colour_kind(image: ImageFile.ImageFile) -> str:
    """``RGB`` for 8-bit RGB, else what to call it."""
    stored = [tile.args if isinstance(tile.args, str) else tile.args[0] for tile in image.tile if tile.args]
    if ";16" in image.mode or any(";16" in str(mode) for mode in stored):  # Pillow opens 16-bit RGB as RGB
        return "16-bit"
    if image.mode == "RGB" and "transparency" in image.info:
        return "RGB with a transparent colour"
    kinds = {
        "L": "grey",
        "LA": "grey with alpha",
        "1": "black and white",
        "P": "a palette image",
        "RGBA": "RGB with alpha",
    }
    return kinds.get(image.mode, image.mode)


def decode_idx(data: bytes) -> Image.Image:
    """28 x 28 grey bytes → RGB image, the grey value in all three channels."""
    side = int(len(data) ** 0.5)
    return Image.frombytes("L", (side, side), data).convert("RGB")


def printable(name: str) -> str:
    """``name`` as it may be shown on one line: line breaks, escapes and undecodable bytes are spelled out."""
    return name if name.isprintable() else ascii(name)


def open_images(path: str | Path) -> ImageSet:
    """The image set at ``path``; ``"bundled"`` is edgevit's own (``./bundled`` would be a folder of that name).

    A folder holds one of: a ``labels.csv``, which may divide its images; IDX files; class folders, named by class index
    or else by class in sorted order; images without labels. Hidden files are passed over. Raises InputError with the
    reason if it holds none.
    """
    if str(path) == "bundled":
        return bundled_images()
    root = Path(path)
    shown = printable(str(root))
    try:
        if not root.exists():
            raise InputError(f"there is no data folder {shown}: check --data")
        if not root.is_dir():
            raise InputError(f"{shown} is a file: --data takes a folder of images")
        return folder_images(root)
    except OSError as error:
        raise InputError(f"{printable(str(error.filename))} cannot be read ({error.strerror}): check --data") from None


def folder_images(root: Path) -> ImageSet:
    if (root / "labels.csv").is_file():
        return labelled_by_csv(root)
    if any(root.glob("*-idx[13]-ubyte.gz")):
        return idx_images(root)
    items, classes = labelled_by_folder(root)
    if not items:
        raise InputError(f"{printable(str(root))} holds no images ({', '.join(sorted(SUFFIXES))}): check --data")
    return ImageSet(str(root.resolve()), items, classes)


def file_item(root: Path, path: Path, label: int | None) -> Item:
    return Item(path.relative_to(root).as_posix(), path.read_bytes, decode_file, label)


def class_index(text: str) -> int | None:
    """The class index that ``text`` spells, or None."""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else None


def visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def is_image_file(path: Path) -> bool:
    """Whether to read ``path``. A broken link is, so that it is named as unreadable and not passed over."""
    named = visible(path.name) and path.suffix.lower() in SUFFIXES
    return named and (path.is_file() or (path.is_symlink() and not path.exists()))


def image_files(folder: Path) -> list[Path]:
    """The image files below ``folder``, sorted; links to folders inside it are not followed. Raises OSError."""

    def fail(error: OSError) -> NoReturn:
        raise error

    files = []
    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = filter(visible, folders)
        files += [Path(parent, name) for name in names]
    return sorted(filter(is_image_file, files))


def labelled_by_csv(root: Path) -> ImageSet:
    """``labels.csv`` with the columns ``file`` (relative to the folder or its ``images/``) and ``label``.

    A column ``split``, train or test in every row, divides the images.
    """
    items: dict[Path, Item] = {}
    splits: dict[str, list[int]] = {}
    shown = printable(str(root / "labels.csv"))
    try:
        with (root / "labels.csv").open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines, restval="")
            columns = set(rows.fieldnames or [])
            if not {"file", "label"} <= columns:
                raise InputError(f"{shown} needs the columns file and label: name them in its first line")
            for row in rows:
                path, label = listed_file(root, row["file"]), class_index(row["label"])
                name = printable(row["file"])
                if path in items:
                    raise InputError(f"{shown} names {name} twice: keep one of the two rows")
                if label is None:
                    given = ascii(row["label"][:20])
                    raise InputError(f"{shown} gives {name} the label {given}: a label is a class index such as 0")
                if "split" in columns:
                    splits.setdefault(listed_split(row["split"], name, shown), []).append(len(items))
                items[path] = file_item(root, path, label)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{shown} is not a CSV file in UTF-8 ({error}): save it as one") from None
    if not items:
        raise InputError(f"{shown} lists no images: give it one row an image")
    if len(splits) == 1:
        raise InputError(f"{shown} calls every image {next(iter(splits))}: name both {' and '.join(SPLITS)} images")
    return ImageSet(str(root.resolve()), list(items.values()), splits=dict(splits))


def listed_split(value: str, name: str, shown: str) -> str:
    """The split that ``labels.csv``, shown as ``shown``, gives the image ``name``. Raises InputError if it is none."""
    if value not in SPLITS:
        given = ascii(value[:20])
        raise InputError(f"{shown} gives {name} the split {given}: a split is {' or '.join(SPLITS)}")
    return value


def listed_file(root: Path, name: str) -> Path:
    """The file that a row of ``labels.csv`` names. Raises InputError if it is missing or outside ``root``."""
    relative, shown = Path(name), printable(name) or "''"
    if relative.is_absolute() or ".." in relative.parts:
        raise InputError(
            f"labels.csv names {shown}, which may lie outside the folder: use paths relative to it without .."
        )
    for path in (root / relative, root / "images" / relative):
        if path.is_file():
            return path
    raise InputError(
        f"labels.csv names {shown}, which is not in {printable(str(root))}: add the file or remove the row"
    )


def labelled_by_folder(root: Path) -> tuple[list[Item], tuple[str, ...] | None]:
    """Class folders in sorted order (or named by class index); plain images have no labels."""
    here = root.resolve()
    folders = sorted(
        p for p in root.iterdir() if visible(p.name) and p.is_dir() and not here.is_relative_to(p.resolve())
    )
    files = {folder: image_files(folder) for folder in folders}
    loose = sorted(filter(is_image_file, root.iterdir()))
    if not any(files.values()):
        return [file_item(root, p, None) for p in loose], None
    if loose:
        raise InputError(
            f"{printable(str(root))} holds class folders and also loose images, such as {printable(loose[0].name)}: "
            f"keep one kind"
        )
    names = tuple(p.name for p in folders)  # an empty class folder still counts, or the classes after it would shift
    numbers = [class_index(name) for name in names]
    numbered = None not in numbers
    labels = numbers if numbered else range(len(names))
    items = [file_item(root, p, label) for label, paths in zip(labels, files.values(), strict=True) for p in paths]
    return items, None if numbered else names


def idx_images(root: Path) -> ImageSet:
    """MNIST-like IDX files (http://yann.lecun.com/exdb/mnist): splits ``train`` and ``test``."""
    items: list[Item] = []
    splits: dict[str, Sequence[int]] = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = read_idx(root / f"{prefix}-images-idx3-ubyte.gz", dimensions=3)
        labels = read_idx(root / f"{prefix}-labels-idx1-ubyte.gz", dimensions=1)
        shown = printable(str(root))
        if len(images) != len(labels):
            raise InputError(f"{shown} has {len(images)} {split} images but {len(labels)} labels: download it again")
        if images.size == 0 or images.shape[1] != images.shape[2]:
            raise InputError(f"{shown} has {split} images of shape {images.shape}: only square IDX images are read")
        splits[split] = range(len(items), len(items) + len(images))
        items += grey_items(split, images, labels, range(len(images)))
    return ImageSet(str(root.resolve()), items, splits=splits)


def bundled_images() -> ImageSet:
    """300 calibration and 1,000 test images of Fashion-MNIST, as ``tools/pack_fashion_mnist.py`` packed them.

    An item's name is that of the same image in the IDX files.
    """
    items: list[Item] = []
    splits: dict[str, Sequence[int]] = {}
    asset = resources.files("edgevit") / "assets" / BUNDLED
    with asset.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        for split, origin in (("calibration", "train"), ("test", "test")):
            images, labels, indices = (arrays[f"{split}_{part}"] for part in ("images", "labels", "indices"))
            splits[split] = range(len(items), len(items) + len(images))
            items += grey_items(origin, images, labels, indices)
        return ImageSet("bundled", items, tuple(map(str, arrays["classes"])), splits)


def grey_items(prefix: str, images: NDArray[np.uint8], labels: NDArray[np.uint8], indices: Iterable[int]) -> list[Item]:
    return [
        Item(f"{prefix}/{i}", image.tobytes, decode_idx, int(label))
        for i, image, label in zip(indices, images, labels, strict=True)
    ]


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes, gzipped: its shape in big-endian 32-bit follows a 4-byte magic number."""
    try:
        with gzip.open(path) as file:
            data = file.read()
        if data[:4] != bytes([0, 0, 8, dimensions]):
            raise ValueError(f"its magic number is {data[:4].hex()}")
        shape = struct.unpack_from(f">{dimensions}I", data, 4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: an IDX set is the images and labels of both train and t10k") from None
    except (gzip.BadGzipFile, EOFError, zlib.error, struct.error, ValueError) as error:
        raise InputError(
            f"{path} is not a gzipped IDX file of {dimensions} dimensions ({error}): download it again"
        ) from None
