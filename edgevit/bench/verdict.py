"""Whether a run says anything: a conclusion is drawn from its ratio only if nothing here speaks against it."""

from edgevit.bench.protocol import Ratio
from edgevit.bench.reference import HostSpeed

WIDEST = 0.1  # of a ratio: its interval from end to end
RESTLESS = 0.25  # a host whose own speed spread over more than this had other things to do
MEND = "close what else runs, or ask for more --runs"


def why_inconclusive(ratio: Ratio | None, steady: bool, host: HostSpeed) -> str | None:
    """One sentence, or None. ``ratio`` is None where a program was timed by itself."""
    if host.spread > RESTLESS:
        return f"the host's own speed moved by {host.spread:.0%} during the run: {MEND}"
    if not steady:
        return f"the warm-up ended before the programs were steady: {MEND}"
    if ratio is not None and (width := (ratio.ci95[1] - ratio.ci95[0]) / ratio.median) > WIDEST:
        return f"the interval of the ratio is {width:.0%} wide: {MEND}"
    return None
