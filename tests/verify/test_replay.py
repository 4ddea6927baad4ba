"""A selection forced upon every form in which a program is captured, against the model's own replay."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.fx import GraphModule, symbolic_trace

from calibrate.prepared import capture
from calibrate.program import QuantizedProgram
from calibrate.ptq import calibrate
from calibrate.recipe import Recipe, Rule
from convert.fold import fold
from edgevit.metrics import sqnr_db
from edgevit.models.dynamicvit import DynamicViT
from edgevit.verify import tokens
from edgevit.verify.replay import replay
from tests.models.test_dynamicvit import SIDE, images, randomised

NAMES = ["narrow_deit", "narrow_lvvit"]
BATCH = 3
RECIPE = Recipe(
    (Rule("score_predictor.*", "float", ""), Rule("*.residual", "float", ""), Rule("*", "int8", "")), "minmax"
)
Ids = list[Tensor]


@cache
def model(name: str, selects: bool = True) -> DynamicViT:
    subject = randomised(name)
    subject.returns_selection = selects
    return subject


def exported(name: str, selects: bool) -> GraphModule:
    shapes = ({0: Dim("batch", min=1, max=64)},)
    return torch.export.export(model(name, selects), (images(2),), dynamic_shapes=shapes).module()


def exported_for_three(name: str, selects: bool) -> GraphModule:
    return torch.export.export(model(name, selects), (images(BATCH),)).module()


@cache
def quantized(name: str) -> QuantizedProgram:
    return calibrate(fold(model(name), images(2))[0], RECIPE, [images(8)], images(BATCH))


FORMS: dict[str, Callable[[str, bool], GraphModule]] = {
    "symbolic": lambda name, selects: symbolic_trace(model(name, selects)),
    "folded": lambda name, selects: fold(model(name, selects), images(2))[0],
    "exported": exported,
    "exported for three": exported_for_three,
    "captured": lambda name, selects: capture(model(name, selects), images(1)),
    "folded and captured": lambda name, selects: capture(fold(model(name, selects), images(2))[0], images(1)),
}
QUANTIZED: dict[str, Callable[[str], GraphModule]] = {
    "module": lambda name: quantized(name).module,
    "program": lambda name: quantized(name).program.module(),
}


@cache
def graph_of(form: str, name: str, selects: bool = True) -> GraphModule:
    return FORMS[form](name, selects)


def drawn(name: str, seed: int) -> Ids:
    """Patches kept by lot, in any order."""
    random = torch.Generator().manual_seed(seed)
    kept, before = [], torch.arange(model(name).patches).expand(BATCH, -1)
    for count in model(name).counts:
        places = torch.rand(before.shape, generator=random).argsort(1)[:, :count]
        before = before.gather(1, places)
        kept.append(before)
    return kept


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 2e-6) -> None:
    """The tolerance is a part of the largest value."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_any_selection_runs_as_the_model_replays_it(form: str, name: str) -> None:
    graph, x = graph_of(form, name), images(BATCH)
    for seed in range(3):
        kept = drawn(name, seed)
        with torch.no_grad():
            expected, own = model(name).replay(x, kept), model(name)(x)
        assert (expected[0] - own[0]).abs().max() > 1e-2 * own[0].abs().max()  # or forcing would show nothing
        actual = replay(graph, x, kept)
        assert len(actual) == len(expected) == 7
        assert_close(actual[0], expected[0])
        assert all(torch.equal(*pair) for pair in zip(actual[1:4], kept, strict=True))
        for scores, wanted in zip(actual[4:], expected[4:], strict=True):
            assert_close(scores, wanted, 1e-5)
        assert not any(value.requires_grad for value in actual)


