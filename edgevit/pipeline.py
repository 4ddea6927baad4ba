"""The verbs of the command line as functions.

``export`` makes artifacts, ``calibrate`` what they are made from, ``verify`` derives an export's claims again,
``bench`` times exports, ``profile`` says where the time of their artifacts goes, and ``bundle`` puts one into an app.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from convert.registry import TARGETS
from convert.target import Target, target
from edgevit import artifact, calibrating, calibration, processes, profiling
from edgevit.bench import local, protocol, session
from edgevit.bench.devices import named
from edgevit.bench.devices.order import Answer, Order
from edgevit.bundle.apps import APPS
from edgevit.bundle.contract import BUNDLE
from edgevit.bundle.make import make as make_bundle
from edgevit.calibrating import POST_TRAINING, Plan
from edgevit.describe import PACKAGES, describe_latency, describe_making, describe_target, image_lists
from edgevit.errors import ClaimError, EdgevitError
from edgevit.lowering import Lowered, Lowering, lower
from edgevit.measuring import Latency, float_bytes, measure_latency, measure_parity, write_twins
from edgevit.options import Options
from edgevit.rederive import rederive
from edgevit.report.profile import svg as profile_chart
from edgevit.steps import Progress, Subject, artifact_metadata, fold_model, make_programs, prepare, silent
from edgevit.verify.claims import Check
from edgevit.verify.parity import Link, broken

Note = Callable[[str], None]


def ignore(message: str) -> None:
    """The ``note`` that nobody reads."""


def export(
    options: Options,
    out: Path,
    *,
    force: bool = False,
    command: Sequence[str] = (),
    progress: Progress = silent,
    note: Note = ignore,
) -> dict[str, Any]:
    """Export to ``out`` and return the manifest, whose ``failures`` lists every claim that does not hold.

    ``command`` is recorded as what made the export, and ``note`` is told what a user should know on the way. Raises
    InputError for wrong input, with nothing written, and MissingError for a target whose runtime is not installed.
    """
    started = time.perf_counter()
    options = options.anchored()
    modules = {name: target(name) for name in options.targets}
    artifact.check_destination(out, force)
    subject = prepare(options, progress, note)
    with artifact.staged(out) as folder:
        manifest = build(options, subject, modules, folder, progress) | {"command": list(command)}
        manifest["export_seconds"] = round(time.perf_counter() - started, 2)
        artifact.write_json(folder / artifact.MANIFEST, manifest)
    for name, timing in manifest["latency"].items():
        if (reason := pruning_costs(name, timing)) is not None:
            note(reason)
    return artifact.read_manifest(out)


def calibrate(
    options: Options,
    out: Path,
    plan: Plan = POST_TRAINING,
    *,
    force: bool = False,
    command: Sequence[str] = (),
    progress: Progress = silent,
    note: Note = ignore,
) -> dict[str, Any] | None:
    """Calibrate to ``out``, which ``Options.calibration`` takes, and return its description.

    The description is that of an export without targets; its ``failures`` lists every claim that does not hold. A
    training that is interrupted leaves its state beside ``out``, and the same call goes on from there. Of several
    processes that train together the first returns the description, the others None. Raises InputError for wrong
    input, with nothing else written.
    """
    options = replace(options, targets=(), quant="int8").anchored()
    artifact.check_destination(out, force, "calibration", calibration.DESCRIPTION)
    subject = prepare(options, progress, note)
    state = training_state(out)
    if processes.rank() > 0:
        with tempfile.TemporaryDirectory() as folder:
            calibrating.build(options, subject, plan, Path(folder), state, progress, note)
        return None
    with artifact.staged(out) as folder:
        description = calibrating.build(options, subject, plan, folder, state, progress, note)
        assert description is not None
        artifact.write_json(folder / calibration.DESCRIPTION, description | {"command": list(command)})
    state.unlink(missing_ok=True)
    return dict(calibration.describe(out))


def training_state(out: Path) -> Path:
    """Where a training for ``out`` that was interrupted can be gone on from."""
    return out.absolute().with_name(f"{out.name}.training")


def build(
    options: Options, subject: Subject, modules: Mapping[str, Target], folder: Path, progress: Progress
) -> dict[str, Any]:
    """Fold, calibrate, lower and measure into ``folder``; returns the manifest."""
    folded, reports = fold_model(options, subject, progress)
    programs, quantized = make_programs(options, subject, folded, progress)
    metadata, forms = artifact_metadata(options, subject), {name: options.form(name) for name in modules}
    with Lowering(programs, forms, metadata, folder) as lowering:

        def lowered_to(name: str) -> Lowered:
            with progress(f"lowering to {name}", None):
                return lower(name, modules[name], lowering, options.threads)

        # Those that are lowered beside come last: until they are done, there is time for the others' twins.
        slow = [name for name in modules if TARGETS[name].slow]
        fast = [name for name in modules if name not in slow]
        done = {name: lowered_to(name) for name in fast}
        write_twins({name: modules[name] for name in fast}, lowering, progress)
        done |= {name: lowered_to(name) for name in slow}
        lowered = {name: done[name] for name in modules}
        links = measure_parity(options, subject, folded, quantized, lowered, progress)
        latency = measure_latency(options, subject, lowered, lowering, progress)
        sizes = float_bytes(lowered, lowering)
    artifact.write_json(folder / artifact.IMAGES, image_lists(subject.images))
    manifest = describe_making(options, subject, folder, reports, quantized, links)
    if subject.calibration is not None:
        copied = calibration.copy(subject.calibration, folder)
        manifest["quant"]["file"] = {"path": copied.name, **artifact.describe_files(copied)}
    return {
        "schema": artifact.SCHEMA,
        **manifest,
        "targets": {name: describe_target(name, entry, sizes.get(name)) for name, entry in lowered.items()},
        "latency": {name: describe_latency(options, item) for name, item in latency.items()},
        "failures": find_failures(options, lowered, links, latency),
    }


def bench(
    folders: Sequence[Path], plan: session.Plan, *, command: Sequence[str] = (), progress: Progress = silent
) -> list[tuple[Path, dict[str, Any]]]:
    """Time exports on this host, against the first: see ``edgevit.bench.session.bench``."""
    return session.bench(folders, plan, command, progress)


def bench_device(
    folders: Sequence[Path],
    spec: str,
    targets: Sequence[str] = (),
    *,
    app: Path | None = None,
    data: str | None = None,
    order: Order = Order(),  # noqa: B008 (it is frozen)
    progress: Progress = silent,
) -> list[tuple[Path, list[Answer], list[str]]]:
    """Time exports on a device: see ``edgevit.bench.devices.named.bench``."""
    return named.bench(folders, spec, targets, app, data, order, progress)


def find_failures(
    options: Options,
    lowered: Mapping[str, Lowered],
    links: list[Link],
    latency: Mapping[str, Latency],
) -> list[str]:
    """A sentence for every claim that does not hold."""
    failures = [failure for name, entry in lowered.items() for failure in entry.failures(name)]
    failures += broken(links)
    if options.judges_latency:
        failures += [
            f"{name}: INT8 takes {ratio.median:.2f} of the float time (95 % interval {ratio.ci95[0]:.2f} to "
            f"{ratio.ci95[1]:.2f}): slower on this host, which --allow-slower accepts"
            for name, ratio in ((name, item.float.ratio) for name, item in latency.items())
            if protocol.slower_beyond_noise(ratio)
        ]
    return failures


def pruning_costs(name: str, timing: Mapping[str, Any]) -> str | None:
    """What to say where an artifact that prunes tokens takes longer than itself keeping them all, beyond the noise."""
    if "pruning_speedup" not in timing or timing["pruning_speedup_ci95"][1] >= 1:
        return None
    low, high = timing["pruning_speedup_ci95"]
    return (
        f"{name}: pruning makes it slower here, {timing['pruning_speedup']:.2f} times as fast as unpruned "
        f"(95 % interval {low:.2f} to {high:.2f}): --keep-ratio 1 exports the unpruned model"
    )


def bundle(
    folder: Path,
    app: str,
    out: Path,
    *,
    targets: Sequence[str] = (),
    data: str | None = None,
    force: bool = False,
    progress: Progress = silent,
    note: Note = ignore,
) -> dict[str, Any]:
    """Put the export in ``folder`` into a copy of a sample app at ``out``, and return its ``bundle.json``.

    ``app`` is one of ``edgevit.bundle.apps.APPS``, ``targets`` those of the export that it shall hold, or all that it
    runs; ``data`` says where the export's images are now. Raises InputError for an export that the app cannot take or
    images that are not there, ClaimError for an artifact that is not what the export wrote, MissingError for a runtime
    that is not installed.
    """
    manifest = artifact.read_manifest(folder)
    chosen = APPS[app]
    names = chosen.chosen(manifest, targets)
    artifact.check_destination(out, force, "app", f"{chosen.place}/{BUNDLE}")
    for failure in manifest["failures"]:
        note(f"this export failed: {failure}")
    with artifact.staged(out) as staged:
        return make_bundle(folder, names, data, chosen.copy(staged), progress)


def verify(
    folder: Path,
    *,
    data: str | None = None,
    weights: str | None = None,
    progress: Progress = silent,
) -> list[Check]:
    """Derive every claim of the export in ``folder`` again: from its files, its weights and its images.

    ``data`` and ``weights`` say where those lie now, if they were moved. Raises InputError if ``folder`` is no export,
    ClaimError if its manifest is no JSON, and MissingError for a runtime that is not installed.

    Some of a manifest is a record of the moment and cannot be derived again: ``created``, ``command``, ``environment``,
    ``tool_version``, ``runs``, seconds, peak memory, and what a millisecond was on that machine that day. Latency is
    therefore checked as a ratio to the float twin, timed again, and for agreement with itself. Neither is a manifest
    signed: verify tells what no longer fits together, not who made it.
    """
    manifest = artifact.read_manifest(folder)
    checks = []
    try:
        for check in rederive(folder, manifest, data, weights, progress):
            checks.append(check)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        checks.append(Check("the manifest's form", f"damaged ({error!r}): export again"))
    return checks


def profile(
    folder: Path,
    targets: Sequence[str] = (),
    *,
    threads: int = 1,
    runs: int = 100,
    out: Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Where the time of an export's artifacts goes on this host; ``failures`` lists what a profile lacks.

    Of the named targets, or of all that can be timed here, one after the other. A target that fails is a failure, and
    the others are profiled all the same; where none could be, its error is raised. With ``out`` a folder is written,
    whole or not at all: ``profile.json``, which is what is returned, and ``profile.svg``. Raises InputError if
    ``folder`` is no export, if ``out`` may not be written to, or for a target that the export has not, MissingError for
    one that cannot be timed here.
    """
    requests = profiling.requests(folder, targets, threads, runs)
    if out is not None:
        artifact.check_destination(out, force, "profile", profiling.PROFILE)
    profiles: dict[str, Any] = {}
    errors: list[EdgevitError] = []
    for request in requests:
        with progress(f"profiling {request.name}", None):
            try:
                profiles[request.name] = profiling.profile(request)
            except EdgevitError as error:
                errors.append(error)
    if not profiles:
        raise errors[0] if len(errors) == 1 else ClaimError("; ".join(map(str, errors)))
    manifest = artifact.read_manifest(folder)
    described = {
        "schema": profiling.SCHEMA,
        "export": {"folder": str(folder), "model": manifest["model"]["name"], "quant": manifest["quant"]["mode"]},
        "targets": profiles,
        "environment": local.describe_host(PACKAGES),
        "failures": [*map(str, errors), *(failure for entry in profiles.values() for failure in entry["failures"])],
    }
    if out is not None:
        with artifact.staged(out) as staged:
            artifact.write_json(staged / profiling.PROFILE, described)
            (staged / profiling.CHART).write_text(profile_chart(described), encoding="utf-8")
    return described
