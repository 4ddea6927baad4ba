"""What was exported or calibrated, from what, and how."""

from collections.abc import Sequence
from pathlib import PurePath

from edgevit.report.document import Cell, Column, Group, Row, Section, Table
from edgevit.report.record import Record
from edgevit.report.sources import Source

COLUMNS = (Column("", True),)
DIGITS = 12  # of a digest, where people read it


def section(sources: Sequence[Source]) -> Section:
    groups = tuple(Group(source.label, tuple(rows(source))) for source in sources)
    return Section("making", "What was made", (), (Table("making", "What was made", "fact", COLUMNS, groups),))


def rows(source: Source) -> list[Row]:
    manifest = source.record
    facts = model_facts(manifest.record("model")) | image_facts(manifest) | quant_facts(manifest.record("quant"))
    facts |= {
        "seed": f"{manifest.whole('seed')}",
        "made": manifest.text("created"),
        "edgevit": manifest.text("edgevit"),
    }
    return [Row(name, (Cell({"value": text}, text),)) for name, text in facts.items()]


def model_facts(model: Record) -> dict[str, str]:
    weights = model.record("weights")
    pruned = f", keep ratio {model.number('keep_ratio'):g}" if model.has("keep_ratio") else ""
    facts = {
        "model": f"{model.text('name')} at {model.whole('image_size')} px, {model.whole('classes')} classes{pruned}",
        "cost": f"{model.whole('params'):,} parameters, {model.whole('macs') / 1e6:,.1f} M MACs",
        "weights": with_digest(last_part(weights.text("source")), weights, "sha256"),
    }
    if weights.has("predictors_sha256"):
        facts["token predictors"] = f"SHA-256 {weights.text('predictors_sha256')[:DIGITS]}"
    facts["licence of the weights"] = weights.text("licence")
    if model.has("class_names"):
        facts["classes"] = ", ".join(model.texts("class_names"))
    return facts


def image_facts(manifest: Record) -> dict[str, str]:
    images, parity, preprocess = (manifest.record(key) for key in ("images", "parity", "preprocess"))
    labels = "labelled" if parity.truth("labels") else "not labelled"
    return {
        "images": f"{last_part(images.text('data'))}, {images.whole('skipped')} left out",
        "scored": with_digest(f"{parity.whole('images'):,} images, {labels}", parity, "sha256_of_list"),
        "preprocessing": f"resize {preprocess.whole('resize')}, crop {preprocess.whole('crop')}, "
        f"{preprocess.text('interpolation')}, {preprocess.text('colour')}, {preprocess.text('layout')}",
    }


def quant_facts(quant: Record) -> dict[str, str]:
    facts = {"precision": quant.text("mode")}
    if quant.has("calibration"):
        images = quant.record("calibration")
        found = f"{images.whole('images'):,} images, ranges by {images.text('observer')}"
        facts["calibrated on"] = with_digest(found, images, "sha256_of_list")
        facts["method"] = quant.text("method")
        facts["in INT8 by the recipe"] = f"{len(quant.record('operators').value):,} operators"
    if quant.has("mixed"):
        facts["left in float for its limits"] = ", ".join(quant.record("mixed").texts("floats")) or "nothing more"
    return facts


def with_digest(text: str, record: Record, key: str) -> str:
    return f"{text}; SHA-256 {record.text(key)[:DIGITS]}" if record.has(key) else text


def last_part(path: str) -> str:
    """Reports get published: they do not tell how their maker's disk is laid out."""
    return PurePath(path).name or path
