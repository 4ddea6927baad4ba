import logging
import subprocess
import sys
import warnings

import pytest

from convert.mil.quiet import coremltools, quiet


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


def test_drops_warnings_and_passes_errors(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("some.library")
    with warnings.catch_warnings(record=True) as seen, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        with quiet():
            logger.warning("noise")
            warnings.warn("noise", UserWarning, stacklevel=1)
            logger.error("an error")
        logger.warning("after")
        warnings.warn("after", UserWarning, stacklevel=1)
    assert [record.message for record in caplog.records] == ["an error", "after"]
    assert [str(warning.message) for warning in seen] == ["after"]


def fail_quietly() -> None:
    with quiet():
        raise ValueError(f"at {logging.root.manager.disable}")


@pytest.mark.parametrize("level", [logging.NOTSET, logging.INFO, logging.ERROR])
def test_what_was_disabled_before_is_again_after_an_exception(level: int) -> None:
    logging.disable(level)
    try:
        with pytest.raises(ValueError, match=f"at {max(level, logging.WARNING)}"):
            fail_quietly()
        assert logging.root.manager.disable == level
    finally:
        logging.disable(logging.NOTSET)
