"""A manifest's claims against what was derived again from the files beside it: one check a claim.

Counts, digests and grids must be equal. A measurement that rounding may move is compared with a margin that is far
below what it is judged by.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.program import TensorGrid
from convert.fold import FoldReport
from convert.target import Census
from edgevit import artifact
from edgevit.bench.protocol import Comparison, slower_beyond_noise
from edgevit.errors import ClaimError
from edgevit.images import BadImageError, ImageSet, Item
from edgevit.verify import grid
from edgevit.verify.parity import Link

SQNR_MARGIN_DB = 1.0
EXACT_DB = 80.0  # above it only float rounding is left, which another CPU does in another order
TOP1_MARGIN = 0.5  # points
AGREEMENT_MARGIN = 0.01
SCALE_MARGIN = 1e-4  # of a scale calibrated again: another CPU adds in another order
SPEEDUP_FACTOR = 1.5


@dataclass(frozen=True)
class Check:
    """One claim and, where it does not hold, why."""

    claim: str
    reason: str | None = None

    @property
    def holds(self) -> bool:
        return self.reason is None


def failures(manifest: Mapping[str, Any]) -> Check:
    """An export that failed a claim of its own stays failed."""
    return Check("the export reported no failure", "; ".join(manifest["failures"]) or None)


def files(name: str, folder: Path, claimed: Mapping[str, Any]) -> Check:
    """Digests and total size of a target's files."""
    found: dict[str, Any] = artifact.describe_files(folder) if folder.is_dir() else {"files": {}, "bytes": 0}
    changed = [
        file
        for file in sorted(claimed["files"].keys() | found["files"].keys())
        if claimed["files"].get(file) != found["files"].get(file)
    ]
    reason = f"{', '.join(changed)} changed, is missing or was added" if changed else None
    if reason is None and claimed["bytes"] != found["bytes"]:
        reason = f"{found['bytes']} bytes, not {claimed['bytes']}"
    return Check(f"{name}: files", reason)


def images(part: str, listed: list[Mapping[str, str]], claimed_list: str, items: Mapping[str, Item]) -> Check:
    """The list is the one that the manifest names by digest, and every image still has its own digest."""
    claim = f"{part} images"
    if artifact.sha256_of_lines(entry["sha256"] for entry in listed) != claimed_list:
        return Check(claim, f"{artifact.IMAGES} is not the list that the manifest was made with")
    changed = [entry["name"] for entry in listed if digest_of(items.get(entry["name"])) != entry["sha256"]]
    if changed:
        return Check(claim, f"{len(changed)} changed or missing, such as {changed[0]}")
    return Check(claim)


def digest_of(item: Item | None) -> str | None:
    if item is None:
        return None
    try:
        return item.sha256()
    except BadImageError:
        return None


def equal(claim: str, claimed: object, found: object) -> Check:
    return Check(claim, None if claimed == found else f"{found}, not {claimed}")


def folds(claimed: list[Mapping[str, Any]], reports: list[FoldReport]) -> Check:
    """Each rule's count; its error may differ by float rounding, so it may not be larger by an order of magnitude."""
    found = [asdict(report) for report in reports]
    for was, now in zip(claimed, found, strict=False):
        if (was["rule"], was["count"]) != (now["rule"], now["count"]):
            return Check("folding", f"{now['rule']} applies {now['count']} times, not {was['count']}")
        if now["max_abs_error"] > 10 * was["max_abs_error"] + 1e-6:
            return Check("folding", f"{now['rule']} changes the output by {now['max_abs_error']:g}")
    return Check("folding", None if len(claimed) == len(found) else f"{len(found)} rules, not {len(claimed)}")


def calibration(claimed: Mapping[str, TensorGrid], found: Mapping[str, TensorGrid]) -> Check:
    """Calibrated again from the same images; within what another CPU's float rounding may move."""
    differing = [name for name in found if name not in claimed or not close(claimed[name], found[name])]
    differing += [name for name in claimed if name not in found]
    reason = f"{len(differing)} tensors get another grid, such as {differing[0]}" if differing else None
    return Check("calibration gives these scales", reason)


def close(a: TensorGrid, b: TensorGrid) -> bool:
    if len(a.scale) != len(b.scale) or len(a.zero_point) != len(b.zero_point) or a.axis != b.axis:
        return False
    zero_points = zip(a.zero_point, b.zero_point, strict=True)
    return np.allclose(a.scale, b.scale, rtol=SCALE_MARGIN, atol=0) and all(abs(x - y) <= 1 for x, y in zero_points)


