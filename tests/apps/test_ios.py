"""The iOS app: its core, compiled and tested on Linux; the rest as far as it can be checked off a Mac."""

import json
import os
import plistlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from edgevit import pipeline
from edgevit.bundle.contract import check_result
from tests.apps.outside import fetched, missing, program, run
from tests.bundle.small_apps import write_apps
from tests.conftest import Exported

pytestmark = pytest.mark.apps

REPOSITORY = Path(__file__).parents[2]
APP = REPOSITORY / "apps" / "ios"
PROJECT = APP / "EdgeViT.xcodeproj" / "project.pbxproj"
SOURCES = sorted(path for path in APP.rglob("*.swift") if ".build" not in path.parts)
PACKAGES = "swiftlang,libc6-dev,libstdc++-14-dev"  # swiftlang depends on a C compiler, but not on its headers
# The compiler finds its libraries by /proc; mounts of a namespace of its own end with the process.
IN_TREE = """
mount -t proc proc "$0/proc" && mount --bind "$1" "$0/mnt" && mount --bind "$2" "$0/srv" || exit
tree="$0"
shift 2
exec chroot "$tree" "$@"
"""


@pytest.fixture(scope="module")
def tree() -> Path:
    """Debian 13, which has a Swift compiler, in a folder: 0.6 GB to fetch, and 2.6 GB on disk."""
    debootstrap, unshare = program("debootstrap", "debootstrap"), program("unshare", "util-linux")
    if os.geteuid() != 0:
        missing("a Debian tree is made and entered by root alone")

    def install(staged: Path) -> None:
        options = ["--variant=minbase", f"--include={PACKAGES}"]
        run([unshare, "--mount", debootstrap, *options, "trixie", str(staged)])
        for package in (staged / "var" / "cache" / "apt" / "archives").glob("*.deb"):
            package.unlink()

    return fetched("debian-13-swiftlang", install)


def swift_test(tree: Path, shared: Path, *arguments: str, **environment: str) -> str:
    """What the core's tests print; ``shared`` is their /srv."""
    command = [
        "swift",
        "test",
        "--package-path",
        "/mnt/apps/ios/EdgeViTCore",
        "--scratch-path",
        "/tmp/build",
        "-j",
        "1",
    ]
    start = ["unshare", "--mount", "sh", "-c", IN_TREE, str(tree), str(REPOSITORY), str(shared)]
    return run([*start, *command, *arguments], env={**os.environ, **environment})


@pytest.mark.timeout(1800)
def test_the_core_passes_its_tests(tree: Path, tmp_path: Path) -> None:
    printed = swift_test(tree, tmp_path)
    tests = sum(source.read_text().count("    func test") for source in SOURCES)
    assert f"Executed {tests} tests, with 1 test skipped and 0 failures" in printed  # that which is the next one here


@pytest.mark.timeout(1800)
def test_the_core_reads_what_bundle_writes_and_writes_what_bench_reads(
    tree: Path, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps = write_apps(tmp_path / "apps")
    monkeypatch.setattr("edgevit.bundle.apps.apps", lambda: apps)
    pipeline.bundle(exported.folder, "runner", tmp_path / "app", targets=["onnx"])
    path = tmp_path / "app" / "bundle" / "bundle.json"
    bundle = json.loads(path.read_text())
    bundle["models"] = {"executorch": bundle["models"]["onnx"]}  # which is dearer to make, and is not run here
    path.write_text(json.dumps(bundle))
    names = {"EDGEVIT_BUNDLE": "/srv/app/bundle", "EDGEVIT_RESULT": "/srv/result.json"}
    assert "Executed 1 test, with 0 failures" in swift_test(tree, tmp_path, "--filter", "ExchangeTests", **names)
    path = tmp_path / "result.json"
    result = check_result(json.loads(path.read_text()), path)
    assert [result.text(key) for key in ("export_sha256", "model", "quant")] == [
        bundle[key] for key in ("export_sha256", "model", "quant")
    ]
    assert result.record("parity").truth("holds")
    assert result.record("parity").number("min_sqnr_db") == bundle["models"]["executorch"]["min_sqnr_db"]
    assert result.record("latency").whole("runs") == 20


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_source_is_swift(source: Path) -> None:
    tree_sitter = pytest.importorskip("tree_sitter")
    tree_sitter_swift = pytest.importorskip("tree_sitter_swift")
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_swift.language()))
    parsed = parser.parse(source.read_bytes())
    assert [
        f"line {node.start_point.row + 1}" for node in nodes(parsed.root_node) if node.is_error or node.is_missing
    ] == []


def nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in node.children:
        yield from nodes(child)


@pytest.fixture(scope="module")
def project() -> Any:
    pbxproj = pytest.importorskip("pbxproj")
    return pbxproj.XcodeProject.load(str(PROJECT))


def one(project: Any, kind: str) -> Any:
    (found,) = project.objects.get_objects_in_section(kind)
    return found


def test_every_reference_of_the_project_resolves(project: Any) -> None:
    defined = {
        found.get_id()
        for section in project.objects.get_sections()
        for found in project.objects.get_objects_in_section(section)
    }
    text = PROJECT.read_text()
    named = re.findall(r"\b[0-9A-F]{24}\b", text)
    assert set(named) == defined
    assert [key for key in defined if named.count(key) < 2] == []  # each is defined, and used
    assert project.objectVersion == "77"


