"""The comparisons with others in a folder, as one page of tables and a plot for each runtime."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgevit.report.bench import processor
from edgevit.report.charts import scatter
from edgevit.report.charts.axis import axis
from edgevit.report.charts.scatter import Point

COLUMNS = (
    "made by",
    "in",
    "p50, ms",
    "time beside the fastest plain float export (95 %)",
    "SQNR, dB",
    "same class",
    "MB",
    "made in, s",
    "at its peak, MB",
)
SUMMARY = ("edgevit · aimed for · fastest INT8 of others", "ONNX Runtime", "OpenVINO", "ExecuTorch")
AIMS = {  # of edgevit's time beside the fastest plain float export, by runtime
    ("efficientvit_m0", "fp32"): {"onnx": 0.80, "openvino": 0.80, "executorch": 0.72},
    ("efficientvit_m0", "int8"): {"onnx": 0.62, "openvino": 0.60, "executorch": 0.42},
    ("efficientvit_m5", "int8"): {"onnx": 0.50, "openvino": 0.48, "executorch": 0.42},
    ("dynamicvit_deit_tiny", "int8"): {"onnx": 0.53, "openvino": 0.48, "executorch": 0.48},
    ("sepvit_lite", "int8"): {"onnx": 0.60, "openvino": 0.52, "executorch": 0.52},
}
NOTHING = "-"
HIGHEST = 60.0  # dB: above it nothing that anyone can see is lost

EXPLANATION = """# edgevit beside what others make of the same weights

Written by `make bench`. All programs of a runtime took turns in three processes: one image, one thread; `edgevit bench`
says how. Each ratio is to the float program of a plain exporter that was fastest there, and in brackets is its 95 %
interval; *noisy* marks one that is no conclusion. SQNR and the share of the same class are beside the PyTorch model,
over images that calibrated nothing. *Made in* is the whole command or process: for edgevit with calibration, parity and
a short timing; memory is that of all its processes.

*Plain export* and the quantisers start from the model as edgevit writes it; the *authors' form* is the same model by
the operators of its authors' code. Each quantiser calibrates on the same images as edgevit. PyTorch itself was timed
beside ONNX Runtime. The first table has edgevit's ratios, those that were aimed for, and those of the fastest INT8 of
others. The processor stands below each model's table: ratios of different ones do not compare.
"""


def write(folder: Path) -> None:
    """``README.md`` and the plots, of every comparison in ``folder``."""
    compared = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    parts = [EXPLANATION, "\n".join(summary(compared)), ""]
    for name, found in compared.items():
        parts += [table(found)]
        for runtime in dict.fromkeys(row["runtime"] for row in found["programs"]):
            file = f"{name}-{runtime}.svg"
            (folder / file).write_text(plot(found, runtime) + "\n")
            parts.append(f"![{runtime}: latency against SQNR]({file})")
        parts.append("")
    (folder / "README.md").write_text("\n".join(parts))


def summary(compared: Mapping[str, Any]) -> list[str]:
    """Lines of a table: for what AIMS names, edgevit's ratio, the one aimed for and, of INT8, the fastest other's."""
    lines = [line(SUMMARY), line(["---", "---:", "---:", "---:"])]
    for (model, precision), aims in AIMS.items():
        if model in compared:
            rows = compared[model]["programs"]
            cells = [" · ".join(standing(rows, runtime, precision, aim)) for runtime, aim in aims.items()]
            lines.append(line([f"{heading(compared[model])}, {precision}", *cells]))
    return lines


def standing(rows: Sequence[Mapping[str, Any]], runtime: str, precision: str, aim: float) -> list[str]:
    there = [row for row in rows if row["runtime"] == runtime and row.get("ratio")]
    own = [row["ratio"]["median"] for row in there if (row["name"], row["precision"]) == ("edgevit", precision)]
    others = [row["ratio"]["median"] for row in there if row["name"] != "edgevit" and row["precision"] == "int8"]
    standing = [f"{own[0]:.2f}" if own else NOTHING, f"{aim:.2f}"]
    return standing if precision == "fp32" else [*standing, f"{min(others):.2f}" if others else NOTHING]


def table(found: Mapping[str, Any]) -> str:
    lines = ["## " + heading(found), "", line(COLUMNS), line(["---", "---", *["---:"] * (len(COLUMNS) - 2)])]
    for runtime in dict.fromkeys(row["runtime"] for row in found["programs"]):
        lines.append(line([f"**{runtime}**", *[""] * (len(COLUMNS) - 1)]))
        lines += [line(cells(row)) for row in found["programs"] if row["runtime"] == runtime]
    lines += ["", environment(found), *(f"- Failed: {failure}" for failure in found["failures"]), ""]
    return "\n".join(lines)


def heading(found: Mapping[str, Any]) -> str:
    return found["model"] + (", random weights" if found["random_weights"] else "")


def line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def cells(row: Mapping[str, Any]) -> list[str]:
    cost = [f"{row['seconds']:.0f}", f"{row['peak_mb']:.0f}"] if "seconds" in row else [NOTHING, NOTHING]
    size = NOTHING if row["bytes"] is None else f"{row['bytes'] / 1e6:.1f}"
    if "error" in row:
        return [row["name"], row["precision"], NOTHING, f"not timed: {row['error']}", *[NOTHING] * 2, size, *cost]
    return [
        row["name"],
        row["precision"],
        f"{row['timing']['p50_ms']:.2f}",
        ratio(row["ratio"]),
        f"{row['sqnr_db']:.1f}",
        f"{row['top1_agreement']:.1%}",
        size,
        *cost,
    ]


def ratio(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "1"
    low, high = found["ci95"]
    return f"{found['median']:.2f} ({low:.2f} to {high:.2f})" + ("" if found["conclusive"] else ", noisy")


def environment(found: Mapping[str, Any]) -> str:
    host, images = found["environment"], found["images"]
    packages = ", ".join(f"{name} {version}" for name, version in host["packages"].items() if version)
    return (
        f"{processor(host)}, {host['cores']} cores, {host['os']}, Python {host['python']}; {packages}. "
        f"{images['calibration']} images calibrated, {images['scored']} others were scored."
    )


def plot(found: Mapping[str, Any], runtime: str) -> str:
    """An SVG of the artifacts that run; those that keep more than HIGHEST dB are drawn at it."""
    there = [row for row in found["programs"] if row["runtime"] == runtime and row["bytes"] is not None]
    rows = sorted((row for row in there if "error" not in row), key=lambda row: row["name"] != "edgevit")
    points = [
        Point(
            f"edgevit, {row['precision']}" if row["name"] == "edgevit" else row["name"],
            row["timing"]["p50_ms"],
            min(row["sqnr_db"], HIGHEST),
            row["timing"]["p90_ms"],
            f"p50 {row['timing']['p50_ms']:.2f} ms, {row['sqnr_db']:.1f} dB",
        )
        for row in rows
    ]
    x = axis("p50, with a line to p90, ms", [0, *(point.far for point in points)])
    y = axis(f"SQNR, dB (at most {HIGHEST:.0f})", [0, HIGHEST])
    return scatter.chart(f"{found['model']}, {runtime}: latency against SQNR", points, x, y)
