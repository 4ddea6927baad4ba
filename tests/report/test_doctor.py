"""What a person reads of doctor's findings, on 80 columns."""

from dataclasses import replace
from typing import Any

import pytest

from edgevit.doctor import Health, Package, TargetState
from edgevit.report.doctor import doctor_report
from tests.report.test_terminal import shown

WELL = TargetState(
    name="openvino",
    package="openvino",
    version="2026.4.1",
    known_good=">=2026.4,<2026.5",
    installed=True,
    error=None,
    exports=True,
    runs=True,
    verified_by="runtime",
    install="pip install 'edgevit[openvino]'",
)
ELSEWHERE = replace(WELL, name="coreml", package="coremltools", version="9.0", runs=False, verified_by="evaluator")
ABSENT = replace(
    WELL,
    name="executorch",
    package="executorch",
    version=None,
    known_good=">=1.5.1,<1.6",
    installed=False,
    exports=False,
    runs=False,
    verified_by=None,
    install="pip install 'edgevit[executorch]'",
)
BROKEN = replace(WELL, error="Segmentation fault", exports=False, runs=False, verified_by=None)


def health(targets: list[TargetState], **changes: Any) -> Health:
    made = Health(
        edgevit="0.1.0",
        python=Package("python", "3.11.7", ">=3.11,<3.12", True, None),
        host={"os": "Linux", "cpu": "EPYC", "cores": 2, "memory_mb": 25276, "int8_flags": ["avx2", "avx512_vnni"]},
        packages=[
            Package("torch", "2.13.0+cpu", ">=2.13,<2.14", True, None),
            Package("openvino", "2026.4.1", ">=2026.4,<2026.5", True, "openvino"),
            Package("executorch", None, ">=1.5.1,<1.6", False, "executorch"),
        ],
        targets=targets,
        cache={"path": "/home/u/.cache/edgevit", "writable": True},
        bundled={"weights": ["m0.safetensors"], "images": ["set.npz"]},
    )
    return replace(made, **changes)


def lines(found: Health) -> list[str]:
    text = [" ".join(line.split()) for line in shown(doctor_report(found)).splitlines()]
    return [line for line in text if line]


def test_a_host_where_all_is_well() -> None:
    found = lines(health([WELL, ELSEWHERE, ABSENT]))
    assert found[:6] == [
        "edgevit 0.1.0, Python 3.11.7 (>=3.11,<3.12)",
        "Linux; EPYC, 2 cores, 25.3 GB",
        "instructions for INT8: avx2, avx512_vnni",
        "cache /home/u/.cache/edgevit: writable",
        "bundled weights: m0.safetensors",
        "bundled images: set.npz",
    ]
    for line in (
        "openvino openvino 2026.4.1 >=2026.4,<2026.5 yes yes yes",
        "coreml coremltools 9.0 >=2026.4,<2026.5 yes no yes",
        "executorch executorch - >=1.5.1,<1.6 no no no",
        "coreml runs on macOS only; here its reference evaluator verifies it",
        "executorch is not installed: pip install 'edgevit[executorch]'",
        "torch 2.13.0+cpu >=2.13,<2.14 edgevit",
        "openvino 2026.4.1 >=2026.4,<2026.5 openvino",
        "executorch - >=1.5.1,<1.6 executorch not installed",
    ):
        assert line in found
    assert found[-1] == "everything installed is well"


def test_problems_come_last_and_in_full() -> None:
    outside = Package("torch", "2.12.0", ">=2.13,<2.14", False, None)
    found = lines(health([BROKEN], packages=[outside]))
    assert "torch 2.12.0 >=2.13,<2.14 edgevit outside" in found
    assert "openvino openvino 2026.4.1 >=2026.4,<2026.5 no no no" in found
    text = " ".join(found)
    assert text.endswith(
        "problem: torch 2.12.0 is outside >=2.13,<2.14, the versions known to work: pip install 'torch>=2.13,<2.14' "
        "problem: target openvino is installed but cannot be imported (Segmentation fault): "
        "pip install --force-reinstall 'edgevit[openvino]'"
    )
    assert "everything installed is well" not in text
    assert "macOS" not in text


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (None, "instructions for INT8: this system does not tell"),
        ([], "instructions for INT8: none of avx2, avx_vnni, avx512_vnni, asimddp, i8mm"),
    ],
)
def test_instructions_that_are_not_there_or_not_known(flags: list[str] | None, line: str) -> None:
    assert line in lines(health([WELL], host=health([]).host | {"int8_flags": flags}))


def test_a_cache_that_cannot_be_written_to_and_files_that_are_missing() -> None:
    cache, bundled = {"path": "/x", "writable": False}, {"weights": [], "images": ["set.npz"]}
    found = lines(health([WELL], cache=cache, bundled=bundled))
    assert "cache /x: cannot be written to: official weights need another EDGEVIT_CACHE" in found
    assert "bundled weights: none" in found
    assert "problem: the bundled weights are missing: pip install --force-reinstall edgevit" in " ".join(found)


def test_it_fits_80_columns() -> None:
    report = shown(doctor_report(health([WELL, ELSEWHERE, ABSENT])))
    assert all(len(line) <= 80 for line in report.splitlines())
    assert "…" not in report
    assert "executorch  executorch   -" in report
