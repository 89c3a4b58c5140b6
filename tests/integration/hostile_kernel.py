"""A kernel that sends what a cell tells it to: the other end of test_guard.py, run as `python -c SOURCE CONNECTION_FILE`.

A cell is JSON: {"send": [MESSAGE...], "reply": true, "answers": {TYPE OF A REQUEST: content of its replies from now on}}.
MESSAGE has "type" and, as needed, "channel", "content" or "raw" (text of the content frame), "header" (fields that replace
those of an honest header), "parent" (fields that replace the request's; null: none) or "parent_header" (all of it),
"metadata", "buffers" (number), "topics", "identity", "signature", "same_id" (the last one's msg_id) and "again" (the same
frames once more).
"""

import hashlib
import hmac
import json
import sys
import uuid

import zmq

with open(sys.argv[1], encoding="utf-8") as file:
    connection = json.load(file)
key = connection["key"].encode()
context = zmq.Context()
sockets = {}
for name, kind in (("shell", zmq.ROUTER), ("control", zmq.ROUTER), ("stdin", zmq.ROUTER), ("iopub", zmq.PUB), ("hb", zmq.ROUTER)):
    socket = context.socket(kind)
    at = f"{connection['ip']}:{connection[name + '_port']}" if connection["transport"] == "tcp" else f"{connection['ip']}-{connection[name + '_port']}"
    socket.bind(f"{connection['transport']}://{at}")
    sockets[name] = socket
session = uuid.uuid4().hex
answers = {}  # the content of a reply by the type of its request
heard = []  # what clients and the proxy sent
last_id = None


def send(channel, msg_type, content, parent, identities=(b"topic",), **options):
    global last_id
    header = {
        "msg_id": last_id if options.get("same_id") else uuid.uuid4().hex,
        "msg_type": msg_type,
        "session": session,
        "username": "kernel",
        "date": "2026-01-01T00:00:00.000000Z",
        "version": "5.3",
        **options.get("header", {}),
    }
    last_id = header["msg_id"]
    text = options["raw"] if "raw" in options else json.dumps(content)
    parts = [
        json.dumps(header).encode(),
        json.dumps(parent).encode(),
        json.dumps(options.get("metadata", {})).encode(),
        text.encode("utf-8", "surrogateescape"),
    ]
    signature = hmac.new(key, b"".join(parts), hashlib.sha256).hexdigest()
    frames = [*identities, b"<IDS|MSG>", options.get("signature", signature).encode(), *parts]
    frames += [b"buffer"] * options.get("buffers", 0)
    for _ in range(2 if options.get("again") else 1):
        sockets[channel].send_multipart(frames)


def obey(request, identities, header):
    for message in request.get("send", []):
        options = dict(message)
        channel = options.pop("channel", "iopub")
        parent = options.pop("parent", {})
        parent = {} if parent is None else {**header, **parent}
        parent = options.pop("parent_header", parent)
        if channel == "iopub":
            prefix = [topic.encode("latin-1") for topic in options.pop("topics", ["topic"])]
        else:
            prefix = [identities[0], options.pop("identity", "").encode() or identities[1], *identities[2:]]
        send(channel, options.pop("type"), options.pop("content", {}), parent, prefix, **options)


def answer(channel, frames):
    at = frames.index(b"<IDS|MSG>")
    identities, header, content = frames[:at], json.loads(frames[at + 2]), json.loads(frames[at + 5])
    kind = header["msg_type"]
    heard.append({"type": kind, "content": content, "channel": channel})
    if not kind.endswith("_request"):
        return
    send("iopub", "status", {"execution_state": "busy"}, header)
    reply = {"status": "ok"}
    wanted = {}
    if kind in answers:
        reply = answers[kind]
    elif kind == "kernel_info_request":
        language = {"name": "python", "version": "3", "mimetype": "text/x-python", "file_extension": ".py"}
        reply.update(
            protocol_version="5.3", implementation="hostile", implementation_version="1", banner="", help_links=[], language_info=language
        )
    elif kind == "execute_request":
        send("iopub", "execute_input", {"code": "what was never typed", "execution_count": 1}, header)
        wanted = json.loads(content["code"] or "{}")
        answers.update(wanted.get("answers", {}))
        obey(wanted, identities, header)
        if wanted.get("heard"):
            send("iopub", "stream", {"name": "stdout", "text": json.dumps(heard[-20:])}, header)
        reply.update(execution_count=1, user_expressions={}, payload=[])
    elif kind == "shutdown_request":
        reply["restart"] = False
    if wanted.get("reply", True):
        send(channel, kind.replace("_request", "_reply"), reply, header, identities)
    send("iopub", "status", {"execution_state": "idle"}, header)
    if kind == "shutdown_request":
        sys.exit()


poller = zmq.Poller()
for socket in sockets.values():
    if socket.type == zmq.ROUTER:
        poller.register(socket, zmq.POLLIN)
while True:
    for socket, _ in poller.poll():
        frames = socket.recv_multipart()
        if socket is sockets["hb"]:
            socket.send_multipart(frames)
        else:
            answer(next(name for name, other in sockets.items() if other is socket), frames)
