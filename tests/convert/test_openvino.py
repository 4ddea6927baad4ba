import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from convert import openvino as openvino_target
from convert.openvino import ov
from convert.source import Precision
from edgevit.errors import ClaimError
from tests.calibrate.subjects import quantized_vit
from tests.convert.conftest import METADATA, Lowered, source

Lower = Callable[[str, Precision], Lowered]
TENSOR = "patch_embed.2.c.output"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_file_says_what_it_is(precision: Precision, lowered: Lower) -> None:
    model = ov.Core().read_model(lowered("openvino", precision).folder / "model.xml")
    assert {key: model.get_rt_info(["edgevit", key]).astype(str) for key in METADATA} == METADATA
    assert [value.get_names() for value in (*model.inputs, *model.outputs)] == [{"image"}, {"logits"}]


def test_the_same_float_program_gives_the_same_bytes_again(lowered: Lower, tmp_path: Path) -> None:
    """Most of its operators have no name of their own, and OpenVINO makes names by counting through the process."""
    openvino_target.lower(source("fp32"), tmp_path, METADATA)
    first = lowered("openvino", "fp32").folder
    for file in ("model.xml", "model.bin"):
        assert (tmp_path / file).read_bytes() == (first / file).read_bytes()


def test_keeps_a_grid_only_where_an_integer_operator_reads_it(lowered: Lower) -> None:
    dropped, tensors = lowered("openvino", "int8").dropped, quantized_vit().tensors
    assert {"head.l.output", "blocks1.0.ffn0.m.pw2.c.output", "blocks2.1.conv2.c.output"} <= set(dropped)
    assert not any(name.endswith((".input", ".residual.output", "pw1.c.output")) for name in dropped)
    assert {name for name in tensors if name.endswith("pw2.c.output")} <= set(dropped)


def tampered(lowered: Lower, folder: Path, old: float, new: float) -> Path:
    """A copy with the float32 ``old`` replaced throughout its weights."""
    copy = Path(shutil.copytree(lowered("openvino", "int8").folder, folder / "openvino"))
    weights = (copy / "model.bin").read_bytes()
    assert np.float32(old).tobytes() in weights
    (copy / "model.bin").write_bytes(weights.replace(np.float32(old).tobytes(), np.float32(new).tobytes()))
    return copy


def test_a_tampered_weight_scale_is_seen(lowered: Lower, tmp_path: Path) -> None:
    tensors = quantized_vit().tensors
    uses = Counter(scale for grid in tensors.values() for scale in grid.scale)
    scale = next(scale for scale in tensors["head.l.weight"].scale if uses[scale] == 1)
    found = openvino_target.grid(tampered(lowered, tmp_path, scale, np.nextafter(np.float32(scale), np.float32(1))))
    assert {name for name in found if found[name] != tensors[name]} == {"head.l.weight"}


def test_a_tampered_activation_scale_is_seen(lowered: Lower, tmp_path: Path) -> None:
    (scale,) = quantized_vit().tensors[TENSOR].scale
    with pytest.raises(ClaimError, match=rf"{TENSOR} is clipped to .* export it again"):
        openvino_target.grid(tampered(lowered, tmp_path, scale, scale * 1.01))
    found = openvino_target.grid(
        tampered(lowered, tmp_path / "little", scale, np.nextafter(np.float32(scale), np.float32(1)))
    )
    assert found[TENSOR] != quantized_vit().tensors[TENSOR]


def test_a_tampered_range_is_seen(lowered: Lower, tmp_path: Path) -> None:
    grid = quantized_vit().tensors[TENSOR]
    high = np.float32(127 - grid.zero_point[0]) * np.float32(grid.scale[0])
    with pytest.raises(ClaimError, match="is clipped to"):
        openvino_target.grid(tampered(lowered, tmp_path, high, high * np.float32(0.9)))


def test_a_scale_that_the_description_takes_from_elsewhere_is_seen(lowered: Lower, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(lowered("openvino", "int8").folder, tmp_path / "openvino"))
    description = (folder / "model.xml").read_text()
    offset = re.compile(rf'(name="{TENSOR}\.scale" type="Const".*?offset=")(\d+)', re.DOTALL)
    (folder / "model.xml").write_text(offset.sub(lambda match: f"{match[1]}{int(match[2]) + 4}", description, count=1))
    with pytest.raises(ClaimError, match=rf"{TENSOR} is clipped to"):
        openvino_target.grid(folder)
