"""Two hosts with a wire and a firewall between them: network namespaces joined by veth(4).

Run as a program by Hosts, with capabilities in a user namespace of its own (as root: without one). It makes both
namespaces, lets one port through, reads everything on the wire (packet(7)) and obeys a word per line of stdin.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading

PORT = 8890
NEAR, FAR, FAR_TOO = "10.77.0.1", "10.77.0.2", "10.77.0.3"  # the far host has two addresses

# What leaves or enters the far host: the one port, and neighbours finding each other. "refuse" cuts in words of TCP; with
# "deaf" what is sent to the far host arrives, and no word of it comes back.
RULES = f"""
flush ruleset
table inet wall {{
  chain inward {{
    type filter hook input priority 0; policy drop;
    iif lo accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    tcp dport {PORT} %s
  }}
  chain outward {{
    type filter hook output priority 0; policy drop;
    oif lo accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    tcp sport {PORT} %s
  }}
}}
"""
WORDS = {"accept": ("accept", "accept"), "refuse": ("reject with tcp reset", "accept"), "deaf": ("accept", "drop")}


class Hosts:
    """Both hosts, for a test."""

    def __init__(self, capture):
        program = [sys.executable, __file__, str(capture)]
        inside = ["--net"] if os.getuid() == 0 else ["--user", "--map-current-user", "--keep-caps", "--net"]
        self.process = subprocess.Popen(
            ["unshare", *inside, *program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.far_pid = int(self.process.stdout.readline())

    def enter(self, far):
        """What to put before a command so that it runs there, with the caller's uid and no more rights."""
        user = [] if os.getuid() == 0 else ["--user", "--preserve-credentials"]
        return [shutil.which("nsenter"), "--target", str(self.far_pid if far else self.process.pid), *user, "--net"]

    def tell(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def connections(self):
        """How many the near host has to the one port, as it knows."""
        count = 0
        for name in ("tcp", "tcp6"):
            with open(f"/proc/{self.process.pid}/net/{name}", encoding="ascii") as file:
                count += sum(line[2].endswith(f":{PORT:04X}") and line[3] == "01" for line in map(str.split, file))
        return count

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


def run(*command, text=None):
    subprocess.run(command, check=True, input=text, text=True)


def far_run(far, *command, text=None):
    run("nsenter", "--target", str(far.pid), "--net", *command, text=text)


def capture(wire, path):
    """Every frame: its length in four bytes, then its bytes."""
    with open(path, "wb", buffering=0) as file:
        while True:
            try:
                frame = wire.recv(70000)
            except OSError:  # the wire was cut; it goes on when it is up
                continue
            file.write(len(frame).to_bytes(4, "little") + frame)


def frames(path, since=0):
    """Those behind so many bytes of it."""
    with open(path, "rb") as file:
        file.seek(since)
        while length := file.read(4):
            yield file.read(int.from_bytes(length, "little"))


def tcp_ports(frame):
    """(source, destination) of a TCP segment over IPv4; None for another packet."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None
    at = 14 + 4 * (frame[14] & 15)
    return int.from_bytes(frame[at : at + 2], "big"), int.from_bytes(frame[at + 2 : at + 4], "big")


def is_neighbours(frame):
    """ARP, or IPv6's neighbour discovery (RFC 4861) with the groups that it joins (RFC 3810)."""
    if frame[12:14] == b"\x08\x06":
        return True
    if frame[12:14] != b"\x86\xdd":
        return False
    following, at = frame[20], 54
    if following == 0:  # hop-by-hop options
        following, at = frame[at], at + 8 + 8 * frame[at + 1]
    return following == 58 and frame[at] in (133, 134, 135, 136, 143)


def strange(frames):
    """Those that are neither of the one port nor of neighbours finding each other."""
    return [frame for frame in frames if PORT not in (tcp_ports(frame) or ()) and not is_neighbours(frame)]


def has_address(frame, address):
    """Whether it is IPv4 from or to it."""
    return frame[12:14] == b"\x08\x00" and bytes(map(int, address.split("."))) in (frame[26:30], frame[30:34])


def main():
    far = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 1000000"], stdout=subprocess.PIPE)
    far.stdout.readline()  # it is in its namespace
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(far.pid))
    run("ip", "address", "add", f"{NEAR}/24", "dev", "near")
    for address in (FAR, FAR_TOO):
        far_run(far, "ip", "address", "add", f"{address}/24", "dev", "far")
    far_run(far, "ip", "link", "set", "lo", "up")
    far_run(far, "ip", "link", "set", "far", "up")
    run("ip", "link", "set", "near", "up")
    far_run(far, "nft", "-f", "-", text=RULES % WORDS["accept"])
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    wire.bind(("near", 0))
    threading.Thread(target=capture, args=(wire, sys.argv[1]), daemon=True).start()
    print(far.pid, flush=True)
    for line in sys.stdin:
        word = line.strip()
        if word in WORDS:
            far_run(far, "nft", "-f", "-", text=RULES % WORDS[word])
        elif word.startswith("rate"):  # "rate 200mbit" in both directions, where the system has tc-tbf(8); "rate": all it can
            for inside, device in (((), "near"), (("nsenter", "--target", str(far.pid), "--net"), "far")):
                rate = word[5:]
                shape = ("replace", "dev", device, "root", "tbf", "rate", rate, "burst", "256k", "latency", "200ms")
                shape = shape if rate else ("delete", "dev", device, "root")
                subprocess.run([*inside, "tc", "qdisc", *shape], check=False, stderr=subprocess.DEVNULL)
        elif word in ("down", "up"):
            run("ip", "link", "set", "near", word)
        print("done", flush=True)
    far.kill()
    far.wait()


if __name__ == "__main__":
    main()
