import subprocess
import sys

from convert.mil.quiet import coremltools


def test_the_import_prints_nothing_and_leaves_everything_as_it_was() -> None:
    """In a process of its own: this one has imported it."""
    script = """
import logging, sys, warnings
before = logging.root.level, logging.root.handlers[:], logging.root.manager.disable, warnings.filters[:], sys.stderr
from convert.mil.quiet import coremltools
package = coremltools()
after = logging.root.level, logging.root.handlers[:], logging.root.manager.disable, warnings.filters[:], sys.stderr
assert before == after
print(package.__name__, package.proto.Model_pb2.Model.__name__)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "coremltools Model\n", "")


def test_gives_the_package() -> None:
    assert coremltools() is sys.modules["coremltools"]
