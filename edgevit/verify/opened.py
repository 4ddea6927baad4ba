"""Whatever holds grids, opened: an export, a target's folder inside one, or the artifact itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import index
from pathlib import Path

from calibrate.program import TensorGrid
from convert.registry import TARGETS
from convert.target import readable, target
from edgevit import artifact
from edgevit.errors import InputError
from edgevit.verify import grid


@dataclass(frozen=True)
class Opened:
    """The grids of an artifact, which may have dropped some of its program's, or of the program itself."""

    tensors: Mapping[str, TensorGrid]  # by tensor name; never empty
    program: bool


def opened(path: Path) -> Opened:
    """Read the grids at ``path``.

    Raises InputError if there is nothing, nothing that has a grid, or more than one artifact; ClaimError if it is
    damaged; MissingError if the runtime that reads it is not installed.
    """
    owners = {entry.file: entry.name for entry in TARGETS.values()}
    if not path.exists():
        raise InputError(f"there is nothing at {path}: name an export, a target's folder in one or an artifact")
    if path.name in owners:  # before a manifest is looked for: a .mlpackage holds a Manifest.json of its own
        return Opened(artifact_tensors(owners[path.name], path), program=False)
    held = [file for file in owners if (path / file).exists()]
    if len(held) > 1:
        raise InputError(f"{path} holds {' and '.join(held)}: name one of them")
    if held:
        return Opened(artifact_tensors(owners[held[0]], path / held[0]), program=False)
    if (path / artifact.MANIFEST).is_file():
        return Opened(program_tensors(path), program=True)
    raise InputError(f"{path} is no export and no artifact: name a folder that edgevit wrote, or {' or '.join(owners)}")


def artifact_tensors(name: str, path: Path) -> dict[str, TensorGrid]:
    """As the artifact of target ``name`` at ``path`` holds them."""
    module = target(name)
    with readable(path):
        tensors = {tensor: checked(entry) for tensor, entry in module.grid(path.parent).items()}
    if not tensors:
        raise InputError(f"{path} is a float artifact, which has no grid: name one exported with --quant int8")
    return tensors


def program_tensors(folder: Path) -> dict[str, TensorGrid]:
    """As the manifest in ``folder`` states them of the quantised program."""
    manifest = artifact.read_manifest(folder)
    with readable(folder / artifact.MANIFEST):
        mode, stated = manifest["quant"]["mode"], manifest["quant"].get("tensors", {})
        tensors = {tensor: checked(entry) for tensor, entry in grid.from_manifest(stated).items()}
    if not tensors:
        raise InputError(f"{folder} is an export in {mode}, which has no grid: name one made with --quant int8")
    return tensors


def checked(entry: TensorGrid) -> TensorGrid:
    """``entry`` as numbers, whatever a file held. Raises TypeError or ValueError unless it is a grid."""
    numbers = TensorGrid(tuple(map(float, entry.scale)), tuple(map(index, entry.zero_point)), entry.axis)
    if not len(numbers.scale) == len(numbers.zero_point) > 0:
        raise ValueError("a grid has as many scales as zero points, and one at least")
    return numbers
