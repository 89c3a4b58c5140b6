"""Hundreds of hostile messages (hostile_messages.py) through a real proxy: one judge looks at all that reaches a client.

It knows nothing of what was sent, but what a front end may be given. With outputs.mode "off" it finds something of each kind.
"""

import html
import html.parser
import json
import re

import harness
import hostile_messages
import pytest
from harness import ISOLATED
from test_guard import PYTHON_KERNEL, Seen

ELEMENTS = set("div p br hr b i em strong u s sub sup code pre span small h1 h2 h3 h4 h5 h6 ul ol li table caption".split())
ELEMENTS |= set("thead tbody tfoot tr th td img iframe".split())
ATTRIBUTES = set("border colspan rowspan scope align halign valign width height alt".split())
PLAIN = {"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "application/json"}
CONTROL = re.compile("[\0-\7\v-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\x1b(?!\\[[0-9;:]*m)")
LINK = re.compile(r"[a-z][a-z0-9+.-]{1,40}://|www\.|data:\S|(^|\s)(https?|ftp):\S", re.I | re.M)
MARKUP = re.compile(
    r"^[ >]*(```|~~~).*[\"$\\@]|^[ >~:+*.)0-9-]*(```|~~~|:::).*\{|\{[^}'\"]+\}`|\]\(|!\[|\]:|\]\[|<[a-z/!?]|mermaid|\\(href|url|style|unicode|require|def|let|bbox|html|csname|fcolorbox|mml)",
    re.I | re.M,
)
NEUTERED = re.compile(r"</?(link|meta|base|iframe|frame|object|embed|script)", re.I | re.A)
FRAME = re.compile(r'<iframe sandbox="" srcdoc="([^"<>]*)" style="[^"<>]*">[^<]*</iframe>')
PAGE = re.compile(
    r"<!DOCTYPE html><html><head><meta http-equiv=\"Content-Security-Policy\" content=\"(default-src 'none'[^\"]*)\"><meta charset=utf-8>"
    r'<meta http-equiv="x-dns-prefetch-control" content="off"><style>[^<]*</style></head><body>(.*)</body></html>',
    re.S,
)


def overwritten(text):
    """What is left when \\r and \\b were carried out."""
    lines = []
    for line in re.sub("\x1b\\[[0-9;:]*m", "", text).replace("\r\n", "\n").split("\n"):
        shown, at = [], 0
        for character in line:
            if character in "\r\b":
                at = 0 if character == "\r" else max(0, at - 1)
            else:
                shown[at : at + 1] = character
                at += 1
        lines.append("".join(shown))
    return "\n".join(lines)


def check_text(text):
    assert not CONTROL.search(text.replace("\r", "").replace("\b", ""))
    assert not LINK.search(re.sub("\x1b\\[[0-9;:]*m", "", text)) and not LINK.search(overwritten(text))


class Markup(html.parser.HTMLParser):
    """Markup in the page itself."""

    def handle_starttag(self, tag, attrs):
        assert tag in ELEMENTS
        for name, value in attrs:
            if tag == "iframe":
                assert name in ("sandbox", "srcdoc", "style")
            elif name == "src":
                assert re.fullmatch(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/]*=*", value)
            elif name == "style":
                assert not re.search(r"[\\@()]|position|image|z-index|-\d", value.replace("rgb(", "").replace(")", ""))
            else:
                assert name in ATTRIBUTES or (name, value) == ("class", "dataframe")

    def handle_data(self, data):
        assert not CONTROL.search(data) and not re.search(r"\$.*\$|\\[a-z(\[]", data)

    def refuse(self, data):
        raise AssertionError(data)

    handle_comment = handle_decl = handle_pi = unknown_decl = refuse


def check_html(text):
    assert "\0" not in text and len(FRAME.findall(text)) == text.count("<iframe") <= 1
    parser = Markup()
    parser.feed(text)
    parser.close()
    for framed in FRAME.findall(text):
        policy, body = PAGE.fullmatch(html.unescape(framed)).groups()
        assert "frame-src 'none'" in policy and "script-src" not in policy
        policy, body = PAGE.fullmatch(html.unescape(FRAME.fullmatch(body)[1])).groups()
        assert "script-src" not in policy and not NEUTERED.search(body)


def check_json(value):
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, list):
            check_json(one)
        assert not isinstance(one, str) or "```" not in one


