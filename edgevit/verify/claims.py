"""A manifest's claims against what was derived again from the files beside it: one check a claim.

Counts, digests and grids must be equal. A measurement that rounding may move is compared with a margin that is far
below what it is judged by.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.program import TensorGrid
from convert.fold import FoldReport
from convert.target import Census
from edgevit import artifact
from edgevit.bench.protocol import Comparison, Ratio, slower_beyond_noise
from edgevit.images import BadImageError, Item
from edgevit.verify import grid
from edgevit.verify.parity import ON_MAC, Link

SQNR_MARGIN_DB = 1.0
NOISE_MARGIN_DB = 6.0
EXACT_DB = 80.0  # above it only float rounding is left, which another CPU does in another order
COSINE_MARGIN = 5e-3
TOP1_MARGIN = 0.5  # points
AGREEMENT_MARGIN = 0.01
OVERLAP_MARGIN = 0.01  # of the tokens kept at a site
FLIPS = 2  # images that may fall into another class, where one is more than the margin
SCALE_MARGIN = 1e-4  # of a scale calibrated again: another CPU adds in another order
SEARCHED_MARGIN = 0.1  # of one that a search chose, where on another CPU another candidate may be the best
SPEEDUP_FACTOR = 1.5  # a machine that is timed again is not quite the same machine
SPEEDUPS = {  # and the two medians of one run that each is the ratio of
    "speedup": ("float_p50_ms", "p50_ms"),
    "pruning_speedup": ("unpruned_p50_ms", "pruned_p50_ms"),
}
FOREIGN_SIZE_MARGIN = 0.05  # of a file that other versions of its tools wrote
SHORT = 100  # characters of a value that is shown whole


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


def layout(folder: Path, targets: Collection[str]) -> Check:
    """Nothing lies in the export but its two lists and a folder a target, and what timing it again has left there."""
    found, expected = {path.name for path in folder.iterdir()}, {artifact.MANIFEST, artifact.IMAGES, *targets}
    found -= {artifact.BENCH, artifact.DEVICES}
    changed = ", ".join(sorted(found ^ expected))
    return Check("files of the export", f"{changed} is missing or was added" if changed else None)


def size_and_digest(listed: list[Mapping[str, str]]) -> tuple[int, str]:
    return len(listed), artifact.sha256_of_lines(entry["sha256"] for entry in listed)


def images(part: str, listed: list[Mapping[str, str]], items: Mapping[str, Item]) -> Check:
    """Every listed image still has its digest."""
    claim = f"{part} images"
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


def skipped(claimed: list[Mapping[str, str]], items: Mapping[str, Item]) -> Check:
    """Every image that was left out is still there and still unusable, for the same reason."""
    for entry in claimed:
        try:
            items[entry["name"]].check()
        except KeyError:
            return Check("skipped images", f"{entry['name']} is not there")
        except BadImageError as error:
            if error.reason == entry["reason"]:
                continue
        return Check("skipped images", f"{entry['name']} is not what it was")
    return Check("skipped images")


def equal(claim: str, claimed: object, found: object) -> Check:
    """Both as JSON has them."""
    claimed, found = (json.loads(json.dumps(value)) for value in (claimed, found))
    if claimed == found:
        return Check(claim)
    shown = f"{found}, not {claimed}"
    return Check(claim, shown if len(shown) <= SHORT else "differs from what the manifest says")


def folds(claimed: list[Mapping[str, Any]], reports: list[FoldReport]) -> Check:
    """Each rule's count; its error may differ by float rounding, so it may not be larger by an order of magnitude."""
    found = [asdict(report) for report in reports]
    for was, now in zip(claimed, found, strict=False):
        if (was["rule"], was["count"]) != (now["rule"], now["count"]):
            return Check("folding", f"{now['rule']} applies {now['count']} times, not {was['count']}")
        if now["max_abs_error"] > 10 * was["max_abs_error"] + 1e-6:
            return Check("folding", f"{now['rule']} changes the output by {now['max_abs_error']:g}")
    return Check("folding", None if len(claimed) == len(found) else f"{len(found)} rules, not {len(claimed)}")


