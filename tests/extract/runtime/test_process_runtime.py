"""Sessions survive a fork: children load their graphs anew, and end as they should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from topwork.extract.runtime.providers import PROVIDERS, explain_absence, has_package

SECONDS = 60
OPEN = """
import multiprocessing, os, sys
import numpy as np
from topwork.extract.graphs.cut import CutRequest
from topwork.extract.graphs.graph_cache import graph_for
from topwork.extract.runtime import session

way = sys.argv[1]
if way == "package":
    session.openvino_devices = tuple
provider = "cpu" if way == "cpu" else "openvino"
graph = graph_for("topwork:tiny", CutRequest(("layer1",), ("avg",))).path
feed = {"image": np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)}

def compute():
    (features,) = session.open_session(graph, provider, runs=2).run(feed)
    return features.tobytes()

expected = compute()
inherited = session.open_session(graph, provider, runs=2)
inherited.run(feed)

def check_in_child():
    assert compute() == expected
    (features,) = inherited.run(feed)
    assert features.tobytes() == expected
"""
FORK = """
for ends in (os._exit, sys.exit):
    child = os.fork()
    if child == 0:
        check_in_child()
        ends(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""
POOL = """
with multiprocessing.get_context("fork").Pool(2) as pool:
    pool.starmap(check_in_child, [()] * 4)
check_in_child()
"""
GRANDCHILD = """
child = os.fork()
if child == 0:
    inherited.run(feed)
    grandchild = os.fork()
    if grandchild == 0:
        check_in_child()
        sys.exit(5)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
"""
DROPPED = """
others = [session.open_session(graph, provider, runs=2) for _ in range(2)]
del inherited, others
child = os.fork()
if child == 0:
    assert compute() == expected
    sys.exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
"""
REPEATED = """
for _ in range(30):
    check_in_child()
"""


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="this system has no fork")
@pytest.mark.parametrize("script", [FORK, POOL, GRANDCHILD, DROPPED, REPEATED])
@pytest.mark.parametrize("way", ["cpu", "openvino", "package"])
def test_forked_processes_and_repeated_loads_compute_the_same_bytes(way: str, script: str) -> None:
    if way != "cpu" and explain_absence(PROVIDERS["openvino"]):
        pytest.skip("this machine has no OpenVINO")
    if way == "package" and not has_package("openvino"):
        pytest.skip("the package openvino is not installed")
    with subprocess.Popen(
        [sys.executable, "-c", OPEN + script, way], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            _, errors = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"still running after {SECONDS} s")
    assert process.returncode == 0, errors
