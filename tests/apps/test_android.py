"""The Android app as far as it goes without Android's SDK: its core runs, the rest is type-checked and packaged."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tree_sitter import Language, Parser

from edgevit import pipeline
from edgevit.bundle.apps import APPS
from edgevit.bundle.contract import check_result
from tests.apps import android, android_platform
from tests.apps.android import ANDROID, APP, REPOSITORY
from tests.apps.outside import program, run
from tests.conftest import Exported

pytestmark = pytest.mark.apps

LATER = {"getCurrentThermalStatus": ("Q", 29), "SOC_MANUFACTURER": ("S", 31), "SOC_MODEL": ("S", 31)}


def sources(folder: str) -> list[Path]:
    return sorted((APP / folder).rglob("*.kt"))


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classes of the core and of its tests."""
    out = tmp_path_factory.mktemp("core")
    return android.kotlinc(sources("core"), junit(), out, "core")


@pytest.fixture(scope="module")
def signatures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return android.javac(android.SIGNATURES.rglob("*.java"), tmp_path_factory.mktemp("signatures") / "classes")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return android.packaged(tmp_path_factory.mktemp("package") / "out")


def junit() -> list[Path]:
    return [
        android.json_library(),
        android.debian("/usr/share/java/junit4.jar", "junit4"),
        android.debian("/usr/share/java/hamcrest-all.jar", "libhamcrest-java"),
    ]


