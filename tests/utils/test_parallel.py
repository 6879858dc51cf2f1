"""utils/parallel.py: how many cores a process may use, by affinity and by CPU quota."""

import os
import subprocess
import sys

import pytest

from mmf_hm_concat.utils import parallel
from mmf_hm_concat.utils.parallel import num_cores

V1, V2 = "4:cpu,cpuacct:/{}\n0::/\n", "0::/{}\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """`machine(cores, lines of /proc/self/cgroup, {file below /sys/fs/cgroup: content})`."""

    def make(cores, own_cgroups, files):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
        monkeypatch.setattr(parallel, "_OWN_CGROUPS", tmp_path / "own")
        monkeypatch.setattr(parallel, "_CGROUPS", tmp_path / "cgroup")
        if own_cgroups is not None:
            (tmp_path / "own").write_text(own_cgroups)
        for name, content in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return make


@pytest.mark.parametrize("cores", [1, 2, 16, 64])
@pytest.mark.parametrize(
    "own_cgroups, files",
    [
        (None, {}),
        (V2.format(""), {}),
        (V2.format(""), {"cpu.max": "max 100000\n"}),
        (V1.format(""), {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}),
        (V2.format(""), {"cpu.max": "garbage\n"}),
        (V2.format(""), {"cpu.max": "100000 0\n"}),
        ("7:cpuset:/\n", {"cpu.max": "100000 100000\n"}),
    ],
)
def test_without_a_quota_the_affinity_decides(machine, cores, own_cgroups, files):
    machine(cores, own_cgroups, files)
    assert num_cores() == cores


@pytest.mark.parametrize("quota, expected", [(1000, 1), (100000, 1), (150000, 2), (400000, 4)])
def test_a_quota_limits_in_either_version_and_counts_a_part_of_a_core_as_one(
    machine, quota, expected
):
    machine(16, V2.format("job"), {"job/cpu.max": f"{quota} 100000\n"})
    assert num_cores() == expected
    for folder in ("cpu", "cpu,cpuacct"):
        files = {"cpu.cfs_quota_us": f"{quota}\n", "cpu.cfs_period_us": "100000\n"}
        machine(16, V1.format("job"), {f"{folder}/job/{name}": files[name] for name in files})
        assert num_cores() == expected


def test_a_quota_above_the_affinity_changes_nothing(machine):
    machine(2, V2.format(""), {"cpu.max": "800000 100000\n"})
    assert num_cores() == 2


def test_the_tightest_of_all_groups_above_counts(machine):
    files = {"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}
    machine(16, V2.format("a/b"), {**files, "cpu.max": "800000 100000\n"})
    assert num_cores() == 2


def test_a_container_that_sees_the_path_of_the_host_finds_its_quota_at_the_root(machine):
    files = {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}
    machine(16, V1.format("docker/0123"), files)
    assert num_cores() == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity")
def test_a_process_bound_to_one_core_uses_one():
    core = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{core}]); "
    code += "from mmf_hm_concat.utils.parallel import num_cores; print(num_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
