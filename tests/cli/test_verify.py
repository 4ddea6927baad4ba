"""``edgevit verify``: a fresh export holds, and whatever is changed in one is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from convert import onnx, openvino
from convert.source import Source
from edgevit import artifact, pipeline, rederive
from edgevit.bench.protocol import Comparison, Ratio, Timing
from edgevit.lowering import Programs
from edgevit.measuring import Latency
from edgevit.steps import artifact_metadata
from tests.cli.conftest import Edgevit
from tests.conftest import Exported, short_timing

Manifest = dict[str, Any]


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported.folder, tmp_path / "export"))


def edit(folder: Path, change: Callable[[Manifest], object]) -> None:
    manifest = artifact.read_manifest(folder)
    change(manifest)
    artifact.write_json(folder / artifact.MANIFEST, manifest)


def flip(path: Path, position: int) -> None:
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def failing(stdout: str) -> dict[str, str]:
    """Claim → reason of each that does not hold, from ``--json``."""
    return {check["claim"]: check["reason"] for check in json.loads(stdout) if not check["holds"]}


def test_a_fresh_export_holds_and_comes_out_the_same_twice(
    exported: Exported, edgevit: Edgevit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second run of the same seed gives the same grids, and an artifact of the same bytes."""
    sources: list[Source] = []
    subjects: list[Any] = []
    make_programs = rederive.make_programs

    def keep(options: Any, subject: Any, *rest: Any) -> Any:
        made = make_programs(options, subject, *rest)
        sources.append(made[0].artifact)
        subjects.append((options, subject))
        return made

    monkeypatch.setattr(rederive, "make_programs", keep)
    with short_timing():
        ended = edgevit("verify", exported.folder)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert len(lines) > 25
    assert all(line.startswith("holds  ") for line in lines)
    manifest = artifact.read_manifest(exported.folder)
    (source,) = sources
    assert source.quantized is not None
    assert manifest["quant"]["tensors"] == {k: v.manifest() for k, v in source.quantized.tensors.items()}
    onnx.lower(source, tmp_path, artifact_metadata(*subjects[0]))
    assert artifact.sha256_of(tmp_path / "model.onnx") == manifest["targets"]["onnx"]["files"]["model.onnx"]


def test_every_measured_claim_that_was_edited_is_named(
    copied: Path, edgevit: Edgevit, monkeypatch: pytest.MonkeyPatch
) -> None:
    timing = Timing(20, 1.0, 1.1, 1.2, 0.9, 0.1)
    same = Comparison(timing, timing, Ratio(1.0, (0.9, 1.1)), steady=True)
    monkeypatch.setattr(
        rederive, "measure_latency", lambda *ignored: dict.fromkeys(("onnx", "openvino"), Latency(same, None))
    )

    def change(manifest: Manifest) -> None:
        manifest["fold"][0]["count"] += 1
        manifest["quant"]["recipe"]["rules"].pop()
        manifest["quant"]["operators"].popitem()
        weights = next(name for name in manifest["quant"]["tensors"] if name.endswith(".weight"))
        manifest["quant"]["tensors"][weights]["scale"][0] *= 1.01
        manifest["parity"]["links"][1]["sqnr_db"] += 3
        manifest["parity"]["links"][3]["top1_agreement"] /= 2
        for key in ("speedup", "p50_ms", "p90_ms", "p99_ms"):
            manifest["latency"]["onnx"][key] *= 40 if key == "speedup" else 1 / 40
        manifest["latency"]["onnx"]["speedup_ci95"] = [x * 40 for x in manifest["latency"]["onnx"]["speedup_ci95"]]

    edit(copied, change)
    ended = edgevit("verify", copied, "--json")
    assert ended.code == 1
    failures = failing(ended.out)
    assert failures.keys() == {
        "onnx: operators asked and delivered in INT8",
        "openvino: operators asked and delivered in INT8",
        "onnx: grid",
        "openvino: grid",
        "folding",
        "recipe",
        "operators that the recipe quantises",
        "calibration gives these scales",
        "parity folded → quantised program",
        "parity quantised program → openvino",
        "onnx: latency against its float twin",
    }
    assert "sqnr_db is" in failures["parity folded → quantised program"]
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("edgevit: 11 of ")


@pytest.fixture(scope="session")
def memory() -> dict[str, Any]:
    """What the runtimes found in files, by their digests."""
    return {}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, memory: dict[str, Any]) -> None:
    """Without what has to be measured again, which damaged files and lists do not need; each file is opened once."""

    def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(folder: Path, *given: Any) -> Any:
            files = artifact.describe_files(folder) if folder.exists() else None
            key = json.dumps([function.__module__, function.__name__, files, given])
            if key not in memory:
                memory[key] = function(folder, *given)
            return memory[key]

        return call

    monkeypatch.setattr(rederive, "measured", lambda *ignored: iter(()))
    for module in (onnx, openvino):
        for name in ("census", "grid"):
            monkeypatch.setattr(module, name, remembered(getattr(module, name)))


