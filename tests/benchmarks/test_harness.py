"""What the benchmarks measure with: processes, latencies, the oracle, and verdicts."""

from __future__ import annotations

import math
import signal
from itertools import islice
from pathlib import Path
from statistics import median

import pytest

from benchmarks.figures import AtLeast, AtMost, as_json, figure, table_lines
from benchmarks.latency import Latency, parse_latency
from benchmarks.processes import Broken, measure, python, start
from benchmarks.product import command, run_command
from benchmarks.scenarios.polls import oracle_makespan_s
from benchmarks.serving import responder
from benchmarks.workload import Workload


def test_the_same_seed_gives_the_same_latencies() -> None:
    latency = parse_latency("8:0.7")
    first, again, other = (list(islice(latency.draws(seed), 4001)) for seed in (1, 1, 2))
    assert first == again != other
    assert median(first) == pytest.approx(8.0, rel=0.05)
    assert median(abs(math.log(each / 8.0)) for each in first) == pytest.approx(0.7 * 0.674, rel=0.05)


def test_a_latency_without_sigma_is_fixed() -> None:
    assert list(islice(Latency(0.05).draws(1), 3)) == [0.05] * 3


def test_the_oracle_refills_each_place_at_once() -> None:
    assert oracle_makespan_s([3.0, 1.0, 1.0, 4.0, 1.0], in_flight=2) == 6.0
    assert oracle_makespan_s([9.0, 1.0], in_flight=5) == 9.0


def test_a_process_is_measured_from_start_to_end() -> None:
    cost = measure(python("-c", "import time; print('done', sum(range(2_000_000))); time.sleep(0.1)"))
    assert cost.output.startswith("done")
    assert 0.01 < cost.cpu_s < cost.wall_s


def test_a_failure_is_reported_with_the_last_lines_of_standard_error() -> None:
    with pytest.raises(Broken, match=r"(?s)exit code 3.*farewell"):
        measure(python("-c", "import sys; print('farewell', file=sys.stderr); sys.exit(3)"))


def test_a_killed_process_still_has_its_cost() -> None:
    with start(python("-c", "import time; time.sleep(60)")) as child:
        assert not child.ended()
        child.signal(signal.SIGKILL)
        assert child.wait(codes=(-signal.SIGKILL,)).wall_s < 60


def test_a_figure_is_the_median_and_has_a_verdict() -> None:
    ratio = figure("ratio", [1.4, 1.9, 1.6], "×", AtMost(1.5))
    rate = figure("rate", 1234.5, "/s", AtLeast(800))
    assert (ratio.value, ratio.kept, rate.kept) == (1.6, False, True)
    assert [line.split() for line in table_lines([ratio, rate])] == [
        ["ratio", "1.6", "×", "≤", "1.5", "MISSED", "(1.4", "…", "1.9)"],
        ["rate", "1,234", "/s", "≥", "800", "ok"],
    ]
    assert as_json(rate) == {
        "name": "rate",
        "value": 1234.5,
        "unit": "/s",
        "bound": "≥ 800",
        "kept": True,
        "samples": [1234.5],
    }


def test_the_product_answers_a_workload(tmp_path: Path) -> None:
    with responder(Latency(0.01)) as server:
        Workload(rows=30, in_flight=10).write(tmp_path, server.base_url)
        measure(run_command(tmp_path))
        seen = server.seen()
    assert seen.creates == seen.seen == 30
    exported = measure(command(tmp_path, "export", "measured"))
    assert exported.output.count('"state":"succeeded"') == 30
