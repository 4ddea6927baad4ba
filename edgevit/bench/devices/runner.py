"""The programs of ``apps/runner`` on a place: put there, run, and taken away again."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgevit.bench.devices.order import Answer, Order, answered
from edgevit.bench.devices.place import Place, folder_on, put, run_in
from edgevit.bench.devices.ran import KILLED, LATE, Ran
from edgevit.bundle import make
from edgevit.bundle.make import Progress
from edgevit.errors import ClaimError, EdgevitError, InputError

PROGRAM = "edgevit-runner-{}"
RUNTIMES = ("onnx", "executorch")
PARITY_BROKEN, WRONG_INPUT = 1, 2  # the programs' own exit codes
CANNOT_RUN = (126, 127)  # a shell's, for what cannot be executed or loaded
EMULATORS = {"goldfish", "ranchu", "cutf_cvm", "vsoc_x86_64", "gce_x86"}  # ro.hardware of Google's emulators


def bench(
    folder: Path, names: Sequence[str], data: str | None, place: Place, built: Path, order: Order, progress: Progress
) -> Iterator[Answer | EdgevitError]:
    """An answer for each target that was built a program for, or why there is none.

    ``built`` is the folder where ``cmake --install`` put the programs and their libraries.
    """
    names = programs(names, built)
    with tempfile.TemporaryDirectory(prefix="edgevit-") as scratch:
        bundle = Path(scratch) / "bundle"
        bundle.mkdir()
        make.make(folder, names, data, bundle, progress)
        with folder_on(place) as there:
            with progress(f"copying to {place.name}", None):
                put(place, built, f"{there}/app")
                put(place, bundle, f"{there}/bundle")
            for name in names:
                with progress(f"timing {name} on {place.name}", None):
                    try:
                        yield one(name, folder, place, there, order)
                    except ClaimError as error:
                        yield error


def programs(names: Sequence[str], built: Path) -> list[str]:
    """The targets of ``names`` that ``built`` has a program for. Raises InputError for none."""
    found = [name for name in names if (built / "bin" / PROGRAM.format(name)).is_file()]
    if not found:
        wanted = " or ".join(f"bin/{PROGRAM.format(name)}" for name in names)
        raise InputError(f"{built} has no {wanted}: build apps/runner and install it there, as its README says")
    return found


def one(name: str, folder: Path, place: Place, there: str, order: Order) -> Answer:
    """Raises ClaimError where the program did not end by itself with a result."""
    words = [f"{there}/app/bin/{PROGRAM.format(name)}", f"{there}/bundle"]
    words += ["--threads", str(order.threads), "--runs", str(order.runs), "--seconds", f"{order.seconds:g}"]
    words += ["--minutes", f"{order.minutes:g}"] if order.minutes else []
    ran = run_in(place, there, words, order.patience)
    if ran.code == LATE:
        raise ClaimError(f"{name} on {place.name}: no result came in {order.patience:.0f} s: ask for fewer --runs")
    if ran.code not in (0, PARITY_BROKEN):
        raise ClaimError(f"{name} on {place.name}: {ending(ran)}")
    return answered(ran.out, place.name, folder, android_of(place))


def ending(ran: Ran) -> str:
    if ran.code == KILLED:
        return "the system killed it: it may lack memory, or was stopped by hand"
    if ran.code == WRONG_INPUT:
        return ran.last
    if ran.code in CANNOT_RUN:
        return f"it does not start there ({ran.last}): build apps/runner for that processor and system"
    return f"it ended with {ran.code} ({ran.last})"


def android_of(place: Place) -> dict[str, str | None] | None:
    """What Android says of itself; None where there is no Android."""
    asked = {"make": "ro.product.manufacturer", "model": "ro.product.model", "version": "ro.build.version.release"}
    asked |= {"soc": "ro.soc.model", "hardware": "ro.hardware", "qemu": "ro.boot.qemu"}
    told = {}
    for key, name in asked.items():
        ran = place.run(["getprop", name])
        if ran.code != 0:
            return None
        told[key] = ran.out.strip()
    if not told["version"]:
        return None
    emulated = told["qemu"] == "1" or told["hardware"] in EMULATORS
    return {
        "name": f"{told['make']} {told['model']}".strip(),
        "os": f"Android {told['version']}",
        "soc": told["soc"] or None,
        "emulated": "Android emulator" if emulated else None,
    }
