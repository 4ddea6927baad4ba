"""Derive an export's claims again, in the order in which the export made them.

What a damaged input keeps from being derived is a claim that does not hold, not a reason to stop: the other claims are
checked all the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.version import Version
from torch import nn
from torch.fx import GraphModule

from calibrate.program import QuantizedProgram
from convert.registry import TARGETS
from convert.target import target
from edgevit import artifact
from edgevit.bench import local
from edgevit.errors import EdgevitError, MissingError
from edgevit.images import ImageSet, Item, open_images
from edgevit.lowering import SELECTION, Lowered, Lowering, Programs
from edgevit.measuring import float_bytes, measure_latency, measure_parity
from edgevit.models.weights import Weights
from edgevit.options import Options
from edgevit.selection import Selection
from edgevit.steps import (
    Progress,
    Subject,
    artifact_metadata,
    count,
    fold_model,
    load_model,
    made_before,
    make_programs,
    subject_of,
)
from edgevit.verify import claims, grid
from edgevit.verify.claims import Check

PARTS = ("calibration", "scored")
MEASURED = "calibration, parity and latency"


def rederive(
    folder: Path, manifest: Mapping[str, Any], data: str | None, weights: str | None, progress: Progress
) -> Iterator[Check]:
    """A check for every claim of ``manifest``; ``data`` and ``weights`` replace the places that it names."""
    options = stated_options(folder, manifest, data, weights)
    yield claims.failures(manifest)
    file = manifest["quant"].get("file")
    parts = [SELECTION] * ("keep_ratio" in manifest["model"]) + [artifact.CALIBRATION] * (file is not None)
    yield claims.layout(folder, [*manifest["targets"], *parts])
    if file is not None:
        yield claims.files("calibration", folder / artifact.CALIBRATION, file)
    lowered: dict[str, Lowered] = {}
    for name, claimed in manifest["targets"].items():
        yield claims.files(name, folder / name, claimed)
        if "selection" in claimed:
            yield claims.files(f"{name}, its selection", folder / SELECTION / name, claimed["selection"])
        yield from reopened(name, folder, claimed, manifest, lowered)
        if not TARGETS[name].needs_macos:
            yield claims.consistent_latency(name, manifest["latency"][name], options.threads, options.batch)
    images, checks = listed_images(folder, manifest, options)
    yield from checks
    try:
        model, loaded = load_model(options, progress)
    except EdgevitError as error:
        yield claims.underivable("weights", error)
        return
    yield from described(options, model, loaded, manifest)
    if loaded.sha256 != manifest["model"]["weights"]["sha256"]:
        yield Check(MEASURED, "cannot be derived again without the weights: name them with --weights")
    elif images is None:
        yield Check(MEASURED, "cannot be derived again without the images: name them with --data")
    else:
        yield from measured(options, model, loaded, images, manifest, lowered, progress)


def stated_options(folder: Path, manifest: Mapping[str, Any], data: str | None, weights: str | None) -> Options:
    options = Options(**manifest["options"])
    if options.calibration is not None:
        options = replace(options, calibration=str(folder / artifact.CALIBRATION))
    options = replace(options, targets=tuple(options.targets), calib_size=None, parity_images=None)
    return replace(options, data=data or options.data, weights=weights or options.weights)


def reopened(
    name: str, folder: Path, claimed: Mapping[str, Any], manifest: Mapping[str, Any], lowered: dict[str, Lowered]
) -> Iterator[Check]:
    """Census and grid of one target's files, which joins ``lowered`` if its runtime can open it."""
    quant, place = manifest["quant"], folder / name
    selection = folder / SELECTION / name if "selection" in claimed else None
    try:
        module = target(name)
        census = module.census(place, quant.get("operators", {}))
        found = module.grid(place) if "tensors" in quant else None
    except MissingError:
        raise
    except Exception as error:  # a damaged file raises whatever its runtime's parser raises
        yield claims.underivable(f"{name}: census and grid", error, older_runtime(name, claimed))
        return
    yield claims.census(name, claimed["census"], census, same_host(manifest))
    difference = None
    if found is not None:
        expected = grid.from_manifest(quant["tensors"])
        yield claims.artifact_grid(name, claimed["grid"], expected, found)
        difference = grid.diff(expected, found)
    lowered[name] = Lowered(place, module, census, difference, seconds=0, peak_rss_mb=0, selection=selection)


def older_runtime(name: str, claimed: Mapping[str, Any]) -> str:
    """What to add where the runtime here is older than the one that the artifact was made with."""
    package = TARGETS[name].package
    made, here = claimed["tool_version"], local.installed_version(package)
    if here is None or made is None or Version(here) >= Version(made):
        return ""
    return f"; it was made with {package} {made} and {here} is installed, which may be too old: install {made}"


def same_host(manifest: Mapping[str, Any]) -> bool:
    """Whether kernels are chosen and timed as they were: the same CPU and the same packages."""
    stated, here = manifest["environment"], local.describe_host(manifest["environment"]["packages"])
    decisive = ("cpu", "int8_flags", "packages")
    return all(stated.get(key) == value for key, value in here.items() if key in decisive)


