"""What a hostile kernel cannot say: a kernel written for it says everything, a real client sees what is left.

Each case is what the kernel sends in one cell, and a judge of what reached jupyter_client. With outputs.mode "off" the
same kernel gets through: the judges can say no.
"""

import json
import pathlib
import re
import time

import harness
import processes
import pytest
from harness import ISOLATED, reply_to, request

SOURCE = (pathlib.Path(__file__).parent / "hostile_kernel.py").read_text()
PYTHON_KERNEL = ("python", "-c", SOURCE, "{inner_connection_file}")
STREAM = {"name": "stdout", "text": "said"}
SECOND = {"name": "stdout", "text": "said again"}


@pytest.fixture(scope="module")
def kernels(site):
    """A hostile kernel by the policy's mode, started when it is needed first."""
    started = {}

    def get(mode):
        if mode not in started:
            policy = site.policy({"outputs": {"mode": mode}})
            spec = site.variant("--policy", policy, kernel=(site.python, *PYTHON_KERNEL[1:]))
            started[mode] = harness.Kernel(site, ISOLATED, spec=spec)
        return started[mode]

    yield get
    for kernel in started.values():
        kernel.close()


class Seen:
    """What a client got for one cell."""

    silence = 0.05  # seconds without a message are the end of what an earlier cell said

    def __init__(self, kernel, request_of, **options):
        client = kernel.client
        harness.drain(client, self.silence)
        options.setdefault("allow_stdin", False)
        self.id = client.execute(json.dumps(request_of), **options)
        everything = []
        end = time.monotonic() + 20 * harness.PATIENCE
        while time.monotonic() < end:
            message = client.get_iopub_msg(timeout=end - time.monotonic())
            everything.append(message)
            own = message["parent_header"].get("msg_id") == self.id
            if own and message["content"].get("execution_state") == "idle" and len(everything) > 1:
                break
        self.iopub = everything
        self.shell = []
        if request_of.get("reply", True):
            self.shell.append(reply_to(client, self.id))
        self.notices = harness.notices(everything)
        usual = {"status", "execute_input"}
        self.others = [m for m in everything if m["msg_type"] not in usual and not harness.notices([m])]

    def of(self, msg_type):
        return [message for message in self.iopub if message["msg_type"] == msg_type and not harness.notices([message])]


def nothing(seen):
    assert seen.others == []


def sent(**message):
    return {"send": [message]}


def stream(**options):
    return sent(type="stream", content=STREAM, **options)


# ---- types, ids, headers ----

DROPPED = {
    "an unknown type": sent(type="strange_news", content={"a": 1}),
    "a type in other letters": sent(type="Stream", content=STREAM),
    "a type with NUL": sent(type="display_data\0", content={"data": {"text/plain": "x"}, "metadata": {}}),
    "a type of 300 bytes": sent(type="stream" * 50, content=STREAM),
    "a reply on iopub": sent(type="execute_reply", content={"status": "ok"}),
    "a request": sent(type="execute_request", content={"code": "1"}),
    "a path as msg_id": stream(header={"msg_id": "../../x"}),
    "markup as msg_id": stream(header={"msg_id": '"><img src=x>'}),
    "an empty msg_id": stream(header={"msg_id": ""}),
    "a long msg_id": stream(header={"msg_id": "a" * 129}),
    "a wrong signature": stream(signature="0" * 64),
    "no signature": stream(signature=""),
    "a debug event unasked": sent(type="debug_event", content={"seq": 1, "type": "event", "event": "stopped", "body": {}}),
    "the end of the kernel": sent(type="shutdown_reply", content={"status": "ok", "restart": False}),
    "a clear of an unknown cell": sent(type="clear_output", content={"wait": False}, parent={"msg_id": "guessed"}),
    "a clear of no cell": sent(type="clear_output", content={"wait": False}, parent=None),
    "not JSON": stream(raw="{"),
    "no object": stream(raw="[1]"),
    "NaN": stream(raw='{"name": "stdout", "text": "x", "n": NaN}'),
    "a number of 2,000 digits": stream(raw='{"name": "stdout", "text": "x", "n": ' + "9" * 2000 + "}"),
    "a key twice": stream(raw='{"name": "stdout", "text": "x", "text": "y"}'),
    "a deep list": stream(raw='{"name": "stdout", "text": "x", "n": ' + "[" * 5000 + "]" * 5000 + "}"),
}


