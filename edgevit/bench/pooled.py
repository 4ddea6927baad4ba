"""What several processes say together that timed the same programs: see ``edgevit.bench.timed``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from edgevit.bench import protocol
from edgevit.bench.reference import HostSpeed, host_speed
from edgevit.bench.verdict import why_inconclusive


def pooled(answers: Sequence[Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """An entry for each program: its latency, its ratio to the first program's, and why that is no conclusion."""
    random = np.random.default_rng(seed)
    host, steady = worst([host_speed(np.array(answer["reference"])) for answer in answers]), all_steady(answers)
    times = [[np.array(each) for each in answer["times"]] for answer in answers]  # process, program: [rounds, block]
    medians = [[protocol.block_medians(each) for each in process] for process in times]
    entries = []
    for index in range(len(times[0])):
        ratio = protocol.nested_ratio([own[index] / own[0] for own in medians], random) if index else None
        because = why_inconclusive(ratio, steady, host)
        every = np.concatenate([np.ravel(process[index]) for process in times])
        entries.append(
            {
                "timing": asdict(protocol.summary(every)) | {"steady": steady} | lasting(answers, index),
                "ratio": ratio and asdict(ratio) | {"conclusive": because is None, "because": because},
                "because": because,
                "reference": asdict(host),
            }
        )
    return entries


def worst(hosts: Sequence[HostSpeed]) -> HostSpeed:
    return HostSpeed(max(host.spread for host in hosts), max((host.drift for host in hosts), key=abs))


def all_steady(answers: Sequence[Mapping[str, Any]]) -> bool:
    return all(answer["steady"] for answer in answers)


def lasting(answers: Sequence[Mapping[str, Any]], index: int) -> dict[str, Any]:
    """Of the process that ran on without pause, if one was asked to."""
    found = [answer["sustained"][index] for answer in answers if "sustained" in answer]
    return {"sustained": found[0]} if found else {}