def census(name: str, claimed: Mapping[str, Any], found: Census, same_host: bool) -> Check:
    """Operators asked and delivered in INT8; on the same host also every count by kind."""
    claim = f"{name}: operators asked and delivered in INT8"
    delivered = len(found.asked) - len(found.missing)
    if (claimed["int8_asked"], claimed["int8_delivered"]) != (len(found.asked), delivered):
        return Check(
            claim, f"{delivered} of {len(found.asked)}, not {claimed['int8_delivered']} of {claimed['int8_asked']}"
        )
    if same_host and (claimed["int8"], claimed["float"]) != (found.int8, found.float):
        return Check(claim, f"INT8 {found.int8}, not {claimed['int8']}, or other float operators")
    return Check(claim)


def artifact_grid(
    name: str, claimed: Mapping[str, Any], expected: Mapping[str, TensorGrid], found: Mapping[str, TensorGrid]
) -> Check:
    """The artifact holds the manifest's scales and zero points, exactly."""
    difference = grid.diff(expected, found)
    if difference.differing:
        first = ", ".join(difference.differing[:3])
        return Check(f"{name}: grid", f"{len(difference.differing)} tensors differ from the manifest: {first}")
    return equal(f"{name}: grid", dict(claimed), difference.manifest())


def parity(claimed: list[Mapping[str, Any]], links: list[Link]) -> list[Check]:
    """Every link measured again: within its limits, and what the manifest says."""
    if len(claimed) != len(links):
        return [Check("parity", f"{len(links)} links, not {len(claimed)}")]
    return [link_check(was, now) for was, now in zip(claimed, links, strict=True)]


def link_check(claimed: Mapping[str, Any], link: Link) -> Check:
    claim = f"parity {link.from_} → {link.to}"
    if (reason := link.broken()) is not None:
        return Check(claim, reason)
    found = link.manifest()
    if claimed.keys() != found.keys() or (claimed["from"], claimed["to"]) != (link.from_, link.to):
        return Check(claim, "the manifest describes another link")
    for key, margin in (
        ("sqnr_db", SQNR_MARGIN_DB),
        ("cosine", 1e-3),
        ("top1_agreement", AGREEMENT_MARGIN),
        ("top1_from", TOP1_MARGIN),
        ("top1_to", TOP1_MARGIN),
        ("top1_drop", TOP1_MARGIN),
    ):
        if key in found and not within(claimed[key], found[key], margin):
            return Check(claim, f"{key} is {found[key]:.4g}, not {claimed[key]:.4g}")
    if found.get("top1_drop_ci95") and not np.allclose(claimed["top1_drop_ci95"], found["top1_drop_ci95"], atol=1):
        return Check(claim, f"top1_drop_ci95 is {found['top1_drop_ci95']}, not {claimed['top1_drop_ci95']}")
    if not within(claimed["self_noise_db"], found["self_noise_db"], 6):
        return Check(claim, f"self_noise_db is {found['self_noise_db']:.4g}, not {claimed['self_noise_db']:.4g}")
    return Check(claim)


def within(a: float, b: float, margin: float) -> bool:
    return math.isclose(a, b, abs_tol=margin, rel_tol=0) or (a >= EXACT_DB and b >= EXACT_DB)


def latency(name: str, claimed: Mapping[str, Any], comparison: Comparison, judged: bool, same_host: bool) -> Check:
    """Timed again. Milliseconds are a machine's, so what is checked is the ratio to the float twin.

    Not slower where that was claimed, and on the same CPU within a factor of 1.5 of the claimed speed-up.
    """
    claim = f"{name}: latency against its float twin"
    if judged and slower_beyond_noise(comparison.ratio):
        return Check(claim, f"takes {comparison.ratio.median:.2f} of the float time: slower beyond the noise")
    speedup = 1 / comparison.ratio.median
    if same_host and not 1 / SPEEDUP_FACTOR <= speedup / claimed["speedup"] <= SPEEDUP_FACTOR:
        return Check(claim, f"{speedup:.2f} times as fast, not {claimed['speedup']:.2f}")
    return Check(claim)


def listed_items(images: ImageSet) -> dict[str, Item]:
    return {item.name: item for item in images.items}


def underivable(claim: str, error: ClaimError | Exception) -> Check:
    return Check(claim, f"cannot be derived again: {' '.join(str(error).split())}")
