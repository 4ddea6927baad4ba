"""The list of models, which a command can print without importing torch."""

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgevit.errors import InputError
from edgevit.models import dynamicvit, efficientvit, registry, sepvit
from edgevit.models.efficientvit import EfficientViT


def test_every_configuration_is_listed() -> None:
    assert list(registry.ENTRIES) == [*efficientvit.CONFIGS, *sepvit.CONFIGS, *dynamicvit.CONFIGS]
    assert all(name == entry.name for name, entry in registry.ENTRIES.items())


@pytest.mark.parametrize("name", registry.ENTRIES)
def test_parameters_and_macs_are_those_of_the_model(name: str) -> None:
    entry = registry.entry(name)
    with torch.device("meta"):
        model = registry.build(name, entry.image_size, entry.classes).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, entry.image_size, entry.image_size))
    assert sum(parameter.numel() for parameter in model.parameters()) == entry.params
    assert counter.get_total_flops() == 2 * entry.macs


def test_official_files_come_over_https() -> None:
    for name, entry in registry.ENTRIES.items():
        if entry.family == "efficientvit":
            assert entry.official_url is not None
            assert entry.official_url.endswith(f"/{name}.pth")
        assert entry.official_url is None or entry.official_url.startswith("https://")


def test_build() -> None:
    model = registry.build("efficientvit_m0", 64, 10)
    assert isinstance(model, EfficientViT)
    assert (model.image_size, model.classes) == (64, 10)


def test_keep_ratio() -> None:
    usual, other = (registry.build("dynamicvit_deit_tiny", 64, 10, ratio) for ratio in (None, 0.5))
    assert (usual.keep_ratio, other.keep_ratio) == (0.7, 0.5)
    with pytest.raises(InputError, match=r"keep ratio 0.75 does not fit DynamicViT: take 0.5, 0.6"):
        registry.build("dynamicvit_deit_tiny", 64, 10, 0.75)
    with pytest.raises(InputError, match="efficientvit_m0 prunes no tokens: leave --keep-ratio away"):
        registry.build("efficientvit_m0", 64, 10, 0.7)


def test_unknown_name_gets_the_closest() -> None:
    with pytest.raises(InputError, match=r"no model 'efficientvit_m00': take .*efficientvit_m0"):
        registry.entry("efficientvit_m00")
    with pytest.raises(InputError, match="take efficientvit_m0 or efficientvit_m1 or"):
        registry.build("?", 224, 10)


@pytest.mark.parametrize(
    ("name", "image_size", "classes", "reason"),
    [
        ("efficientvit_m0", 225, 10, "multiple of 32"),
        ("efficientvit_m0", 224, 0, "one class"),
        ("sepvit_lite", 96, 10, "take 28, 56, 112, 224 or 448"),
        ("dynamicvit_deit_tiny", 72, 10, "multiple of 16"),
    ],
)
def test_sizes_that_cannot_be_built(name: str, image_size: int, classes: int, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        registry.build(name, image_size, classes)


def test_importing_the_registry_imports_no_torch() -> None:
    code = "import sys, edgevit.models.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
