import torch
from torch import Tensor, nn

from convert.fold import fold


class OtherwiseInTraining(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if self.training else x


def test_traces_the_path_of_evaluation() -> None:
    probe = torch.ones(1, 2)
    folded, _ = fold(OtherwiseInTraining().train(), probe)
    assert torch.equal(folded(probe), probe)
