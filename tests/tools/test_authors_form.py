import copy

import pytest
import torch

from edgevit.models import registry
from tests.calibrate.subjects import randomise
from tools.authors_form import in_authors_form


@pytest.mark.parametrize(("name", "side"), [("efficientvit_m0", 224), ("efficientvit_m1", 128)], ids=["even", "padded"])
def test_computes_the_same(name: str, side: int) -> None:
    model = randomise(registry.build(name, side, 5))
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        wanted, given = model(x), in_authors_form(copy.deepcopy(model))(x)
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_replaces_every_attention() -> None:
    model = in_authors_form(registry.build("efficientvit_m0", 224, 5))
    kinds = [type(module).__name__ for module in model.modules()]
    assert kinds.count("AuthorsWindows") == 6
    assert "WindowAttention" not in kinds


def test_other_families_have_no_other_form() -> None:
    with pytest.raises(ValueError, match="only EfficientViT"):
        in_authors_form(registry.build("sepvit_lite", 56, 5))
