import logging
import warnings

import pytest

from convert.quiet import quiet


def test_drops_warnings_and_prints_and_passes_errors(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("some.library")
    with warnings.catch_warnings(record=True) as seen, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        with quiet():
            print("noise")
            logger.warning("noise")
            warnings.warn("noise", UserWarning, stacklevel=1)
            logger.error("an error")
        print("after")
        logger.warning("after")
        warnings.warn("after", UserWarning, stacklevel=1)
    assert [record.message for record in caplog.records] == ["an error", "after"]
    assert [str(warning.message) for warning in seen] == ["after"]
    assert capsys.readouterr().out == "after\n"


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
