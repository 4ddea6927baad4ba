"""What an export is asked to do."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calibrate.recipe import Observer
from convert.registry import TARGETS
from convert.source import Precision
from edgevit.calibration import damaged, describe
from edgevit.verify import parity
from edgevit.verify.parity import Limits

NAMED_WEIGHTS = ("bundled", "official", "random")
INHERITED = ("model", "weights", "predictors", "keep_ratio", "data", "image_size", "classes", "seed")


@dataclass(frozen=True)
class Options:
    """What an export is asked to do. None stands for the default that depends on the weights or the images."""

    model: str = "efficientvit_m0"
    targets: tuple[str, ...] = ("openvino",)
    quant: Precision = "int8"
    weights: str | None = None  # bundled where there are such, else it must be named
    predictors: str | None = None  # of a model that prunes tokens, where its weights hold none
    keep_ratio: float | None = None
    data: str = "bundled"
    image_size: int | None = None
    classes: int | None = None
    calib_size: int | None = None
    parity_images: int | None = None
    observer: Observer | None = None
    calibration: str | None = None  # a folder that edgevit calibrate wrote; None calibrates here
    seed: int = 0
    threads: int = 1
    runs: int = 480
    batch: int = 1  # images that an artifact takes at once
    min_sqnr: float | None = None
    min_agreement: float | None = None
    max_drop: float | None = None
    allow_slower: bool = False
    skip_bad_images: bool = False
    ios: int = 17
    image_input: bool = False
    classifier: bool = False

    @property
    def judges_latency(self) -> bool:
        """Whether being slower than the float twin is a failure."""
        return self.quant == "int8" and not self.allow_slower

    @property
    def trained(self) -> bool:
        """Whether accuracy means anything."""
        return self.weights != "random"

    def limits(self, self_noise_db: float) -> Limits:
        """Of the links that end in an artifact or the quantised program; the noise is that of the original."""
        if self.trained:
            usual = parity.LIMITS[self.quant]
        else:
            usual = parity.EXACT_UNTRAINED if self.quant == "fp32" else parity.UNTRAINED
        given = {"min_sqnr_db": self.min_sqnr, "min_agreement": self.min_agreement, "max_drop": self.max_drop}
        usual = parity.above_noise(usual, self_noise_db)
        return replace(usual, **{k: v for k, v in given.items() if v is not None})

    def form(self, name: str) -> dict[str, Any]:
        """How an app meets the artifact of target ``name``: only Core ML offers a choice."""
        if name != "coreml":
            return {}
        return {"ios": self.ios, "image_input": self.image_input, "classifier": self.classifier}

    def anchored(self) -> "Options":
        """With absolute paths and the targets' own names, so that they mean the same anywhere and at any time."""
        data = self.data if self.data == "bundled" else str(Path(self.data).absolute())
        weights, predictors = absolute(self.weights), absolute(self.predictors)
        targets = chosen_targets(self.targets)
        calibration = None if self.calibration is None else str(Path(self.calibration).absolute())
        return replace(
            self, data=data, weights=weights, predictors=predictors, targets=targets, calibration=calibration
        )


def of_calibration(calibration: str, **given: Any) -> Options:
    """Exports what a calibration was made of: ``given`` are the options that replace its own or add to them.

    Raises InputError if the folder ``calibration`` is none.
    """
    stated = describe(Path(calibration)).get("options")
    if not isinstance(stated, dict):
        raise damaged(Path(calibration))
    return Options(**{**{name: stated.get(name) for name in INHERITED}, **given, "calibration": calibration})


def absolute(spec: str | None) -> str | None:
    """The path of a weights file made absolute; what is no path stays."""
    return spec if spec is None or spec in NAMED_WEIGHTS else str(Path(spec).absolute())


def chosen_targets(names: tuple[str, ...]) -> tuple[str, ...]:
    """In their order, once each; ``all`` stands for every target, installed or not."""
    expanded = [t for name in names for t in (TARGETS if name == "all" else [name])]
    return tuple(dict.fromkeys(expanded))
