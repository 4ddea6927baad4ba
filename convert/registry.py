"""The targets there are, in a table that needs none of their runtimes: those take seconds to import, or are missing."""

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class Entry:
    """A target that may or may not be installed."""

    name: str
    module: str  # of edgevit, with the functions of ``convert.target.Target``
    package: str  # the import package and distribution of its runtime
    file: str  # the name of its artifact, a file or a folder
    needs_macos: bool = False  # whether its runtime is part of that system, and only stood in for elsewhere
    slow: bool = False  # whether lowering takes so long that it is done beside the others
    profiler: str | None = None  # the module with ``convert.profiling.profiler.Profiler``; None: not timed here

    @property
    def installed(self) -> bool:
        """Whether its runtime can be found; it is not imported."""
        return find_spec(self.package) is not None


TARGETS = {
    entry.name: entry
    for entry in (
        Entry("onnx", "convert.onnx", "onnxruntime", "model.onnx", profiler="convert.profiling.onnx"),
        Entry("openvino", "convert.openvino", "openvino", "model.xml", profiler="convert.profiling.openvino"),
        Entry(
            "executorch",
            "convert.executorch",
            "executorch",
            "model.pte",
            slow=True,
            profiler="convert.profiling.executorch",
        ),
        Entry("coreml", "convert.coreml", "coremltools", "model.mlpackage", needs_macos=True),
    )
}
