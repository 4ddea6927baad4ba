import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from calibrate.program import weighted_operators
from calibrate.ptq import calibrate
from calibrate.recipe import Recipe, Rule
from convert import executorch as executorch_target
from convert import pte
from convert.source import Precision, Source
from edgevit.errors import ClaimError
from tests.calibrate.subjects import INT8_RESIDUAL, SIDE, images, quantized_net, quantized_vit, vit
from tests.convert.conftest import METADATA, Lowered

Lower = Callable[[str, Precision], Lowered]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_runtime_reads_what_the_file_is(precision: Precision, lowered: Lower) -> None:
    found = executorch_target.metadata(lowered("executorch", precision).folder)
    operators = json.loads(found.pop("operators"))
    assert found == METADATA
    program = torch.export.export(vit(), (images(1, 0, SIDE),))
    assert operators == list(weighted_operators(program).values())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_everything_is_delegated_in_one_partition(precision: Precision, lowered: Lower) -> None:
    census = executorch_target.census(lowered("executorch", precision).folder, {})
    assert census.counts()["partitions"] == 1
    assert census.counts()["portable"] == {}


def test_nothing_of_the_superset_is_dropped(lowered: Lower) -> None:
    entry = lowered("executorch", "int8")
    assert entry.dropped == ()
    assert executorch_target.grid(entry.folder) == quantized_vit().tensors


def test_a_portable_kernel_is_counted_and_parts_the_program(tmp_path: Path) -> None:
    class Rolling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.cumsum(self.a(x), -1)).flatten(1)

    source = Source(torch.export.export(Rolling().eval(), (images(1, 0, 4),)), "fp32")
    executorch_target.lower(source, tmp_path, {})
    census = executorch_target.census(tmp_path, {})
    assert (census.partitions, census.portable) == (2, {"aten::cumsum.out": 1})
    assert census.float["conv"] == 2


class Partitioned(nn.Module):
    """The layer ``last`` comes before ``first`` here, and behind it in the file: a portable kernel feeds it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.last, self.first = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.reshape(x.shape[0], -1, 8))
        return self.last(tokens[:, 0]) + self.first(tokens[:, 1:]).amax(1)


def test_operators_keep_their_names_where_the_file_has_them_in_another_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = images(4, 0, 4)
    quantized = calibrate(Partitioned().eval(), Recipe((Rule("*", "int8", ""),), "minmax"), [x], x[:1])
    executorch_target.lower(Source(quantized, "int8"), tmp_path, {})
    program = pte.read(tmp_path / "model.pte")
    handles = [node.handle for graph in program.graphs for node in graph.nodes if node.kind == "XNNFullyConnected"]
    assert handles != sorted(handles)
    assert executorch_target.grid(tmp_path) == quantized.tensors
    assert executorch_target.census(tmp_path, quantized.asked).missing == ()


def test_residual_additions_run_in_integers_where_the_recipe_asks(tmp_path: Path) -> None:
    quantized = quantized_net(INT8_RESIDUAL)
    executorch_target.lower(Source(quantized, "int8"), tmp_path, {})
    census = executorch_target.census(tmp_path, quantized.asked)
    assert census.missing == ()
    assert {kind: census.int8[kind] for kind in ("conv", "add", "linear")} == {"conv": 3, "add": 1, "linear": 1}
    assert executorch_target.grid(tmp_path) == quantized.tensors


def altered(lowered: Lower, folder: Path, old: float, new: float) -> Path:
    copy = Path(shutil.copytree(lowered("executorch", "int8").folder, folder / "executorch"))
    data = (copy / "model.pte").read_bytes()
    assert data.count(np.float32(old).tobytes()) >= 1
    (copy / "model.pte").write_bytes(data.replace(np.float32(old).tobytes(), np.float32(new).tobytes()))
    return copy


@pytest.mark.parametrize("tensor", ["patch_embed.4.c.output", "head.l.input", "blocks2.1.conv1.c.weight"])
def test_a_tampered_scale_is_seen_to_its_last_bit(tensor: str, lowered: Lower, tmp_path: Path) -> None:
    tensors = quantized_vit().tensors
    scale = tensors[tensor].scale[0]
    found = executorch_target.grid(altered(lowered, tmp_path, scale, float(np.nextafter(np.float32(scale), 1))))
    differing = {name for name in found if found[name] != tensors[name]}
    assert tensor in differing
    assert all(scale in tensors[name].scale for name in differing)


def test_a_tensor_on_two_grids_is_refused(lowered: Lower, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = lowered("executorch", "int8").folder
    program = pte.read(folder / "model.pte")
    monkeypatch.setattr(executorch_target.pte, "read", lambda path: program)
    (graph,) = program.graphs
    (value, *_) = (node.outputs[0] for node in graph.nodes if node.inserted and node.inputs[0] in graph.grids)
    other = quantized_vit().tensors["head.l.input"]
    assert graph.grids[value] != other
    graph.grids[value] = other  # type: ignore[index]
    with pytest.raises(ClaimError, match=r"model\.pte holds blocks.* on two grids: export it again$"):
        executorch_target.grid(folder)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_and_does_not_crash(share: float, lowered: Lower, tmp_path: Path) -> None:
    whole = (lowered("executorch", "int8").folder / "model.pte").read_bytes()
    (tmp_path / "model.pte").write_bytes(whole[: int(share * len(whole))])
    for read in (executorch_target.load, executorch_target.grid, executorch_target.metadata):
        with pytest.raises(ClaimError, match=r"model\.pte is missing or damaged.*: export it again$"):
            read(tmp_path)


def test_threads_change_only_while_nothing_is_loaded(lowered: Lower) -> None:
    folder, x = lowered("executorch", "fp32").folder, images(1, 0, SIDE).numpy()
    run = executorch_target.load(folder, threads=1)
    with pytest.raises(ValueError, match="another number of threads than 2"):
        executorch_target.load(folder, threads=2)
    first = run(x)
    del run
    run = executorch_target.load(folder, threads=2)
    assert executorch_target.portable_lib._threadpool_get_thread_count() == 2
    np.testing.assert_allclose(run(x), first, rtol=1e-4, atol=1e-5)
    del run
    executorch_target.load(folder, threads=1)


def test_native_messages_stay_behind(lowered: Lower, capfd: pytest.CaptureFixture[str]) -> None:
    executorch_target.load(lowered("executorch", "fp32").folder, threads=2)
    executorch_target.load(lowered("executorch", "fp32").folder, threads=1)
    assert capfd.readouterr() == ("", "")
