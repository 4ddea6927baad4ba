"""A captured DynamicViT with its selection forced: the same program, had it kept the tokens that another one kept.

Once two programs keep different tokens, their outputs say little about each other. With one made to keep what the other
kept, what is left between them is numeric error alone.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

TOP_K = (torch.topk, torch.ops.aten.topk.default)  # as torch.fx traces it, and as torch.export captures it


def replay(module: fx.GraphModule, x: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What ``module`` gives for ``x`` where its s-th top-k keeps ``kept[s]``: all its outputs, detached.

    ``module`` maps ``[B, 3, S, S]`` to a tensor or a tuple of tensors, as ``torch.fx.symbolic_trace``, folding,
    ``ExportedProgram.module()`` and calibration leave it. Its top-k operators, in graph order, are the sites of one
    selection, each over scores ``[B, n]`` of the tokens that the one before kept. ``kept`` holds patch ids, int64
    ``[B, k]`` a site, in any order; the tokens then run in that order. Raises ValueError if there are more or fewer
    sites or ids than the program has, or if an id repeats or did not survive the site before.
    """
    sites = sum(node.op == "call_function" and node.target in TOP_K for node in module.graph.nodes)
    if len(kept) != sites:
        raise ValueError(f"there are kept ids of {len(kept)} sites for {sites}: give a tensor a site")
    with torch.no_grad():
        outputs: Tensor | Sequence[Tensor] = Forced(module, kept).run(x)
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


class Forced(fx.Interpreter):
    """Runs a graph once, answering each top-k with the places of the ids to keep among the survivors."""

    def __init__(self, module: fx.GraphModule, kept: Sequence[Tensor]) -> None:
        super().__init__(module)
        self.extra_traceback = False  # errors keep to one sentence
        self.kept, self.site = kept, 0

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target not in TOP_K:
            return super().call_function(target, args, kwargs)
        return self.top_k(*args, **kwargs)

    def top_k(self, input: Tensor, k: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """``torch.topk``: the scores of what is kept and its places, both ``[B, k]``."""
        images, tokens = input.shape
        before = self.kept[self.site - 1] if self.site else torch.arange(tokens, device=input.device).expand(images, -1)
        ids, self.site = self.kept[self.site], self.site + 1
        if ids.shape != (images, k):
            raise ValueError(
                f"the kept ids of site {self.site} have the shape {tuple(ids.shape)}, where {(images, k)} is needed"
            )
        places = places_of(ids, before)
        if places is None:
            raise ValueError(
                f"the kept ids of site {self.site} repeat, or did not survive to it: give the ids of one selection"
            )
        return torch.return_types.topk((input.gather(1, places), places))


def places_of(ids: Tensor, before: Tensor) -> Tensor | None:
    """Where ``ids [B, k]`` stand in ``before [B, n]``, int64; None unless each is there, once and asked for once."""
    same = ids[:, :, None] == before[:, None]
    return same.int().argmax(2) if same.any(2).all() and (same.sum(1) <= 1).all() else None
