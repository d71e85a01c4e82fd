"""How much memory this process may still take, within the limits of the machine, of cgroups and of Slurm."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import psutil

CGROUPS, PROCESSES = Path("/sys/fs/cgroup"), Path("/proc")
# Files of a cgroup in version 2 and in version 1: its limit and its use; and the memory in it that holds
# files, which Linux drops when it needs room.
V2_FILES, V2_DROPPED = ("memory.max", "memory.current"), ("active_file", "inactive_file")
V1_FILES = ("memory.limit_in_bytes", "memory.usage_in_bytes")
V1_DROPPED = ("total_active_file", "total_inactive_file")
# Embeddings that would take more than this share of the free memory stay on disk while predictors train.
SHARE_OF_MEMORY = 0.5


def find_free_memory(cgroups: Path = CGROUPS, processes: Path = PROCESSES) -> int:
    """Return the bytes that this process may still take, on the machine and in its cgroups.

    A container, a systemd unit and a job of Slurm are cgroups, which may have less than the machine.

    Args:
        cgroups: where the cgroups are mounted.
        processes: where Linux describes processes.

    >>> find_free_memory() > 0
    True
    """
    rooms = _list_cgroup_rooms(cgroups, processes / "self" / "cgroup")
    return max(0, min([psutil.virtual_memory().available, *rooms]))


def _list_cgroup_rooms(cgroups: Path, of_process: Path) -> Iterator[int]:
    """Yield the bytes that are left in each cgroup that holds this process and has a limit."""
    try:
        lines = of_process.read_text(encoding="utf-8").splitlines()
    except OSError:
        return  # another system than Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            names, dropped, top = V2_FILES, V2_DROPPED, cgroups
        elif "memory" in controllers.split(","):
            names, dropped, top = V1_FILES, V1_DROPPED, cgroups / "memory"
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        # In a container the path may be that outside of it; then only the top is there.
        for group in (inside, *inside.parents):
            with contextlib.suppress(OSError, ValueError):
                yield _read_room(top / group, names, dropped)


def _read_room(group: Path, names: tuple[str, str], dropped: tuple[str, str]) -> int:
    """Return the bytes that are left in a cgroup.

    Raises:
        OSError: there is no such cgroup.
        ValueError: it has no limit.
    """
    limit, used = (int((group / name).read_text(encoding="utf-8")) for name in names)
    pairs = (line.split() for line in (group / "memory.stat").read_text(encoding="utf-8").splitlines())
    return limit - used + sum(int(value) for key, value in pairs if key in dropped)


def find_slurm_limit(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return the bytes that Slurm gave this job on this machine; None if it is no job, or has no limit.

    >>> find_slurm_limit({"SLURM_MEM_PER_CPU": "2000", "SLURM_CPUS_ON_NODE": "4"})
    8388608000
    """
    per_node, per_cpu, cpus = (
        int(text) if (text := environment.get(name, "")).isdecimal() else 0
        for name in ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE")
    )
    # 0 stands for all memory of the machine.
    megabytes = per_node or per_cpu * cpus
    return megabytes << 20 if megabytes else None


def measure_memory(pid: int, processes: Path = PROCESSES) -> int:
    """Return the bytes that a process and all its descendants hold, without files; 0 where nobody can tell.

    >>> import os
    >>> measure_memory(os.getpid()) >= 0
    True
    """
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(OSError):
                for line in (processes / str(each.pid) / "status").read_text(encoding="utf-8").splitlines():
                    if line.startswith(("RssAnon:", "RssShmem:")):
                        total += 1024 * int(line.split()[1])
    return total
