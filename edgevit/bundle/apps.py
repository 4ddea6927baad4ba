"""The sample apps, as ``edgevit bundle`` copies and fills them."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.errors import InputError, MissingError

# What is built there, and tests, whose vectors lie beside the apps; EdgeViTCore's are part of its package.
LEFT_OUT = shutil.ignore_patterns(
    "node_modules", "build", ".gradle", ".build", "xcuserdata", "__pycache__", "local.properties", "test"
)


@dataclass(frozen=True)
class App:
    """``targets`` are those that it runs, ``place`` is where in its folder it reads a bundle."""

    name: str
    targets: tuple[str, ...]
    place: str
    then: str  # what its user does next

    def chosen(self, manifest: Mapping[str, Any], asked: Sequence[str]) -> list[str]:
        """The export's targets that it runs, or of them those that are asked for. Raises InputError for none."""
        for name in asked:
            if name not in self.targets:
                raise InputError(f"the {self.name} app runs no {name}: choose from {', '.join(self.targets)}")
            if name not in manifest["targets"]:
                raise InputError(f"this export has no {name}: export it with --target {name}, or leave it out")
        names = list(dict.fromkeys(asked)) or [name for name in self.targets if name in manifest["targets"]]
        if not names:
            wanted = " or ".join(f"--target {name}" for name in self.targets)
            raise InputError(f"this export has nothing that the {self.name} app runs: export it with {wanted}")
        return names

    def copy(self, out: Path) -> Path:
        """Copy the app's folder into ``out``; returns the empty folder for its bundle."""
        folder = apps() / self.name
        if not folder.is_dir():
            raise MissingError(f"the {self.name} app did not come with edgevit: pip install --force-reinstall edgevit")
        shutil.copytree(folder, out, dirs_exist_ok=True, ignore=LEFT_OUT)
        place = out / self.place
        if place.exists():
            shutil.rmtree(place)
        place.mkdir(parents=True)
        return place


APPS = {
    app.name: app
    for app in (
        App("android", ("onnx", "executorch"), "app/src/main/assets/bundle", "open it in Android Studio"),
        App("ios", ("coreml", "executorch"), "EdgeViT/bundle", "open EdgeViT.xcodeproj in Xcode"),
        App("web", ("onnx",), "bundle", "run npm ci in it, then serve it as its README says"),
        App("runner", ("onnx", "executorch"), "bundle", "build it as its README says"),
    )
}  # fmt: skip


def apps() -> Path:
    """The folder of all apps: ``apps/`` of a checkout, which is linked to from here and copied into a distribution."""
    return Path(__file__).parents[1] / "apps"
