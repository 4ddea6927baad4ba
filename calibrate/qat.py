"""Quantisation-aware training: a frozen program learns to answer as the float model does, on the grids it will have.

What is trained is the program that conversion takes, BatchNorm folded and every grid in place: its weights, and the
scales of its grids. No range is observed any more, so the trained program converts bit for bit. The loss is the noise
that SQNR counts,

    |student's logits - teacher's logits|² / |teacher's logits|²

over a batch: it needs no labels, and 10 log10 of its inverse is the batch's SQNR. Distillation as in "QKD", arXiv
1911.12491; scales as in ``calibrate.fake_quantize``. Several processes (torchrun) share each batch.
"""

import copy
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, distributed, nn

from calibrate.fake_quantize import FakeQuantize
from calibrate.prepared import Prepared
from calibrate.program import outputs_of
from edgevit.artifact import uninterrupted
from edgevit.errors import InputError

DIVERGED = 4.0  # times the loss that training began with,
BEYOND_RECOVERY = 0.01  # if it is more than this, 20 dB, too: less than that a training makes good in its course.
WINDOW = 8  # Both as the mean of so many steps.


@dataclass(frozen=True)
class Training:
    """Everything that decides a result, given the program and the images."""

    epochs: int = 4
    batch: int = 16
    lr: float = 5e-6  # of the weights at its peak, after the warm-up
    scale_lr: float = 1e-4  # of the logarithm of each scale
    warmup: float = 0.05  # of all steps
    ema: float = 0.95
    clip: float = 1.0  # the longest gradient
    bf16: bool = False  # products in bfloat16; grids, losses and the optimiser stay float32
    seed: int = 0


@dataclass(frozen=True)
class Step:
    """Progress after one optimiser step; ``loss`` is before it, on its batch."""

    step: int
    steps: int
    loss: float

    @property
    def sqnr_db(self) -> float:
        return -10 * math.log10(max(self.loss, 1e-20))


BatchesFrom = Callable[[int], Iterator[Tensor]]  # from this step on, each this process's share of a batch [b, 3, S, S]


def train(
    prepared: Prepared,
    teacher: nn.Module,
    training: Training,
    steps: int,
    batches: BatchesFrom,
    checkpoint: Path,
    setting: Mapping[str, object],
    report: Callable[[Step], None],
) -> None:
    """Train a frozen program in place, for ``steps`` in all; it ends with the averaged weights and scales.

    ``teacher`` is the float model, of the same outputs. The state goes to ``checkpoint`` now and then and whenever
    training ends, also by an error or an interruption; where that file is, training goes on from it, to the same
    result. ``setting`` is what else must be equal for that. Raises InputError if the file is of another training or
    damaged, or if training diverges, with the last good state kept.
    """
    state = State(prepared, teacher, training, steps, setting)
    if checkpoint.exists():
        state.resume(checkpoint)
    with state.saved(checkpoint):
        for x in batches(state.step):
            report(state.train(x))
            if state.step % state.save_every == 0:
                state.save(checkpoint)
    state.finish()


