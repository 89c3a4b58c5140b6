"""The server's headers: they arrive, and the page of a real JupyterLab reaches nobody but its server.

That JupyterLab works with them is what test_lab.py shows: it runs against the same server.
"""

import contextlib
import http.server
import socket
import threading
import time
import urllib.error
import urllib.request

import processes
import pytest
from test_lab import open_lab


class Listener(http.server.ThreadingHTTPServer):
    """The attacker: counts what reaches it, and has a page of its own without any header."""

    def __init__(self):
        self.asked = []
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def reached(self, way):
        return any(f"/{way}" in path for path in self.asked)


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!DOCTYPE html><title>plain</title><body></body>")

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


@pytest.fixture
def listener():
    listener = Listener()
    yield listener
    listener.shutdown()
    listener.server_close()


# Each asks `to` for its own name in a way that needs no click; one round of them takes as long as the page allows.
ATTEMPTS = """
const to = arguments[0], done = arguments[1];
const element = (name, attributes) => document.body.appendChild(Object.assign(document.createElement(name), attributes));
const ways = {
    fetch: () => fetch(to + '/fetch', {mode: 'no-cors'}),
    xhr: () => { const x = new XMLHttpRequest(); x.open('GET', to + '/xhr'); x.send(); },
    beacon: () => navigator.sendBeacon(to + '/beacon', 'x'),
    image: () => element('img', {src: to + '/image'}),
    style: () => element('div', {style: `background: url(${to}/style)`, textContent: 'x'}),
    link: () => element('link', {rel: 'stylesheet', href: to + '/link'}),
    script: () => element('script', {src: to + '/script'}),
    frame: () => element('iframe', {src: to + '/frame'}),
    media: () => element('video', {src: to + '/media', preload: 'auto'}),
    websocket: () => new WebSocket(to.replace('http', 'ws') + '/websocket'),
    events: () => new EventSource(to + '/events'),
    worker: () => new Worker(URL.createObjectURL(new Blob([`fetch('${to}/worker', {mode: 'no-cors'})`]))),
    import: () => import(to + '/import'),
};
for (const way of Object.values(ways))
    try { Promise.resolve(way()).catch(() => 0); } catch (problem) { }
setTimeout(() => done(Object.keys(ways)), 3000);
"""


def test_headers_arrive(lab):
    for path in ("/lab", "/api/status", "/static/lab/index.html"):
        try:
            with urllib.request.urlopen(lab.url + path, timeout=10) as answer:
                headers = answer.headers
        except urllib.error.HTTPError as problem:
            headers = problem.headers
        assert headers["Connection-Allowlist"].startswith("(response-origin)"), path
        assert headers["X-DNS-Prefetch-Control"] == "off" and headers["Referrer-Policy"] == "same-origin"
        assert "connect-src 'self';" in headers["Content-Security-Policy"]


def test_the_page_reaches_nobody_else(browser, lab, listener):
    browser.get(listener.url + "/plain")
    ways = browser.execute_async_script(ATTEMPTS, listener.url)
    processes.wait_until(lambda: all(listener.reached(way) for way in ways), 30)
    assert [way for way in ways if not listener.reached(way)] == [], "without the headers all of it is possible"
    open_lab(browser, lab)
    listener.asked.clear()
    browser.execute_async_script(ATTEMPTS, listener.url)
    assert listener.asked == []


STUN = """
const port = arguments[0], done = arguments[1];
const connection = new RTCPeerConnection({iceServers: [{urls: `stun:127.0.0.1:${port}`}]});
connection.createDataChannel('x');
connection.createOffer().then(offer => connection.setLocalDescription(offer)).catch(() => 0);
setTimeout(done, 2000);
"""


def datagrams(browser, patience=0.1):
    """How many a page of WebRTC sends to a port of its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(patience)
        browser.execute_async_script(STUN, udp.getsockname()[1])
        count = 0
        with contextlib.suppress(TimeoutError):
            while udp.recv(2048):
                count += 1
                udp.settimeout(0.1)
    return count


def test_webrtc_reaches_nobody(browser, lab, listener):
    """No Content-Security-Policy stops this: it is the Connection-Allowlist."""
    browser.get(listener.url + "/plain")
    assert datagrams(browser, 30) > 0
    open_lab(browser, lab)
    assert datagrams(browser) == 0


def test_a_script_cannot_send_the_page_elsewhere(browser, lab, listener):
    browser.get(listener.url + "/plain")
    browser.execute_script("location.href = '/elsewhere'")
    assert processes.wait_until(lambda: listener.reached("elsewhere"), 30)
    open_lab(browser, lab)
    listener.asked.clear()
    browser.execute_script("location.href = arguments[0]", listener.url + "/elsewhere")
    time.sleep(2)
    assert listener.asked == []


def test_the_servers_files_can_be_fetched(browser, lab):
    open_lab(browser, lab)
    status = browser.execute_async_script(
        "const done = arguments[0]; fetch('/files/staging/in/points.csv').then(r => done(r.status), e => done(String(e)))"
    )
    assert status == 200


def test_websockets_to_the_server_work(browser, lab):
    open_lab(browser, lab)
    state = browser.execute_async_script(
        """
        const done = arguments[0], socket = new WebSocket(location.origin.replace('http', 'ws') + '/api/events/subscribe');
        socket.onopen = () => done('open'); socket.onerror = () => done('error');
        """
    )
    assert state == "open"
