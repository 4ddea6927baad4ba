"""Core ML ``.mlpackage`` folders for iOS 17 and later, verified off a Mac by the reference evaluator.

INT8 here is W8A8: weights and activations stand on the program's grids, and the float operators between them are fp16.
What the file says is what the census counts; which unit of a device runs it in integers, only that device can tell.
"""

import contextlib
import io
import json
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.export import ExportedProgram

from calibrate.program import TensorGrid, outputs_of, weighted_operators
from convert.mil import evaluator
from convert.mil.grids import WEIGHTS, View
from convert.mil.package import Package, model_file
from convert.mil.package import read as read_package
from convert.mil.quiet import coremltools
from convert.quiet import quiet
from convert.registry import TARGETS
from convert.source import INPUT, OPERATORS, OUTPUT, Source
from convert.target import Census, Run, RunAll, logits_of, readable

FILE = TARGETS["coreml"].file
BATCH = 25
AUTHOR = "exported by edgevit"
LABEL = "label"
PREFIX = "edgevit."
DATE = "com.github.apple.coremltools.conversion_date"  # would make every day's file another one

# It moves the scale of one operand of a quantised addition into the other two: three new grids.
CHANGES_SCALES = "common::distributive_quantized_binary_op_scale_normalization"
DEBUGGING = "executorch_debug_handle_mapping.json"  # written beside the program, and no part of it


def lower(
    source: Source,
    folder: Path,
    metadata: Mapping[str, str],
    ios: int = 17,
    image_input: bool = False,
    classifier: bool = False,
) -> tuple[str, ...]:
    """Write ``folder / model.mlpackage``; see ``convert.target``.

    ``ios`` is the oldest that shall run it: 17, 18 or 26. ``image_input`` makes its input an RGB image, whose
    preprocessing (``metadata["preprocess"]``) is then done inside; ``classifier`` makes its outputs the label and the
    probabilities of ``metadata["class_names"]`` instead of logits.
    """
    ct = coremltools()
    program = source.program
    operators = list(weighted_operators(program).values())
    if image_input or classifier:
        program = dressed(program, json.loads(metadata["preprocess"]) if image_input else None, classifier)
    shape = tuple(program.example_inputs[0][0].shape)
    image = ct.ImageType(INPUT, shape, color_layout=ct.colorlayout.RGB)
    outputs = [ct.TensorType(name, dtype=dtype) for name, dtype in zip(source.outputs, dtypes(program), strict=True)]
    pipeline = ct.PassPipeline.DEFAULT
    pipeline.remove_passes({CHANGES_SCALES})
    with quiet(), contextlib.redirect_stderr(io.StringIO()):  # progress bars
        model = ct.convert(
            program.run_decompositions({}),
            convert_to="mlprogram",
            inputs=[image if image_input else ct.TensorType(INPUT, shape, np.float32)],
            outputs=None if classifier else outputs,
            classifier_config=label_names(metadata) if classifier else None,
            minimum_deployment_target=getattr(ct.target, f"iOS{ios}"),
            compute_precision=ct.precision.FLOAT32 if source.precision == "fp32" else ct.precision.FLOAT16,
            pass_pipeline=pipeline,
            skip_model_load=True,
        )
        describe(model, {**metadata, OPERATORS: json.dumps(operators)})
        model.save(str(folder / FILE))
    (folder / FILE / DEBUGGING).unlink(missing_ok=True)
    name_items(folder / FILE)
    return ()


def dtypes(program: ExportedProgram) -> list[type[np.generic]]:
    """Of its outputs: Core ML's integers have 32 bits."""
    values = [node.meta["val"] for node in program.graph.output_node().args[0]]
    return [np.float32 if value.is_floating_point() else np.int32 for value in values]


def label_names(metadata: Mapping[str, str]) -> Any:
    return coremltools().ClassifierConfig(
        json.loads(metadata["class_names"]),
        predicted_feature_name=LABEL,
    )