@pytest.mark.parametrize("form", ["symbolic", "exported"])
def test_a_program_that_returns_logits_alone(form: str) -> None:
    kept = drawn("narrow_deit", 0)
    with torch.no_grad():
        expected = model("narrow_deit").replay(images(BATCH), kept)[0]
    (logits,) = replay(graph_of(form, "narrow_deit", selects=False), images(BATCH), kept)
    assert_close(logits, expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_its_own_selection_changes_nothing_and_its_order_neither(form: str, name: str) -> None:
    graph, x = graph_of(form, name), images(BATCH)
    with torch.no_grad():
        own = graph(x)
    for actual, expected in zip(replay(graph, x, own[1:4]), own, strict=True):
        assert torch.equal(actual, expected)
    assert_close(replay(graph, x, [ids.flip(1) for ids in own[1:4]])[0], own[0])
    with torch.no_grad():
        assert torch.equal(graph(x)[0], own[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", QUANTIZED)
def test_a_quantised_program(form: str, name: str) -> None:
    graph, x = QUANTIZED[form](name), images(BATCH)
    own = quantized(name).outputs(x)
    for actual, expected in zip(replay(graph, x, own[1:4]), own, strict=True):
        assert torch.equal(actual, expected)
    kept = drawn(name, 0)
    actual = replay(graph, x, kept)
    with torch.no_grad():
        expected = model(name).replay(x, kept)
    assert all(torch.equal(*pair) for pair in zip(actual[1:4], kept, strict=True))
    assert torch.equal(actual[4], own[4])
    for index in (0, 5, 6):  # logits, and the scores behind the first site
        forced, free = (sqnr_db(expected[index].numpy(), output[index].numpy()) for output in (actual, own))
        assert forced > free + 10


def test_a_replayed_reference_judges_another_run() -> None:
    """The other is the model itself, of images with a little noise: right within what int8 does, not within float."""
    graph, x = graph_of("symbolic", "narrow_deit"), images(BATCH)
    noisy = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own, other = ([value.numpy() for value in graph(batch)] for batch in (x, noisy))
    runtime = tokens.Kept.of(other)
    where = tokens.differing(tokens.Kept.of(own), runtime)
    assert 0 < where.sum() < BATCH
    replayed = replay(graph, x[torch.from_numpy(where)], [torch.from_numpy(ids[where]) for ids in runtime.ids])
    reference = tokens.Kept.of(tokens.substituted(own, [value.numpy() for value in replayed], where))
    assert tokens.check(reference, runtime, "int8").broken() is None
    assert "site 1 are off by" in str(tokens.check(reference, runtime, "fp32").broken())


def test_top_k_gives_scores_and_places_however_it_is_called() -> None:
    class Chooser(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            first, second = torch.topk(x, 3, -1, sorted=False), torch.topk(input=x[:, :3], k=2, dim=1)
            return first[0], first[1], second.values, second.indices

    x, kept = torch.tensor([[10.0, 11, 12, 13]]), [torch.tensor([[2, 0, 3]]), torch.tensor([[3, 2]])]
    outputs = replay(symbolic_trace(Chooser()), x, kept)
    assert [value.tolist() for value in outputs] == [[[12, 10, 13]], [[2, 0, 3]], [[12, 10]], [[2, 0]]]


def replaced(ids: Tensor, value: int) -> Tensor:
    ids = ids.clone()
    ids[1, 0] = value
    return ids


@pytest.mark.parametrize("form", ["symbolic", "exported"])
def test_ids_that_no_selection_can_be_raise(form: str) -> None:
    graph, x, kept = graph_of(form, "narrow_deit"), images(BATCH), drawn("narrow_deit", 0)
    first, second, third = kept
    dropped = min(set(range((SIDE // 16) ** 2)) - set(first[1].tolist()))
    wrong = {
        r"^there are kept ids of 2 sites for 3: give a tensor a site$": kept[:2],
        r"^there are kept ids of 4 sites for 3": [*kept, third],
        r"^the kept ids of site 1 have the shape \(3, 10\), where \(3, 11\) is needed$": [first[:, 1:], second, third],
        r"^the kept ids of site 2 have the shape \(2, 7\), where \(3, 7\)": [first, second[1:], third],
        r"^the kept ids of site 1 repeat, or did not survive to it: give": [replaced(first, 16), second, third],
        r"^the kept ids of site 2 repeat, or did not survive": [first, replaced(second, dropped), third],
        r"^the kept ids of site 3 repeat, or did not survive": [first, second, replaced(third, int(third[1, 1]))],
    }
    for message, ids in wrong.items():
        with pytest.raises(ValueError, match=message):
            replay(graph, x, ids)


def test_a_program_without_sites_takes_no_ids() -> None:
    graph, x = symbolic_trace(nn.Sequential(nn.Linear(4, 2))), torch.ones(1, 4)
    with torch.no_grad():
        assert torch.equal(replay(graph, x, [])[0], graph(x))
    with pytest.raises(ValueError, match="ids of 1 sites for 0"):
        replay(graph, x, [torch.zeros(1, 1)])
