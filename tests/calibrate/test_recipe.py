import json

import pytest

from calibrate.recipe import Recipe, Rule

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


def test_the_manifest_holds_the_whole_recipe() -> None:
    manifest = json.loads(json.dumps(RECIPE.manifest()))
    assert Recipe(tuple(Rule(**rule) for rule in manifest["rules"]), manifest["observer"]) == RECIPE
