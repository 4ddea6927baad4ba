"""Run a Core ML program with torch, on any machine.

Arithmetic is float32. A result that the program states as fp16 is rounded to it (half to even, beyond 65504 to
infinity) and integer types are kept as stated, so that the program's own grids and scales are what is applied. What
this cannot say is in ``LIMITS``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convert.mil.binding import Step, bind, refusal
from convert.mil.operations import FUNCTIONS, HELD
from convert.mil.package import Operation, Package, Var, read
from edgevit.errors import ClaimError

LIMITS = (
    "Computed with torch in float32, each fp16 result rounded once: it cannot say what the Neural Engine or a GPU adds "
    "to that (fp16 accumulators, the order of their sums, how a fused int8 kernel requantises), nor where an operation "
    "is placed or how fast it is."
)


def load(path: Path) -> "Program":
    """The program of the ``.mlpackage`` at ``path``.

    Raises what ``convert.mil.package.read`` raises, and ClaimError if the program uses what has no function in
    ``convert.mil.operations``.
    """
    return Program(read(path))


class Program:
    """A program that can be run. What depends on none of its inputs is computed here, once."""

    def __init__(self, package: Package) -> None:
        self.package = package
        check_known(package)
        self.constants: dict[str, Any] = {}  # results by name
        self.steps: list[Step] = []
        self.plans: dict[tuple[str, ...], list[tuple[Step, set[str]]]] = {}
        for operation in package.operations:
            step = bind(package.path, operation, self.constants)
            if step.reads():
                self.steps.append(step)
            else:
                self.constants |= self.compute(step, {})

    @torch.no_grad()
    def run(self, inputs: Mapping[str, Tensor], fetch: Sequence[str] | None = None) -> dict[str, Any]:
        """The values named in ``fetch``, or the program's outputs, by name; nothing else is computed.

        ``inputs`` by name, in the shapes that the program states; an image is ``[1, 3, H, W]``, RGB, 0..255. What is
        fp16 in the program comes as float32. A classifier's label is a string or an integer and its probabilities are
        a dictionary; without them this can be mapped by ``torch.func.vmap``. Raises ValueError for inputs that are not
        the program's, and ClaimError for a name that it does not have.
        """
        wanted = self.package.outputs if fetch is None else tuple(fetch)
        if wanted not in self.plans:
            self.plans[wanted] = self.plan(wanted)
        values = self.fed(inputs)
        for step, finished in self.plans[wanted]:
            values |= self.compute(step, values)
            for name in finished:
                del values[name]
        return {name: self.constants[name] if name in self.constants else values[name] for name in wanted}

    def run_batch(self, x: Tensor, fetch: Sequence[str] | None = None) -> tuple[Tensor, ...]:
        """``[B, ...]`` → ``[B, ...]`` each: every item by itself through a program of batch 1, all at once.

        The program has one input; ``fetch`` is as in ``run``. Raises what ``run`` raises.
        """
        if len(self.package.inputs) != 1:
            raise ValueError(f"{self.package.path} has several inputs: call run")
        source, wanted = self.package.inputs[0].name, self.package.outputs if fetch is None else tuple(fetch)

        def one(item: Tensor) -> tuple[Tensor, ...]:
            values = self.run({source: item[None]}, wanted)
            return tuple(values[name][0] for name in wanted)

        batch: tuple[Tensor, ...] = torch.func.vmap(one)(x)
        return batch

    def fed(self, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
        stated = {var.name: var.shape for var in self.package.inputs}
        given = {name: tuple(tensor.shape) for name, tensor in inputs.items()}
        if given != stated:
            raise ValueError(f"{self.package.path} takes {stated}, and was given {given}")
        return {var.name: stored(inputs[var.name], var) for var in self.package.inputs}

    def plan(self, wanted: tuple[str, ...]) -> list[tuple[Step, set[str]]]:
        """The steps that ``wanted`` needs, each with the names that nobody reads after it."""
        names = {var.name for var in self.package.inputs} | self.package.producers.keys()
        for name in wanted:
            if name not in names:
                raise ClaimError(f"{self.package.path} has no value called {name!r}: export it again")
        needed, plan = set(wanted), []
        for step in reversed(self.steps):
            gives = {var.name for var in step.operation.outputs}
            if gives & needed:
                plan.append((step, (gives | step.reads()) - needed))
                needed |= step.reads()
        return plan[::-1]

    def compute(self, step: Step, values: Mapping[str, Any]) -> dict[str, Any]:
        operation = step.operation
        try:
            results = step.run(values)
        except Exception as error:
            raise refusal(self.package.path, operation, f"fails with {str(error)!r}") from error
        if len(results) != len(operation.outputs):
            raise refusal(self.package.path, operation, f"gives {len(results)} of {len(operation.outputs)} outputs")
        self.check_types(operation, results)
        return {var.name: stored(result, var) for var, result in zip(operation.outputs, results, strict=True)}

    def check_types(self, operation: Operation, results: Sequence[Any]) -> None:
        for var, result in zip(operation.outputs, results, strict=True):
            if not isinstance(result, Tensor):
                continue
            dtype = HELD.get(var.dtype)
            fits = dtype is not None and dtype.is_floating_point == result.is_floating_point()
            if not fits or tuple(result.shape) != var.shape:
                given = f"{result.dtype} {list(result.shape)}"
                raise refusal(self.package.path, operation, f"gives {given} for {var.dtype} {list(var.shape)}")


def check_known(package: Package) -> None:
    """Raises ClaimError that names every kind of operation and image that cannot be run."""
    unknown = sorted({operation.kind for operation in package.operations} - FUNCTIONS.keys())
    unknown += [f"{var.colour} images" for var in package.inputs if var.colour not in (None, "RGB")]
    if unknown:
        raise ClaimError(
            f"{package.path} uses {', '.join(unknown)}, which the reference evaluator does not know: check it on a Mac"
        )


def stored(result: Any, var: Var) -> Any:
    """``result`` as the program keeps it: the only place that rounds."""
    if not isinstance(result, Tensor):
        return result
    return result.half().float() if var.dtype == "fp16" else result.to(HELD[var.dtype])
