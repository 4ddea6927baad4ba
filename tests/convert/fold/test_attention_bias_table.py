import torch
from torch import Tensor, nn

from convert.fold import fold
from edgevit.models.efficientvit import attention_offsets
from tests.convert.fold.conftest import AssertRefused, Randomise

NAME = "attention_bias_table"
PROBE = torch.randn(2, 9, 9, generator=torch.Generator().manual_seed(1))


class Biased(nn.Module):
    """Adds the biases of two heads to logits ``[B, 9, 9]``."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_biases = nn.Parameter(torch.zeros(2, 9))
        self.register_buffer("offsets", attention_offsets(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.attention_biases[0][self.offsets]).relu() + self.attention_biases[1][self.offsets]


def test_gives_the_same_bits_and_frees_the_table(randomise: Randomise) -> None:
    model = randomise(Biased())
    folded, reports = fold(model, PROBE)
    assert {r.rule: (r.count, r.max_abs_error) for r in reports if r.count} == {NAME: (2, 0.0)}
    assert torch.equal(folded(PROBE), model(PROBE))
    assert not torch.equal(folded(PROBE), PROBE.relu())
    assert not list(folded.parameters())
    assert {name: tuple(b.shape) for name, b in folded.named_buffers()} == {
        "attention_biases_0": (9, 9),
        "attention_biases_1": (9, 9),
    }


class TableAlsoRead(Biased):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.attention_biases.sum()


def test_keeps_a_table_that_is_read_elsewhere(randomise: Randomise) -> None:
    model = randomise(TableAlsoRead())
    folded, reports = fold(model, PROBE)
    assert {r.rule: r.count for r in reports if r.count} == {NAME: 2}
    assert [name for name, _ in folded.named_parameters()] == ["attention_biases"]
    assert torch.equal(folded(PROBE), model(PROBE))


class OffsetsFromTheInput(Biased):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention_biases[0][(x > 0).long()]


def test_refuses_offsets_from_the_input(assert_refused: AssertRefused) -> None:
    assert_refused(OffsetsFromTheInput(), PROBE, NAME, {"the offsets are not constant": 1})


class NameTaken(Biased):
    def __init__(self) -> None:
        super().__init__()
        self.attention_biases_0 = nn.Parameter(torch.ones(9, 9))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention_biases_0 + self.attention_biases[0][self.offsets]


def test_refuses_to_overwrite_what_has_its_name(assert_refused: AssertRefused) -> None:
    assert_refused(NameTaken(), PROBE, NAME, {"the gathered bias has no free name beside its table": 1})
