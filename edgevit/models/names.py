"""EfficientViT's two key grammars: the authors', which is ours, and timm's.

The difference is in names alone (MODELS.md 1.4). timm's files also lack the authors' ``attention_bias_idxs``
buffers, which hold nothing but the position of each bias in its table.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar

Value = TypeVar("Value")
DOWNSAMPLE = ("res1", "patchmerge", "res2")  # what timm calls the authors' blocks2.0, .1, .2 and blocks3.0, .1, .2


def grammar(keys: Iterable[str]) -> Literal["authors", "timm"]:
    """Whose names the keys are; the authors' unless one is timm's."""
    timm = any(key.startswith(("stages.", "patch_embed.conv", "head.linear.")) for key in keys)
    return "timm" if timm else "authors"


def to_authors(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """Timm's names → the authors'. A name that is not timm's is kept, for the loader to refuse."""
    return {authors_name(key): value for key, value in tensors.items()}


def to_timm(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """The authors' names → timm's, without the index buffers."""
    return {timm_name(key): value for key, value in tensors.items() if not is_index_buffer(key)}


def is_index_buffer(key: str) -> bool:
    return key.endswith(".attention_bias_idxs")


def authors_name(key: str) -> str:
    key = re.sub(r"^patch_embed\.conv(\d+)\.", lambda m: f"patch_embed.{2 * int(m[1]) - 2}.", key)
    key = re.sub(
        rf"^stages\.(\d+)\.downsample\.({'|'.join(DOWNSAMPLE)})\.",
        lambda m: f"blocks{int(m[1]) + 1}.{DOWNSAMPLE.index(m[2])}.",
        key,
    )
    key = re.sub(
        r"^stages\.(\d+)\.blocks\.(\d+)\.",
        lambda m: f"blocks{int(m[1]) + 1}.{int(m[2]) + before_blocks(int(m[1]))}.",
        key,
    )
    return key.replace(".conv.", ".c.").replace(".linear.", ".l.")


def timm_name(key: str) -> str:
    key = re.sub(r"^patch_embed\.(\d+)\.", lambda m: f"patch_embed.conv{int(m[1]) // 2 + 1}.", key)
    key = re.sub(r"^blocks(\d+)\.(\d+)\.", lambda m: timm_block(int(m[1]) - 1, int(m[2])), key)
    return key.replace(".c.", ".conv.").replace(".l.", ".linear.")


def timm_block(stage: int, index: int) -> str:
    before = before_blocks(stage)
    if index < before:
        return f"stages.{stage}.downsample.{DOWNSAMPLE[index]}."
    return f"stages.{stage}.blocks.{index - before}."


def before_blocks(stage: int) -> int:
    """How many entries of the authors' list come before the stage's first block; stages count from 0."""
    return len(DOWNSAMPLE) if stage else 0