def calibration(
    claimed: Mapping[str, TensorGrid], found: Mapping[str, TensorGrid], margin: float = SCALE_MARGIN
) -> Check:
    """Calibrated again from the same images; ``margin`` is what another CPU's float rounding may move of a scale."""
    differing = [name for name in found if name not in claimed or not close(claimed[name], found[name], margin)]
    differing += [name for name in claimed if name not in found]
    reason = f"{len(differing)} tensors get another grid, such as {differing[0]}" if differing else None
    return Check("calibration gives these scales", reason)


def close(a: TensorGrid, b: TensorGrid, margin: float) -> bool:
    if len(a.scale) != len(b.scale) or len(a.zero_point) != len(b.zero_point) or a.axis != b.axis:
        return False
    zero_points = zip(a.zero_point, b.zero_point, strict=True)
    steps = 1 + int(255 * margin)
    return np.allclose(a.scale, b.scale, rtol=margin, atol=0) and all(abs(x - y) <= steps for x, y in zero_points)


def census(name: str, claimed: Mapping[str, Any], found: Census, same_host: bool) -> Check:
    """Operators asked and delivered in INT8; on the same host also every count by kind."""
    claim = f"{name}: operators asked and delivered in INT8"
    delivered = len(found.asked) - len(found.missing)
    if (claimed["int8_asked"], claimed["int8_delivered"]) != (len(found.asked), delivered):
        return Check(
            claim, f"{delivered} of {len(found.asked)}, not {claimed['int8_delivered']} of {claimed['int8_asked']}"
        )
    if same_host and any(claimed[kind] != count for kind, count in found.counts().items()):
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


def parity(stated: Mapping[str, Any], links: list[Link]) -> list[Check]:
    """Every link measured again: within its limits, and what the manifest says.

    The link to Core ML itself is measured on Macs only: there it must hold, and elsewhere it stays as it is stated.
    """
    here = [link for link in links if link.to != ON_MAC]
    claimed = [link for link in stated["links"] if link["to"] != ON_MAC]
    if len(claimed) != len(here):
        return [Check("parity", f"{len(here)} links, not {len(claimed)}")]
    flips = FLIPS / stated["images"]
    checks = [link_check(was, now, flips) for was, now in zip(claimed, here, strict=True)]
    return checks + [Check(link.name, link.broken()) for link in links if link.to == ON_MAC]


def link_check(claimed: Mapping[str, Any], link: Link, flips: float) -> Check:
    claim = link.name
    if (reason := link.broken()) is not None:
        return Check(claim, reason)
    found = link.manifest()
    if claimed.keys() != found.keys() or (claimed["from"], claimed["to"]) != (link.from_, link.to):
        return Check(claim, "the manifest describes another link")
    limits, noise = claimed["limits"], {"min_sqnr_db": NOISE_MARGIN_DB}  # a limit may be the noise floor
    if not all(within(key, limits[key], limit, noise.get(key, 0)) for key, limit in found["limits"].items()):
        return Check(claim, f"its limits are {found['limits']}, not {limits}")
    for key, margin in (
        ("sqnr_db", SQNR_MARGIN_DB),
        ("self_noise_db", NOISE_MARGIN_DB),
        ("cosine", COSINE_MARGIN),
        ("top1_agreement", max(AGREEMENT_MARGIN, flips)),
        ("top1_from", max(TOP1_MARGIN, 100 * flips)),
        ("top1_to", max(TOP1_MARGIN, 100 * flips)),
        ("top1_drop", max(TOP1_MARGIN, 100 * flips)),
    ):
        if key in found and not within(key, claimed[key], found[key], margin):
            return Check(claim, f"{key} is {found[key]:.4g}, not {claimed[key]:.4g}")
    for key, margin in (
        ("kept_token_overlap", OVERLAP_MARGIN),
        ("top1_drop_ci95", max(2 * TOP1_MARGIN, 100 * flips)),
    ):
        was, now = claimed.get(key, []), found.get(key, [])
        if len(was) != len(now) or not np.allclose(was, now, rtol=0, atol=margin):
            return Check(claim, f"{key} is {now}, not {was}")
    return Check(claim)


