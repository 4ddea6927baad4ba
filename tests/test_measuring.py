"""What is measured of artifacts: which stages there are, and what their numbers are of."""

import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from calibrate.recipes import DYNAMICVIT
from convert import coreml
from convert.fold import fold
from convert.target import Census
from edgevit import measuring
from edgevit.images import Preprocess, open_images
from edgevit.lowering import Lowered
from edgevit.models import weights
from edgevit.models.weights import Weights
from edgevit.options import Options
from edgevit.selection import Selection
from edgevit.steps import Subject, silent
from edgevit.verify import parity

SIDE, COUNT = 64, 6
OPTIONS = Options(weights="random", quant="fp32")
Logits = NDArray[np.float32]


@pytest.fixture(scope="module")
def subject() -> Subject:
    model, described = weights.load("dynamicvit_deit_tiny", "random", image_size=SIDE, classes=10)
    images = open_images("bundled").split("test").take(range(COUNT))
    return Subject("dynamicvit_deit_tiny", model, described, Selection(images, images, bad=()), DYNAMICVIT)


@pytest.fixture(scope="module")
def plain() -> Subject:
    model, described = weights.load("dynamicvit_deit_tiny", "random", image_size=SIDE, classes=10, keep_ratio=1)
    images = open_images("bundled").split("test").take(range(COUNT))
    return Subject("dynamicvit_deit_tiny", model, described, Selection(images, images, bad=()), DYNAMICVIT)


def folded(subject: Subject) -> Any:
    if subject.pruned:
        subject.model.returns_selection = True  # type: ignore[assignment]
    return fold(subject.model, subject.example)[0]


def artifact(model: Callable[[torch.Tensor], Any], change: Callable[[Logits], Logits] = lambda x: x) -> Lowered:
    """A target whose artifact is a model in torch, its logits changed."""

    @torch.no_grad()
    def run_all(x: Logits) -> tuple[Any, ...]:
        outputs = model(torch.from_numpy(x))
        logits, *others = outputs if isinstance(outputs, tuple) else (outputs,)
        return (change(logits.numpy()), *(other.numpy() for other in others))

    module: Any = SimpleNamespace(
        BATCH=2, load=lambda folder, threads: lambda x: run_all(x)[0], load_all=lambda folder, threads: run_all
    )
    return Lowered(Path("there"), module, Census({}, {}, (), ()), None, 0, 0)


def links(subject: Subject, lowered: dict[str, Lowered], options: Options = OPTIONS) -> dict[str, parity.Link]:
    found = measuring.measure_parity(options, subject, folded(subject), None, lowered, silent)
    return {link.name: link for link in found}


def test_a_model_that_prunes_nothing_is_compared_by_its_logits(plain: Subject) -> None:
    found = links(plain, {"onnx": artifact(plain.model)})
    assert list(found) == ["parity original → folded", "parity folded → onnx", "parity original → onnx"]
    assert all(link.choice is None and link.broken() is None for link in found.values())


def test_a_model_that_prunes_is_compared_by_its_tokens_too(subject: Subject) -> None:
    module = folded(subject)
    entry = replace(artifact(module), selection=Path("there"))
    found = links(subject, {"onnx": entry})
    for link in found.values():
        assert link.choice is not None
        assert link.choice.common.shares == (1.0, 1.0, 1.0)
        assert link.broken() is None


def test_an_artifact_with_tokens_of_its_own_is_compared_with_the_reference_keeping_the_same(subject: Subject) -> None:
    """It scores the wrong way round: its logits are right for the tokens that it keeps, and its choice is not."""
    module = folded(subject)
    predictors = [key for key in subject.model.state_dict() if key.endswith("out_conv.4.weight")]
    other, _ = weights.load("dynamicvit_deit_tiny", "random", image_size=SIDE, classes=10)
    other.load_state_dict({k: -v if k in predictors else v for k, v in subject.model.state_dict().items()})
    other.returns_selection = True  # type: ignore[assignment]
    found = measuring.measure_parity(
        OPTIONS, subject, module, None, {"onnx": replace(artifact(other), selection=Path("there"))}, silent
    )
    link = found[-1]
    assert link.choice is not None
    assert min(link.choice.common.shares) < 0.9
    assert link.sqnr_db > 80 > link.choice.sqnr_db
    assert "the scores of site 1 are off by" in str(link.broken())


def test_core_ml_itself_is_a_link_on_a_mac(plain: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    lowered = {"onnx": artifact(plain.model), "coreml": artifact(plain.model)}
    monkeypatch.setattr(coreml, "predict", lambda folder: lambda x: lowered["coreml"].module.load(folder, 1)(x) * 1.5)
    assert f"parity coreml → {parity.ON_MAC}" not in links(plain, lowered)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    found = links(plain, lowered)
    assert list(found)[-1] == f"parity coreml → {parity.ON_MAC}"
    assert found[f"parity coreml → {parity.ON_MAC}"].sqnr_db == pytest.approx(20 * np.log10(2), abs=0.01)


def test_a_classifier_on_a_mac_gives_probabilities(plain: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    lowered = {"coreml": artifact(plain.model)}
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(
        coreml, "predict", lambda folder: lambda x: measuring.softmax(lowered["coreml"].module.load(folder, 1)(x))
    )
    options = replace(OPTIONS, classifier=True)
    assert links(plain, lowered, options)[f"parity coreml → {parity.ON_MAC}"].sqnr_db > 100
    assert links(plain, lowered)[f"parity coreml → {parity.ON_MAC}"].sqnr_db < 20


class Identity(nn.Module):
    keep_ratio = 0.7


def test_a_subject_is_pruned_below_a_ratio_of_one(subject: Subject, plain: Subject) -> None:
    assert (subject.pruned, plain.pruned) == (True, False)
    weightless = Weights("random", None, "none", Preprocess.imagenet(SIDE), None, ())
    assert Subject("x", Identity(), weightless, subject.images, DYNAMICVIT).pruned
    assert not Subject("x", nn.Identity(), weightless, subject.images, DYNAMICVIT).pruned