def scale(manifest: Manifest) -> None:
    grid = manifest["quant"]["tensors"]["head.l.input"]
    grid["scale"][0] = grid["scale"][0] * (1 + 1e-6)


def zero_point(manifest: Manifest) -> None:
    manifest["quant"]["tensors"]["head.l.input"]["zero_point"][0] += 1


def census(manifest: Manifest) -> None:
    manifest["targets"]["openvino"]["census"]["int8"]["conv"] += 1


def first_of_each(m: Manifest) -> set[str]:
    census(m)
    m["targets"]["onnx"].update(bytes=1)
    m["targets"]["onnx"]["grid"].update(tensors_compared=1)
    m["latency"]["onnx"].update(speedup=9.0)
    m["model"].update(params=1, name="efficientvit_m5")
    m["model"]["weights"].update(licence="MIT")
    m["preprocess"].update(interpolation="bilinear")
    m.update(seed=7)
    m["quant"]["calibration"].update(images=300)
    m["parity"].update(labels=False)
    m["images"]["bad"].clear()
    m["failures"].append("onnx: a claim")
    return {
        "openvino: operators asked and delivered in INT8",
        "onnx: files",
        "onnx: grid",
        "onnx: latency agrees with itself",
        "parameters and MACs",
        "model",
        "weights",
        "preprocessing",
        "seed, precision, targets",
        "number and digest of the images",
        "labels",
        "number of skipped images",
        "the export reported no failure",
    }


def second_of_each(m: Manifest) -> set[str]:
    zero_point(m)
    m["targets"]["onnx"]["files"].update({"model.onnx": "0" * 64})
    m["targets"]["onnx"]["census"].update(int8_delivered=1)
    m["latency"]["onnx"].update(p50_ms=0.0)
    m["latency"]["openvino"].update(threads=4)
    m["model"].update(macs=1, classes=1000)
    m["model"]["weights"].update(sha256="0" * 64)
    m["parity"].update(images=1000)
    m["quant"].update(mode="fp32")
    m["images"]["bad"][0].update(reason="is grey")
    return {
        "onnx: grid",
        "openvino: grid",
        "onnx: files",
        "onnx: operators asked and delivered in INT8",
        "onnx: latency agrees with itself",
        "openvino: latency agrees with itself",
        "parameters and MACs",
        "model",
        "weights",
        rederive.MEASURED,
        "seed, precision, targets",
        "number and digest of the images",
        "skipped images",
    }


def one_scale(m: Manifest) -> set[str]:
    scale(m)
    return {"onnx: grid", "openvino: grid"}


def without_a_target(m: Manifest) -> set[str]:
    m["targets"].pop("openvino")
    return {"files of the export", "seed, precision, targets"}


def without_a_latency(m: Manifest) -> set[str]:
    m["latency"].pop("openvino")
    return {"the manifest's form"}


def without_options(m: Manifest) -> set[str]:
    m.pop("options")
    return {"the manifest's form"}


def with_a_tensor_that_is_none(m: Manifest) -> set[str]:
    m["quant"]["tensors"].update(a=3)
    return {"the manifest's form"}


def with_another_form_of_targets(m: Manifest) -> set[str]:
    m.update(targets=[])
    return {"the manifest's form", "files of the export"}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "change",
    [
        first_of_each,
        second_of_each,
        one_scale,
        without_a_target,
        without_a_latency,
        without_options,
        with_a_tensor_that_is_none,
        with_another_form_of_targets,
    ],
)
def test_a_manifest_that_was_edited(change: Callable[[Manifest], set[str]], copied: Path, edgevit: Edgevit) -> None:
    named: set[str] = set()
    edit(copied, lambda manifest: named.update(change(manifest)))
    ended = edgevit("verify", copied, "--json")
    assert ended.code == 1
    assert failing(ended.out).keys() == named
    assert ended.err.count("\n") == 1
    assert "claims no longer hold: " in ended.err


def truncate(folder: Path) -> None:
    path = folder / "openvino" / "model.bin"
    path.write_bytes(path.read_bytes()[:1000])


def shuffle(folder: Path) -> None:
    images = artifact.read_json(folder / artifact.IMAGES)
    images["calibration"].reverse()
    artifact.write_json(folder / artifact.IMAGES, images)


def remove(folder: Path) -> None:
    (folder / "openvino" / "model.bin").unlink()
    (folder / artifact.IMAGES).unlink()


def empty(folder: Path) -> None:
    (folder / "onnx" / "model.onnx").write_bytes(b"")
    (folder / artifact.IMAGES).write_text("{")


