"""The operators that are left in float are those that a limit needs, and no more."""

import json
from collections.abc import Set
from itertools import chain, combinations

import numpy as np
import pytest
import torch

from calibrate.mixed import MOVED, Choice, Kept, Limits, Trial, choose, closed, rule, search, work
from calibrate.prepared import Prepared
from calibrate.ptq import calibrate, prepare
from calibrate.recipe import Recipe, Rule
from calibrate.sensitivity import Fidelity, OperatorCost, Sensitivity, joined, measure
from edgevit.errors import InputError
from edgevit.metrics import Drop, top1
from tests.calibrate.subjects import FLOAT_RESIDUAL, INT8_RESIDUAL, TOKENS, images, net, net_batches
from tests.calibrate.test_sensitivity import ignore, prepared_net, spoilt_token_net

EXAMPLE = images(1, 0, 16)


def chosen(prepared: Prepared, limits: Limits, labels: np.ndarray | None = None) -> Choice:
    return choose(prepared, measure(prepared, net_batches(), ignore), net_batches(), labels, limits, ignore)


def names(choice: Choice) -> list[str]:
    return [cost.name for cost in choice.floats]


def cost(name: str, noise: float = 1.0) -> OperatorCost:
    return OperatorCost(name, "linear", Fidelity(31.24, 1.0), Fidelity(20.0, 1.0), noise)


class Stated(Trial):
    """Keeps 40 dB where some of the sets that are stated to suffice are in float, else 10."""

    def __init__(self, *suffice: Set[str]) -> None:
        self.suffice, self.tried = suffice, list[Set[str]]()

    def keeps(self, left: Set[str]) -> Kept:
        self.tried.append(frozenset(left))
        return Kept(40.0 if any(names <= left for names in self.suffice) else 10.0, Drop(100, 100, 0, (0, 0)))


def found(trial: Trial, noise: dict[str, float]) -> tuple[set[str], Kept]:
    sensitivity = Sensitivity(8, Fidelity(10.0, 1.0), tuple(cost(name, value) for name, value in noise.items()))
    return search(prepare(net(), FLOAT_RESIDUAL, net_batches(), EXAMPLE), sensitivity, trial, Limits(min_sqnr=30))


def test_a_limit_that_holds_leaves_nothing_in_float() -> None:
    prepared = prepared_net()
    choice = chosen(prepared, Limits(min_sqnr=5, max_drop=100))
    assert choice.met
    assert (choice.floats, choice.work, choice.problem) == ((), 0, None)
    assert choice.kept == choice.before
    assert choice.recipe(INT8_RESIDUAL) == INT8_RESIDUAL


@pytest.mark.parametrize("min_sqnr", [47, 52, 58, 62])
def test_the_limit_is_met_and_no_member_is_needless(min_sqnr: float) -> None:
    prepared = prepared_net()
    choice = chosen(prepared, Limits(min_sqnr=min_sqnr))
    trial = Trial(prepared, net_batches(), None, ignore)
    left = set(names(choice))
    assert choice.met
    assert 0 < len(left) < len(prepared.asked)
    assert choice.before.sqnr_db < min_sqnr <= choice.kept.sqnr_db
    assert trial.keeps(left) == choice.kept
    for name in left:
        fewer = closed(prepared, left - {name})
        assert name in fewer or trial.keeps(fewer).sqnr_db < min_sqnr
    assert chosen(prepared, Limits(min_sqnr=min_sqnr)) == choice


def test_a_spoilt_operator_is_all_that_is_left_in_float() -> None:
    batches = [images(8, seed, 16) for seed in range(2)]
    prepared = prepare(spoilt_token_net(), TOKENS, batches, EXAMPLE)
    choice = choose(prepared, measure(prepared, batches, ignore), batches, None, Limits(min_sqnr=30), ignore)
    assert names(choice) == ["blocks.0.qkv"]
    assert choice.before.sqnr_db < 25
    assert choice.images == 16


def test_a_limit_out_of_reach_is_said_with_the_best_there_is() -> None:
    prepared, x = prepared_net(), images(4, 9, 16)
    everything = prepared.logits(x)
    choice = chosen(prepared, Limits(min_sqnr=250, max_drop=0))
    assert not choice.met
    assert choice.problem is not None
    assert choice.problem.startswith(
        "no choice of float operators reaches an SQNR of 250 dB and a drop of at most 0 points on 12 images: "
        f"the best that was found, with {len(choice.floats)} in float, keeps {choice.kept.sqnr_db:.1f} dB"
    )
    assert len(choice.floats) < len(prepared.asked)
    assert torch.equal(prepared.logits(x), everything)


def test_of_equal_noise_the_least_work_is_left_in_float() -> None:
    equal = dict.fromkeys(("a.c", "b.c", "dw.c", "head"), 1.0)
    left, _ = found(Stated({"a.c"}, {"dw.c"}), equal)
    assert left == {"dw.c"}
    left, _ = found(Stated({"a.c"}, {"dw.c"}), {**equal, "a.c": 100.0})
    assert left == {"a.c"}


def test_what_the_limit_does_not_need_is_taken_back_the_most_work_first() -> None:
    """a.c is more work than head, so of the two that would do beside b.c head stays."""
    noise = {"a.c": 1e4, "head": 1e3, "b.c": 1e2, "dw.c": 1e-6}
    left, kept = found(Stated({"a.c", "b.c"}, {"head", "b.c"}, {"dw.c"}), noise)
    assert left == {"head", "b.c"}
    assert kept.sqnr_db == 40
    assert found(Stated({"b.c"}), noise)[0] == {"b.c"}


