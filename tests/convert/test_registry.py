import subprocess
import sys

from convert.registry import TARGETS
from convert.target import target

HEAVY = {"torch", "onnx", "numpy", "coremltools", "executorch", "openvino"}


def test_every_entry_is_a_target() -> None:
    for entry in TARGETS.values():
        module = target(entry.name)
        assert entry.file == module.FILE
        for function in ("lower", "load", "census", "grid"):
            assert callable(getattr(module, function))
        assert module.BATCH >= 1


def test_it_needs_no_runtime() -> None:
    code = "import sys, convert.registry; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())
