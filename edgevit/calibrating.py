"""What ``edgevit calibrate`` makes: a quantised program on disk, with what it kept of the float model."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch.fx import GraphModule

from calibrate import mixed, ptq, sensitivity
from calibrate.mixed import Limits
from calibrate.prepared import Prepared, convert
from calibrate.qat import Training
from calibrate.recipe import Recipe
from calibrate.saved import tensors_of
from edgevit import artifact, calibration, processes, selection
from edgevit.describe import describe_making, image_lists
from edgevit.measuring import measure_parity
from edgevit.options import Options
from edgevit.report.sensitivity import svg as chart
from edgevit.steps import Batches, Progress, Subject, fold_model
from edgevit.tuning import tune
from edgevit.verify import parity


@dataclass(frozen=True)
class Plan:
    """How a program is calibrated, beside what its recipe says."""

    training: Training | None = None  # None: the ranges that the images show are all
    sensitivity: bool = False  # measure what each operator costs
    limits: Limits | None = None  # leave what it takes in float


POST_TRAINING = Plan()
EXAMINED, CHOSEN_ON = 64, 250  # calibration images, at most


def build(
    options: Options,
    subject: Subject,
    plan: Plan,
    folder: Path,
    state: Path,
    progress: Progress,
    note: Callable[[str], None],
) -> dict[str, Any] | None:
    """Fold, calibrate and measure into ``folder``; returns the description.

    None in those of several processes that only helped with the training, whose state is in ``state`` until it is done.
    """
    folded, reports = fold_model(options, subject, progress)
    choice = None
    if plan.sensitivity or plan.limits is not None:
        choice = examine(subject, plan, folded, folder, progress)
        subject = subject if choice is None else replace(subject, recipe=choice.recipe(subject.recipe))
    prepared = prepare_program(folded, subject, subject.recipe, progress)
    lists, training = image_lists(subject.images), None
    if plan.training is not None:
        trained, training = tune(options, subject, folded, prepared, plan.training, state, progress, note)
        lists["trained"] = selection.manifest_images(trained)
    if processes.rank() > 0:
        return None
    with progress("converting", None):
        quantized = convert(prepared)
    links = measure_parity(options, subject, folded, quantized, {}, progress)
    artifact.write_json(folder / artifact.IMAGES, lists)
    description = describe_making(options, subject, folder, reports, quantized, links)
    if training is not None:
        description["quant"] |= {"method": "qat", "training": training}
    if choice is not None:
        description["quant"]["mixed"] = choice.manifest()
    unmet = [choice.problem] if choice is not None and choice.problem else []
    return {
        "schema": calibration.SCHEMA,
        **description,
        "tensors": calibration.write(folder, tensors_of(quantized)),
        "failures": unmet + parity.broken(links),
    }


def prepare_program(folded: GraphModule, subject: Subject, recipe: Recipe, progress: Progress) -> Prepared:
    with progress("calibrating", ptq.passes(recipe) * len(subject.images.calibration)) as advance:
        return ptq.prepare(folded, recipe, Batches(subject, advance), subject.example)


def examine(subject: Subject, plan: Plan, folded: GraphModule, folder: Path, progress: Progress) -> mixed.Choice | None:
    """What each operator costs, written to ``folder``, and which are left in float for the limits, if there are any.

    Examined is the program with its weights rounded to nearest: with the grids off it is then the float program.
    """
    nearest = replace(subject.recipe, rounding=False, bias_correction=False)
    prepared = prepare_program(folded, subject, nearest, progress)
    few = len(Batches(subject, ignore, EXAMINED).images)
    with progress("sensitivity", few * sensitivity.programs(prepared)) as advance:
        measured = sensitivity.measure(prepared, Batches(subject, ignore, EXAMINED), advance)
    artifact.write_json(folder / calibration.SENSITIVITY, measured.manifest())
    (folder / calibration.CHART).write_text(chart(measured.manifest()), encoding="utf-8")
    if plan.limits is None:
        return None
    batches = Batches(subject, ignore, CHOSEN_ON)
    with progress("choosing what stays in float", None):
        return mixed.choose(prepared, measured, batches, batches.images.labels(), plan.limits, ignore)


def ignore(count: int) -> None:
    """For what tells its progress otherwise."""