def test_where_noise_for_work_misses_the_limit_noise_alone_may_meet_it() -> None:
    """By work, a.c comes last and stays quantised; by noise alone, dw.c does."""
    left, kept = found(Stated({"a.c"}), {"a.c": 1.2, "b.c": 1.3, "dw.c": 1.1, "head": 1.4})
    assert left == {"a.c"}
    assert kept.sqnr_db == 40


def test_nothing_stated_suffices() -> None:
    trial = Stated()
    left, kept = found(trial, {"a.c": 4.0, "b.c": 3.0, "dw.c": 2.0, "head": 1.0})
    assert len(left) == 3
    assert kept.sqnr_db == 10
    assert len(trial.tried) == 2


def test_a_drop_is_of_the_labels_or_of_the_float_answers() -> None:
    prepared = prepared_net()
    prepared.quantise(set())
    logits = joined(prepared.logits(x) for x in net_batches())
    own, other = logits.argmax(1), logits.argmin(1)
    unlabelled = chosen(prepared, Limits(max_drop=0), None)
    assert not unlabelled.labelled
    assert unlabelled.before.drop.from_ == 100
    labelled = chosen(prepared, Limits(max_drop=0), own)
    assert labelled.labelled
    assert labelled.before == unlabelled.before
    assert chosen(prepared, Limits(max_drop=0), other).before.drop.from_ == top1(logits, other) == 0


def test_a_program_must_meet_both_limits() -> None:
    kept = Kept(20.0, Drop(90, 88, 2.0, (0, 4)))
    assert kept.meets(Limits(min_sqnr=20))
    assert not kept.meets(Limits(min_sqnr=20.1))
    assert kept.meets(Limits(max_drop=2))
    assert not kept.meets(Limits(max_drop=1.9))
    assert kept.meets(Limits(2, 20))
    assert not kept.meets(Limits(1.9, 20))
    assert not kept.meets(Limits(2, 20.1))
    with pytest.raises(ValueError, match="needs a limit"):
        Limits()


def test_the_recipe_prepares_what_was_measured() -> None:
    prepared, x = prepared_net(), images(8, 9, 16)
    choice = chosen(prepared, Limits(min_sqnr=52))
    recipe, left = choice.recipe(INT8_RESIDUAL), set(names(choice))
    assert {name for name in prepared.asked if recipe.precision(name) == "float"} == left
    assert recipe.rules[len(left) :] == INT8_RESIDUAL.rules
    assert recipe.observer == INT8_RESIDUAL.observer
    prepared.quantise(prepared.asked.keys() - left)
    assert torch.equal(prepare(net(), recipe, net_batches(), EXAMPLE).logits(x), prepared.logits(x))


def test_a_rule_is_for_one_operator_whatever_its_name() -> None:
    for name in ("a*c", "a?c", "a[bc]", "a]c", "blocks.0.fc1"):
        made = rule(cost(name))
        recipe = Recipe((made, Rule("*", "int8", "")), "minmax")
        assert recipe.precision(name) == "float"
        assert {recipe.precision(other) for other in ("abc", "ab", "abbc", "blocks.10.fc1", f"{name}x")} == {"int8"}
        assert made.because == "mixed precision: 31.2 dB alone, 20.0 with all others quantised"


def subsets(names: tuple[str, ...]) -> list[set[str]]:
    return [set(found) for found in chain.from_iterable(combinations(names, size) for size in range(len(names) + 1))]


@pytest.mark.parametrize("left", subsets(("a.c", "b.c", "dw.c")), ids=lambda names: " ".join(sorted(names)) or "none")
def test_what_is_left_in_float_can_be_converted(left: set[str]) -> None:
    """And a sum is added to it only where conversion would refuse it."""

    def without(left: set[str]) -> Recipe:
        return Recipe((*(rule(cost(name)) for name in sorted(left)), *INT8_RESIDUAL.rules), "minmax")

    convertible = closed(prepared_net(), left)
    assert convertible - left == ({"b.c.residual"} if {"a.c", "b.c"} <= left else set())
    calibrate(net(), without(convertible), net_batches(), EXAMPLE)
    if convertible != left:
        with pytest.raises(InputError, match="two tensors would be called"):
            calibrate(net(), without(left), net_batches(), EXAMPLE)


def test_work_is_multiplications_and_elements_moved() -> None:
    assert work(prepared_net()) == {
        "a.c": 1024 * 8 + MOVED * (512 + 128 + 1024),
        "b.c": 512 * 16 + MOVED * (1024 + 128 + 512),
        "b.c.residual": MOVED * 3 * 512,
        "dw.c": 512 * 9 + MOVED * (512 + 72 + 512),
        "head": 5 * 8 + MOVED * (8 + 40 + 5),
    }


def test_the_manifest_is_json() -> None:
    choice = chosen(prepared_net(), Limits(min_sqnr=52))
    manifest = json.loads(json.dumps(choice.manifest()))
    assert manifest["floats"] == names(choice)
    assert manifest["limits"] == {"max_drop": None, "min_sqnr": 52}
    assert manifest["met"] is True
    assert manifest["images"] == 12
    assert manifest["kept"]["sqnr_db"] == choice.kept.sqnr_db


def test_refuses_no_image_and_images_that_come_once() -> None:
    prepared = prepared_net()
    sensitivity = measure(prepared, net_batches(), ignore)
    with pytest.raises(InputError, match="no image"):
        choose(prepared, sensitivity, [], None, Limits(min_sqnr=20), ignore)
    with pytest.raises(TypeError, match="several times"):
        choose(prepared, sensitivity, iter(net_batches()), None, Limits(min_sqnr=20), ignore)
