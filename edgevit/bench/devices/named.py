"""``edgevit bench --device``: a device by the name that its user gives it, and exports timed on it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit import artifact
from edgevit.bench.devices import phones, runner, web
from edgevit.bench.devices.adb import Adb
from edgevit.bench.devices.here import Here
from edgevit.bench.devices.order import Answer, Order, keep
from edgevit.bench.devices.place import Place
from edgevit.bench.devices.ssh import Ssh
from edgevit.bundle.apps import APPS
from edgevit.bundle.make import Progress
from edgevit.errors import ClaimError, EdgevitError, InputError

FORMS = "local, ssh:USER@HOST, adb:SERIAL, web, android:SERIAL or ios:UDID"
RUNNER, APP_OF = "runner", {"local": "runner", "ssh": "runner", "adb": "runner"}


@dataclass(frozen=True)
class Device:
    """``kind`` is what stands before the colon, ``which`` what stands behind it."""

    kind: str
    which: str

    @property
    def app(self) -> str:
        """The sample app that it runs."""
        return APP_OF.get(self.kind, self.kind)

    @property
    def needs_folder(self) -> bool:
        """Whether the app comes from a folder of this host; those of phones are installed on them."""
        return self.app in ("runner", "web")


def device(spec: str) -> Device:
    """Raises InputError for what names none."""
    kind, colon, which = spec.partition(":")
    alone = kind in ("local", "web")
    if kind not in (*APPS, *APP_OF) or kind == RUNNER or alone == bool(colon) or alone == bool(which):
        raise InputError(f"{spec!r} is no device: take {FORMS}")
    return Device(kind, which)


def bench(
    folders: Sequence[Path],
    spec: str,
    targets: Sequence[str],
    app: Path | None,
    data: str | None,
    order: Order,
    progress: Progress,
) -> list[tuple[Path, list[Answer], list[str]]]:
    """Time exports on a device: of each, the answers, which it keeps, and what failed.

    ``app`` is the runner as it was built, or the web app with its packages. Raises InputError for wrong input,
    MissingError for a device, an app or a program that is not there.
    """
    found = device(spec)
    if found.needs_folder and app is None:
        raise InputError(f"{spec} runs the {found.app} app: name its folder with --app, as apps/{found.app} says")
    if not found.needs_folder and app is not None:
        raise InputError(f"the app on {spec} is installed there: leave --app out")
    names = {folder: APPS[found.app].chosen(artifact.read_manifest(folder), targets) for folder in folders}
    for folder in folders:
        artifact.check_writable(folder, "let it be written to, or copy the export")
    done = []
    for folder in folders:
        answers, failures = list[Answer](), list[str]()
        for answer in answered(found, folder, names[folder], app, data, order, progress):
            if isinstance(answer, Answer):
                keep(answer, folder)
                answers.append(answer)
                failures += [answer.failure] if answer.failure else []
            else:
                failures.append(str(answer))
        done.append((folder, answers, failures))
    return done


def answered(
    found: Device,
    folder: Path,
    names: Sequence[str],
    app: Path | None,
    data: str | None,
    order: Order,
    progress: Progress,
) -> Iterator[Answer | EdgevitError]:
    if found.app == RUNNER:
        assert app is not None
        yield from runner.bench(folder, names, data, place(found), app, order, progress)
        return
    if found.app == "web":
        assert app is not None
        yield web.bench(folder, data, app, order, progress)
        return
    ask = phones.android if found.kind == "android" else phones.ios
    for name in names:
        with progress(f"timing {name} on {found.kind}:{found.which}", None):
            try:
                yield ask(folder, name, found.which, order)
            except ClaimError as error:
                yield error


def place(found: Device) -> Place:
    if found.kind == "local":
        return Here()
    return Ssh(found.which) if found.kind == "ssh" else Adb(found.which)


def described(done: Sequence[tuple[Path, list[Answer], list[str]]]) -> dict[str, Mapping[str, Any]]:
    """What ``--json`` prints."""
    return {
        str(folder): {
            "results": [{"device": a.device, "kind": a.kind, "result": a.result} for a in answers],
            "failures": failures,
        }
        for folder, answers, failures in done
    }