@pytest.mark.core
@pytest.mark.parametrize("case", DROPPED, ids=str)
def test_goes_no_further(kernels, case):
    nothing(Seen(kernels("static"), DROPPED[case]))


SHOWN = ["an unknown type", "markup as msg_id", "the end of the kernel", "a clear of no cell", "a debug event unasked"]


@pytest.mark.parametrize("case", SHOWN, ids=str)
def test_arrives_without_the_firewall(kernels, case):
    assert Seen(kernels("off"), DROPPED[case]).others, "the judge sees no attack"


def test_a_msg_id_comes_once(kernels):
    both = {"send": [{"type": "stream", "content": STREAM}, {"type": "stream", "content": SECOND, "same_id": True}]}
    assert len(Seen(kernels("static"), both).of("stream")) == 1
    assert len(Seen(kernels("off"), both).of("stream")) == 2
    assert len(Seen(kernels("static"), stream(again=True)).of("stream")) == 1


@pytest.mark.core
def test_headers_are_the_proxys(kernels):
    forged = {"username": "<b>", "session": "other", "date": "soon", "version": "9.9", "subshell_id": "x", "more": {"a": 1}}
    seen = Seen(kernels("static"), {"send": [{"type": "stream", "content": STREAM, "header": forged}, *stream()["send"]]})
    first, second = (message["header"] for message in seen.of("stream"))
    assert set(first) == {"msg_id", "msg_type", "username", "session", "date", "version"}
    assert first["username"] == "kernel" and first["version"] == "5.4" and second["version"] == "5.3"
    assert {message["header"]["session"] for message in seen.iopub} == {first["session"]} != {"other"}
    assert abs(first["date"].timestamp() - time.time()) < 600
    assert Seen(kernels("off"), stream(header=forged)).of("stream")[0]["header"]["username"] == "<b>"


def test_metadata_topic_and_buffers(kernels):
    hostile = {"type": "stream", "content": STREAM, "metadata": {"isolated": True}, "buffers": 3, "topics": ["\x01\xff"]}
    (message,) = Seen(kernels("static"), {"send": [hostile]}).of("stream")
    assert message["metadata"] == {} and message["buffers"] == []
    (message,) = Seen(kernels("off"), {"send": [hostile]}).of("stream")
    assert message["metadata"] == {"isolated": True} and len(message["buffers"]) == 3


def test_any_number_of_topics_becomes_one(kernels):
    """IRkernel publishes under the routing identities of the request."""
    kernel = kernels("static")
    with harness.Raw(kernel.connection_file) as raw:
        socket = raw.socket("iopub")
        assert harness.parse(harness.receive(socket, 20))["msg_type"] == "iopub_welcome"
        for topics in ([], ["topic"], ["\x00\xff", "client"], ["a"] * 200):
            Seen(kernel, {"send": [{"type": "stream", "content": STREAM, "topics": topics}]})
        seen = []
        while (frames := harness.receive(socket, 1)) is not None:
            if harness.parse(frames)["msg_type"] == "stream":
                seen.append(frames[: frames.index(b"<IDS|MSG>")])
    assert seen == [[], [b"topic"], [b"stream"], [b"stream"]]


# ---- parents ----


@pytest.mark.core
def test_parents_are_what_clients_sent(kernels):
    kernel = kernels("static")
    changed = {"username": "other", "session": "other", "date": "soon", "extra": [1]}
    guessed = {"msg_id": "guessed"}
    seen = Seen(kernel, {"send": [*stream(parent=changed)["send"], *stream(parent=guessed)["send"], *stream(parent=None)["send"]]})
    own, *others = (message["parent_header"] for message in seen.of("stream"))
    assert own["msg_id"] == seen.id and own["session"] == kernel.client.session.session
    assert own["username"] == kernel.client.session.username and "extra" not in own
    assert others == [{}, {}]
    forged = Seen(kernels("off"), stream(parent=guessed)).of("stream")[0]["parent_header"]
    assert forged["msg_id"] == "guessed"


def test_late_output_stays_with_its_cell(kernels):
    kernel = kernels("static")
    first = Seen(kernel, {}).id
    session = kernel.client.session.session
    (message,) = Seen(kernel, stream(parent={"msg_id": first, "session": session})).of("stream")
    assert message["parent_header"]["msg_id"] == first


