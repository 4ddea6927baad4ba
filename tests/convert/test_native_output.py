import os

import pytest

from convert.native_output import held_back


def test_what_native_code_prints_stays_behind(capfd: pytest.CaptureFixture[str]) -> None:
    with held_back():
        os.write(2, b"noise\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_an_exception_carries_the_last_line(capfd: pytest.CaptureFixture[str]) -> None:
    def breaks() -> None:
        with held_back():
            os.write(2, b"first\nthe reason\n\n")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken") as caught:
        breaks()
    assert caught.value.__notes__ == ["the reason"]
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
