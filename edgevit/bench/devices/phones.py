"""The sample apps on a phone, asked by a script to benchmark themselves: by adb, or on a Mac by devicectl.

Both read the bundle that they were built with, and leave ``result.json`` where their system lets it be fetched.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from edgevit.bench.devices.adb import Adb
from edgevit.bench.devices.order import Answer, Order, answered
from edgevit.bench.devices.ran import LATE, Ran, ended
from edgevit.errors import ClaimError, MissingError

APP = "io.edgevit.app"
RESULT = "result.json"
ANDROID_RESULT = f"/sdcard/Android/data/{APP}/files/{RESULT}"
EVERY = 2.0  # seconds between two looks at whether the result is there


def android(folder: Path, runtime: str, serial: str, order: Order) -> Answer:
    """Raises MissingError where the phone or the app is not there, ClaimError where the app fails or is killed."""
    device, name = Adb(serial), f"android:{serial}"
    device.run(["rm", "-f", ANDROID_RESULT])
    started = device.run(["am", "start", "-W", "-n", f"{APP}/.BenchmarkActivity", *android_extras(runtime, order)])
    if started.code != 0 or "Error" in started.out + started.err:
        raise MissingError(f"{name}: the app does not start ({started.last}): install it as apps/android's README says")
    text = waited(device, name, order)
    device.run(["rm", "-f", ANDROID_RESULT])
    return answered(text, name, folder)


def android_extras(runtime: str, order: Order) -> list[str]:
    extras = ["--es", "runtime", runtime, "--es", "result", RESULT, "--ei", "threads", str(order.threads)]
    extras += ["--ei", "runs", str(order.runs), "--ef", "seconds", f"{order.seconds:g}"]
    return [*extras, "--ef", "minutes", f"{order.minutes or 0:g}"]


def waited(device: Adb, name: str, order: Order) -> str:
    """The text of the result, once it is there whole: the app renames it when it is."""
    deadline = time.monotonic() + order.patience
    while time.monotonic() < deadline:
        if device.run(["test", "-f", ANDROID_RESULT]).code == 0:
            return device.run(["cat", ANDROID_RESULT]).out
        if device.run(["pidof", APP]).code != 0 and device.run(["test", "-f", ANDROID_RESULT]).code != 0:
            raise ClaimError(f"{name}: the app ended without a result: the system killed it, or it was closed")
        time.sleep(EVERY)
    raise ClaimError(late(name, order))


def late(name: str, order: Order) -> str:
    return f"{name}: no result came in {order.patience:.0f} s: ask for fewer --runs, and keep its screen on"


def ios(folder: Path, runtime: str, udid: str, order: Order) -> Answer:
    """Raises as ``android``. Needs a Mac with Xcode."""
    name = f"ios:{udid}"
    words = ["--benchmark", "--runtime", runtime, "--threads", str(order.threads), "--runs", str(order.runs)]
    words += ["--seconds", f"{order.seconds:g}", "--minutes", f"{order.minutes or 0:g}", "--result", RESULT]
    launch = ["process", "launch", "--console", "--terminate-existing", "--device", udid, APP, *words]
    launched = devicectl(launch, order.patience)
    if launched.code == LATE:
        raise ClaimError(late(name, order))
    if launched.code != 0:
        raise MissingError(f"{name}: the app does not start ({launched.last}): install it as apps/ios's README says")
    with tempfile.TemporaryDirectory(prefix="edgevit-") as scratch:
        to = Path(scratch) / RESULT
        source = ["--source", f"Documents/{RESULT}", "--destination", str(to)]
        domain = ["--domain-type", "appDataContainer", "--domain-identifier", APP]
        copied = devicectl(["copy", "from", "--device", udid, *domain, *source])
        if copied.code != 0 or not to.is_file():
            raise ClaimError(f"{name}: the app left no result ({copied.last}): see what it shows")
        return answered(to.read_text(encoding="utf-8"), name, folder)


def devicectl(words: Sequence[str], seconds: float | None = None) -> Ran:
    try:
        return ended(["xcrun", "devicectl", "device", *words], seconds)
    except FileNotFoundError:
        raise MissingError("an iPhone is reached from a Mac with Xcode: run this there") from None
