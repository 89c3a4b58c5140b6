"""A client of the link that follows the protocol (web/link_frame.h) as far as its script does; argv: where, host's key, own key."""

import contextlib
import os  # noqa: F401 (for the scripts)
import struct
import sys

import zmq
import zmq.auth
import zmq.utils.monitor

HELLO, WELCOME, DATA, ACK, REFUSE = range(1, 6)
NOT_KNOWN, NOT_SPOKEN, NOT_STARTED, NOT_ALLOWED = range(1, 5)
WHERE, HOST_KEY, OWN_KEY = sys.argv[1:4]


def frame(kind, a=0, b=0, number=0, body=b"", version=1):
    return struct.pack("<BBBBQ", version, kind, a, b, number) + body


def message(number, channel, *parts):
    """A message in one piece."""
    return frame(DATA, channel, 1, number, struct.pack(f"<{len(parts) + 1}I", len(parts), *map(len, parts)) + b"".join(parts))


class Connection:
    def __init__(self, routing_id=None):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.reconnect_ivl = -1
        if routing_id:
            self.socket.routing_id = routing_id
        self.socket.curve_serverkey = zmq.auth.load_certificate(HOST_KEY)[0]
        self.socket.curve_publickey, self.socket.curve_secretkey = zmq.auth.load_certificate(OWN_KEY)
        self.monitor = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.socket.connect("tcp://" + WHERE)
        self.send = self.socket.send

    def hear(self, seconds=60):
        """The next frame, b"" when none comes."""
        return self.socket.recv() if self.socket.poll(int(1000 * seconds)) else b""

    def ask(self, *frames, seconds=60):
        """(type, a) of the answer to these frames (a list: of several parts)."""
        for one in frames:
            with contextlib.suppress(zmq.Again):  # it has ended: what it was told before is the answer
                self.socket.send_multipart(one if isinstance(one, list) else [one], zmq.DONTWAIT)
        answer = self.hear(seconds)
        return (answer[1], answer[2]) if answer else None

    def stay(self):
        """Says that it is there."""
        with contextlib.suppress(zmq.Again):
            self.send(frame(ACK), zmq.DONTWAIT)

    def ended(self, seconds=60):
        """Whether the host ends it, within so many seconds."""
        return self.monitor.poll(int(1000 * seconds)) > 0

    def close(self):
        self.socket.disable_monitor()
        self.monitor.close()
        self.socket.close()