@pytest.fixture(scope="module")
def tested(core: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What JUnit says of the core's tests, and the result that they measured."""
    result = tmp_path_factory.mktemp("result") / "result.json"
    classes = [f"io.edgevit.core.{path.stem}" for path in sources("core/src/test") if path.stem.endswith("Test")]
    properties = [f"-Dgolden={REPOSITORY / 'apps' / 'golden'}", f"-Dresult={result}"]
    joined = ":".join(str(path) for path in [core, android.kotlin_library(), *junit()])
    java = [program("java", "openjdk-17-jre-headless"), *properties, "-cp", joined]
    return run([*java, "org.junit.runner.JUnitCore", *classes]), result


def test_the_core_computes_what_python_does(tested: tuple[str, Path]) -> None:
    written = sum(path.read_text().count("@Test") for path in sources("core/src/test"))
    assert f"OK ({written} tests)" in tested[0]


def test_python_reads_what_the_core_measures(tested: tuple[str, Path]) -> None:
    path = tested[1]
    result = json.loads(path.read_text())
    check_result(result, path)
    named = re.findall(
        r"^\| `(\w+)`(?:, `(\w+)`)?(?:, `(\w+)`)?(?:, `(\w+)`)? \|", contract("result.json"), re.MULTILINE
    )
    assert set(result) == {name for names in named for name in names if name}
    assert result["app"] == "android"


def contract(heading: str) -> str:
    """A section of the contract."""
    return (REPOSITORY / "apps" / "README.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_the_core_reads_what_edgevit_bundles(core: Path, exported: Exported, tmp_path: Path) -> None:
    assert exported.code == 0, exported.err
    bundle = pipeline.bundle(exported.folder, "android", tmp_path / "copy")
    assets, home = tmp_path / "copy" / APPS["android"].place, tmp_path / "home"
    home.mkdir()
    joined = ":".join(str(path) for path in [core, android.kotlin_library(), android.json_library()])
    java = program("java", "openjdk-17-jre-headless")
    said = json.loads(run([java, "-cp", joined, "io.edgevit.core.ReadBundleKt", str(assets), str(home)]))
    onnx = bundle["models"]["onnx"]
    first = int(np.fromfile(assets / onnx["reference"]["file"], "<f4").argmax())
    label = bundle["labels"][first] if bundle["labels"] else f"class {first}"
    image = np.fromfile(assets / bundle["reference"]["file"], "<f4")
    wanted = {"model": "efficientvit_m0", "size": 64, "onnx": first, "label": label, "first": float(image[0])}
    assert said == wanted
    (installed,) = home.glob("bundle-*")
    assert (installed / onnx["path"]).read_bytes() == (exported.folder / "onnx" / "model.onnx").read_bytes()
    assert not [path for path in (tmp_path / "copy").rglob("*") if path.name in ("build", ".gradle")]


def test_the_core_needs_no_android() -> None:
    imports = {line for path in sources("core") for line in path.read_text().splitlines() if line.startswith("import ")}
    assert not [line for line in imports if re.match(r"import (android|androidx|ai|org\.pytorch)\b", line)]


def test_the_app_type_checks(
    core: Path, signatures: Path, package: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    scratch = tmp_path_factory.mktemp("app")
    made = android.javac([package[1], android.build_config(scratch)], scratch / "made")
    libraries = [core, signatures, made, android.json_library(), android.onnxruntime(scratch)]
    classes = android.kotlinc(sources("app"), libraries, scratch / "classes", "app")
    assert {"MainActivity.class", "BenchmarkActivity.class"} <= {path.name for path in classes.rglob("*.class")}


def test_what_the_app_is_checked_with_is_androids(signatures: Path) -> None:
    platform = android_platform.platform()
    later = {}
    for name, member in android_platform.compiled(signatures / "android"):
        if member.name == "constructor" and not member.parameters:
            continue  # javac's own
        found = declared(platform, name, member)
        assert found is not None, f"Android has no {name}.{member.name} of {member.parameters}"
        if found.since > int(android.catalog()["versions"]["minSdk"]) and not name.endswith("VERSION_CODES"):
            later[member.name] = found.since
    assert later == {name: level for name, (_, level) in LATER.items()}


@pytest.mark.parametrize("name", LATER)
def test_what_came_later_is_asked_for_where_it_is(name: str) -> None:
    used = re.compile(name.removeprefix("get"), re.IGNORECASE)
    functions = [text for path in sources("app") for text in path.read_text().split("\n\n") if used.search(text)]
    assert len(functions) == 1
    assert f"if (Build.VERSION.SDK_INT < Build.VERSION_CODES.{LATER[name][0]}) return null" in functions[0]


def declared(
    platform: dict[str, android_platform.Class], name: str, member: android_platform.Member
) -> android_platform.Member | None:
    """The same member of Android's class, or of one that it inherits from; `any` there is any type here."""
    while name in platform:
        for found in platform[name].members:
            if (found.name, found.static) == (member.name, member.static) and alike(found, member):
                return found
        name = platform[name].parent
    return None


def alike(found: android_platform.Member, member: android_platform.Member) -> bool:
    if (found.parameters is None) != (member.parameters is None):
        return False
    pairs = [(found.kind, member.kind), *zip(found.parameters or (), member.parameters or (), strict=False)]
    lengths = len(found.parameters or ()) == len(member.parameters or ())
    return lengths and all(here == there or here == "any" for here, there in pairs)


def test_the_package_says_what_the_app_may(package: tuple[Path, Path]) -> None:
    aapt = program("aapt", "aapt")
    badging = run([aapt, "dump", "badging", str(package[0])])
    assert "package: name='io.edgevit.app'" in badging
    assert "sdkVersion:'26'" in badging
    assert f"targetSdkVersion:'{android.catalog()['versions']['targetSdk']}'" in badging
    assert "launchable-activity: name='io.edgevit.app.MainActivity'" in badging
    permissions = run([aapt, "dump", "permissions", str(package[0])])
    assert re.findall(r"uses-permission: name='(.*)'", permissions) == ["android.permission.CAMERA"]


def test_no_library_brings_the_network() -> None:
    manifest = (APP / "app" / "src" / "main" / "AndroidManifest.xml").read_text()
    removed = re.findall(r'android:name="android\.permission\.(\w+)"\s+tools:node="remove"', manifest)
    assert removed == ["INTERNET", "ACCESS_NETWORK_STATE"]
    text = "".join(path.read_text() for path in [*sources("core"), *sources("app")])
    assert not re.findall(r"\bjava\.net\b|\bandroid\.net\.(?!Uri\b)|\bWebView\b|https?://", text)


def test_a_script_can_start_a_measurement() -> None:
    activities = {a.get(f"{ANDROID}name"): a for a in android.merged_manifest().getroot().iter("activity")}
    assert set(activities) == {".MainActivity", ".BenchmarkActivity"}
    assert activities[".BenchmarkActivity"].get(f"{ANDROID}exported") == "true"
    assert activities[".BenchmarkActivity"].get(f"{ANDROID}process") == ":benchmark"
    assert not list(activities[".BenchmarkActivity"])  # only by its name
    read = re.findall(
        r'get(\w+)Extra\("(\w+)"', (APP / "app/src/main/kotlin/io/edgevit/app/BenchmarkActivity.kt").read_text()
    )
    wanted = {"runtime": "String", "threads": "Int", "runs": "Int", "seconds": "Float", "minutes": "Float"}
    assert {name: kind for kind, name in read} == wanted | {"result": "String"}
    flags = {"String": "es", "Int": "ei", "Float": "ef"}
    command = re.search(r"am start .*?--es result", (APP / "README.md").read_text(), re.DOTALL)
    assert command is not None
    for name, kind in wanted.items():
        assert f"--{flags[kind]} {name} " in command[0]


def test_the_bundle_lies_where_edgevit_puts_it() -> None:
    place = APPS["android"].place
    assert place == "app/src/main/assets/bundle"
    assert 'context.assets.open("bundle/$it")' in (APP / "app/src/main/kotlin/io/edgevit/app/Phone.kt").read_text()
    assert f"{place}/" in (APP / ".gitignore").read_text().split()
    assert run(["git", "check-ignore", f"apps/android/{place}/bundle.json"], cwd=REPOSITORY)


def test_gradles_files_have_no_syntax_errors() -> None:
    import tree_sitter_kotlin

    parser = Parser(Language(tree_sitter_kotlin.language()))
    files = sorted(APP.rglob("*.gradle.kts"))
    assert [str(path.relative_to(APP)) for path in files] == [
        "app/build.gradle.kts",
        "build.gradle.kts",
        "core/build.gradle.kts",
        "settings.gradle.kts",
    ]
    for path in files:
        assert not parser.parse(path.read_bytes()).root_node.has_error, path
    assert parser.parse(b"plugins { alias(libs. }").root_node.has_error


def test_every_version_is_pinned_and_used() -> None:
    catalog = android.catalog()
    assert all(re.fullmatch(r"\d+(\.\d+)*", version) for version in catalog["versions"].values())
    gradle = "".join(path.read_text() for path in APP.rglob("*.gradle.kts"))
    accessors = set(re.findall(r"\blibs\.([\w.]+?)(?:\.get)?\b(?=[()\s]|\.get)", gradle))
    libraries = {name.replace("-", ".") for name in catalog["libraries"]}
    plugins = {f"plugins.{name.replace('-', '.')}" for name in catalog["plugins"]}
    asked = {name.removeprefix("versions.") for name in accessors if name.startswith("versions.")}
    assert accessors - {f"versions.{name}" for name in asked} == libraries | plugins
    referred = {entry["version"]["ref"] for kind in ("libraries", "plugins") for entry in catalog[kind].values()}
    assert referred | asked == set(catalog["versions"])
    assert catalog["versions"]["kotlin"] == "2.4.20"  # which the tests compile with
    wrapper = (APP / "gradle" / "wrapper" / "gradle-wrapper.properties").read_text()
    assert re.search(
        r"^distributionUrl=https\\://services\.gradle\.org/distributions/gradle-[\d.]+-bin\.zip$", wrapper, re.M
    )