def within(key: str, a: float, b: float, margin: float) -> bool:
    exact = key.endswith("_db") and min(a, b) >= EXACT_DB
    return exact or math.isclose(a, b, abs_tol=margin, rel_tol=0)


def float_size(name: str, claimed: int, found: int, same_host: bool) -> Check:
    """Bytes of the float twin, written again. Other versions of the tools write other files."""
    margin = 0 if same_host else FOREIGN_SIZE_MARGIN * found
    holds = abs(claimed - found) <= margin
    return Check(f"{name}: size of its float twin", None if holds else f"{found:,} bytes, not {claimed:,}")


def consistent_latency(name: str, claimed: Mapping[str, Any], threads: int, batch: int) -> Check:
    """The numbers of one target's latency agree with each other and with what was asked for."""
    claim = f"{name}: latency agrees with itself"
    for order in (
        [claimed["p50_ms"], claimed["p90_ms"], claimed["p99_ms"]],
        [claimed["float_p50_ms"], claimed["float_p90_ms"], claimed["float_p99_ms"]],
    ):
        if not (order[0] > 0 and order == sorted(order)):
            return Check(claim, rising(order))
    for key in SPEEDUPS:
        if key in claimed and (reason := inconsistent_speedup(claimed, key)) is not None:
            return Check(claim, reason)
    if (claimed["device"], claimed["threads"], claimed["batch"]) != ("this host", threads, batch):
        return Check(claim, "device, threads or batch are not those that were asked for")
    return Check(claim)


def inconsistent_speedup(claimed: Mapping[str, Any], key: str) -> str | None:
    """Why a speed-up is not that of the two medians, or None."""
    low, high = claimed[f"{key}_ci95"]
    order = [low, claimed[key], high]
    if not (low > 0 and order == sorted(order)):
        return rising(order)
    twin, own = SPEEDUPS[key]
    quotient = claimed[twin] / claimed[own]
    if not low / SPEEDUP_FACTOR <= quotient <= high * SPEEDUP_FACTOR:
        return f"p50 says {quotient:.2f} times as fast, {key} {claimed[key]:.2f}"
    return None


def rising(values: Iterable[float]) -> str:
    return f"{' / '.join(f'{value:.4g}' for value in values)} do not rise"


def latency(name: str, claimed: Mapping[str, Any], comparison: Comparison, judged: bool, same_host: bool) -> Check:
    """Timed again. Milliseconds are a machine's, so what is checked is the ratio to the float twin.

    Not slower where that was claimed; and on the same host the two intervals meet once a factor of 1.5 is allowed.
    """
    claim, ratio = f"{name}: latency against its float twin", comparison.ratio
    if judged and slower_beyond_noise(ratio):
        return Check(claim, f"takes {ratio.median:.2f} of the float time: slower beyond the noise")
    return Check(claim, elsewhere("speedup", claimed, ratio) if same_host else None)


def pruning(name: str, claimed: Mapping[str, Any], comparison: Comparison, same_host: bool) -> Check:
    """What pruning is worth, timed again: a fact, not a promise, so it is only compared on the same host."""
    claim = f"{name}: latency against itself unpruned"
    return Check(claim, elsewhere("pruning_speedup", claimed, comparison.ratio) if same_host else None)


def elsewhere(key: str, claimed: Mapping[str, Any], ratio: Ratio) -> str | None:
    """Why a claimed speed-up is not the one that ``ratio`` shows, or None."""
    low, high = claimed[f"{key}_ci95"]
    slower, faster = SPEEDUP_FACTOR / ratio.ci95[0] < low, 1 / ratio.ci95[1] / SPEEDUP_FACTOR > high
    return f"{1 / ratio.median:.2f} times as fast, not {claimed[key]:.2f}" if slower or faster else None


def underivable(claim: str, error: Exception, why: str = "") -> Check:
    return Check(claim, f"cannot be derived again: {' '.join(str(error).split())}{why}")
