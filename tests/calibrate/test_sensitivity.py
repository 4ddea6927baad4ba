"""What every operator costs is what runs from the start would say, bit for bit."""

import json
from collections.abc import Sequence, Set
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from calibrate.branches import Trunk
from calibrate.prepared import Prepared
from calibrate.ptq import prepare
from calibrate.recipe import Recipe, Rule
from calibrate.recipes import EFFICIENTVIT
from calibrate.sensitivity import TRUNK, compared, joined, measure, programs
from edgevit.errors import InputError
from edgevit.metrics import Logits
from tests.calibrate.subjects import INT8_RESIDUAL, SIDE, TOKENS, WIDTH, images, net, net_batches, token_net, vit

SUBJECTS = {
    "net": (net, INT8_RESIDUAL, 16, (2, 1)),
    "efficientvit": (vit, EFFICIENTVIT, SIDE, (2,)),
    "tokens": (token_net, TOKENS, 16, (2, 1)),
}  # and their batches


def prepared_net() -> Prepared:
    return prepare(net(), INT8_RESIDUAL, net_batches(), images(1, 0, 16))


def ignore(_: int) -> None:
    pass


def from_the_start(prepared: Prepared, quantised: Set[str], batches: Sequence[Tensor]) -> Logits:
    prepared.quantise(quantised)
    return joined(prepared.logits(x) for x in batches)


@pytest.mark.parametrize(("subject", "recipe", "side", "sizes"), SUBJECTS.values(), ids=SUBJECTS.keys())
def test_measures_what_runs_from_the_start_would(  # type: ignore[no-untyped-def]
    subject, recipe: Recipe, side: int, sizes: tuple[int, ...]
) -> None:
    prepared = prepare(subject(), recipe, [images(4, seed, side) for seed in range(2)], images(1, 0, side))
    batches, everything = [images(size, size, side) for size in sizes], prepared.asked.keys()
    alone = {name: from_the_start(prepared, {name}, batches) for name in everything}
    spared = {name: from_the_start(prepared, everything - {name}, batches) for name in everything}
    alone[TRUNK], spared[TRUNK] = (from_the_start(prepared, names, batches) for names in (set(), everything))
    told: list[int] = []
    found = measure(prepared, batches, told.append)
    assert found == compared(prepared.asked, alone, spared)
    assert sum(told) == programs(prepared) * sum(sizes)
    assert {cost.name: cost.kind for cost in found.operators} == prepared.asked
    assert [cost.noise for cost in found.operators] == sorted((cost.noise for cost in found.operators), reverse=True)
    assert len({cost.alone.sqnr_db for cost in found.operators}) > len(prepared.asked) / 2
    assert (joined([prepared.logits(x) for x in batches]) == spared[TRUNK]).all()  # all are quantised again


def test_branches_give_the_same_bits() -> None:
    prepared, x = prepared_net(), images(4, 9, 16)
    sets = [set(), {"a.c"}, {"b.c.residual", "head"}, {"b.c", "dw.c"}, set(prepared.asked)]
    for quantised in sets:
        trunk = Trunk(prepared, quantised, {str(index): others for index, others in enumerate(sets)})
        for name, logits in (*trunk.logits(x), *trunk.logits(x)):
            assert torch.equal(logits, torch.from_numpy(from_the_start(prepared, sets[int(name)], [x])))


def test_an_operation_in_place_does_not_reach_another_branch() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            return self.head(x.add_(self.b(x)).mean((2, 3)))

    torch.manual_seed(0)
    recipe = Recipe((Rule("*.residual", "float", ""), Rule("*", "int8", "")), "minmax")
    prepared, x = prepare(InPlace().eval(), recipe, net_batches(), images(1, 0, 16)), images(4, 9, 16)
    assert torch.ops.aten.add_.Tensor in {node.target for node in prepared.module.graph.nodes}
    everything = prepared.asked.keys()
    for quantised in (set[str](), everything):
        branches = {TRUNK: quantised, **{name: quantised ^ {name} for name in everything}}
        for name, logits in dict(Trunk(prepared, quantised, branches).logits(x)).items():
            assert torch.equal(logits, torch.from_numpy(from_the_start(prepared, branches[name], [x])))


def spoilt_token_net() -> nn.Module:
    """The same function, but one channel of the first keys is a thousand times as large as the others."""
    model = deepcopy(token_net())
    with torch.no_grad():
        for row, factor in ((0, 1e-3), (WIDTH, 1e3)):  # of a query and of its key
            model.blocks[0].qkv.weight[row] *= factor
            model.blocks[0].qkv.bias[row] *= factor
    return model


def test_a_spoilt_operator_costs_most() -> None:
    batches = [images(8, seed, 16) for seed in range(2)]
    costs = [
        measure(prepare(model, TOKENS, batches, images(1, 0, 16)), batches, ignore).operators
        for model in (token_net(), spoilt_token_net())
    ]
    assert costs[0][0].name == "head"
    assert costs[1][0].name == "blocks.0.qkv"
    assert costs[1][0].noise > 10 * costs[1][1].noise
    assert costs[1][0].spared.sqnr_db > max(cost.spared.sqnr_db for cost in costs[1][1:]) + 10


def test_the_manifest_is_json() -> None:
    found = measure(prepared_net(), [images(4, 9, 16)], ignore)
    manifest = json.loads(json.dumps(found.manifest()))
    assert manifest["images"] == 4
    assert manifest["quantised"]["sqnr_db"] == found.quantised.sqnr_db
    assert [entry["name"] for entry in manifest["operators"]] == [cost.name for cost in found.operators]
    assert manifest["operators"][0]["alone"] == {
        "sqnr_db": found.operators[0].alone.sqnr_db,
        "top1_agreement": found.operators[0].alone.top1_agreement,
    }


def test_refuses_no_image_and_no_operator() -> None:
    with pytest.raises(InputError, match="no image"):
        measure(prepared_net(), [], ignore)
    nothing = prepare(net(), Recipe((Rule("*", "float", ""),), "minmax"), net_batches(), images(1, 0, 16))
    with pytest.raises(InputError, match="no operator"):
        measure(nothing, net_batches(), ignore)


def test_names_the_operator_whose_logits_are_not_finite() -> None:
    prepared = prepared_net()
    prepared.grids()["head"].outputs[0].scale.fill_(torch.inf)
    with pytest.raises(InputError, match=r"the logits of the program with only head quantised are not finite"):
        measure(prepared, net_batches(), ignore)
    with pytest.raises(InputError, match="the logits of the float program are not finite"):
        measure(prepared, [torch.full((1, 3, 16, 16), torch.nan)], ignore)
