"""Weights → those grid values that move an operator's output least, where the nearest ones move the weights least.

    |Ŵ X - W X|² = Σ over rows of  d H dᵀ = |d L|²,    H = X Xᵀ = L Lᵀ,    d = a row of Ŵ - W

A column of X is what one value of the output reads of the rounded input. L is lower triangular: entry j of d L hangs on
d_j and those after it alone. So from the last column to the first, each weight goes to the grid value nearest to where
its entry, with the errors that are made already, would vanish:

    target_j = w_j - (Σ_{i>j} d_i L_ij) / L_jj

The columns that weigh most stand last and are chosen first, before there is any error to mend. This is GPTQ, arXiv
2210.17323, with its order by activation, in the form of "The Geometry of LLM Quantization", arXiv 2507.18553, which
needs no inverse of H. As there, H is damped: what the images hardly show must not pay for the rest.

All H come from one pass, in which every operator is rounded to nearest, and are held at once however many images there
are: 72 MB for DeiT-T, 1.1 GB for DeiT-B. They are sums of products of integers, exact in float64 in any order.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.fx import Interpreter, Node

from calibrate.channels import parameter, replace
from calibrate.fake_quantize import FakeQuantize
from calibrate.prepared import Prepared
from calibrate.quantizer import CONVOLUTIONS, OPERATOR_META, weight_of
from edgevit.errors import InputError

DAMPING = 0.01  # of the mean of H's diagonal


def choose_rounding(prepared: Prepared, batches: Iterable[Tensor]) -> None:
    """Put the weights of a frozen program's int8 operators on their grids, in place; ``batches`` are ``[B, 3, S, S]``.

    Grids stay as they are. A parameter stays float32, each value an integer times the scale of its channel, and
    conversion finds these integers again. The images are gone through once. Raises InputError if there is none.
    """
    for node, moment in second_moments(prepared, batches).items():
        weight = weight_parameter(node)
        values = parameter(prepared.module, weight)
        replace(prepared.module, weight, rounded(values, grid_of(prepared, node.args[1]), moment))


def weights_of(prepared: Prepared) -> dict[str, Tensor]:
    """Every quantised weight before its grid, by its operator; what is changed later does not show."""
    return {
        node.meta[OPERATOR_META]: prepared.module.get_parameter(str(weight_parameter(node).target)).detach()
        for node in weighted_nodes(prepared)
    }


def second_moments(prepared: Prepared, batches: Iterable[Tensor]) -> dict[Node, Tensor]:
    """Of each int8 operator, H of each of its G groups of F columns: ``[G, F, F]`` float64, the input in steps."""
    moments: dict[Node, Tensor] = {}

    def see(node: Node, x: Tensor, weight: Tensor) -> None:
        steps = torch.round(x / grid_of(prepared, node.args[0]).scale)
        for columns in columns_read(node, steps, weight):
            found = columns.double() @ columns.double().mT
            moments[node] = moments[node].add_(found) if node in moments else found

    watch(prepared, batches, see)
    return moments


def watch(prepared: Prepared, batches: Iterable[Tensor], see: Callable[[Node, Tensor, Tensor], None]) -> None:
    """Run the images through; ``see`` is given every int8 operator, its rounded input and its rounded weight.

    Raises InputError if there is no image.
    """
    nodes = weighted_nodes(prepared)

    class Watch(Interpreter):
        def run_node(self, n: Node) -> Any:
            if n in nodes:
                see(n, *self.fetch_args_kwargs_from_env(n)[0][:2])
            return super().run_node(n)

    images = 0
    with torch.no_grad():
        for batch in batches:
            images += len(batch)
            Watch(prepared.module).run(batch)
    if images == 0:
        raise InputError("there is no image to calibrate with: give at least one")


def weighted_nodes(prepared: Prepared) -> set[Node]:
    """The linears and convolutions that the recipe quantises."""
    kinds = {node: prepared.asked.get(node.meta.get(OPERATOR_META, "")) for node in prepared.module.graph.nodes}
    return {node for node, kind in kinds.items() if kind not in (None, "add")}


def weight_parameter(node: Node) -> Node:
    """What an operator's weight is before its grid."""
    values = weight_of(node).args[0]
    assert isinstance(values, Node)
    return values


def grid_of(prepared: Prepared, value: object) -> FakeQuantize:
    grid = prepared.grid(value)
    assert grid is not None, f"{value} is on no grid"
    return grid


def columns_read(node: Node, x: Tensor, weight: Tensor) -> Iterator[Tensor]:
    """``[G, F, N]``: in blocks of N values of the output, what these read of ``x``, ordered as a row of ``weight``.

    Of a convolution one block an image, as overlapping patches take several times the memory of ``x``.
    """
    if node.target not in CONVOLUTIONS:
        yield x.reshape(1, -1, x.shape[-1]).mT
        return
    settings = arguments_of(node)
    geometry = {name: settings[name] for name in ("stride", "padding", "dilation")}
    for image in torch.split(x, 1):
        patches = torch.nn.functional.unfold(image, weight.shape[2:], **geometry)
        yield patches.reshape(settings["groups"], -1, patches.shape[-1])


def arguments_of(node: Node) -> dict[str, Any]:
    """What a call passes, and for the rest the defaults."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    return {a.name: a.default_value for a in schema} | {a.name: v for a, v in zip(schema, node.args, strict=False)}


def rounded(weight: Tensor, grid: FakeQuantize, moments: Tensor) -> Tensor:
    """``weight`` (``[O, ...]`` float64) on ``grid``, its scale one an output channel, by H ``[G, F, F]``; float32."""
    groups, features, _ = moments.shape
    steps = weight.flatten(1).div(grid.scale[:, None]).reshape(groups, -1, features).mT  # [G, F, O / G]
    order = moments.diagonal(dim1=1, dim2=2).argsort(stable=True)
    ordered = moments.take_along_dim(order[:, :, None], 1).take_along_dim(order[:, None, :], 2)
    chosen = nearest_planes(steps.take_along_dim(order[:, :, None], 1), ordered, grid.quant_min, grid.quant_max)
    integers = chosen.take_along_dim(order.argsort()[:, :, None], 1).mT.reshape(len(weight), -1)
    return (integers.float() * grid.scale[:, None]).reshape(weight.shape)


def nearest_planes(weights: Tensor, moments: Tensor, low: int, high: int) -> Tensor:
    """``weights`` ``[G, F, N]`` → integers in ``low..high``, chosen by H ``[G, F, F]`` from the last F to the first."""
    damping = DAMPING * moments.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1)  # an input may always be 0
    root = torch.linalg.cholesky(moments + damping[:, None, None] * torch.eye(moments.shape[1]).double())
    errors = torch.empty_like(weights)
    for j in reversed(range(weights.shape[1])):
        carried = (root[:, None, j + 1 :, j] @ errors[:, j + 1 :])[:, 0]
        target = weights[:, j] - carried / root[:, j, j, None]
        errors[:, j] = target.round().clamp(low, high) - weights[:, j]
    return (weights + errors).round()