@pytest.mark.core
def test_code_is_what_was_typed(kernels):
    cell = {"send": [], "note": 'ü " \\ </script>'}
    (shown,) = Seen(kernels("static"), cell).of("execute_input")
    assert json.loads(shown["content"]["code"]) == cell
    assert Seen(kernels("off"), cell).of("execute_input")[0]["content"]["code"] == "what was never typed"
    again = sent(type="execute_input", content={"code": "x", "execution_count": 7})
    assert len(Seen(kernels("static"), again).of("execute_input")) == 1


@pytest.mark.parametrize("state", ["dead", "restarting", "autorestarting", "idle ", "", None, {"a": 1}])
def test_states(kernels, state):
    seen = Seen(kernels("static"), sent(type="status", content={"execution_state": state}))
    assert [message["content"] for message in seen.of("status")] == [{"execution_state": "busy"}, {"execution_state": "idle"}]
    if state == "dead":
        states = [message["content"]["execution_state"] for message in Seen(kernels("off"), seen_dead()).of("status")]
        assert "dead" in states


def seen_dead():
    return sent(type="status", content={"execution_state": "dead"})


# ---- replies ----

REPLIES = {
    "nobody's": {"type": "execute_reply", "channel": "shell", "parent": {"msg_id": "guessed"}},
    "of another type": {"type": "complete_reply", "channel": "shell"},
    "on the other channel": {"type": "execute_reply", "channel": "control"},
    "the end unasked": {"type": "shutdown_reply", "channel": "control"},
    "no reply at all": {"type": "stream", "channel": "shell"},
}


@pytest.mark.core
@pytest.mark.parametrize("case", REPLIES, ids=str)
def test_replies_that_nobody_waits_for(kernels, case):
    content = {"status": "ok", "execution_count": 66, "user_expressions": {}, "payload": []}
    attack = {"send": [{"content": content, **REPLIES[case]}], "reply": False}
    for mode, arrives in (("static", False), ("off", True)):
        client = kernels(mode).client
        Seen(kernels(mode), attack)
        channel = client.shell_channel if REPLIES[case]["channel"] == "shell" else client.control_channel
        got = []
        while channel.msg_ready() or (arrives and not got):
            got.append(channel.get_msg(timeout=10 * harness.PATIENCE))
        assert bool(got) == arrives, got


@pytest.mark.core
def test_a_reply_that_is_blocked_is_answered(kernels):
    """Nobody is left waiting for a cell to end."""
    raw = '{"status": "ok", "execution_count": 1, "user_expressions": {"x": NaN}, "payload": []}'
    seen = Seen(kernels("static"), sent(type="execute_reply", channel="shell", raw=raw))
    assert [(reply["content"]["status"], reply["content"]["ename"]) for reply in seen.shell] == [("error", "Blocked")]
    assert "NaN" in seen.shell[0]["content"]["evalue"] and "NaN" in seen.notices[0]


def test_one_reply_each(kernels):
    content = {"status": "ok", "execution_count": 66, "user_expressions": {}, "payload": []}
    seen = Seen(kernels("static"), sent(type="execute_reply", channel="shell", content=content))
    assert [reply["content"]["execution_count"] for reply in seen.shell] == [66]
    assert not kernels("static").client.shell_channel.msg_ready()