class State:
    """The program, its running average and the optimiser: all that a checkpoint holds."""

    def __init__(
        self,
        prepared: Prepared,
        teacher: nn.Module,
        training: Training,
        steps: int,
        setting: Mapping[str, object],
    ) -> None:
        self.prepared, self.training, self.steps = prepared, training, steps
        self.identity = json.dumps(asdict(training) | {"steps": steps, **setting}, sort_keys=True)
        self.device = device()
        self.grids = list(dict.fromkeys(m for m in prepared.module.modules() if isinstance(m, FakeQuantize)))
        for grid in self.grids:
            grid.learn_scale()
        self.module = prepared.module.to(self.device)
        self.teacher = copy.deepcopy(teacher).to(self.device)
        self.parameters = dict(self.module.named_parameters())
        for parameter in self.parameters.values():
            parameter.requires_grad_()
        self.average = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.optimizer = torch.optim.AdamW(self.groups(), weight_decay=0.0)
        self.step, self.losses = 0, list[float]()
        self.save_every = max(1, steps // 10)

    def groups(self) -> list[dict[str, object]]:
        scales = [grid.log_factor for grid in self.grids]
        known = {id(scale) for scale in scales}
        weights = [value for value in self.parameters.values() if id(value) not in known]
        peaks = (self.training.lr, self.training.scale_lr)
        return [{"params": group, "peak": peak} for group, peak in zip((weights, scales), peaks, strict=True)]

    def train(self, x: Tensor) -> Step:
        """One step of the optimiser. Raises InputError, with everything as it was before, if training diverges."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * self.rate()
        self.optimizer.zero_grad()
        loss = self.loss(x.to(self.device))
        loss.backward()  # type: ignore[no-untyped-call]
        self.share_gradients()
        value = sum_over_processes(loss.detach()).item()
        self.check(value)
        nn.utils.clip_grad_norm_(self.parameters.values(), self.training.clip)
        with uninterrupted():
            self.optimizer.step()
            self.step += 1
            self.losses.append(value)
            self.update_average()
        return Step(self.step, self.steps, value)

    def loss(self, x: Tensor) -> Tensor:
        """This process's part of the whole batch's loss."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.training.bf16):
            with torch.no_grad():
                wanted = outputs_of(self.teacher, x)[0].float()
            given = outputs_of(self.module, x)[0].float()
        return (given - wanted).square().sum() / sum_over_processes(wanted.square().sum())

    def rate(self) -> float:
        """Linear warm-up, then half a cosine down to a hundredth."""
        warmup = math.ceil(self.training.warmup * self.steps)
        if self.step < warmup:
            return (self.step + 1) / warmup
        return 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * (self.step - warmup) / max(1, self.steps - warmup)))

    def share_gradients(self) -> None:
        """Every process steps with the gradient of the whole batch."""
        for parameter in self.parameters.values():
            if parameter.grad is not None:
                sum_over_processes(parameter.grad)

    def check(self, loss: float) -> None:
        last = [*self.losses[1 - WINDOW :], loss]
        bound = max(DIVERGED * self.losses[0], BEYOND_RECOVERY) if self.losses else math.inf
        worse = len(last) == WINDOW and sum(last) / WINDOW > bound
        finite = math.isfinite(loss) and all(
            parameter.grad is None or bool(parameter.grad.isfinite().all()) for parameter in self.parameters.values()
        )
        if worse or not finite:
            grown = f"has grown to {loss:.3g}" if finite else "or its gradient is not finite"
            raise InputError(
                f"training diverges: after {self.step:,} steps the loss {grown}, so train with a lower --lr "
                "(the state before that is kept)"
            )

    @torch.no_grad()
    def update_average(self) -> None:
        """The average follows faster in the first steps."""
        decay = min(self.training.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.parameters.items():
            self.average[name].lerp_(value.detach(), 1 - decay)

    @torch.no_grad()
    def finish(self) -> None:
        """Leave the average in the program, its scales as they will be."""
        for name, value in self.parameters.items():
            value.copy_(self.average[name])
            value.requires_grad_(False)
        self.module.to("cpu")
        for grid in self.grids:
            grid.keep_scale()

    @contextmanager
    def saved(self, path: Path) -> Iterator[None]:
        """Save now, to find out now whether that can be done, and when the block ends, however it ends."""
        self.save(path)
        try:
            yield
        finally:
            self.save(path)

    def save(self, path: Path) -> None:
        """Write the checkpoint whole or not at all; of several processes, the first does."""
        if distributed.is_initialized() and distributed.get_rank() > 0:
            return
        tensors = {f"program/{name}": value.detach() for name, value in self.parameters.items()}
        tensors |= {f"average/{name}": value for name, value in self.average.items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value for name, value in values.items()}
        progress = {"identity": self.identity, "step": str(self.step), "losses": json.dumps(self.losses)}
        data = save({name: value.cpu().contiguous() for name, value in tensors.items()}, progress)
        partial = path.with_suffix(".partial")
        with uninterrupted():
            try:
                partial.write_bytes(data)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)

    def resume(self, path: Path) -> None:
        """Take up the checkpoint at ``path``. Raises InputError if it is damaged or of another training."""
        try:
            with safe_open(path, "pt", device=str(self.device)) as file:
                progress = file.metadata()
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
            recorded, mine = json.loads(progress["identity"]), json.loads(self.identity)
            step, losses = int(progress["step"]), [float(loss) for loss in json.loads(progress["losses"])]
        except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
            raise InputError(f"{path} is damaged ({error}): remove it, and train from the start") from None
        if differing := [key for key in mine if recorded.get(key) != mine[key]]:
            raise InputError(
                f"{path} is of a training with another {', '.join(differing)}: give the same again, or remove it to "
                "train from the start"
            )
        self.step, self.losses = step, losses
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(tensors[f"program/{name}"])
                self.average[name].copy_(tensors[f"average/{name}"])
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer/"):
                _, index, name = key.split("/")
                state.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def device() -> torch.device:
    """The GPU of this process where there is one."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def sum_over_processes(value: Tensor) -> Tensor:
    """In place, where there are several."""
    if distributed.is_initialized():
        distributed.all_reduce(value)
    return value
