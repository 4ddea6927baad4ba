"""The list of models, which a command can print without importing torch."""

import subprocess
import sys

import pytest

from edgevit.errors import InputError
from edgevit.models import registry
from edgevit.models.efficientvit import CONFIGS, EfficientViT


def test_every_configuration_is_listed() -> None:
    assert list(registry.ENTRIES) == list(CONFIGS)
    assert all(name == entry.name for name, entry in registry.ENTRIES.items())


def test_official_files_come_over_https() -> None:
    for name, entry in registry.ENTRIES.items():
        assert entry.official_url.startswith("https://")
        assert entry.official_url.endswith(f"/{name}.pth")


def test_build() -> None:
    model = registry.build("efficientvit_m0", 64, 10)
    assert isinstance(model, EfficientViT)
    assert (model.image_size, model.classes) == (64, 10)


def test_unknown_name_gets_the_closest() -> None:
    with pytest.raises(InputError, match=r"no model 'efficientvit_m00': take .*efficientvit_m0"):
        registry.entry("efficientvit_m00")
    with pytest.raises(InputError, match="take efficientvit_m0 or efficientvit_m1 or"):
        registry.build("?", 224, 10)


@pytest.mark.parametrize(("image_size", "classes", "reason"), [(225, 10, "multiple of 32"), (224, 0, "one class")])
def test_sizes_that_cannot_be_built(image_size: int, classes: int, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        registry.build("efficientvit_m0", image_size, classes)


def test_importing_the_registry_imports_no_torch() -> None:
    code = "import sys, edgevit.models.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