def test_the_project_takes_in_what_lies_in_its_folders(project: Any) -> None:
    target = one(project, "PBXNativeTarget")
    folder = one(project, "PBXFileSystemSynchronizedRootGroup")
    assert target.productType == "com.apple.product-type.application"
    assert target.fileSystemSynchronizedGroups == [folder.get_id()]
    assert (APP / "EdgeViT" / folder.path / "EdgeViTApp.swift").is_file()
    assert sum("@main" in path.read_text() for path in (APP / "EdgeViT" / folder.path).iterdir()) == 1


def test_the_bundle_is_copied_whole_and_nothing_of_it_is_compiled(project: Any) -> None:
    (build,) = one(project, "PBXResourcesBuildPhase").files
    bundle = project.objects[project.objects[build].fileRef]
    assert (bundle.path, bundle.lastKnownFileType) == ("bundle", "folder")
    assert (APP / "EdgeViT" / bundle.path).is_dir()
    assert not (APP / "EdgeViT" / "App" / "bundle").exists()
    assert 'Bundle.main.bundleURL.appending(path: "bundle")' in (APP / "EdgeViT" / "App" / "Runners.swift").read_text()


def test_what_bundle_writes_is_not_committed() -> None:
    asked = ["apps/ios/EdgeViT/bundle/bundle.json", "apps/ios/EdgeViT/bundle/NOTE.md"]
    ignored = subprocess.run(
        ["git", "check-ignore", *asked], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert ignored.stdout.split() == asked[:1]


def test_the_packages_are_linked(project: Any) -> None:
    target = one(project, "PBXNativeTarget")
    products = [project.objects[key].productName for key in target.packageProductDependencies]
    assert products == ["EdgeViTCore", "executorch", "backend_xnnpack", "kernels_optimized", "kernels_quantized"]
    phase = one(project, "PBXFrameworksBuildPhase")
    assert [project.objects[key].productRef for key in phase.files] == target.packageProductDependencies
    local = one(project, "XCLocalSwiftPackageReference")
    assert f'name: "{products[0]}"' in (APP / local.relativePath / "Package.swift").read_text()


def test_the_version_told_is_the_version_linked(project: Any) -> None:
    requirement = one(project, "XCRemoteSwiftPackageReference").requirement
    (told,) = re.findall(
        r'static let version = "(.+)"', (APP / "EdgeViT" / "App" / "ExecuTorchModel.swift").read_text()
    )
    assert (requirement.kind, requirement.branch) == ("branch", f"swiftpm-{told}")


def test_the_settings(project: Any) -> None:
    configurations = list(project.objects.get_configurations_on_targets("EdgeViT"))
    assert {configuration.name for configuration in configurations} == {"Debug", "Release"}
    for configuration in configurations:
        settings = configuration.buildSettings
        assert settings.PRODUCT_BUNDLE_IDENTIFIER == "io.edgevit.app"
        assert settings.IPHONEOS_DEPLOYMENT_TARGET == "17.0"
        assert "-all_load" in settings.OTHER_LDFLAGS  # without it ExecuTorch has no backend and no kernels
        assert (APP / settings.INFOPLIST_FILE).is_file()
        assert settings["CODE_SIGN_ENTITLEMENTS"] is None


def test_the_scheme_runs_what_is_timed(project: Any) -> None:
    scheme = ElementTree.parse(PROJECT.parent / "xcshareddata" / "xcschemes" / "EdgeViT.xcscheme").getroot()
    blueprints = {reference.get("BlueprintIdentifier") for reference in scheme.iter("BuildableReference")}
    assert blueprints == {one(project, "PBXNativeTarget").get_id()}
    launch = scheme.find("LaunchAction")
    assert launch is not None
    assert launch.get("buildConfiguration") == "Release"


def test_the_permissions_asked_for_are_explained() -> None:
    information = plistlib.loads((APP / "EdgeViT" / "Info.plist").read_bytes())
    explained = {key for key in information if key.endswith("UsageDescription")}
    assert explained == {"NSCameraUsageDescription"}  # the photo picker runs apart from the app and needs none
    assert "on this device" in information["NSCameraUsageDescription"]
    assert information["CFBundleIdentifier"] == "$(PRODUCT_BUNDLE_IDENTIFIER)"
    assert "NSAppTransportSecurity" not in information


def test_the_privacy_manifest_tells_of_nothing_collected() -> None:
    manifest = plistlib.loads((APP / "EdgeViT" / "App" / "PrivacyInfo.xcprivacy").read_bytes())
    assert manifest["NSPrivacyTracking"] is False
    assert manifest["NSPrivacyTrackingDomains"] == []
    assert manifest["NSPrivacyCollectedDataTypes"] == []
    (used,) = manifest["NSPrivacyAccessedAPITypes"]
    assert used["NSPrivacyAccessedAPIType"] == "NSPrivacyAccessedAPICategorySystemBootTime"


def test_nothing_is_entitled_and_nothing_speaks_to_a_network() -> None:
    assert list(APP.rglob("*.entitlements")) == []
    network = re.compile(r"URLSession|NWConnection|import Network|WKWebView|CFSocket|https?://")
    assert [path.name for path in SOURCES if network.search(path.read_text())] == []


def test_every_import_is_a_framework_of_the_system_or_linked() -> None:
    known = {
        *("AVFoundation", "Charts", "CoreML", "CryptoKit", "Dispatch", "Foundation", "PhotosUI", "SwiftUI", "UIKit"),
        *("EdgeViTCore", "ExecuTorch", "PackageDescription", "XCTest"),
    }
    imported = {
        name for path in SOURCES for name in re.findall(r"^(?:@testable )?import (\w+)", path.read_text(), re.M)
    }
    assert imported == known
