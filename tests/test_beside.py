"""Lowering in a process of its own: the same files, the same errors, and nothing left of it."""

import json
import os
import time
from pathlib import Path

import pytest
import torch

from convert.source import Source
from edgevit import beside
from edgevit.beside import Beside, Job
from edgevit.errors import InputError
from tests.calibrate.subjects import FLOAT_RESIDUAL, images, net, quantized_net
from tests.convert.test_inexpressible import exported


def job(name: str, folder: Path, source: Source) -> Job:
    folder.mkdir()
    return Job(name, source, folder, {"model": "net"}, {})


def test_the_files_are_those_of_this_process(tmp_path: Path) -> None:
    sources = [Source(quantized_net(FLOAT_RESIDUAL), "int8")]
    sources.append(Source(torch.export.export(net(), (images(1, 0, 16),)), "fp32"))
    jobs = [job("onnx", tmp_path / str(index), source) for index, source in enumerate(sources)]
    with Beside(jobs) as others:
        written = [others.finish(entry.folder) for entry in jobs]
        assert others.finish(tmp_path / "not a job") is None
    from convert import onnx

    for entry, took in zip(jobs, written, strict=True):
        assert took is not None
        assert took.seconds > 0
        assert took.peak_rss_mb > 100
        here = tmp_path / f"{entry.folder.name}-here"
        here.mkdir()
        onnx.lower(entry.source, here, entry.metadata)
        assert (here / "model.onnx").read_bytes() == (entry.folder / "model.onnx").read_bytes()


def test_errors_come_back_as_they_were(tmp_path: Path) -> None:
    inexpressible = job("onnx", tmp_path / "a", Source(exported(torch.linalg.inv), "fp32"))
    broken = Job("onnx", Source(exported(torch.sin), "fp32"), tmp_path / "no such folder", {}, {})
    with Beside([inexpressible, broken]) as others:
        with pytest.raises(InputError, match=r"target onnx cannot express linalg_inv(_ex)? in neck \(Neck\)"):
            others.finish(inexpressible.folder)
        with pytest.raises(RuntimeError, match=r"^FileNotFoundError: .*no such folder") as raised:
            others.finish(broken.folder)
    (note,) = raised.value.__notes__
    assert note.startswith("Traceback")


def test_a_process_that_dies_is_said_with_what_it_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "REQUESTS", "elsewhere.json")
    entry = job("onnx", tmp_path / "a", Source(exported(torch.sin), "fp32"))
    with Beside([entry]) as others, pytest.raises(RuntimeError, match=r"ended with 1: (?s:.*)FileNotFoundError"):
        others.finish(entry.folder)


def test_nothing_is_left_when_the_block_ends_early(tmp_path: Path) -> None:
    entry = job("executorch", tmp_path / "a", Source(exported(torch.sin), "fp32"))
    with Beside([entry]) as others:
        assert others.process is not None
        pid, place = others.process.pid, others.place
        assert json.loads((place / beside.REQUESTS).read_text())[0]["name"] == "executorch"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not place.exists()


def test_without_a_job_there_is_no_process() -> None:
    started = time.monotonic()
    with Beside([]) as others:
        assert others.process is None
    assert time.monotonic() - started < 1
