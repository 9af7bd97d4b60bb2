"""Programs that do what SLURM's would, in processes of this machine."""

import os
import stat
import sys
from pathlib import Path

import pytest

PROGRAMS = {
    "sbatch": """
        import os, re, subprocess, sys
        script = open(sys.argv[1]).read()
        open(os.environ["STANDINS"] + "/script", "w").write(script)
        last = re.search(r"--array=0-([0-9]+)", script)
        for task in range(int(last[1]) + 1 if last else 1):
            subprocess.Popen([os.environ["STANDINS"] + "/job", sys.argv[1], str(task)], stdout=-3, stderr=-3)
        print("Submitted batch job 17")
    """,
    "job": """
        import os, subprocess, sys
        script, task = sys.argv[1:]
        ids = {"SLURM_JOB_ID": str(18 + int(task)), "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": task}
        again, starts = os.environ["STANDINS"] + "/requeued_17_" + task, 0
        while starts == 0 or os.path.exists(again):
            if starts:
                os.remove(again)
            subprocess.run(["bash", script], env=os.environ | ids | {"SLURM_PROCID": "0"})
            starts += 1
        open(os.environ["STANDINS"] + "/starts_" + task, "w").write(str(starts))
    """,
    "srun": """
        import os, sys
        given, output = sys.argv[1:], {}
        while given[0].startswith("--"):
            flag = given.pop(0)
            if flag in ("--output", "--error"):
                output[flag] = given.pop(0)
        for number, flag in ((1, "--output"), (2, "--error")):
            path = output[flag].replace("%A", "17").replace("%a", os.environ["SLURM_ARRAY_TASK_ID"]).replace("%t", "0")
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        os.execvp(given[0], given)
    """,
    "scontrol": """
        import os, sys
        assert sys.argv[1] == "requeue"
        open(os.environ["STANDINS"] + "/requeued_" + sys.argv[2], "w")
    """,
    "sacct": "print('JobID|State|NodeList')",
    "scancel": "",
}


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put them into a new folder at the front of PATH. They leave there what they were given: script, starts_0, ..."""
    folder.mkdir()
    for name, text in PROGRAMS.items():
        lines = text.strip("\n").splitlines()
        body = "\n".join(line.removeprefix(" " * 8) for line in lines)
        (folder / name).write_text(f"#!{sys.executable}\n{body}\n")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STANDINS", str(folder))
    return folder