class Dressed(nn.Module):
    """A model that takes pixels (0..255) if given how to normalise them, and gives probabilities if asked to.

    What it returns beside its logits stays as it is.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, preprocess: Mapping[str, Any] | None, softmax: bool) -> None:
        super().__init__()
        self.model, self.pixels, self.softmax = model, preprocess is not None, softmax
        if preprocess is not None:
            mean, std = (torch.tensor(preprocess[key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))
            self.register_buffer("scale", 1 / (255 * std))
            self.register_buffer("shift", -mean / std)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        logits, *others = outputs_of(self.model, x * self.scale + self.shift if self.pixels else x)
        return (logits.softmax(-1) if self.softmax else logits, *others)


def dressed(program: ExportedProgram, preprocess: Mapping[str, Any] | None, softmax: bool) -> ExportedProgram:
    assert program.example_inputs is not None
    model = Dressed(program.module(check_guards=False), preprocess, softmax)
    return torch.export.export(model, *program.example_inputs)


def describe(model: Any, metadata: Mapping[str, str]) -> None:
    """The fields that Xcode shows, and every entry of ``metadata`` as a field of its own."""
    model.author = f"{AUTHOR} {metadata.get('edgevit_version', '')}".strip()
    model.license = metadata.get("licence", "")
    model.version = metadata.get("weights_sha256", "")[:12]
    model.short_description = " ".join(metadata.get(key, "") for key in ("model", "quant")).strip()
    for key, value in metadata.items():
        model.user_defined_metadata[f"{PREFIX}{key}"] = value
    del model.user_defined_metadata[DATE]


def name_items(package: Path) -> None:
    """Give the items of a package identifiers that follow from their paths: one program, one folder of bytes."""
    manifest = json.loads((package / "Manifest.json").read_text())
    new = {old: str(uuid.uuid5(uuid.NAMESPACE_OID, item["path"])) for old, item in manifest["itemInfoEntries"].items()}
    entries = {new[old]: item for old, item in manifest["itemInfoEntries"].items()}
    manifest["itemInfoEntries"] = dict(sorted(entries.items()))
    manifest["rootModelIdentifier"] = new[manifest["rootModelIdentifier"]]
    (package / "Manifest.json").write_text(json.dumps(manifest, indent=4))


def load(folder: Path, threads: int = 1) -> Run:
    """As ``load_all``, the logits alone."""
    return logits_of(load_all(folder, threads))


def load_all(folder: Path, threads: int = 1) -> RunAll:
    """The reference evaluator on this machine; see ``convert.target``.

    Takes any number of images, normalised as for the other targets: where the program takes pixels they are turned
    back into such. Of a classifier it gives the logits and nothing else. Ids are int32, as the program states them.
    """
    program = evaluator.load(folder / FILE)
    prepare = to_pixels(folder) if program.package.inputs[0].colour else torch.from_numpy
    fetch = fetched(program.package)

    def run(x: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        return tuple(output.numpy() for output in program.run_batch(prepare(x), fetch))

    return run


def predict(folder: Path) -> Run:
    """Core ML itself, which only macOS has: ``[B, 3, S, S]`` normalised as for ``load`` → logits.

    Of a classifier it gives the probabilities ``[B, classes]``, in the order of its class names.
    """
    stated = metadata(folder)
    with readable(folder / FILE):
        model = coremltools().models.MLModel(str(folder / FILE))
    is_image = model.get_spec().description.input[0].type.WhichOneof("Type") == "imageType"
    pixels = to_pixels(folder) if is_image else None

    def one(x: NDArray[np.float32]) -> NDArray[np.float32]:
        value = x if pixels is None else image_of(pixels(x))
        outputs = model.predict({INPUT: value})
        if OUTPUT in outputs:
            return np.asarray(outputs[OUTPUT], np.float32).reshape(-1)
        probabilities = outputs[f"{LABEL}_probs"]
        return np.array([probabilities[name] for name in json.loads(stated["class_names"])], np.float32)

    return lambda x: np.stack([one(x[i : i + 1]) for i in range(len(x))])


def image_of(pixels: Tensor) -> Image.Image:
    """``[1, 3, S, S]``, 0..255 → an 8-bit image."""
    return Image.fromarray(pixels[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy())


def to_pixels(folder: Path) -> Callable[[NDArray[np.float32]], Tensor]:
    """Undo the normalisation: float pixels, not rounded, so that a small change of the input stays one."""
    stated = json.loads(metadata(folder)["preprocess"])
    mean, std = (torch.tensor(stated[key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    return lambda x: (torch.from_numpy(x) * std + mean) * 255


def fetched(package: Package) -> tuple[str, ...]:
    """The program's outputs; of a classifier, what its softmax reads."""
    for operation in package.operations:
        if operation.kind == "classify":
            softmax = package.producers[str(operation.inputs["probabilities"])]
            while softmax.kind == "cast":
                softmax = package.producers[str(softmax.inputs["x"])]
            return (str(softmax.inputs["x"]),)
    return package.outputs


def metadata(folder: Path) -> dict[str, str]:
    """What ``lower`` was given, and ``operators``."""
    # From the protobuf: opening a package as an MLModel writes its manifest anew.
    file, model = model_file(folder / FILE), coremltools().proto.Model_pb2.Model()
    with readable(file):
        model.ParseFromString(file.read_bytes())
    entries = model.description.metadata.userDefined.items()
    return {key.removeprefix(PREFIX): value for key, value in entries if key.startswith(PREFIX)}


def census(folder: Path, asked: Mapping[str, str]) -> Census:
    """From the program: an operator is in INT8 if its input and its weights come off a grid."""
    view = opened(folder)
    integer, floats, delivered = Counter[str](), Counter[str](), set[str | None]()
    for operation in view.package.operations:
        if view.is_integer(operation):
            integer[operation.kind] += 1
            delivered.add(view.operator(operation))
        elif operation.kind not in WEIGHTS:
            floats[operation.kind] += 1
    missing = tuple(name for name in asked if name not in delivered)
    return Census(dict(integer), dict(floats), tuple(asked), missing)


def grid(folder: Path) -> dict[str, TensorGrid]:
    """Read from the quantize and constexpr operations; uint8 zero points are moved back to the int8 grid."""
    return opened(folder).grids()


def opened(folder: Path) -> View:
    package = read_package(folder / FILE)
    with readable(folder / FILE):
        return View(package, json.loads(metadata(folder)[OPERATORS]))
