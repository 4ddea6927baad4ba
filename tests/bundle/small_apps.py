"""Apps that are small, with what may lie in their folders and is not theirs."""

from pathlib import Path


def write_apps(folder: Path) -> Path:
    for name in ("web/main.js", "web/node_modules/big", "web/bundle/of before", "web/test/of it", "runner/main.cpp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder
