"""What the tests of the Android app are compiled with: Kotlin's compiler, Java's, aapt, and the libraries at hand."""

import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.apps.outside import missing, npm, program, run

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
APP = REPOSITORY / "apps" / "android"
SIGNATURES = HERE / "android_signatures"
PACKAGE = "io.edgevit.app"
ANDROID = "{http://schemas.android.com/apk/res/android}"
TOOLS = "{http://schemas.android.com/tools}"


def catalog() -> dict[str, Any]:
    """The versions, plugins and libraries that Gradle is told of."""
    return tomllib.loads((APP / "gradle" / "libs.versions.toml").read_text())


def kotlinc(sources: Iterable[Path], classpath: Iterable[Path], out: Path, module: str) -> Path:
    """The folder of classes. A warning fails as an error does; Java's library is that of 8, which Android 26 has."""
    compiler = npm("kotlin-compiler", "2.4.20")
    main = ["-cp", str(compiler / "lib" / "kotlin-compiler.jar"), "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
    options = ["-kotlin-home", str(compiler), "-no-reflect", "-Xjdk-release=8", "-jvm-target", "1.8", "-Werror"]
    paths = [str(path) for path in sources]
    joined = ":".join(str(path) for path in classpath)
    java = [program("java", "openjdk-17-jdk-headless"), "-Xmx1g"]
    run([*java, *main, *options, "-module-name", module, "-cp", joined, "-d", str(out), *paths])
    return out


def kotlin_library() -> Path:
    return npm("kotlin-compiler", "2.4.20") / "lib" / "kotlin-stdlib.jar"


def javac(sources: Iterable[Path], out: Path) -> Path:
    out.mkdir()
    run([program("javac", "openjdk-17-jdk-headless"), "-d", str(out), *(str(path) for path in sources)])
    return out


def debian(path: str, package: str) -> Path:
    """A file of a package of Debian's."""
    return Path(path) if Path(path).exists() else missing(f"{path} is not there: apt-get install {package}")


def json_library() -> Path:
    """Android's own org.json, as Debian builds it."""
    return debian("/usr/share/java/com.android.json.jar", "libandroid-json-java")


def onnxruntime(out: Path) -> Path:
    """The classes of ONNX Runtime's archive for Android."""
    archive = npm("com.github.asus4.onnxruntime", "0.4.9") / "Plugins" / "Android" / "onnxruntime.aar"
    with zipfile.ZipFile(archive) as files:
        return Path(files.extract("classes.jar", out))


def merged_manifest() -> ElementTree.ElementTree:
    """The manifest as Gradle merges it: with its package and its levels, and without what it removes."""
    tree = ElementTree.parse(APP / "app" / "src" / "main" / "AndroidManifest.xml")
    root = tree.getroot()
    for element in root.findall(f"*[@{TOOLS}node='remove']"):
        root.remove(element)
    root.set("package", PACKAGE)
    versions = catalog()["versions"]
    levels = {f"{ANDROID}{name}Version": versions[name] for name in ("minSdk", "targetSdk")}
    root.insert(0, ElementTree.Element("uses-sdk", levels))
    return tree


def packaged(out: Path) -> tuple[Path, Path]:
    """The manifest and the resources in an archive, and the folder of the R class that names them."""
    out.mkdir()
    ElementTree.register_namespace("android", ANDROID[1:-1])
    manifest, archive = out / "AndroidManifest.xml", out / "resources.apk"
    merged_manifest().write(manifest)
    framework = debian("/usr/share/android-framework-res/framework-res.apk", "android-framework-res")
    given = ["-M", str(manifest), "-S", str(APP / "app" / "src" / "main" / "res"), "-I", str(framework)]
    run([program("aapt", "aapt"), "package", "-f", "-m", *given, "-J", str(out), "-F", str(archive)])
    return archive, out / PACKAGE.replace(".", "/") / "R.java"


def build_config(out: Path) -> Path:
    """The class that Gradle writes of the versions."""
    path = out / "BuildConfig.java"
    version = catalog()["versions"]["executorch"]
    field = f'public static final String EXECUTORCH = "{version}";'
    path.write_text(f"package {PACKAGE};\n\npublic final class BuildConfig {{\n    {field}\n}}\n")
    return path