def flip_each(folder: Path) -> None:
    for name in ("onnx/model.onnx", "openvino/model.bin"):
        flip(folder / name, (folder / name).stat().st_size // 2)


def flip_xml(folder: Path) -> None:
    path = folder / "openvino" / "model.xml"
    flip(path, path.stat().st_size // 2)


def add(folder: Path) -> None:
    for name in ("onnx/added", "openvino/added", "added"):
        (folder / name).write_bytes(b"")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (flip_each, {"onnx: files", "openvino: files"}),
        (flip_xml, {"openvino: files"}),
        (truncate, {"openvino: files", "openvino: census and grid"}),
        (remove, {"openvino: files", "openvino: census and grid", "images", "files of the export", rederive.MEASURED}),
        (empty, {"onnx: files", "onnx: census and grid", "images", rederive.MEASURED}),
        (
            lambda folder: shutil.rmtree(folder / "onnx"),
            {"onnx: files", "onnx: census and grid", "files of the export"},
        ),
        (add, {"onnx: files", "openvino: files", "files of the export"}),
        (shuffle, {"list of images", "number and digest of the images"}),
    ],
)
def test_files_that_were_changed(
    change: Callable[[Path], object], named: set[str], copied: Path, edgevit: Edgevit
) -> None:
    """A byte in the middle of a file is weights or a grid: that may be found, and may break the file, as well."""
    change(copied)
    ended = edgevit("verify", copied, "--json")
    assert ended.code == 1
    if change in (flip_each, flip_xml):
        assert named <= failing(ended.out).keys()
    else:
        assert named == failing(ended.out).keys()
    assert ended.err.count("\n") == 1


@pytest.fixture
def moved(exported: Exported, tmp_path: Path) -> tuple[Path, Path]:
    """The export, and copies of its data and weights that may be changed."""
    shutil.copytree(exported.data, tmp_path / "data")
    shutil.copy(exported.weights, tmp_path / "weights.safetensors")
    return tmp_path / "data", tmp_path / "weights.safetensors"


@pytest.mark.usefixtures("quick")
def test_images_and_weights_that_moved(exported: Exported, edgevit: Edgevit, moved: tuple[Path, Path]) -> None:
    data, weights = moved
    ended = edgevit("verify", exported.folder, "--data", data, "--weights", weights)
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("part", "change"), [("calibration", "pixels"), ("scored", "corrupt"), ("scored", "gone")])
def test_an_image_that_was_changed(
    part: str, change: str, exported: Exported, edgevit: Edgevit, moved: tuple[Path, Path]
) -> None:
    data, _ = moved
    name = artifact.read_json(exported.folder / artifact.IMAGES)[part][3]["name"]
    if change == "pixels":
        Image.new("RGB", (64, 64)).save(data / name)
    elif change == "corrupt":
        (data / name).write_bytes(b"junk")
    else:
        (data / name).unlink()
    ended = edgevit("verify", exported.folder, "--data", data, "--json")
    assert ended.code == 1
    assert failing(ended.out).pop(f"{part} images") == f"1 changed or missing, such as {name}"


@pytest.mark.usefixtures("quick")
def test_inputs_that_are_gone_or_others(
    exported: Exported, edgevit: Edgevit, moved: tuple[Path, Path], tmp_path: Path
) -> None:
    _, weights = moved
    flip(weights, weights.stat().st_size - 1)
    ended = edgevit("verify", exported.folder, "--weights", weights, "--json")
    assert failing(ended.out).keys() == {"weights", rederive.MEASURED}
    ended = edgevit("verify", exported.folder, "--weights", tmp_path / "gone", "--data", tmp_path / "gone", "--json")
    assert ended.code == 1
    assert failing(ended.out).keys() == {"weights", "images"}
    assert "Traceback" not in ended.err


def test_an_artifact_of_another_model_is_a_failed_claim(
    exported: Exported, copied: Path, edgevit: Edgevit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its runtime opens it, but raises an error of its own once it is run."""

    def load(folder: Path, threads: int) -> Any:
        def run(x: Any) -> Any:
            raise RuntimeError("Got invalid dimensions for input")

        return run

    monkeypatch.setattr(onnx, "load", load)
    monkeypatch.setattr(rederive, "make_programs", lambda *ignored: (Programs(None, None), None))
    ended = edgevit("verify", copied, "--json")
    assert ended.code == 1
    assert "is missing or damaged" in failing(ended.out)[rederive.MEASURED]


@pytest.mark.parametrize(
    ("content", "code", "reason"),
    [
        (None, 2, "holds no manifest.json: name a folder that edgevit export wrote"),
        ("{", 1, "cannot be read as JSON"),
        ('{"schema": 2}', 2, "is not of schema 1"),
        ("[1]", 2, "is not of schema 1"),
    ],
)
def test_no_manifest(content: str | None, code: int, reason: str, edgevit: Edgevit, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / artifact.MANIFEST).write_text(content)
    ended = edgevit("verify", tmp_path)
    assert (ended.code, ended.out) == (code, "")
    assert reason in ended.err
    assert ended.err.count("\n") == 1


def test_the_python_api_gives_the_same_checks(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rederive, "measured", lambda *ignored: iter(()))
    checks = pipeline.verify(exported.folder)
    assert all(check.holds for check in checks)
    assert "number of skipped images" in {check.claim for check in checks}
