"""The C++ runner, built by its CMake for this host and for arm64, and run on small models."""

import hashlib
import importlib.metadata
import json
import os
import pty
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from convert.target import target
from edgevit.images import Preprocess
from edgevit.metrics import sqnr_db
from tests.apps import outside
from tests.apps.programs import SOURCE, Built

pytestmark = [pytest.mark.apps, pytest.mark.timeout(1800)]

RUNTIMES = {"onnx": "onnxruntime", "executorch": "executorch"}
FILES = {"onnx": "onnx/model.onnx", "executorch": "executorch/model.pte"}
QUANTS = ("fp32", "int8")
PREPROCESS = Preprocess(36, 32)
LABELS = ["T-shirt/top", "café", "鞴"]
MIN_SQNR_DB = {"fp32": 80.0, "int8": 25.0}
QUICK = ("--runs", "20", "--seconds", "0")


# The models and their bundles


def network() -> nn.Module:
    """Each kind of layer that INT8 has kernels of its own for, and nothing else."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, 2, 1, groups=16),
        nn.Conv2d(16, 24, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 3),
    )
    with torch.no_grad():
        layers[-1].weight *= 10  # logits that are worth comparing
    return layers.eval()


def picture() -> Image.Image:
    random = np.random.default_rng(0)
    y, x = np.mgrid[:46, :61]
    waves = np.stack([127 + 90 * np.sin(x / a) * np.cos(y / b) for a, b in ((3, 5), (7, 2), (11, 13))], axis=-1)
    return Image.fromarray((waves + random.normal(0, 25, waves.shape)).clip(0, 255).astype(np.uint8))


def calibration() -> Iterator[NDArray[np.float32]]:
    random = np.random.default_rng(1)
    for _ in range(8):
        yield random.normal(size=(1, 3, 32, 32)).astype(np.float32)


def write_onnx(folder: Path, quant: str) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.images = calibration()

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            image = next(self.images, None)
            return None if image is None else {"image": image}

    path = folder / "model.onnx"
    example = (torch.zeros(1, 3, 32, 32),)
    torch.onnx.export(
        network(),
        example,
        path,
        dynamo=True,
        input_names=["image"],
        output_names=["logits"],
        external_data=False,
        verbose=False,
    )
    if quant == "int8":
        types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(path, path, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, **types)


def write_executorch(folder: Path, quant: str) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer
    from executorch.exir import to_edge_transform_and_lower
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    example = (torch.zeros(1, 3, 32, 32),)
    program = torch.export.export(network(), example)
    if quant == "int8":
        config = xnnpack_quantizer.get_symmetric_quantization_config(is_per_channel=True)
        prepared = prepare_pt2e(program.module(), xnnpack_quantizer.XNNPACKQuantizer().set_global(config))
        for image in calibration():
            prepared(torch.from_numpy(image))
        program = torch.export.export(convert_pt2e(prepared), example)
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    (folder / "model.pte").write_bytes(lowered.buffer)


def write_bundle(folder: Path, quant: str) -> Path:
    """As apps/README.md has it; the references are what the Python runtimes give here."""
    image = PREPROCESS(picture())
    reference = write_floats(folder, "reference.f32", image)
    models = {}
    for runtime, write in (("onnx", write_onnx), ("executorch", write_executorch)):
        (folder / runtime).mkdir()
        write(folder / runtime, quant)
        logits = target(runtime).load(folder / runtime)(image[None])
        model = folder / FILES[runtime]
        models[runtime] = {
            "path": FILES[runtime],
            "files": {FILES[runtime]: sha256(model)},
            "bytes": model.stat().st_size,
            "reference": write_floats(folder, f"reference-{runtime}.f32", logits),
            "min_sqnr_db": MIN_SQNR_DB[quant],
        }
    bundle = {
        "schema": 1,
        "edgevit": "0.1.0",
        "export_sha256": hashlib.sha256(quant.encode()).hexdigest(),
        "model": "tiny",
        "quant": quant,
        "input": {"name": "image", "shape": [1, 3, 32, 32]},
        "classes": 3,
        "labels": LABELS,
        "preprocess": PREPROCESS.manifest(),
        "reference": reference,
        "models": models,
    }
    (folder / "bundle.json").write_text(json.dumps(bundle), encoding="utf-8")
    return folder


def write_floats(folder: Path, name: str, values: NDArray[np.float32]) -> dict[str, str]:
    (folder / name).write_bytes(values.astype("<f4").tobytes())
    return {"file": name, "sha256": sha256(folder / name)}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {quant: write_bundle(tmp_path_factory.mktemp(quant), quant) for quant in QUANTS}


@pytest.fixture
def bundle(bundles: dict[str, Path], tmp_path: Path) -> Path:
    """One to damage."""
    return Path(shutil.copytree(bundles["int8"], tmp_path / "bundle"))


def read_result(text: str) -> dict[str, Any]:
    """A result.json, of which every field is there and of the kind that the contract says."""
    result: dict[str, Any] = json.loads(text)
    assert list(result) == [
        *("schema", "edgevit", "export_sha256", "model", "quant", "created", "app", "device", "runtime", "threads"),
        *("parity", "latency", "start", "memory_mb", "sustained", "thermal"),
    ]
    assert (result["schema"], result["app"]) == (1, "runner")
    created = time.strptime(result["created"], "%Y-%m-%dT%H:%M:%SZ")
    assert abs(time.mktime(created) - time.mktime(time.gmtime())) < 600
    assert list(result["device"]) == ["name", "os", "soc", "arch", "cores", "emulated"]
    assert result["device"]["cores"] == os.cpu_count()
    assert result["device"]["os"].startswith("Linux ")
    assert list(result["parity"]) == ["sqnr_db", "min_sqnr_db", "top1_matches", "holds"]
    return result


# On this host


@pytest.mark.parametrize("name", ["native", "emulated"])
def test_its_own_tests_the_golden_vectors_among_them(name: str, request: pytest.FixtureRequest) -> None:
    built: Built = request.getfixturevalue(name)
    said = outside.run([outside.program("ctest", "cmake"), "--output-on-failure"], cwd=built.build)
    assert "100% tests passed, 0 tests failed out of 3" in said


@pytest.mark.parametrize("name", ["native", "emulated"])
def test_what_is_installed_is_self_contained(name: str, request: pytest.FixtureRequest) -> None:
    built: Built = request.getfixturevalue(name)
    present = {path.name for path in (built.installed / "lib").iterdir()}
    system = {"libstdc++.so.6", "libm.so.6", "libgcc_s.so.1", "libc.so.6", "libdl.so.2", "libpthread.so.0"}
    for file in (built.installed / "bin").iterdir():
        said = outside.run([outside.program("readelf", "binutils"), "--dynamic", str(file)])
        needed = {line.split("[")[1].rstrip("]") for line in said.splitlines() if "(NEEDED)" in line}
        assert needed - present <= system | {"ld-linux-aarch64.so.1", "ld-linux-x86-64.so.2"}
        assert needed & present
        assert "Library runpath: [$ORIGIN/../lib]" in said


@pytest.mark.parametrize("quant", QUANTS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_result(native: Built, bundles: dict[str, Path], runtime: str, quant: str) -> None:
    done = native.run(runtime, bundles[quant], *QUICK, "--threads", "2")
    assert (done.returncode, done.stderr) == (0, "")
    result = read_result(done.stdout)
    written = json.loads((bundles[quant] / "bundle.json").read_text(encoding="utf-8"))
    for key in ("edgevit", "export_sha256", "model", "quant"):
        assert result[key] == written[key]
    version = importlib.metadata.version(RUNTIMES[runtime]).partition("+")[0]
    delegate = {"onnx": "CPU", "executorch": "XNNPACK"}[runtime]
    assert result["runtime"] == {"name": RUNTIMES[runtime], "version": version, "delegate": delegate}
    assert (result["threads"], result["device"]["emulated"], result["device"]["arch"]) == (2, None, os.uname().machine)
    assert result["parity"]["sqnr_db"] > 100  # the same kernels as Python's, here
    assert result["parity"] | {"sqnr_db": 0} == {
        "sqnr_db": 0,
        "min_sqnr_db": MIN_SQNR_DB[quant],
        "top1_matches": True,
        "holds": True,
    }
    latency = result["latency"]
    assert list(latency) == ["runs", "p50_ms", "p90_ms", "p99_ms", "min_ms", "spread", "steady"]
    assert latency["runs"] == 20
    assert 0 < latency["min_ms"] <= latency["p50_ms"] <= latency["p90_ms"] <= latency["p99_ms"] < 1000
    assert list(result["start"]) == ["load_ms", "first_ms"]
    assert result["start"]["load_ms"] > 0 < result["start"]["first_ms"]
    assert 0 < result["memory_mb"] < 500
    assert result["sustained"] is None


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_parity_alone_times_nothing(native: Built, bundles: dict[str, Path], runtime: str) -> None:
    done = native.run(runtime, bundles["int8"], "--parity-only")
    assert (done.returncode, done.stderr) == (0, "")
    result = read_result(done.stdout)
    assert result["parity"]["holds"]
    assert [result[key] for key in ("latency", "start", "memory_mb", "sustained", "thermal")] == [None] * 5


def test_it_says_where_it_is_on_a_terminal(native: Built, bundles: dict[str, Path]) -> None:
    ours, theirs = pty.openpty()
    command = native.command("onnx", bundles["fp32"], *QUICK)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, check=False)
    os.close(theirs)
    said = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "Timing" in said
    assert read_result(done.stdout)["parity"]["holds"]


@pytest.mark.parametrize("change", [[0.0, 0.0, 50.0], [1.0, 1.0, 1.0]], ids=["another class", "too far"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_answer_that_is_too_far_from_the_reference(
    native: Built, bundle: Path, runtime: str, change: list[float]
) -> None:
    file = bundle / f"reference-{runtime}.f32"
    right = np.fromfile(file, "<f4")
    wrong = right + np.array(change, np.float32) * (1 if right.argmax() != 2 else -1)
    wrong.tofile(file)
    done = native.run(runtime, bundle, "--parity-only")
    assert (done.returncode, done.stderr) == (1, "")
    parity = read_result(done.stdout)["parity"]
    assert not parity["holds"]
    assert parity["top1_matches"] == bool(right.argmax() == wrong.argmax())
    assert parity["sqnr_db"] == pytest.approx(sqnr_db(wrong[None], right[None]), abs=0.01)


def rewrite(bundle: Path, **fields: Any) -> None:
    path = bundle / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | fields), encoding="utf-8")


def truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def damage(bundle: Path, runtime: str) -> None:
    """The model is as long as it was, and no model any more."""
    path = bundle / FILES[runtime]
    path.write_bytes(path.read_bytes()[:64].ljust(path.stat().st_size, b"\xff"))


def leave_out(bundle: Path, runtime: str) -> None:
    models = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))["models"]
    rewrite(bundle, models={name: model for name, model in models.items() if name != runtime})


def other_classes(bundle: Path, runtime: str) -> None:
    rewrite(bundle, classes=2, labels=None)
    truncate(bundle / f"reference-{runtime}.f32", 8)


DAMAGE: dict[str, tuple[Callable[[Path, str], object], str]] = {
    "no folder": (lambda bundle, _: shutil.rmtree(bundle), "is no folder"),
    "no bundle.json": (lambda bundle, _: (bundle / "bundle.json").unlink(), "bundle.json"),
    "no JSON": (lambda bundle, _: truncate(bundle / "bundle.json", 100), "JSON"),
    "schema 2": (lambda bundle, _: rewrite(bundle, schema=2), "schema 2"),
    "no such model": (leave_out, "has no model for"),
    "no model file": (lambda bundle, runtime: (bundle / FILES[runtime]).unlink(), "missing"),
    "truncated model": (lambda bundle, runtime: truncate(bundle / FILES[runtime], 1000), "has 1000 bytes"),
    "damaged model": (damage, "cannot load"),
    "another input": (lambda bundle, _: truncate(bundle / "reference.f32", 12000), "has 12000 bytes where 12288"),
    "another reference": (lambda bundle, runtime: truncate(bundle / f"reference-{runtime}.f32", 8), "8 bytes where 12"),
    "other classes": (other_classes, "does not give 2 float32 logits"),
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_bundle_that_cannot_be_read(native: Built, bundle: Path, runtime: str, name: str) -> None:
    apply, said = DAMAGE[name]
    apply(bundle, runtime)
    refused(native.run(runtime, bundle, *QUICK), runtime, said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "No bundle was named"),
        (["--fast"], "There is no option --fast"),
        (["other"], "There is more than one bundle"),
        (["--threads", "0"], "--threads takes a number from 1"),
        (["--threads", "1.5"], "--threads takes a whole number"),
        (["--threads", "two"], "--threads takes a number from 1"),
        (["--runs", "-1"], "--runs takes a number from 1"),
        (["--seconds", "61"], "--seconds takes a number from 0 to 60"),
        (["--minutes", "1"], "--minutes takes a number from 2"),
        (["--minutes"], "--minutes has no value"),
        (["--image", "picture.ppm", "--runs", "20"], "--image only classifies"),
        (["--image", "missing.ppm"], "missing.ppm cannot be read"),
    ],
)
def test_wrong_arguments(native: Built, bundles: dict[str, Path], arguments: list[str], said: str) -> None:
    refused(native.run("onnx", *([bundles["fp32"]] if arguments else []), *arguments), "onnx", said)


def refused(done: subprocess.CompletedProcess[str], runtime: str, said: str) -> None:
    """With one sentence, and nothing on stdout."""
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"edgevit-runner-{runtime}: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("how", "threads"), [(signal.SIGTERM, 1), (signal.SIGINT, 3)])
def test_it_runs_on_so_many_threads_and_ends_when_it_is_told_to(
    native: Built, bundles: dict[str, Path], runtime: str, how: signal.Signals, threads: int
) -> None:
    command = native.command(runtime, bundles["fp32"], "--seconds", "60", "--threads", str(threads))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        time.sleep(2)  # the model is loaded by then, and being timed for another minute
        assert len(list(Path(f"/proc/{running.pid}/task").iterdir())) == threads
        running.send_signal(how)
        assert running.communicate(timeout=10) == (b"", b"")
    assert running.returncode == 130


def test_a_result_that_cannot_be_written(native: Built, bundles: dict[str, Path]) -> None:
    with Path("/dev/full").open("w") as full:
        command = native.command("onnx", bundles["fp32"], "--parity-only")
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert "The result cannot be written" in done.stderr


@pytest.mark.parametrize("name", ["native", "emulated"])
def test_onnx_runtime_phones_nobody(
    name: str, bundles: dict[str, Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    built: Built = request.getfixturevalue(name)
    off = ("ORT_DISABLE_TELEMETRY", "CI", "TF_BUILD", "JENKINS_URL")  # each would hide that nothing was switched off
    environment = {key: value for key, value in os.environ.items() if key not in off}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache")}
    done = built.run("onnx", bundles["fp32"], "--parity-only", env=environment | home)
    assert done.returncode == 0
    assert list(tmp_path.rglob("*")) == []


# A picture


@pytest.mark.parametrize("quant", QUANTS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_likeliest_classes_of_a_picture(
    native: Built, bundles: dict[str, Path], tmp_path: Path, runtime: str, quant: str
) -> None:
    file = tmp_path / "picture.ppm"
    picture().save(file)
    done = native.run(runtime, bundles[quant], "--image", file)
    assert (done.returncode, done.stderr) == (0, "")
    logits = target(runtime).load(bundles[quant] / runtime)(PREPROCESS(picture())[None])[0].astype(np.float64)
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    order = sorted(range(3), key=lambda index: (-probabilities[index], index))
    wanted = [f"{probabilities[index]:.4f}\t{index}\t{LABELS[index]}" for index in order]
    assert done.stdout.splitlines() == wanted


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"P5 4 4 255\n" + bytes(16), "is no binary PPM"),
        (b"P6 4 4 65535\n" + bytes(96), "has no PPM header"),
        (b"P6 4 0 255\n", "has no PPM header"),
        (b"P6 4 4 255\n" + bytes(47), "has not as many pixels"),
        (b"P6 4 4 255\n" + bytes(49), "has not as many pixels"),
        (b"P6 1 51 255\n" + bytes(153), "50 times"),
        (b"P6 90000 90000 255\n", "64 million"),
        (b"", "is no binary PPM"),
    ],
)
def test_a_picture_that_is_none(
    native: Built, bundles: dict[str, Path], tmp_path: Path, data: bytes, said: str
) -> None:
    file = tmp_path / "picture.ppm"
    file.write_bytes(data)
    refused(native.run("onnx", bundles["fp32"], "--image", file), "onnx", said)


def test_a_comment_in_a_picture(native: Built, bundles: dict[str, Path], tmp_path: Path) -> None:
    plain, commented = tmp_path / "plain.ppm", tmp_path / "commented.ppm"
    pixels = picture().tobytes()
    plain.write_bytes(b"P6\n61 46\n255\n" + pixels)
    commented.write_bytes(b"P6\n# made by hand\n61 # wide\n 46\n255\n" + pixels)
    show = partial(native.run, "onnx", bundles["fp32"], "--image")
    assert show(commented).stdout == show(plain).stdout != ""


# On arm64, whose instructions are emulated


@pytest.mark.parametrize("quant", QUANTS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_arm64_answers_as_the_host_that_exported(
    emulated: Built,
    bundles: dict[str, Path],
    runtime: str,
    quant: str,
) -> None:
    done = emulated.run(runtime, bundles[quant], *QUICK)
    assert done.returncode == 0, done.stderr
    result = read_result(done.stdout)
    assert result["parity"]["holds"]
    assert result["parity"]["sqnr_db"] >= MIN_SQNR_DB[quant]
    device = result["device"]
    assert (device["name"], device["soc"], device["arch"], device["emulated"]) == (None, None, "aarch64", "qemu-user")
    assert [result[key] for key in ("latency", "start", "memory_mb", "sustained", "thermal")] == [None] * 5


def test_arm64_has_exit_codes_as_well(emulated: Built, bundle: Path) -> None:
    np.array([9, 0, -9], "<f4").tofile(bundle / "reference-onnx.f32")
    assert emulated.run("onnx", bundle).returncode == 1
    rewrite(bundle, schema=2)
    assert emulated.run("onnx", bundle).returncode == 2


# CMake


def test_no_runtime_is_an_error_that_names_the_mend(tmp_path: Path) -> None:
    command = [outside.program("cmake", "cmake"), "-S", str(SOURCE), "-B", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "-DEDGEVIT_ONNXRUNTIME=<folder>" in done.stderr


def test_a_runtime_without_its_library_is_an_error(tmp_path: Path) -> None:
    command = [outside.program("cmake", "cmake"), "-S", str(SOURCE), "-B", str(tmp_path / "build")]
    done = subprocess.run([*command, f"-DEDGEVIT_ONNXRUNTIME={tmp_path}"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "lib/libonnxruntime.so.1 is missing" in " ".join(done.stderr.split())
