"""A TCP port before another one, which a test can cut: in silence, as when a cable is out, or with a word to both sides."""

import contextlib
import socket
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
        self._clients = []
        self._listener = None
        self.restore()

    def _accept(self, listener):
        with contextlib.suppress(OSError):  # refuse()
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self._target)
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._clients.append(client)
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def silence(self):
        """Nothing gets through, nobody is told; what is sent waits, as TCP sends it again later."""
        self._flowing.clear()

    def refuse(self):
        """Connections end, what the far side has sent still comes through, new ones are refused."""
        listener, self._listener = self._listener, None
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        clients, self._clients = self._clients, []
        for client in clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RD)

    def restore(self):
        self._flowing.set()
        if self._listener is None:
            self._listener = bound(self.port)
            self._listener.listen(128)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self):
        self._flowing.set()
        if self._listener is not None:
            self.refuse()
        self._held.close()
