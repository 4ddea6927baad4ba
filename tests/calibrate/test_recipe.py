import json
from dataclasses import replace
from typing import get_args

import click
import pytest

from calibrate.recipe import Observer, Recipe, Rule
from edgevit.cli.export import command

RECIPE = Recipe(
    (
        Rule("stem.*", "float", "few channels"),
        Rule("stem.1", "int8", "never reached"),
        Rule("*.ffn", "int8", "large"),
    ),
    "histogram",
)


@pytest.mark.parametrize(
    ("operator", "precision"),
    [
        ("stem.0", "float"),
        ("stem.1", "float"),  # the first match wins
        ("blocks.0.ffn", "int8"),
        ("blocks.0.FFN", "float"),  # patterns are case-sensitive, whatever the file system
        ("blocks.0.ffn.residual", "float"),  # no rule names it
        ("head", "float"),
    ],
)
def test_the_first_match_decides_and_what_no_rule_names_is_float(operator: str, precision: str) -> None:
    assert RECIPE.precision(operator) == precision


def test_finds_the_rules_that_name_nothing() -> None:
    misspelt = RECIPE.rules[2]
    assert RECIPE.unused(["stem.0", "stem.1", "blocks.0.fnn"]) == [misspelt]
    assert RECIPE.unused(name for name in ("stem.1", "blocks.0.ffn")) == []


def test_what_a_family_may_lack_is_a_rule_to_the_letter() -> None:
    family = replace(RECIPE, may_lack=("*.ffn",))
    assert family.unused(["stem.0"]) == [RECIPE.rules[1]]
    assert family.unused(["stem.1"]) == []
    assert family.unused(["blocks.0.ffn"]) == list(RECIPE.rules[:2])
    assert family.precision("blocks.0.ffn") == "int8"
    misspelt = replace(family, rules=(*family.rules, Rule("*.fnn", "float", "")))
    assert misspelt.unused(["stem.1"]) == [misspelt.rules[-1]]
    with pytest.raises(ValueError, match=r"no rule of the recipe has the pattern '\*\.fnn'"):
        replace(RECIPE, may_lack=("*.fnn",))


@pytest.mark.parametrize("recipe", [RECIPE, replace(RECIPE, may_lack=("*.ffn",))])
def test_the_manifest_holds_the_whole_recipe(recipe: Recipe) -> None:
    manifest = json.loads(json.dumps(recipe.manifest()))
    rules, may_lack = tuple(Rule(**rule) for rule in manifest["rules"]), tuple(manifest["may_lack"])
    assert Recipe(rules, manifest["observer"], may_lack) == recipe


def test_every_observer_can_be_asked_for() -> None:
    (asked,) = (parameter for parameter in command.params if parameter.name == "observer")
    assert isinstance(asked.type, click.Choice)
    assert tuple(asked.type.choices) == get_args(Observer)


@pytest.mark.parametrize("field", ["migration", "equalisation"])
@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan")])
def test_a_strength_is_between_0_and_1(field: str, strength: float) -> None:
    with pytest.raises(ValueError, match="is not between 0 and 1"):
        replace(Recipe((), "minmax"), **{field: strength})
