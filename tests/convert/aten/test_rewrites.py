"""Each rewrite computes what was there, with weights and tokens that no two of are alike."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from convert.aten.gather_tokens import gather_tokens
from convert.aten.norm_by_products import norm_by_products
from convert.aten.rewrite import rewritten
from edgevit.metrics import sqnr_db

N, K, C = 7, 3, 12


class Picking(nn.Module):
    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        ids = x.sum(2).topk(K, sorted=False).indices
        index = ids.unsqueeze(2).expand(-1, -1, C) if self.dim == 1 else ids.unsqueeze(1).expand(-1, N, -1)
        return x.gather(self.dim, index) * 2, ids


class Norms(nn.Module):
    """Of tokens, of all but the first, of a class token, and one after the other."""

    def __init__(self, affine: bool = True) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(C, 1e-6 * 10**i, affine) for i in range(4))
        for norm in self.norms:
            for value in norm.parameters():
                nn.init.normal_(value)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[1](self.norms[0](x) * 3 + 1)
        return torch.cat([y.flatten(1), self.norms[2](y[:, 0]), self.norms[3](y[:, 1:]).flatten(1)], 1)


def captured(model: nn.Module, images: int) -> tuple[ExportedProgram, Tensor]:
    x = torch.randn(images, N, C) * torch.linspace(0.1, 5, C) + torch.linspace(-3, 3, N)[:, None]
    return torch.export.export(model.eval(), (x,)), x


def targets(program: ExportedProgram) -> list[object]:
    return [node.target for node in program.graph.nodes if node.op == "call_function"]


def test_whole_tokens_are_picked() -> None:
    program, x = captured(Picking(), 1)
    after = rewritten(program, [gather_tokens])
    assert torch.ops.aten.index_select.default in targets(after)
    assert {torch.ops.aten.gather.default, torch.ops.aten.expand.default}.isdisjoint(targets(after))
    for given, wanted in zip(after.module()(x), program.module()(x), strict=True):
        assert torch.equal(given, wanted)


@pytest.mark.parametrize(("model", "images"), [(Picking(), 2), (Picking(dim=2), 1)])
def test_other_choices_are_left(model: nn.Module, images: int) -> None:
    program, _ = captured(model, images)
    assert rewritten(program, [gather_tokens]) is program


@pytest.mark.parametrize("images", [1, 2])
def test_norms_are_products(images: int) -> None:
    program, x = captured(Norms(), images)
    after = rewritten(program, [norm_by_products])
    assert torch.ops.aten.layer_norm.default not in targets(after)
    assert targets(after).count(torch.ops.aten.bmm.default) == 8
    with torch.no_grad():
        wanted, given = program.module()(x), after.module()(x)
    assert given.shape == wanted.shape
    assert sqnr_db(wanted.numpy(), given.numpy()) > 120


def test_a_norm_without_gain_is_left() -> None:
    program, _ = captured(Norms(affine=False), 1)
    assert rewritten(program, [norm_by_products]) is program


def test_rewrites_are_counted_and_the_program_itself_stays() -> None:
    program, x = captured(Norms(), 1)
    before, counts = targets(program), list[int]()

    def counting(rewrite: Callable[[GraphModule], int]) -> Callable[[GraphModule], int]:
        def count(module: GraphModule) -> int:
            counts.append(rewrite(module))
            return counts[-1]

        return count

    rewritten(program, [counting(gather_tokens), counting(norm_by_products)])
    assert counts == [0, 4]
    assert targets(program) == before
    assert program.module()(x).isfinite().all()
