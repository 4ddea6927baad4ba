import copy

import pytest
import torch
from torch.fx.traceback import NodeSource, NodeSourceAction

from convert.provenance import shared_provenance
from tests.calibrate.subjects import images, net


def source() -> NodeSource:
    graph = torch.export.export(net(), (images(1, 0, 16),)).graph
    return NodeSource(next(iter(graph.nodes)), "pass", NodeSourceAction.CREATE)


def test_a_chain_is_shared_inside_and_copied_outside() -> None:
    made = source()
    with shared_provenance():
        assert copy.deepcopy([made])[0] is made
    assert copy.deepcopy([made])[0] is not made


def test_an_exception_ends_it() -> None:
    with pytest.raises(KeyError), shared_provenance():
        raise KeyError
    made = source()
    assert copy.deepcopy(made) is not made


def test_a_program_comes_out_the_same() -> None:
    program = torch.export.export(net(), (images(1, 0, 16),))
    plain = program.run_decompositions({})
    with shared_provenance():
        shared = program.run_decompositions({})
    assert str(plain.graph) == str(shared.graph)