@pytest.mark.core
def test_two_clients_are_not_confused(kernels):
    """The same msg_id from both; the kernel sends the reply of one to the other, and output in the other's name."""
    kernel = kernels("static")
    other = kernel.connect(session="another-client")
    content = {"status": "ok", "execution_count": 66, "user_expressions": {}, "payload": []}
    attack = {
        "send": [{"type": "execute_reply", "channel": "shell", "identity": "another-client", "content": content}],
        "reply": True,
    }
    seen = Seen(kernel, attack)
    assert seen.shell[0]["content"]["execution_count"] == 1
    assert not other.shell_channel.msg_ready()
    cell = {"code": json.dumps(stream()), "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    for client in (kernel.client, other):
        harness.drain(client, 0.05)
        request(client, "execute_request", cell, header={"msg_id": "the-same"})
        assert reply_to(client, "the-same")["parent_header"]["session"] == client.session.session
        (shown,) = [m for m in harness.collect(client, "the-same", 10) if m["msg_type"] == "stream"]
        assert shown["parent_header"]["session"] == client.session.session
    assert not kernel.client.shell_channel.msg_ready() and not other.shell_channel.msg_ready()
    other.stop_channels()
    kernel.clients.remove(other)


# ---- questions ----

QUESTION = {"type": "input_request", "channel": "stdin", "content": {"prompt": "password: ", "password": True}}


def questions(kernel, number, expected, allowed=True):
    """How many of `number` questions of one cell, which has no reply yet, reach the client."""
    msg_id = Seen(kernel, {"send": [QUESTION] * number, "reply": False}, allow_stdin=allowed).id
    got = []
    while len(got) < expected:
        got.append(kernel.client.get_stdin_msg(timeout=10 * harness.PATIENCE))
    time.sleep(0.2)
    assert not kernel.client.stdin_channel.msg_ready()
    assert all(message["parent_header"]["msg_id"] == msg_id for message in got)


@pytest.mark.core
def test_questions(kernels):
    """Of a cell that allows them, one at a time, until it is answered or the cell is interrupted."""
    questions(kernels("off"), 2, 2, allowed=False)
    kernel = kernels("static")
    questions(kernel, 2, 0, allowed=False)
    questions(kernel, 2, 1)
    questions(kernel, 1, 0)
    kernel.client.input("an answer")
    questions(kernel, 1, 1)
    request(kernel.client, "interrupt_request", channel="control")
    reply_to(kernel.client, request(kernel.client, "kernel_info_request"))
    questions(kernel, 2, 1)


# ---- content ----


@pytest.mark.core
def test_what_python_writes_and_json_does_not_know(kernels):
    raw = '{"name": "stdout", "text": "half \\ud83d, whole \\ud83d\\ude00, bytes \udcff\udcfe"}'
    (message,) = Seen(kernels("static"), stream(raw=raw)).of("stream")
    assert message["content"] == {"name": "stdout", "text": "half \ufffd, whole \U0001f600, bytes \ufffd\ufffd"}


def test_keys_of_javascript(kernels):
    bundle = {"text/plain": "x", "__proto__": {"a": 1}}
    content = {"data": bundle, "metadata": {"constructor": {"prototype": {"b": 1}}}, "transient": {}}
    for mode, there in (("static", False), ("off", True)):
        (message,) = Seen(kernels(mode), sent(type="display_data", content=content)).of("display_data")
        found = re.search("__proto__|constructor|prototype", json.dumps(message["content"]))
        assert bool(found) == there


def test_a_long_stream_is_looked_at_in_portions(kernels):
    """5 MB with an address, a colour and a title of the terminal: all of its text, in order."""
    lines = [f"{number:099}" for number in range(50000)]
    lines[25000] = "see https://evil.example/ \x1b[31mred\x1b[0m \x1b]0;title\x07"
    text = "\n".join(lines)
    seen = Seen(kernels("static"), sent(type="stream", content={"name": "stderr", "text": text}))
    shown = "".join(message["content"]["text"] for message in seen.of("stream"))
    assert shown == text.replace("https:", "https[:]").replace("\x1b]0;title\x07", "") and not seen.notices
    (message,) = Seen(kernels("off"), sent(type="stream", content={"name": "stderr", "text": text})).of("stream")
    assert message["content"]["text"] == text


@pytest.mark.core
def test_a_dropped_message_leaves_a_line(kernels):
    """Once for each kind and cell, with what and how much; in the log too."""
    bad = {"type": "stream", "raw": '{"name": "stdout", "text": "x", "n": NaN}'}
    seen = Seen(kernels("static"), {"send": [bad, bad, bad, *stream()["send"]]})
    assert len(seen.notices) == 1 and "blocked: stream, 41 bytes" in seen.notices[0] and "NaN" in seen.notices[0]
    assert [message["content"] for message in seen.of("stream")] == [STREAM]
    assert "NaN" in kernels("static").log


@pytest.mark.core
def test_scripts_never_arrive_outside_of_frames(kernels):
    html = '<script>fetch("/api/terminals")</script>"></iframe><img src=x onerror=alert(1)>'
    bundle = {"text/html": html, "application/javascript": "alert(1)", "text/plain": "x", "TEXT/HTML": html}
    content = {"data": bundle, "metadata": {"isolated": True}, "transient": {}}
    attack = sent(type="display_data", content=content)
    (message,) = Seen(kernels("off"), attack).of("display_data")
    assert "application/javascript" in message["content"]["data"]
    (message,) = Seen(kernels("static"), attack).of("display_data")
    data = message["content"]["data"]
    assert not [key for key in data if "script" in key.lower() or key != key.lower()]
    outside = re.sub(r'srcdoc="[^"<>]*"', "", str(data.get("text/html", "")))
    assert "<script" not in outside and "onerror" not in outside and outside.count("<iframe") <= 1
    assert "isolated" not in json.dumps(message["content"]["metadata"])


@pytest.mark.core
def test_comms_that_may_not_be_are_closed(kernels):
    kernel = kernels("static")
    opened = {"comm_id": "a" * 32, "target_name": "jupyter-lab-git:run", "data": {"cmd": "x"}, "target_module": "evil"}
    seen = Seen(kernel, sent(type="comm_open", content=opened))
    nothing(seen)
    heard = json.loads(Seen(kernel, {"heard": True}).of("stream")[0]["content"]["text"])
    assert {"type": "comm_close", "channel": "shell", "content": {"comm_id": "a" * 32, "data": {}}} in heard
    assert Seen(kernels("off"), sent(type="comm_open", content=opened)).of("comm_open")


@pytest.mark.core
def test_names_of_the_kernels_choice_are_no_addresses(kernels):
    """A type, a comm's target: cellwall's own lines name what they blocked, and front ends make links of it."""
    target = {"comm_id": "b" * 32, "target_name": "www.secret.example", "data": {}}
    bundle = {"data": {"https://secret.example/": "x"}, "metadata": {}, "transient": {}}
    seen = Seen(kernels("static"), {"send": [{"type": "comm_open", "content": target}, {"type": "display_data", "content": bundle}]})
    said = json.dumps([message["content"] for message in seen.iopub if message["msg_type"] in ("stream", "display_data")])
    assert said.count("secret.example") == 2 and "www." not in said and "://" not in said


def test_tracebacks_make_no_markup(kernels):
    """VS Code makes markup of the places that they name."""
    lines = ["<a href='x'>y</a>", "File x' onfocus='y:3, in f", "Cell In[1], line 2"]
    attack = sent(type="error", content={"ename": "x", "evalue": "y", "traceback": lines})
    for mode, kept in (("off", lines), ("static", ["<\u200ba href='x'>y</a>", "File\u200b x' onfocus='y:3, in f", lines[2]])):
        assert Seen(kernels(mode), attack).of("error")[0]["content"]["traceback"] == kept


@pytest.mark.core
def test_a_line_written_over_is_no_address(kernels):
    """Front ends carry out \\r before they look for addresses."""
    text = "xxx.secret.example\rwww\n"
    for mode, kept in (("off", True), ("static", False)):
        (message,) = Seen(kernels(mode), sent(type="stream", content={"name": "stdout", "text": text})).of("stream")
        base, over = message["content"]["text"].rstrip("\n").split("\r")
        assert ("www." in over + base[len(over) :]) == kept


# ---- the guard process ----


def test_the_guard_process_is_confined(kernels):
    roles = kernels("static").roles()
    for role in ("guard", "examiner"):
        status = dict(line.split(":", 1) for line in open(f"/proc/{roles[role].pid}/status", encoding="utf-8"))
        assert status["Seccomp"].strip() == "2" and status["NoNewPrivs"].strip() == "1"
    assert "guard" not in kernels("off").roles()


@pytest.mark.core
def test_the_guard_process_is_killed(kernels):
    """One message is lost and said, and the kernel goes on."""
    kernel = kernels("static")
    display = sent(type="display_data", content={"data": {"text/html": "<b>x</b>", "text/plain": "x"}, "metadata": {}})
    assert Seen(kernel, display).of("display_data")
    roles = kernel.roles()
    roles["examiner"].kill()
    processes.wait_until(lambda: not roles["examiner"].alive(), 5 * harness.PATIENCE)
    seen = Seen(kernel, display)
    assert not seen.of("display_data") and "ended" in seen.notices[0]
    assert Seen(kernel, display).of("display_data") and kernel.roles()["examiner"].pid != roles["examiner"].pid
