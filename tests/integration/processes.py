"""Which processes, mounts and files belong to a kernel behind the wall, read from /proc alone.

The relay and pid 1 are not dumpable, so an ordinary user may read neither their exe nor their maps; their name, parent,
owner and NSpid line in /proc/PID/status are open to everybody, and that is what is used here.
"""

import dataclasses
import os
import signal
import time


@dataclasses.dataclass(frozen=True)
class Process:
    pid: int
    started: int  # clock ticks after boot: with pid, unique
    name: str
    state: str
    parent: int
    uid: int
    namespaces: int  # how deep in pid namespaces; 1 is ours
    inner_pid: int

    def alive(self):
        now = read(self.pid)
        return now is not None and now.started == self.started and now.state not in "ZX"

    def kill(self, number=signal.SIGKILL):
        """Signals exactly this process; a pid that was given to another one meanwhile is left alone."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive():
                return False
            signal.pidfd_send_signal(handle, number)
            return True
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)


def read(pid):
    """The process, or None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            stat = file.read()
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            status = dict(line.rstrip("\n").split(":", 1) for line in file if ":" in line)
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    inner = status.get("NSpid", str(pid)).split()
    return Process(
        pid=pid,
        started=int(fields[19]),
        name=stat[stat.index("(") + 1 : stat.rindex(")")],
        state=fields[0],
        parent=int(fields[1]),
        uid=int(status["Uid"].split()[1]),
        namespaces=len(inner),
        inner_pid=int(inner[-1]),
    )


def everything():
    """All living processes (zombies are not)."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = read(int(name))
            if process is not None and process.state not in "ZX":
                found.append(process)
    return found


def tree(pid):
    """The living process `pid` and its descendants, parents first."""
    children = {}
    root = None
    for process in everything():
        children.setdefault(process.parent, []).append(process)
        if process.pid == pid:
            root = process
    if root is None:
        return []
    found = [root]
    for process in found:
        found.extend(children.get(process.pid, []))
    return found


def roles(pid):
    """Our processes below the proxy `pid` by what they do: proxy, guard (its template), examiner, supervisor, collector,
    relay, init, kernel.

    A role that does not exist (yet) is missing."""
    found = {}
    parents = {}
    for process in tree(pid):
        parents[process.pid] = process
        if process.pid == pid:
            found["proxy"] = process
        elif process.name == "cellwall-relay":
            found["relay"] = process
        elif process.name == "cellwall-guard":
            found.setdefault("guard" if process.parent == pid else "examiner", process)
        elif process.namespaces > 1:
            above = parents.get(process.parent)
            if process.inner_pid == 1:
                found.setdefault("init", process)
            elif above is not None and above.inner_pid == 1 and above.namespaces > 1:
                found.setdefault("kernel", process)
        elif process.parent == pid:
            if process.name != "cellwall":  # a child of the proxy that does not have its name yet
                found["supervisor"] = process
        else:
            found.setdefault("collector", process)
    return found


def strays(prefix, since):
    """Living processes whose program is installed below `prefix` and that started at clock tick `since` or later.

    The program of a process that is not dumpable is hidden from an ordinary user: then it is known by name and owner, and
    belongs to another run when a process of that run is above it. One that was orphaned is anybody's."""
    every = {process.pid: process for process in everything()}
    mine = list(line_of(os.getpid(), every))
    found = []
    for process in every.values():
        if process.started < since:
            continue
        try:
            ours = os.readlink(f"/proc/{process.pid}/exe").startswith(prefix + "/")
        except PermissionError:
            ours = process.name.startswith("cellwall") and process.uid == os.geteuid()
            above = [pid for pid in line_of(process.pid, every) if not every[pid].name.startswith("cellwall")]
            ours = ours and (not above or above[0] in mine or os.getpid() in above)
        except (FileNotFoundError, ProcessLookupError):
            ours = False
        if ours:
            found.append(process)
    return found


def line_of(pid, every):
    """A process of `every` and those above it."""
    while pid in every:
        yield pid
        pid = every[pid].parent


def now_ticks():
    """The clock of Process.started."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def wait_until(condition, seconds, step=0.02):
    """The first true value of condition(), or its last value when `seconds` are over."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() >= end:
            return value
        time.sleep(step)


def mounts(place):
    """What is mounted in our namespace, as a set of lines, but for what other runs mount in the places that they have beside
    `place`."""
    others, own = f"{place.parent}/cwt-", f"{place}/"
    found = set()
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            where, what = line.split(" - ")
            point = where.split()[4]
            if not point.startswith(others) or point.startswith(own):
                found.add(where.split(" ", 2)[2] + " " + what)
    return found


def memory_kb(pid, field="Pss"):
    """A line of smaps_rollup, in KiB. None when it is not ours to read."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        return None
    return None


def resident_kb(pid):
    """VmRSS, which everybody may read."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


def cpu_ticks(pid):
    """User and system time used so far."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        stat = file.read()
    fields = stat[stat.rindex(")") + 2 :].split()
    return int(fields[11]) + int(fields[12])
