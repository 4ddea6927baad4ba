"""Quantisation-aware training on the user's images: which, in what order, and what came of it."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from calibrate.prepared import Prepared
from calibrate.qat import Step, Training, train
from edgevit import processes, selection
from edgevit.errors import InputError
from edgevit.images import ImageSet, open_images
from edgevit.options import Options
from edgevit.steps import Progress, Subject
from edgevit.train import crops, sha256_of_state, shuffled_batches

CROP_AREA = 0.75  # the smallest part of an image that is shown
NOTES = 10  # times that progress is told in words


def tune(
    options: Options,
    subject: Subject,
    folded: nn.Module,
    prepared: Prepared,
    training: Training,
    state: Path,
    progress: Progress,
    note: Callable[[str], None],
) -> tuple[ImageSet, dict[str, Any]]:
    """Train the frozen program in place; returns the images that it saw, and the training as a manifest has it.

    It is trained on whatever may calibrate and is not scored. ``state`` is where it can be gone on from. Raises
    InputError if there are too few images for the processes, or as ``calibrate.qat.train`` does.
    """
    with progress("checking images", None):
        images = selection.others(open_images(options.data), subject.images.scored, options.skip_bad_images, note)
    training = replace(training, batch=min(training.batch, len(images)))
    if training.batch < processes.count():
        raise InputError(
            f"{processes.count()} processes share a batch of {training.batch}: give more images or --batch"
        )
    listed = selection.sha256_of_list(images)
    setting = {"images": listed, "program": sha256_of_state(prepared.module), "processes": processes.count()}
    steps, seen = training.epochs * (len(images) // training.batch), list[Step]()
    every = max(1, steps // NOTES)
    with processes.together(), progress("training", steps) as advance:

        def report(step: Step) -> None:
            seen.append(step)
            advance(1)
            if step.step % every == 0:
                recent = Step(step.step, steps, sum(each.loss for each in seen[-every:]) / len(seen[-every:]))
                note(f"step {step.step:,} of {steps:,}: loss {recent.loss:.5f}, {recent.sqnr_db:.1f} dB")

        train(prepared, folded, training, steps, Shares(images, subject, training), state, setting, report)
    return images, asdict(training) | {"images": len(images), "sha256_of_list": listed, "steps": steps}


class Shares:
    """This process's share of every batch, from any step on: what is drawn hangs on the seed and the epoch alone."""

    def __init__(self, images: ImageSet, subject: Subject, training: Training) -> None:
        self.images, self.preprocess, self.training = images, subject.weights.preprocess, training

    def __call__(self, first: int) -> Iterator[Tensor]:
        whole, share = len(self.images) // self.training.batch, slice(processes.rank(), None, processes.count())
        for epoch in range(first // whole, self.training.epochs):
            drawn = shuffled_batches(len(self.images), self.training.batch, [self.training.seed, epoch])[:whole]
            left = drawn[first % whole :] if epoch == first // whole else drawn
            mine = [(chosen[share], seeds[share]) for chosen, seeds in left]
            yield from crops(self.images, mine, self.preprocess, CROP_AREA)
