"""Derive an export's claims again, in the order in which the export made them.

What a damaged input keeps from being derived is a claim that does not hold, not a reason to stop: the other claims are
checked all the same.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.fx import GraphModule

from calibrate.program import QuantizedProgram
from convert.target import target
from edgevit import artifact
from edgevit.bench import local
from edgevit.errors import EdgevitError, MissingError
from edgevit.images import ImageSet, Item, open_images
from edgevit.selection import Selection
from edgevit.steps import (
    Lowered,
    Options,
    Progress,
    Subject,
    count,
    fold_model,
    load_model,
    make_source,
    measure_latency,
    measure_parity,
)
from edgevit.verify import claims, grid
from edgevit.verify.claims import Check

PARTS = ("calibration", "scored")


def rederive(
    folder: Path,
    manifest: Mapping[str, Any],
    data: str | None,
    weights: str | None,
    progress: Progress,
    note: Callable[[str], None],
) -> Iterator[Check]:
    """A check for every claim of ``manifest``; ``data`` and ``weights`` replace the places that it names."""
    options = stated_options(manifest, data, weights)
    yield claims.failures(manifest)
    for name, claimed in manifest["targets"].items():
        yield claims.files(name, folder / name, claimed)
    lowered: dict[str, Lowered] = {}
    for name, claimed in manifest["targets"].items():
        yield from reopened(name, folder / name, claimed, manifest, lowered)
    images, checks = listed_images(folder, manifest, options)
    yield from checks
    try:
        model, loaded = load_model(options, progress)
    except EdgevitError as error:
        yield claims.underivable("weights", error)
        return
    yield claims.equal("weights", manifest["model"]["weights"]["sha256"], loaded.sha256)
    yield claims.equal("preprocessing", manifest["preprocess"], as_json(loaded.preprocess.manifest()))
    if images is None:
        yield Check(
            "calibration, parity and latency", "cannot be derived again without the images: name them with --data"
        )
        return
    subject = Subject(options.model, model, loaded, images)
    described = manifest["model"]
    yield claims.equal("parameters and MACs", (described["params"], described["macs"]), count(model, subject.example))
    try:
        yield from measured(options, subject, manifest, lowered, progress)
    except EdgevitError as error:
        yield claims.underivable("calibration, parity and latency", error)


def stated_options(manifest: Mapping[str, Any], data: str | None, weights: str | None) -> Options:
    options = Options(**manifest["options"])
    options = replace(options, targets=tuple(options.targets), calib_size=None, parity_images=None)
    return replace(options, data=data or options.data, weights=weights or options.weights)


def as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """With tuples as the lists that JSON makes of them."""
    return {key: list(item) if isinstance(item, tuple) else item for key, item in value.items()}


def reopened(
    name: str, folder: Path, claimed: Mapping[str, Any], manifest: Mapping[str, Any], lowered: dict[str, Lowered]
) -> Iterator[Check]:
    """Census and grid of one target's files, which joins ``lowered`` if its runtime can open it."""
    quant = manifest["quant"]
    try:
        module = target(name)
        census = module.census(folder, quant.get("operators", {}))
        found = module.grid(folder) if "tensors" in quant else None
    except MissingError:
        raise
    except Exception as error:  # a damaged file raises whatever its runtime's parser raises
        yield claims.underivable(f"{name}: census and grid", error)
        return
    yield claims.census(name, claimed["census"], census, same_host(manifest))
    difference = None
    if found is not None:
        expected = grid.from_manifest(quant["tensors"])
        yield claims.artifact_grid(name, claimed["grid"], expected, found)
        difference = grid.diff(expected, found)
    lowered[name] = Lowered(folder, module, census, difference, seconds=0, peak_rss_mb=0)


def same_host(manifest: Mapping[str, Any]) -> bool:
    """Whether kernels are chosen and timed as they were: the same CPU and the same packages."""
    stated, here = manifest["environment"], local.describe_host(manifest["environment"]["packages"])
    return (stated["cpu"], stated["packages"]) == (here["cpu"], here["packages"])


def listed_images(folder: Path, manifest: Mapping[str, Any], options: Options) -> tuple[Selection | None, list[Check]]:
    """The images that ``images.json`` lists, found again by name in the data, and a check for each part."""
    try:
        listed = artifact.read_json(folder / artifact.IMAGES)
        images = open_images(options.data)
    except EdgevitError as error:
        return None, [claims.underivable("images", error)]
    items = claims.listed_items(images)
    stated = {"scored": manifest["parity"]["sha256_of_list"]}
    if "calibration" in manifest["quant"]:
        stated["calibration"] = manifest["quant"]["calibration"]["sha256_of_list"]
    checks = [claims.images(part, listed[part], digest, items) for part, digest in stated.items()]
    missing = [entry["name"] for part in PARTS for entry in listed[part] if entry["name"] not in items]
    if missing:
        return None, checks
    parts = [subset(images, items, listed[part]) for part in PARTS]
    return Selection(parts[0], parts[1], bad=()), checks


def subset(images: ImageSet, items: Mapping[str, Item], listed: list[Mapping[str, str]]) -> ImageSet:
    return ImageSet(images.source, [items[entry["name"]] for entry in listed], images.classes)


def measured(
    options: Options, subject: Subject, manifest: Mapping[str, Any], lowered: Mapping[str, Lowered], progress: Progress
) -> Iterator[Check]:
    """Fold, calibrate and measure as the export did."""
    folded, reports = fold_model(subject, progress)
    yield claims.folds(manifest["fold"], reports)
    _, quantized = make_source(options, subject, folded, progress)
    if quantized is not None:
        yield claims.calibration(grid.from_manifest(manifest["quant"]["tensors"]), quantized.tensors)
        yield claims.equal("operators that the recipe quantises", manifest["quant"]["operators"], quantized.asked)
    yield from measurements(options, subject, manifest, folded, quantized, lowered, progress)


def measurements(
    options: Options,
    subject: Subject,
    manifest: Mapping[str, Any],
    folded: GraphModule,
    quantized: QuantizedProgram | None,
    lowered: Mapping[str, Lowered],
    progress: Progress,
) -> Iterator[Check]:
    if lowered.keys() != manifest["targets"].keys():
        yield Check("parity and latency", "cannot be derived again with an artifact that does not open")
        return
    links = measure_parity(options, subject, folded, quantized, lowered, progress)
    yield from claims.parity(manifest["parity"]["links"], links)
    for name, comparison in measure_latency(options, subject, folded, lowered, progress).items():
        claimed = manifest["latency"][name]
        yield claims.latency(name, claimed, comparison, options.judges_latency, same_host(manifest))
