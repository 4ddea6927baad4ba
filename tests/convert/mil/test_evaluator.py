from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convert.mil.binding import Step
from convert.mil.evaluator import Program, load
from convert.mil.package import Operation, Package, Value
from edgevit.errors import ClaimError
from edgevit.metrics import self_noise, sqnr_db
from edgevit.models.efficientvit import build
from tests.calibrate.subjects import INT8_RESIDUAL, images, quantized_net, randomise
from tests.convert.mil.programs import convert, ct, export, mb, save

LABELS = {"strings": ["cat", "dog", "owl"], "integers": [7, 3, 5]}


class Attention(nn.Module):
    """``[B, 3, 16, 16]`` → ``[B, 5]``: patches, one transformer block that keeps 6 of 16 tokens, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.qkv = nn.Conv2d(3, 12, 4, 4), nn.LayerNorm(12), nn.Linear(12, 36)
        self.score, self.mlp, self.head = nn.Linear(12, 1), nn.Linear(12, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(x)).reshape(-1, 16, 3, 2, 6).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, 16, 12)
        kept = self.score(x).squeeze(-1).topk(6, dim=1).indices
        x = x.gather(1, kept.unsqueeze(-1).expand(-1, -1, 12))
        y: Tensor = self.head((x + F.gelu(self.mlp(x))).mean(1))
        return y


@cache
def attention() -> Attention:
    torch.manual_seed(0)
    return Attention().eval()


@cache
def expected(x: Tensor) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        return np.asarray(attention()(x))


X = images(6, 3, 16)


def one_by_one(program: Program, x: Tensor) -> Tensor:
    (fed,), (name,) = program.package.inputs, program.package.outputs
    return torch.cat([program.run({fed.name: image[None]})[name] for image in x])


def small(folder: Path, operations: Any, x: Tensor, opset: str = "iOS17") -> Program:
    return load(save(folder / "small.mlpackage", operations, {"x": x}, opset))


def altered(package: Package, kind: str, **changes: Any) -> Package:
    """With ``changes`` to the only operation of ``kind``."""
    (found,) = (operation for operation in package.operations if operation.kind == kind)
    operations = tuple(replace(o, **changes) if o is found else o for o in package.operations)
    return replace(package, operations=operations)


def with_inputs(package: Package, kind: str, inputs: Mapping[str, Value], *without: str) -> Package:
    (found,) = (operation for operation in package.operations if operation.kind == kind)
    kept = {name: value for name, value in found.inputs.items() if name not in without}
    return altered(package, kind, inputs=kept | inputs)


# Whole models


@pytest.mark.parametrize("opset", ["iOS16", "iOS17", "iOS18"])
def test_a_transformer_in_float32(opset: str, tmp_path: Path) -> None:
    program = load(convert(tmp_path / "m.mlpackage", export(attention(), X[:1]), "fp32", opset))
    fused = "scaled_dot_product_attention" in {operation.kind for operation in program.package.operations}
    assert fused == (opset == "iOS18")
    found, wanted = one_by_one(program, X).numpy(), expected(X)
    assert np.linalg.norm(found - wanted) <= 1e-5 * np.linalg.norm(wanted)


def test_a_transformer_in_float16(tmp_path: Path) -> None:
    program = load(convert(tmp_path / "m.mlpackage", export(attention(), X[:1]), "fp16"))
    found = sqnr_db(expected(X), one_by_one(program, X).numpy())
    assert 50 <= found < 90


def test_efficientvit_and_a_batch_of_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = randomise(build("efficientvit_m0", 64, 10))
    x = images(4, 5, 64)
    program = load(convert(tmp_path / "m.mlpackage", export(model, x[:1]), "fp32"))
    with torch.no_grad():
        wanted = model(x).numpy()
    found = program.run_batch(x)[0].numpy()
    assert np.linalg.norm(found - wanted) <= 1e-5 * np.linalg.norm(wanted)
    assert sqnr_db(one_by_one(program, x).numpy(), found) >= 110


@pytest.mark.parametrize(("opset", "weights"), [("iOS17", "affine_dequantize"), ("iOS18", "blockwise_shift_scale")])
def test_an_int8_program_is_the_quantised_one_to_its_noise_floor(opset: str, weights: str, tmp_path: Path) -> None:
    quantized = quantized_net(INT8_RESIDUAL)
    program = load(convert(tmp_path / "m.mlpackage", quantized.program.run_decompositions({}), "fp32", opset))
    kinds = [operation.kind for operation in program.package.operations]
    assert f"constexpr_{weights}" in kinds
    assert "quantize" in kinds
    x = images(64, 11, 16)
    floor = self_noise(lambda batch: program.run_batch(torch.from_numpy(batch))[0].numpy(), [x.numpy()], 0)
    batch = program.run_batch(x)[0].numpy()
    assert sqnr_db(quantized.run(x).numpy(), batch) >= min(floor, 60) - 3
    assert sqnr_db(one_by_one(program, x).numpy(), batch) >= min(floor, 60) - 3


def test_int8_weights_are_dequantised_once(tmp_path: Path) -> None:
    program = load(
        convert(tmp_path / "m.mlpackage", quantized_net(INT8_RESIDUAL).program.run_decompositions({}), "fp16")
    )
    assert not {step.operation.kind for step in program.steps} & {"constexpr_affine_dequantize"}
    weights = [o for o in program.package.operations if o.kind == "constexpr_affine_dequantize"]
    assert weights
    for weight in weights:
        scale, steps = weight.inputs["scale"], weight.inputs["quantized_data"]
        assert isinstance(scale, np.ndarray)
        assert isinstance(steps, np.ndarray)
        assert scale.dtype == np.float16
        exact = steps.astype(np.float64) * scale.astype(np.float64).reshape(-1, *[1] * (steps.ndim - 1))
        assert np.array_equal(program.constants[weight.name].numpy(), exact.astype(np.float16))


# Rounding


def test_float16_results_are_the_float32_ones_rounded_once(tmp_path: Path) -> None:
    a, b = images(2, 0, 16).reshape(2, 16, 48).half()
    program = small(tmp_path, lambda x: mb.matmul(x=x, y=b.numpy(), transpose_y=True), a)
    (found,) = program.run({"x": a.float()}).values()
    exact = a.double() @ b.double().mT
    assert found.dtype == torch.float32
    assert torch.equal(found, found.half().float())
    assert torch.equal(found, (a.float() @ b.float().mT).half().float())
    assert ((found - exact).abs() <= exact.abs() * 2**-11 + 2**-24).all()


@pytest.mark.parametrize(
    ("x", "y", "product"),
    [
        (300.0, 300.0, float("inf")),
        (-300.0, 300.0, float("-inf")),
        (65504.0, 1.0, 65504.0),
        (2.0**-24, 0.5, 0.0),  # half of the smallest number, to even
        (3 * 2.0**-24, 0.5, 2 * 2.0**-24),
        (1.0009765625, 1.0009765625, 1.001953125),  # (1 + 1 step)², 1 + 2 steps and a little
        (2049.0, 1.0, 2048.0),  # not in fp16: fed between two of its numbers, half to even
        (2051.0, 1.0, 2052.0),
    ],
)
def test_float16_rounding(x: float, y: float, product: float, tmp_path: Path) -> None:
    program = small(tmp_path, lambda x: mb.mul(x=x, y=np.float16(y)), torch.zeros(1).half())
    (found,) = program.run({"x": torch.tensor([x])}).values()
    assert found.item() == product


def test_float32_results_are_not_rounded(tmp_path: Path) -> None:
    program = small(tmp_path, lambda x: mb.mul(x=x, y=np.float32(1 / 3)), torch.zeros(1))
    (found,) = program.run({"x": torch.ones(1)}).values()
    assert found.item() == np.float32(1 / 3) != np.float16(1 / 3)


# What is run


@cache
def classifier(folder: Path, labels: str, colour: str = "RGB") -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3)).eval()
    config = ct.ClassifierConfig(LABELS[labels], predicted_feature_name="label")
    image = ct.ImageType(name="image", shape=(1, 3, 8, 8), scale=1 / 255, color_layout=getattr(ct.colorlayout, colour))
    source, path = export(model, images(1, 0, 8)), folder / f"{labels}{colour}.mlpackage"
    return convert(path, source, "fp32", inputs=[image], classifier_config=config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classifiers")


@pytest.mark.parametrize("labels", list(LABELS))
def test_a_classifier_of_images(labels: str, folder: Path) -> None:
    program = load(classifier(folder, labels))
    (fed,) = program.package.inputs
    assert (fed.name, fed.colour, fed.shape) == ("image", "RGB", (1, 3, 8, 8))
    image = torch.rand(1, 3, 8, 8) * 255
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3)).eval()
    with torch.no_grad():
        scores = model(image / 255)[0].tolist()
    found = program.run({"image": image})
    assert found["label"] == LABELS[labels][int(np.argmax(scores))]
    assert list(found["label_probs"]) == LABELS[labels]
    assert np.allclose(list(found["label_probs"].values()), scores, atol=1e-5)


def test_the_scores_under_a_classifier_are_fetched_for_a_batch(folder: Path) -> None:
    program = load(classifier(folder, "strings"))
    scores = program.package.producers["label"].inputs["probabilities"]
    assert isinstance(scores, str)
    batch = torch.rand(3, 3, 8, 8) * 255
    (found,) = program.run_batch(batch, [scores])
    assert found.shape == (3, 3)
    for image, row in zip(batch, found, strict=True):
        assert np.allclose(list(program.run({"image": image[None]})["label_probs"].values()), row, atol=1e-5)


@pytest.mark.parametrize("colour", ["BGR", "GRAYSCALE"])
def test_refuses_another_colour_layout_by_name(colour: str, folder: Path) -> None:
    package = load(classifier(folder, "strings")).package
    other = replace(package, inputs=(replace(package.inputs[0], colour=colour),))
    with pytest.raises(ClaimError, match=f"strings.* uses {colour} images"):
        Program(other)


def test_computes_only_what_is_fetched(tmp_path: Path) -> None:
    def operations(x: Any) -> Any:
        good = mb.relu(x=x, name="good")
        bad = mb.gather(x=x, indices=np.int32([9]), name="bad")
        return mb.add(x=good, y=bad, name="sum")

    program = small(tmp_path, operations, torch.zeros(4))
    assert program.run({"x": torch.tensor([-1.0, 2, -3, 4])}, ["good"])["good"].tolist() == [0, 2, 0, 4]
    with pytest.raises(ClaimError, match=r"small\.mlpackage: gather 'bad' fails with .*check it on a Mac"):
        program.run({"x": torch.zeros(4)})


def test_values_go_when_their_last_reader_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def operations(x: Any) -> Any:
        early = mb.relu(x=x, name="early")
        _unread, y = mb.split(x=early, num_splits=2, axis=0, name="split")
        for _ in range(3):
            y = mb.relu(x=y)
        return mb.add(x=y, y=mb.reduce_sum(x=early), name="late")

    seen: list[set[str]] = []
    run = Step.run

    def spy(step: Step, values: Mapping[str, Any]) -> tuple[Any, ...]:
        seen.append(set(values))
        return run(step, values)

    program = small(tmp_path, operations, torch.zeros(4))
    monkeypatch.setattr(Step, "run", spy)
    found = program.run({"x": torch.arange(4.0)})
    assert found["late"].tolist() == [8, 9]
    first = ["split_1", "relu_0", "relu_1"]
    assert seen == [
        {"x"},
        {"early"},
        *({"early", name} for name in first),
        {"early", "relu_2"},
        {"relu_2", "reduce_sum_0"},
    ]
    seen.clear()
    assert set(program.run({"x": torch.arange(4.0)}, ["early", "late"])) == {"early", "late"}
    assert seen[-1] == {"relu_2", "reduce_sum_0", "early"}


def test_inputs_constants_and_outputs_can_be_fetched(tmp_path: Path) -> None:
    def operations(x: Any) -> Any:
        weight = mb.dequantize(input=np.int8([1, 2]), scale=np.float32(0.5), name="weight")
        return mb.mul(x=x, y=weight, name="y")

    program = small(tmp_path, operations, torch.zeros(2))
    found = program.run({"x": torch.tensor([4.0, 4])}, ["weight", "x", "y"])
    assert {name: value.tolist() for name, value in found.items()} == {"weight": [0.5, 1], "x": [4, 4], "y": [2, 4]}


def test_refuses_to_fetch_what_is_not_there(tmp_path: Path) -> None:
    program = small(tmp_path, lambda x: mb.relu(x=x), torch.zeros(2))
    with pytest.raises(ClaimError, match=r"small\.mlpackage has no value called 'logits'.*export it again"):
        program.run({"x": torch.zeros(2)}, ["logits"])


@pytest.mark.parametrize("inputs", [{}, {"x": torch.zeros(3)}, {"z": torch.zeros(2)}, {"x": torch.zeros(2), "z": X}])
def test_refuses_other_inputs(inputs: dict[str, Tensor], tmp_path: Path) -> None:
    program = small(tmp_path, lambda x: mb.relu(x=x), torch.zeros(2))
    with pytest.raises(ValueError, match=r"takes \{'x': \(2,\)\}, and was given"):
        program.run(inputs)


def test_a_batch_needs_one_input_and_gives_every_output_that_is_asked_for(tmp_path: Path) -> None:
    program = small(tmp_path, lambda x: (mb.relu(x=x, name="a"), mb.exp(x=x, name="b")), torch.zeros(1, 2))
    zeros = torch.zeros(3, 2)
    assert [output.tolist() for output in program.run_batch(zeros)] == [[[0, 0]] * 3, [[1, 1]] * 3]
    assert [output.tolist() for output in program.run_batch(zeros, ["b"])] == [[[1, 1]] * 3]
    two = replace(program.package, inputs=program.package.inputs * 2)
    with pytest.raises(ValueError, match="several inputs"):
        Program(two).run_batch(zeros, ["b"])


# What is refused


def test_names_every_operation_that_it_does_not_know_before_running(tmp_path: Path) -> None:
    path = save(tmp_path / "odd.mlpackage", lambda x: mb.cumsum(x=mb.cos(x=mb.cos(x=mb.relu(x=x)))), {"x": X})
    with pytest.raises(ClaimError, match=r"odd\.mlpackage uses cos, cumsum, which .*check it on a Mac"):
        load(path)


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        (lambda x: mb.pad(x=x, pad=[1, 1], mode="reflect", name="y"), "pad 'y' has mode = 'reflect'"),
        (
            lambda x: mb.max_pool(x=x, kernel_sizes=[2, 2], pad_type="valid", ceil_mode=True, name="y"),
            "max_pool 'y' has ceil_mode = True",
        ),
    ],
)
def test_refuses_a_constant_that_it_does_not_know(operations: Any, message: str, tmp_path: Path) -> None:
    path = save(tmp_path / "odd.mlpackage", operations, {"x": X})
    with pytest.raises(ClaimError, match=rf"odd\.mlpackage: {message}, which .* check it on a Mac"):
        load(path)


@pytest.fixture
def convolution(tmp_path: Path) -> Package:
    weight = np.ones((2, 3, 1, 1), np.float32)
    return small(tmp_path, lambda x: mb.conv(x=x, weight=weight, name="y"), X[:1]).package


@pytest.mark.parametrize(
    ("inputs", "without", "message"),
    [
        ({"pad_type": np.array("mirror")}, (), "conv 'y' has pad_type = 'mirror'"),
        ({"flavour": np.array(1)}, (), "conv 'y' has the input flavour"),
        ({}, ("weight",), "conv 'y' lacks its input weight"),
        ({"weight": ("x", "x")}, (), "conv 'y' has 2 values for weight"),
        ({"weight": ()}, (), "conv 'y' has 0 values for weight"),
        ({"weight": np.array("text")}, (), "conv 'y' can't convert np.ndarray of type numpy.str_"),
        ({"strides": "x"}, (), "conv 'y' computes its strides"),
        ({"strides": np.array([1, 1, 1])}, (), "conv 'y' fails with"),
    ],
)
def test_refuses_inputs_that_do_not_fit(
    inputs: dict[str, Any], without: tuple[str, ...], message: str, convolution: Package
) -> None:
    package = with_inputs(convolution, "conv", inputs, *without)
    with pytest.raises(ClaimError, match=rf"small\.mlpackage: {message}"):
        Program(package).run({"x": X[:1]})


@pytest.mark.parametrize(
    ("dtype", "shape"), [("fp32", (1, 2, 16, 15)), ("fp32", (1, 2, 256)), ("int32", (1, 2, 16, 16))]
)
def test_refuses_a_result_that_is_not_the_stated_one(dtype: str, shape: tuple[int, ...], convolution: Package) -> None:
    (stated,) = convolution.operations[0].outputs
    package = altered(convolution, "conv", outputs=(replace(stated, dtype=dtype, shape=shape),))
    with pytest.raises(ClaimError, match=r"small\.mlpackage: conv 'y' gives .*\[1, 2, 16, 16\] for " + dtype):
        Program(package).run({"x": X[:1]})


def test_refuses_another_number_of_results(convolution: Package) -> None:
    operation: Operation = convolution.operations[0]
    package = altered(convolution, "conv", outputs=operation.outputs * 2)
    with pytest.raises(ClaimError, match="conv 'y' gives 1 of 2 outputs"):
        Program(package).run({"x": X[:1]})
