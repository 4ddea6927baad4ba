"""What Python reads of ``bundle.json`` and ``result.json``: ``apps/README.md`` says what they hold."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgevit import artifact
from edgevit.errors import InputError
from edgevit.images import INTERPOLATIONS
from edgevit.report.record import Record

BUNDLE, SCHEMA = "bundle.json", 1
RESULT_SCHEMA = 1
APPS = ("runner", "android", "ios", "web")
MEND = "measure again"


def check_bundle(bundle: Mapping[str, Any]) -> None:
    """Raise InputError, saying what is wrong, for a bundle that an app refuses."""
    if bundle["schema"] != SCHEMA:
        raise InputError(f"its schema is {bundle['schema']}, not {SCHEMA}: bundle the export again")
    preprocess, labels = bundle["preprocess"], bundle["labels"]
    if preprocess["interpolation"] not in INTERPOLATIONS:
        raise InputError(f"its interpolation is {preprocess['interpolation']}: take {' or '.join(INTERPOLATIONS)}")
    if labels is not None and len(labels) != bundle["classes"]:
        raise InputError(f"it has {len(labels)} labels for {bundle['classes']} classes: name each class once")
    if not all(len(preprocess[key]) == 3 for key in ("mean", "std")) or 0 in preprocess["std"]:
        raise InputError("its mean and std are not three numbers each, with no std of 0: bundle the export again")
    if preprocess["crop"] != bundle["input"]["shape"][2]:
        raise InputError(f"its crop of {preprocess['crop']} is not the size of its input: bundle the export again")
    if preprocess["resize"] < preprocess["crop"]:
        raise InputError(f"its resize of {preprocess['resize']} is less than its crop: bundle the export again")
    if not bundle["models"]:
        raise InputError("it has no models: bundle an export with one that the app runs")
    for path in paths(bundle):
        if any(step in ("", ".", "..") for step in path.split("/")):
            raise InputError(f"its path {path!r} leaves the bundle: bundle the export again")


def paths(bundle: Mapping[str, Any]) -> Iterator[str]:
    """Of every file that it names."""
    yield bundle["reference"]["file"]
    for model in bundle["models"].values():
        yield from (model["path"], *model["files"], model["reference"]["file"])


def read_bundle(folder: Path) -> dict[str, Any]:
    """Raises InputError if ``folder`` holds none, or one that an app refuses; ClaimError if it is no JSON."""
    path = folder / BUNDLE
    if not path.is_file():
        raise InputError(f"{folder} holds no {BUNDLE}: make one with edgevit bundle")
    bundle: dict[str, Any] = artifact.read_json(path)
    try:
        check_bundle(bundle)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (LookupError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error!r}): bundle the export again") from None
    return bundle


def check_result(value: Any, path: Path) -> Record:
    """A result of a device, read strictly. Raises InputError, naming ``path``, for what is none."""
    result = Record(value, path, MEND)
    if result.get("schema") != RESULT_SCHEMA:
        raise InputError(f"{path} is not of schema {RESULT_SCHEMA}: read it with the edgevit that wrote it")
    if result.text("app") not in APPS:
        raise result.wrong("app", result.get("app"), f"one of {', '.join(APPS)}")
    for key in ("edgevit", "export_sha256", "model", "quant", "created"):
        result.text(key)
    device, runtime, parity = (result.record(key) for key in ("device", "runtime", "parity"))
    for key in ("name", "os", "soc", "arch", "emulated"):
        text_or_null(device, key)
    device.whole("cores")
    for key in ("name", "version", "delegate"):
        text_or_null(runtime, key)
    parity.number("min_sqnr_db")
    parity.get("sqnr_db")
    if parity.has("sqnr_db"):
        parity.number("sqnr_db")
    for key in ("top1_matches", "holds"):
        parity.truth(key)
    check_times(result)
    return result


def check_times(result: Record) -> None:
    """The parts of a result that are null where they were not measured."""
    numbers = {
        "latency": ("p50_ms", "p90_ms", "p99_ms", "min_ms", "spread"),
        "start": ("load_ms", "first_ms"),
        "sustained": ("minutes", "first_minute_p50_ms", "last_minute_p50_ms"),
    }
    for part, keys in numbers.items():
        result.get(part)
        if result.has(part):
            for key in keys:
                result.record(part).number(key)
    if result.has("latency"):
        result.record("latency").whole("runs")
        result.record("latency").truth("steady")
    for key, read in (("threads", result.whole), ("memory_mb", result.number)):
        result.get(key)
        if result.has(key):
            read(key)
    result.get("thermal")
    if result.has("thermal"):
        for key in ("before", "after"):
            heat = result.record("thermal").record(key)
            heat.number("celsius") if "celsius" in heat.value else heat.text("state")


def text_or_null(record: Record, key: str) -> str | None:
    record.get(key)
    return record.text(key) if record.has(key) else None