def listed_images(folder: Path, manifest: Mapping[str, Any], options: Options) -> tuple[Selection | None, list[Check]]:
    """The images that ``images.json`` lists, found again by name in the data, and a check for each part."""
    try:
        listed = artifact.read_json(folder / artifact.IMAGES)
        images = open_images(options.data)
    except EdgevitError as error:
        return None, [claims.underivable("images", error)]
    stated, parity, quant = manifest["images"], manifest["parity"], manifest["quant"]
    items = {item.name: item for item in images.items}
    digest = artifact.sha256_of(folder / artifact.IMAGES)
    checks = [claims.equal("list of images", stated["list"], {"path": artifact.IMAGES, "sha256": digest})]
    checks += [claims.images(part, listed[part], items) for part in PARTS]
    claimed, found = [(parity["images"], parity["sha256_of_list"])], [claims.size_and_digest(listed["scored"])]
    if "calibration" in quant:
        claimed.append((quant["calibration"]["images"], quant["calibration"]["sha256_of_list"]))
        found.append(claims.size_and_digest(calibration_images(folder, listed, options)))
    checks.append(claims.equal("number and digest of the images", claimed, found))
    checks.append(claims.equal("number of skipped images", stated["skipped"], len(stated["bad"])))
    checks.append(claims.skipped(stated["bad"], items))
    if any(entry["name"] not in items for part in PARTS for entry in listed[part]):
        return None, checks
    parts = [subset(images, items, listed[part]) for part in PARTS]
    checks.append(claims.equal("labels", parity["labels"], parts[1].labelled))
    return Selection(parts[0], parts[1], bad=()), checks


def calibration_images(folder: Path, listed: Mapping[str, Any], options: Options) -> list[Mapping[str, str]]:
    """The list of the images that calibrated, here or before."""
    if options.calibration is not None:
        listed = artifact.read_json(folder / artifact.CALIBRATION / artifact.IMAGES)
    found: list[Mapping[str, str]] = listed["calibration"]
    return found


def subset(images: ImageSet, items: Mapping[str, Item], listed: list[Mapping[str, str]]) -> ImageSet:
    return ImageSet(images.source, [items[entry["name"]] for entry in listed], images.classes)


def described(options: Options, model: nn.Module, weights: Weights, manifest: Mapping[str, Any]) -> Iterator[Check]:
    """What the manifest says of the model, its weights and how it was asked for, against the model itself."""
    stated = manifest["model"]
    fields = ("sha256", "predictors_sha256", "licence", "notes")
    found: dict[str, Any] = {field: getattr(weights, field) for field in fields}
    yield claims.equal("weights", {key: stated["weights"][key] for key in found}, found)
    yield claims.equal("preprocessing", manifest["preprocess"], weights.preprocess.manifest())
    found = {
        "name": options.model,
        "image_size": model.image_size,
        "classes": model.classes,
        "class_names": weights.class_names,
    }
    yield claims.equal("model", {key: stated[key] for key in found}, found)
    yield claims.equal("parameters and MACs", (stated["params"], stated["macs"]), count(model))
    claimed = (manifest["seed"], manifest["quant"]["mode"], sorted(manifest["targets"]))
    yield claims.equal("seed, precision, targets", claimed, (options.seed, options.quant, sorted(options.targets)))


def measured(
    options: Options,
    model: nn.Module,
    weights: Weights,
    images: Selection,
    manifest: Mapping[str, Any],
    lowered: Mapping[str, Lowered],
    progress: Progress,
) -> Iterator[Check]:
    """Fold, calibrate and measure as the export did."""
    try:
        subject = subject_of(options, model, weights, images, made_before(options))
        folded, reports = fold_model(options, subject, progress)
        yield claims.folds(manifest["fold"], reports)
        programs, quantized = make_programs(options, subject, folded, progress)
        if quantized is not None:
            yield from calibrated(subject, manifest, quantized)
        yield from measurements(options, subject, manifest, folded, programs, quantized, lowered, progress)
    except EdgevitError as error:
        yield claims.underivable(MEASURED, error)


def calibrated(subject: Subject, manifest: Mapping[str, Any], quantized: QuantizedProgram) -> Iterator[Check]:
    """A program that was calibrated before holds its scales to the bit; a search may end elsewhere on another CPU."""
    stated, made = manifest["quant"], subject.calibration
    method = made.description["quant"]["method"] if made else "ptq"
    asked = (subject.recipe.manifest(), subject.recipe.observer, method)
    yield claims.equal("recipe", (stated["recipe"], stated["calibration"]["observer"], stated["method"]), asked)
    yield claims.equal("operators that the recipe quantises", stated["operators"], quantized.asked)
    searched = made is None and subject.recipe.searches and not same_host(manifest)
    margin = claims.SEARCHED_MARGIN if searched else claims.SCALE_MARGIN
    yield claims.calibration(grid.from_manifest(stated["tensors"]), quantized.tensors, margin)


def measurements(
    options: Options,
    subject: Subject,
    manifest: Mapping[str, Any],
    folded: GraphModule,
    programs: Programs,
    quantized: QuantizedProgram | None,
    lowered: Mapping[str, Lowered],
    progress: Progress,
) -> Iterator[Check]:
    if lowered.keys() != manifest["targets"].keys():
        yield Check("parity and latency", "cannot be derived again with an artifact that does not open")
        return
    forms = {name: options.form(name) for name in lowered}
    with Lowering(programs, forms, artifact_metadata(options, subject), folder=None) as lowering:
        links = measure_parity(options, subject, folded, quantized, lowered, progress)
        yield from claims.parity(manifest["parity"], links)
        latency = measure_latency(options, subject, lowered, lowering, progress)
        sizes = float_bytes(lowered, lowering)
    for name, size in sizes.items():
        yield claims.float_size(name, manifest["targets"][name]["float_bytes"], size, same_host(manifest))
    yield claims.equal("targets that were timed", sorted(manifest["latency"]), sorted(latency))
    for name in latency.keys() & manifest["latency"].keys():
        claimed, found, same = manifest["latency"][name], latency[name], same_host(manifest)
        yield claims.latency(name, claimed, found.float, options.judges_latency, same)
        if found.unpruned is not None:
            yield claims.pruning(name, claimed, found.unpruned, same)
