"""Ranks under torchrun on two nodes: after a death they find each other again, whatever each node has counted."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys, time, torch
from pathlib import Path
from gan_style.runtime.distributed import ranks
died, found, other = (Path(sys.argv[1], name) for name in ("died", "found", "other"))
first_start = not died.exists()
with ranks() as group:
    mean = group.mean(torch.tensor([float(group.rank)])).item()
    if first_start:
        if group.rank == 1:
            died.touch()
            while not other.exists():  # it has the mean, too
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        other.touch()
        time.sleep(120)  # this one's agent ends it as soon as the other node is back, without counting it
        sys.exit(1)
    restarts = os.environ["TORCHELASTIC_RESTART_COUNT"]
    Path(f"{found}{group.rank}").write_text(f"{restarts} {mean} {group.count}")
"""


@pytest.mark.slow  # two launchers with restarts
def test_nodes_that_count_restarts_apart_start_together(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, "--max-restarts=3"]
    command += [str(tmp_path / "program.py"), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    nodes = [subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for _ in range(2)]
    try:
        assert [node.wait(timeout=100) for node in nodes] == [0, 0]
    finally:
        for node in nodes:
            node.terminate()
    actual = [(tmp_path / f"found{rank}").read_text().split() for rank in range(2)]
    assert [item[1:] for item in actual] == [["0.5", "2"]] * 2
    assert sorted(item[0] for item in actual) == ["0", "1"]  # else this test has not seen what it is for
