"""A TCP port before another one, which a test can cut: in silence, as when a cable is out, or with a word to both sides."""

import contextlib
import socket
import struct
import threading


def bound(port):
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(("127.0.0.1", port))
    return one


class Wire:
    def __init__(self, port):
        self._target = ("127.0.0.1", port)
        self._held = bound(0)  # does not listen: whenever nobody else does, the port refuses, and stays ours
        self.port = self._held.getsockname()[1]
        self._flowing = threading.Event()
        self._flowing.set()
        self._clients, self._pumps = [], []
        self._lost = set()
        self._left = None
        self._listener = None
        self.restore()

    def _accept(self, listener):
        with contextlib.suppress(OSError):  # refuse()
            while True:
                client, _ = listener.accept()
                try:
                    server = socket.create_connection(self._target)
                except OSError:  # nobody is there: as without us
                    client.close()
                    continue
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._clients.append(client)
                for pair in ((client, server), (server, client)):
                    pump = threading.Thread(target=self._pump, args=(*pair, pair[0] is client), daemon=True)
                    pump.source = pair[0]
                    self._pumps.append(pump)
                    pump.start()

    def _pump(self, source, target, up):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                if source in self._lost:
                    return
                target.sendall(data)
                if up and self._left is not None:
                    self._left -= len(data)
                    if self._left < 0:
                        self._left = None
                        self.refuse()
        with contextlib.suppress(OSError):
            if source not in self._lost:
                target.shutdown(socket.SHUT_WR)

    def silence(self):
        """Nothing gets through, nobody is told; what is sent waits, as TCP sends it again later."""
        self._flowing.clear()

    def lose(self):
        """Nothing gets through, nobody is told, and what is sent is lost: both sides find their connections dead afterwards."""
        self.silence()
        self._lost.update(pump.source for pump in self._pumps)

    def refuse(self):
        """Connections end, what the far side has sent still comes through, new ones are refused."""
        listener, self._listener = self._listener, None
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        clients, self._clients = self._clients, []
        for client in clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RD)

    def refuse_after(self, size):
        """refuse() when clients have sent so many bytes more."""
        self._left = size

    def drained(self):
        """After refuse(): what was on its way has come to its end."""
        for pump in self._pumps:
            pump.join()
        self._pumps.clear()

    def restore(self):
        for one in self._lost:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RD)
        self._flowing.set()
        for pump in [pump for pump in self._pumps if pump.source in self._lost]:
            pump.join()
            self._pumps.remove(pump)
        for one in self._lost:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() resets
            one.close()
        self._clients = [client for client in self._clients if client not in self._lost]
        self._lost.clear()
        if self._listener is None:
            self._listener = bound(self.port)
            self._listener.listen(128)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self):
        self._flowing.set()
        if self._listener is not None:
            self.refuse()
        self._held.close()
