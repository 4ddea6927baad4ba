"""What a device is asked to do, and what a device's answer is kept as."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgevit import artifact
from edgevit.bundle.contract import check_result
from edgevit.errors import ClaimError, InputError

SCHEMA = artifact.DEVICE_SCHEMA
COMPUTER, PHONE, BROWSER, EMULATOR = "computer", "phone", "browser", "emulator"
LONGEST_S = 60  # of the calls that a latency is of: apps/README.md


@dataclass(frozen=True)
class Order:
    """As ``edgevit.bench.session.Plan``, of one program that runs by itself. Raises InputError for too many seconds."""

    threads: int = 1
    runs: int = 480
    seconds: float = 5.0
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.seconds > LONGEST_S:
            raise InputError(f"a device is timed for {LONGEST_S} s at most: ask for fewer --seconds, or for --minutes")

    @property
    def patience(self) -> float:
        """Seconds after which a device that has not answered is not waited for: warm-up, calls, and slack."""
        return 180 + LONGEST_S + 60 * (self.minutes or 0)


@dataclass(frozen=True)
class Answer:
    """A device's ``result.json``; ``kind`` is what may be said of where it ran."""

    device: str  # as it was named: ssh:pi@raspberry
    kind: str
    result: Mapping[str, Any]

    @property
    def runtime(self) -> str:
        return str(self.result["runtime"]["name"])

    @property
    def failure(self) -> str | None:
        """Why it does not hold, if it does not."""
        parity = self.result["parity"]
        if parity["holds"]:
            return None
        return f"{self.runtime} on {self.device}: parity does not hold, {nearness(parity)}"


def nearness(parity: Mapping[str, Any]) -> str:
    """What there is to say of a result's parity."""
    if parity["sqnr_db"] is None:
        return "its answer is not finite"
    same = "the same class" if parity["top1_matches"] else "another class"
    return f"{parity['sqnr_db']:.1f} dB where {parity['min_sqnr_db']:.1f} are needed, {same}"


def answered(text: str, device: str, folder: Path, android: Mapping[str, str | None] | None = None) -> Answer:
    """The answer of a device on the export in ``folder``.

    ``android`` is what Android said of itself, where a program in its shell cannot know it: it goes into the result.
    Raises ClaimError for a text that is no result, or one of another export.
    """
    try:
        result = json.loads(text)
        if isinstance(result, dict) and isinstance(result.get("error"), str):
            raise ClaimError(f"{device}: {result['error']}")
        check_result(result, Path("result.json"))
    except (json.JSONDecodeError, RecursionError, InputError) as error:
        raise ClaimError(f"{device} gave no valid result ({error}): see what its app says") from None
    if result["export_sha256"] != artifact.sha256_of(folder / artifact.MANIFEST):
        raise ClaimError(f"{device} has another export than {folder}: bundle this one and install it")
    result["device"] |= android or {}
    return Answer(device, kind_of(result, android is not None), result)


def kind_of(result: Mapping[str, Any], android: bool) -> str:
    """Nothing is called a phone but what an app of a phone, or Android itself, says to be one and not emulated."""
    if result["device"]["emulated"] is not None:
        return EMULATOR
    if result["app"] == "web":
        return BROWSER
    return PHONE if android or result["app"] in ("android", "ios") else COMPUTER


def keep(answer: Answer, folder: Path) -> Path:
    """Keep an answer in its export; one of the same device, runtime and threads is replaced."""
    threads = answer.result["threads"]
    name = f"{answer.device}-{answer.runtime}-{answer.result['runtime']['delegate']}-{threads}"
    path = folder / artifact.DEVICES / f"{re.sub('[^A-Za-z0-9._@-]+', '-', name)}.json"
    path.parent.mkdir(exist_ok=True)
    kept = {
        "schema": SCHEMA,
        "fetched": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "device": answer.device,
        "kind": answer.kind,
        "result": answer.result,
    }
    artifact.replace_json(path, kept)
    return path
