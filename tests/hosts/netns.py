"""Hosts on one machine that are as separate as machines: own address, own /tmp, own processes.

Each host is a process with namespaces of its own (network, mounts, processes, names), and a
network cable to a switch, which is one more such process. Whatever runs on a host dies with
it, all hosts die with the process that made them, and nothing is left in the machine's own
namespaces. Needs root, util-linux (`unshare`, `nsenter`), iproute2 (`ip`, `tc`) and bash.

    with Hosts(3) as hosts:
        hosts.start_ray()
        hosts.run("h0", [python, "-c", script])
        hosts.cut("h1")      # its packets vanish, both ways
        hosts.crash("h2")    # so does it, without a word to anybody

Files under /tmp are a host's own; all others are shared. See `Hosts.outside`.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_TOOLS = ("bash", "ip", "nsenter", "setpriv", "tc", "unshare")

# The first process of a host: it reaps orphans, and all others die with it.
_INIT = """
set -e
hostname "$1"
mount -t tmpfs -o size=2g,mode=1777 tmpfs /tmp
mount -t tmpfs -o size=1g,mode=1777 tmpfs /dev/shm
ip link set lo up
echo ready
exec >/dev/null
while :; do sleep 1000 & wait $!; done
"""

_RAY = {
    "RAY_AUTH_MODE": "disabled",  # a head would ask for a token that the others do not have
    "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_worker_niceness": "0",
}


def why_not():
    """Why there can be no hosts here, or None."""
    if os.getuid() != 0:
        return "only root makes hosts with namespaces of their own"
    lacking = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if lacking:
        return f"hosts need {', '.join(lacking)} (Debian: apt install iproute2 util-linux)"
    for path in (sys.executable, __file__):
        if str(Path(path).resolve()).startswith(("/tmp/", "/dev/shm/")):
            return f"hosts have a /tmp of their own and would not see {path}"
    attempt = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "ip", "link", "set", "lo", "up"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no namespaces here: {attempt.stderr.strip()}" if attempt.returncode else None


class Hosts:
    """Hosts h0, h1 and so on, with the addresses 10.77.0.10, 10.77.0.11 and so on."""

    def __init__(self, count):
        self.names = [f"h{index}" for index in range(count)]
        self._holders = {}
        self._inits = {}

    def __enter__(self):
        try:
            self._hold("switch", ["unshare", "--net", "--", "sleep", "infinity"])
            _wait_for(lambda: self._is_apart("switch"))
            self._switch("ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
            self._switch("ip", "link", "set", "br0", "up")
            for name in self.names:
                self._boot(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in list(self._holders):
            self._kill(name)

    def start_ray(self):
        """A Ray node on every host, the head on the first."""
        python = [sys.executable, "-m", "ray.scripts.scripts", "start", "--disable-usage-stats"]
        sizes = ["--num-cpus=4", "--object-store-memory=100000000", "--memory=1000000000"]
        quiet = ["--include-log-monitor=false"]

        def start(name):
            role = ["--head", "--port=6379", "--include-dashboard=false", "--no-monitor"]
            if name != "h0":
                role = [f"--address={self.address('h0')}:6379"]
            where = [f"--node-ip-address={self.address(name)}"]
            self.run(name, [*python, *where, *sizes, *quiet, *role])

        start("h0")
        with ThreadPoolExecutor() as pool:
            list(pool.map(start, self.names[1:]))

    def address(self, name):
        """The address of a host."""
        return f"10.77.0.{10 + self.names.index(name)}"

    def outside(self, name, path):
        """Where a host's file lies for this process."""
        return Path(f"/proc/{self._inits[name]}/root") / str(path).lstrip("/")

    def popen(self, name, command, **options):
        """Start a command on a host."""
        proxies = ("http_proxy", "https_proxy", "all_proxy", "ray_address", "tmpdir")
        environment = {k: v for k, v in os.environ.items() if k.lower() not in proxies} | _RAY
        return subprocess.Popen(self._enter(name, *command), env=environment, **options)

    def run(self, name, command, timeout_s=120):
        """Run a command on a host; what it printed."""
        process = self.popen(
            name, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            output, errors = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
        assert process.returncode == 0, f"{name}: {command}\n{output}\n{errors}"
        return output

    def slow(self, name, rate):
        """Bound the rate of what a host receives (`400mbit`), where the kernel knows how."""
        bucket = ["tbf", "rate", rate, "burst", "256kb", "latency", "50ms"]
        self._switch("tc", "qdisc", "add", "dev", name, "root", *bucket, check=False)

    def cut(self, name):
        """Pull the cable: nobody hears of it, packets just do not arrive any more."""
        self._switch("ip", "link", "set", name, "nomaster")

    def crash(self, name):
        """A power cut: all processes and files of a host are gone, and nobody hears of it."""
        self.cut(name)  # or the kernel would say goodbye for the dead
        self._kill(name)

    def _boot(self, name):
        separate = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc"]
        init = ["--kill-child", "--", "bash", "-c", _INIT, name, name]
        holder = self._hold(name, ["unshare", *separate, *init])
        assert holder.stdout.readline() == "ready\n", f"{name} did not come up"
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text()
        self._inits[name] = int(children.split()[0])
        mac = {other: f"02:00:00:00:00:{10 + i:02x}" for i, other in enumerate(self.names)}
        cable = ["type", "veth", "peer", "name", "eth0", "address", mac[name]]
        self._switch("ip", "link", "add", name, *cable, "netns", str(self._inits[name]))
        self._switch("ip", "link", "set", name, "master", "br0", "up")
        self._inside(name, "ip", "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
        self._inside(name, "ip", "link", "set", "eth0", "up")
        for other in self.names:
            if other != name:  # or a cut would show when the neighbour does not answer
                there = ["lladdr", mac[other], "nud", "permanent", "dev", "eth0"]
                self._inside(name, "ip", "neigh", "replace", self.address(other), *there)

    def _hold(self, name, command):
        self._holders[name] = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command],  # should this process die
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self._holders[name]

    def _kill(self, name):
        holder = self._holders.pop(name)
        init = self._inits.pop(name, None)
        if init is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(init, signal.SIGKILL)  # and the kernel kills all others on the host
        else:
            holder.kill()
        holder.wait(10)
        holder.stdout.close()

    def _is_apart(self, name):
        own, other = (
            Path(f"/proc/{pid}/ns/net").readlink() for pid in ("self", self._holders[name].pid)
        )
        return own != other

    def _enter(self, name, *command):
        into = ["-t", str(self._inits[name]), "-m", "-n", "-u", "-i", "-p"]
        return ["nsenter", *into, f"--wdns={Path.cwd()}", "--", *map(str, command)]

    def _inside(self, name, *command):
        _run(self._enter(name, *command))

    def _switch(self, *command, check=True):
        _run(["nsenter", "-t", str(self._holders["switch"].pid), "-n", "--", *command], check)


def _run(command, check=True):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stderr}"


def _wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