def check_bundle(data, metadata):
    for name, value in data.items():
        if name == "text/plain":
            check_text(value)
        elif name == "text/html":
            check_html(value)
        elif name in ("text/markdown", "text/latex"):
            check_text(value)
            assert not MARKUP.search(value)
        else:
            assert name in PLAIN and (name == "application/json" or re.fullmatch(r"[A-Za-z0-9+/]+=*", value))
    check_json(data.get("application/json"))
    for name, value in metadata.items():
        if name in PLAIN and isinstance(value, dict):
            assert all(type(side) is int and 0 < side <= 16384 for side in value.values())
        elif name in ("scrapbook", "papermill"):
            check_text(json.dumps(value))
            assert not set(value) - {"name", "mime_prefix", "data", "display"}
        else:
            assert name == "needs_background" and value in ("light", "dark")


def check_error(content):
    assert set(content) == {"ename", "evalue", "traceback"}
    for text in (content["ename"], content["evalue"], *content["traceback"]):
        check_text(text)
    for text in content["traceback"]:
        assert not re.search(r"<a\s|File\s[^\n]*'[^\n]*:\d|'[^\n]*Cell\s*In", text)


KEYS = {"stream": {"name", "text"}, "status": {"execution_state"}, "clear_output": {"wait"}, "execute_input": {"code", "execution_count"}}


def check(message, requests):
    name, content, header, parent = (message[key] for key in ("msg_type", "content", "header", "parent_header"))
    assert set(header) == {"msg_id", "msg_type", "username", "session", "date", "version"}
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", header["msg_id"]) and header["username"] in ("kernel", "cellwall")
    assert message["metadata"] == {} and message["buffers"] == []
    assert not parent or parent["msg_id"] in requests and not set(parent) - set(header)
    assert not re.search(r'"(__proto__|constructor|prototype|isolated)":', json.dumps(content))
    if name in KEYS:
        assert set(content) == KEYS[name]
    if name == "stream":
        assert content["name"] in ("stdout", "stderr")
        check_text(content["text"])
    elif name == "status":
        assert content["execution_state"] in ("busy", "idle", "starting")
    elif name == "error":
        check_error(content)
    elif name in ("display_data", "execute_result", "update_display_data"):
        assert not set(content) - {"data", "metadata", "transient", "execution_count"}
        assert not set(content.get("transient", {})) - {"display_id"}
        check_bundle(content["data"], content["metadata"])
    else:
        assert name in ("execute_input", "clear_output") and parent


def findings(kernel, messages):
    """What the judge does not let pass, of what a client sees and of its streams as front ends join them."""
    session = Seen(kernel, {"send": messages})
    found = []
    for message in session.iopub:
        try:
            check(message, {session.id})
        except (AssertionError, AttributeError, KeyError, TypeError) as problem:
            found.append(f"{message['msg_type']}: {json.dumps(message['content'])[:300]}: {problem!r}")
    for name in ("stdout", "stderr"):
        text = "".join(m["content"]["text"] for m in session.of("stream") if m["content"].get("name") == name)
        try:
            check_text(text)
        except AssertionError:
            found.append(f"joined: {text[:300]!r}")
    return found


@pytest.fixture(scope="module")
def kernels(site):
    started = {}
    for mode in ("static", "off"):
        spec = site.variant("--policy", site.policy({"outputs": {"mode": mode}}), kernel=(site.python, *PYTHON_KERNEL[1:]))
        started[mode] = harness.Kernel(site, ISOLATED, spec=spec)
    yield started
    for kernel in started.values():
        kernel.close()


@pytest.mark.core
@pytest.mark.parametrize("kind", hostile_messages.KINDS)
def test_hostile_messages(kernels, kind):
    messages = hostile_messages.KINDS[kind]
    assert findings(kernels["static"], messages) == []
    # what a client understands at all
    others = [message for message in messages if not {"raw", "header"} & set(message) and message["type"] != "status"]
    assert findings(kernels["off"], others) or not others, "the judge sees no attack"
