"""Linear layers on tokens, and the outputs of a selection of tokens, on every target."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor

from calibrate.program import QuantizedProgram
from convert.registry import TARGETS
from convert.source import Precision, Source
from convert.target import Target, target
from edgevit.bench.local import int8_flags
from edgevit.metrics import sqnr_db
from tests.calibrate.subjects import KEPT, images, quantized_token_net, token_net

X = images(16, 9, 16)
LAYERS = {f"blocks.{block}.{layer}" for block in (0, 1) for layer in ("qkv", "proj", "fc1", "fc2")} | {"head"}
every = pytest.mark.parametrize("name", TARGETS)


@dataclass(frozen=True)
class Lowered:
    """An artifact, and what ``lower`` said was dropped."""

    target: Target
    folder: Path
    dropped: tuple[str, ...]

    def outputs(self) -> list[np.ndarray]:
        """Of all images, as its runtime gives them one by one."""
        run = self.target.load_all(self.folder)
        return [np.concatenate(parts) for parts in zip(*(run(x[None].numpy()) for x in X), strict=True)]


Lower = Callable[[str, Precision, bool], Lowered]


@cache
def source(precision: Precision, logits_only: bool) -> Source:
    if logits_only:
        return source(precision, False).logits_only()
    if precision == "int8":
        return Source(quantized_token_net(), precision)
    return Source(torch.export.export(token_net(), (X[:1],)), precision)


@pytest.fixture(scope="module")
def lowered(tmp_path_factory: pytest.TempPathFactory) -> Lower:
    @cache
    def lower(name: str, precision: Precision, logits_only: bool) -> Lowered:
        folder, module = tmp_path_factory.mktemp(name), target(name)
        return Lowered(module, folder, module.lower(source(precision, logits_only), folder, {}))

    return lower


def quantized() -> QuantizedProgram:
    return quantized_token_net()


def same_sets(ids: np.ndarray, expected: Tensor) -> bool:
    return np.array_equal(np.sort(ids, 1), expected.sort().values.numpy())


@every
def test_every_linear_layer_that_was_asked_runs_in_integers(name: str, lowered: Lower) -> None:
    entry, asked = lowered(name, "int8", False), quantized().asked
    census = entry.target.census(entry.folder, asked)
    assert set(asked) == LAYERS | {"patch_embed"}
    assert census.missing == ()
    assert (census.int8["conv"], census.int8["linear"]) == (1, len(LAYERS))
    assert census.float["linear"] == 1  # the score predictor's
    assert entry.target.census(entry.folder, {"score_predictor.1": "linear"}).missing == ("score_predictor.1",)


@every
def test_the_grids_are_the_programs(name: str, lowered: Lower) -> None:
    entry, tensors = lowered(name, "int8", False), quantized().tensors
    expected = {tensor: grid for tensor, grid in tensors.items() if tensor not in entry.dropped}
    assert entry.target.grid(entry.folder) == expected
    outputs = {tensor for tensor in tensors if tensor.endswith(".output")}
    if name == "onnx":  # whose integer convolution ends on a grid
        outputs.remove("patch_embed.output")
    assert set(entry.dropped) == (outputs if name in ("onnx", "openvino") else set())


@every
@pytest.mark.parametrize(("precision", "decibel"), [("fp32", 100), ("fp16", 40)])
def test_a_float_artifact_keeps_the_same_tokens_and_gives_their_scores(
    name: str, precision: Precision, decibel: float, lowered: Lower
) -> None:
    with torch.no_grad():
        logits, ids, scores = token_net()(X)
    found = lowered(name, precision, False).outputs()
    assert [output.shape for output in found] == [(16, 10), (16, KEPT), (16, 16)]
    assert found[0].dtype == found[2].dtype == np.float32
    assert same_sets(found[1], ids)
    assert sqnr_db(logits.numpy(), found[0]) > decibel
    assert sqnr_db(scores.numpy(), found[2]) > decibel


def saturates() -> bool:
    """Whether INT8 products are added up in 16 bits here: by VPMADDUBSW, which x86 without VNNI has."""
    flags = int8_flags() or []
    return "avx2" in flags and not {"avx_vnni", "avx512_vnni"} & set(flags)


@every
def test_the_int8_artifact_keeps_the_same_tokens_as_the_program(name: str, lowered: Lower) -> None:
    """Images whose scores lie so close at the cut that a rounding may swap two tokens say nothing.

    Where sums saturate, scores are so far from the program's that only the artifact's own say which tokens it keeps.
    """
    logits, _, scores = quantized().outputs(X)
    if name in ("onnx", "openvino") and saturates():
        _, ids, own = lowered(name, "int8", False).outputs()
        assert same_sets(ids, torch.from_numpy(own).topk(KEPT).indices)
        assert sqnr_db(scores.numpy(), own) > 12
        return
    ordered = scores.sort(descending=True).values
    clear = (ordered[:, KEPT - 1] - ordered[:, KEPT] > 0.3).numpy()
    found = lowered(name, "int8", False).outputs()
    assert np.issubdtype(found[1].dtype, np.integer)
    assert clear.sum() >= 10
    assert same_sets(found[1][clear], scores[clear].topk(KEPT).indices)
    assert sqnr_db(logits.numpy()[clear], found[0][clear]) > 25
    assert sqnr_db(scores.numpy(), found[2]) > 25


def test_coreml_states_ids_as_int32_and_the_others_keep_int64(lowered: Lower) -> None:
    types = {name: lowered(name, "fp32", False).outputs()[1].dtype for name in TARGETS}
    assert types == {"onnx": np.int64, "openvino": np.int64, "executorch": np.int64, "coreml": np.int32}


@every
def test_without_its_selection_an_artifact_gives_the_same_logits_alone(name: str, lowered: Lower) -> None:
    whole, part = lowered(name, "int8", False), lowered(name, "int8", True)
    (logits,) = part.outputs()
    np.testing.assert_allclose(logits, whole.outputs()[0], rtol=1e-4, atol=1e-4)
    assert part.target.grid(part.folder) == whole.target.grid(whole.folder)
    assert part.dropped == whole.dropped
    asked = quantized().asked
    assert part.target.census(part.folder, asked).int8 == whole.target.census(whole.folder, asked).int8
    run, x = whole.target.load(whole.folder), X[:1].numpy()
    assert np.array_equal(run(x), whole.target.load_all(whole.folder)(x)[0])


def test_executorch_counts_what_parts_the_program_which_integers_part_no_further(lowered: Lower) -> None:
    fp32, int8 = (
        entry.target.census(entry.folder, {})
        for entry in (lowered("executorch", precision, True) for precision in ("fp32", "int8"))
    )
    assert int8.partitions == fp32.partitions == 4
    assert int8.portable == fp32.portable
    kernels = {"topk.values": 1, "index_select.out": 1, "select_copy.int_out": 3, "expand_copy.out": 1}
    assert int8.portable == {f"aten::{name}": count for name, count in kernels.items()}


def test_executorch_keeps_its_norms_in_half_precision(lowered: Lower) -> None:
    entry = lowered("executorch", "fp16", True)
    assert entry.target.census(entry.folder, {}).portable["aten::native_layer_norm.out"] == 6


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_tokens_are_picked_whole(name: str, lowered: Lower) -> None:
    entry = lowered(name, "int8", False)
    floats = entry.target.census(entry.folder, quantized().asked).float
    assert floats["gather"] >= 1
    assert "gatherelements" not in floats


def test_onnx_runtime_gets_its_linear_layers_as_gemm_with_integer_biases(lowered: Lower) -> None:
    model = ir.load(lowered("onnx", "int8", False).folder / "model.onnx")
    gemms = {node.name: node for node in model.graph if node.op_type == "Gemm"}
    assert set(gemms) == LAYERS
    assert {name for name, node in gemms.items() if len(node.inputs) == 2} == {"blocks.1.qkv"}  # it has no bias
    biases = {name.removesuffix(".bias.int32") for name in model.graph.initializers if name.endswith(".bias.int32")}
    assert biases == {*LAYERS, "patch_embed"} - {"blocks.1.qkv"}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_onnx_form_names_linear_layers_after_the_module_that_holds_their_weight(precision: Precision) -> None:
    model = source(precision, False).onnx()
    weighted = {node.name for node in model.graph if node.op_type in ("Conv", "Gemm", "MatMul")}
    assert weighted >= LAYERS | {"patch_embed", "score_predictor.1"}
    residuals = {node.name for node in model.graph if node.op_type == "Add" and str(node.name).endswith(".residual")}
    assert residuals == {f"blocks.{block}.{layer}.residual" for block in (0, 1) for layer in ("proj", "fc2")}
