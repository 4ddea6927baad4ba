"""What the README and the Makefile tell a user to type works."""

import inspect
import re
import shlex

import click
import pytest

from edgevit import artifact, pipeline
from edgevit.cli.main import cli
from tests.conftest import ROOT, Demo, make

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LINES = [line for block in CONSOLE for line in block.splitlines()]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("edgevit")])
def test_commands_take_the_options_that_the_readme_shows(line: str) -> None:
    name, *arguments = shlex.split(line)[1:]
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    command.make_context(name, arguments)


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("make")])
def test_make_targets_exist(line: str) -> None:
    assert make(line.split()[1])


def test_every_console_line_is_tested() -> None:
    assert LINES
    assert all(line.startswith(("make ", "edgevit ")) for line in LINES)


def test_table_of_commands_is_complete() -> None:
    listed = re.findall(r"^\| `edgevit (\w+)", README, re.MULTILINE)
    assert sorted(listed) == sorted(cli.list_commands(click.Context(cli)))


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_demo(demo: Demo) -> None:
    assert [shlex.split(command)[0] for command in make("demo")] == [".venv/bin/edgevit"] * 3
    for command in demo.commands:
        assert command.returncode == 0, command.stderr
    manifest = artifact.read_manifest(demo.folder)
    assert manifest["failures"] == []
    assert manifest["parity"]["images"] == 1000
    assert list(manifest["targets"]) == ["onnx", "openvino", "executorch", "coreml"]
    for target in manifest["targets"].values():
        census = target["census"]
        assert census["int8_delivered"] == census["int8_asked"] > 50
        assert target["grid"]["matches"]


def test_python_example_fits_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    def stand_in(name: str) -> object:
        signature = inspect.signature(getattr(pipeline, name))

        def call(*args: object, **kwargs: object) -> None:
            signature.bind(*args, **kwargs)
            called.append(name)

        return call

    for name in ("export", "verify"):
        monkeypatch.setattr(pipeline, name, stand_in(name))
    (example,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    assert called == ["export", "verify"]
