"""What others make of the same weights: the plain exporters, and the quantisers that come with each runtime.

Each peer leaves one file that its runtime opens; none sees edgevit's folds. Settings are a user's first: the defaults,
and those that a runtime's own guide names for such models, as a second peer. They start from the model as edgevit
writes it, but for a plain export of what its authors' code computes.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convert import executorch, onnx, openvino
from convert.quiet import quiet
from convert.source import INPUT, OPSET
from convert.target import Run
from tools.authors_form import in_authors_form

Images = Sequence[NDArray[np.float32]]  # [1, 3, S, S] each
Make = Callable[[nn.Module, Images, Path], None]  # writes into the folder, which exists
Load = Callable[[Path, int], Run]  # of the folder, on so many threads


@dataclass(frozen=True)
class Peer:
    """``family`` is of the models that it is for, where it is not for all."""

    runtime: str
    name: str
    precision: str
    make: Make
    load: Load
    family: str = ""


def example(images: Images) -> Tensor:
    return torch.from_numpy(images[0])


def of_authors_form(make: Make) -> Make:
    return lambda model, images, folder: make(in_authors_form(model), images, folder)


def plain_onnx(model: nn.Module, images: Images, folder: Path) -> None:
    with quiet(), torch.no_grad():
        torch.onnx.export(
            model,
            (example(images),),
            folder / onnx.FILE,
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            external_data=False,
            verbose=False,
        )


def quantize_static(**settings: Any) -> Make:
    """ONNX Runtime's own static quantisation of the plain export, after the preparation that its guide asks for."""

    def make(model: nn.Module, images: Images, folder: Path) -> None:
        from onnxruntime.quantization import CalibrationDataReader
        from onnxruntime.quantization import quantize_static as quantize
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.feeds: Iterator[dict[str, NDArray[np.float32]]] = ({INPUT: x} for x in images)

            def get_next(self) -> dict[str, NDArray[np.float32]] | None:
                return next(self.feeds, None)

        plain_onnx(model, images, folder)
        prepared = folder / "prepared.onnx"
        quant_pre_process(folder / onnx.FILE, prepared)
        quantize(prepared, folder / onnx.FILE, Reader(), **settings)
        prepared.unlink()

    return make


def best_operators() -> dict[str, Any]:
    """Products with weights alone, a scale a channel, unsigned activations: what the guide names for x86 processors."""
    from onnxruntime.quantization import QuantType

    return {
        "op_types_to_quantize": ["Conv", "MatMul", "Gemm"],
        "per_channel": True,
        "activation_type": QuantType.QUInt8,
        "extra_options": {"MatMulConstBOnly": True},
    }


def plain_openvino(model: nn.Module, images: Images, folder: Path) -> None:
    openvino.ov.save_model(converted(model, images), folder / openvino.FILE, compress_to_fp16=False)


def nncf_default(model: nn.Module, images: Images, folder: Path) -> None:
    import nncf  # reports to its makers only through the package that convert.openvino keeps out

    nncf.set_log_level(logging.ERROR)
    quantised = nncf.quantize(converted(model, images), nncf.Dataset(images), subset_size=len(images))
    openvino.ov.save_model(quantised, folder / openvino.FILE, compress_to_fp16=False)


def converted(model: nn.Module, images: Images) -> Any:
    return openvino.ov.convert_model(model, example_input=example(images), input=list(images[0].shape))


def load_openvino(precision: str) -> Load:
    def load(folder: Path, threads: int) -> Run:
        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        hinted = {**settings, "INFERENCE_PRECISION_HINT": precision}
        request = openvino.core().compile_model(folder / openvino.FILE, "CPU", hinted).create_infer_request()
        return lambda x: np.asarray(request.infer({0: x}).to_tuple()[0])

    return load


def plain_executorch(model: nn.Module, images: Images, folder: Path) -> None:
    with torch.no_grad():
        lower_to_xnnpack(torch.export.export(model, (example(images),)), folder)


def xnnpack_quantizer(model: nn.Module, images: Images, folder: Path) -> None:
    """ExecuTorch's tutorial: symmetric, static, a scale a channel."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    with torch.no_grad():
        captured = torch.export.export(model, (example(images),)).module(check_guards=False)
        prepared = prepare_pt2e(captured, quantizer)
        for x in images:
            prepared(torch.from_numpy(x))
        lower_to_xnnpack(torch.export.export(convert_pt2e(prepared), (example(images),)), folder)


def lower_to_xnnpack(program: torch.export.ExportedProgram, folder: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    (folder / executorch.FILE).write_bytes(lowered.buffer)


PLAIN, AUTHORS, FAMILY = "plain export", "plain export, authors' form", "efficientvit"
PEERS = (
    Peer("onnx", PLAIN, "fp32", plain_onnx, onnx.load),
    Peer("onnx", AUTHORS, "fp32", of_authors_form(plain_onnx), onnx.load, FAMILY),
    Peer("onnx", "quantize_static, defaults", "int8", quantize_static(), onnx.load),
    Peer("onnx", "quantize_static, best operators", "int8", quantize_static(**best_operators()), onnx.load),
    Peer("openvino", PLAIN, "fp32", plain_openvino, load_openvino("f32")),
    Peer("openvino", AUTHORS, "fp32", of_authors_form(plain_openvino), load_openvino("f32"), FAMILY),
    Peer("openvino", "plain export, bf16 hint", "bf16", plain_openvino, load_openvino("bf16")),
    Peer("openvino", "NNCF, defaults", "int8", nncf_default, load_openvino("f32")),
    Peer("executorch", PLAIN, "fp32", plain_executorch, executorch.load),
    Peer("executorch", AUTHORS, "fp32", of_authors_form(plain_executorch), executorch.load, FAMILY),
    Peer("executorch", "XNNPACKQuantizer", "int8", xnnpack_quantizer, executorch.load),
)


def peers_of(model: str) -> tuple[Peer, ...]:
    return tuple(peer for peer in PEERS if model.startswith(peer.family))
