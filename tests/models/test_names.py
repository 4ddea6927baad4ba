"""Both directions between the authors' names and timm's, on all six models."""

import pytest
import torch

from edgevit.models import efficientvit, names, weights

KEYS = {
    "efficientvit_m0": (699, 693),
    "efficientvit_m1": (615, 609),
    "efficientvit_m2": (603, 597),
    "efficientvit_m3": (675, 669),
    "efficientvit_m4": (699, 693),
    "efficientvit_m5": (835, 827),
}


def authors_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state dict as the authors' code writes it: with an index buffer beside each bias table."""
    state = {}
    for key, value in model.state_dict().items():
        state[key] = value
        if key.endswith(".attention_biases"):
            state[key.replace("_biases", "_bias_idxs")] = torch.zeros(value.shape[1], value.shape[1], dtype=torch.int64)
    return state


@pytest.mark.parametrize("name", KEYS)
def test_round_trip_loads_strictly_and_answers_bit_for_bit(name: str) -> None:
    model, _ = weights.load(name, "random", image_size=64, classes=10)
    official = authors_state(model)
    timm = names.to_timm(official)
    assert (len(official), len(timm)) == KEYS[name]
    assert (names.grammar(official), names.grammar(timm)) == ("authors", "timm")
    copy = efficientvit.build(name, 64, 10).eval()
    copy.load_state_dict(names.to_authors(timm), strict=True)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(copy(image), model(image))


@pytest.mark.parametrize(
    ("authors", "timm"),
    [
        ("patch_embed.0.c.weight", "patch_embed.conv1.conv.weight"),
        ("patch_embed.6.bn.running_var", "patch_embed.conv4.bn.running_var"),
        ("blocks1.0.dw0.m.c.weight", "stages.0.blocks.0.dw0.m.conv.weight"),
        ("blocks2.0.1.m.pw2.bn.weight", "stages.1.downsample.res1.1.m.pw2.bn.weight"),
        ("blocks2.1.conv1.c.weight", "stages.1.downsample.patchmerge.conv1.conv.weight"),
        ("blocks3.1.se.fc1.bias", "stages.2.downsample.patchmerge.se.fc1.bias"),
        ("blocks3.2.0.m.c.weight", "stages.2.downsample.res2.0.m.conv.weight"),
        ("blocks3.3.mixer.m.attn.attention_biases", "stages.2.blocks.0.mixer.m.attn.attention_biases"),
        ("blocks3.5.mixer.m.attn.qkvs.3.c.weight", "stages.2.blocks.2.mixer.m.attn.qkvs.3.conv.weight"),
        ("head.bn.weight", "head.bn.weight"),
        ("head.l.bias", "head.linear.bias"),
    ],
)
def test_each_kind_of_name(authors: str, timm: str) -> None:
    assert names.to_timm({authors: 0}) == {timm: 0}
    assert names.to_authors({timm: 0}) == {authors: 0}
