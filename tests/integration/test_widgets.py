"""ipywidgets and tqdm.notebook through the wall: what a front end needs of them arrives, what would run there does not.

The client here does what the widget manager of JupyterLab does: it keeps the models that comm_open makes, applies the
updates, answers for the user, and after a "page reload" asks for all states anew.
"""

import json

import harness
import pytest
from harness import DIRECT, ISOLATED, request

MODULES = {"@jupyter-widgets/base", "@jupyter-widgets/controls", "@jupyter-widgets/output"}
VIEW = "application/vnd.jupyter.widget-view+json"


class Page:
    """The models of one page."""

    def __init__(self, kernel):
        self.kernel, self.client, self.models, self.shown = kernel, kernel.client, {}, []

    def apply(self, messages):
        for message in messages:
            content = message["content"]
            if message["msg_type"] == "comm_open":
                self.models[content["comm_id"]] = dict(content["data"]["state"])
            elif message["msg_type"] == "comm_msg" and content["comm_id"] in self.models:
                self.models[content["comm_id"]].update(content["data"].get("state", {}))
            elif message["msg_type"] == "comm_close":
                self.models.pop(content["comm_id"], None)
            elif message["msg_type"] == "display_data" and VIEW in content["data"]:
                self.shown.append(content["data"][VIEW]["model_id"])
        return messages

    def run(self, code):
        run = self.kernel.run(code, timeout=60)
        assert run.status == "ok", run.problem
        self.apply(run.messages)
        return run

    def ask(self, msg_type, content, **options):
        return self.apply(harness.collect(self.client, request(self.client, msg_type, content, **options), 30))

    def set(self, model, **state):
        data = {"method": "update", "state": state, "buffer_paths": []}
        return self.ask("comm_msg", {"comm_id": model, "data": data})

    def named(self, name):
        return [model for model, state in self.models.items() if state["_model_name"] == name]

    def restore(self):
        """What a page that was loaded anew gets: its states by the control comm."""
        control = {"comm_id": "ctl", "target_name": "jupyter.widget.control", "data": {}}
        request(self.client, "comm_open", control, metadata={"version": "1.0.0"})
        messages = self.ask("comm_msg", {"comm_id": "ctl", "data": {"method": "request_states"}})
        request(self.client, "comm_close", {"comm_id": "ctl", "data": {}})
        data = [m["content"]["data"] for m in messages if m["msg_type"] == "comm_msg"][-1]
        assert data["method"] == "update_states"
        return data["states"]


@pytest.fixture(scope="module")
def kernel(site):
    kernel = harness.Kernel(site, ISOLATED)
    yield kernel
    kernel.close()


def test_slider_both_ways(kernel):
    page = Page(kernel)
    page.run(
        "import ipywidgets as w\n"
        "slider = w.IntSlider(value=3, description='amount', layout=w.Layout(width='50%'))\n"
        "seen = []\nslider.observe(lambda change: seen.append(change['new']), 'value')\ndisplay(slider)"
    )
    (slider,) = page.named("IntSliderModel")
    assert page.shown == [slider]
    state = page.models[slider]
    assert (state["value"], state["description"], state["_view_name"]) == (3, "amount", "IntSliderView")
    assert page.models[state["layout"].removeprefix("IPY_MODEL_")]["width"] == "50%"
    page.set(slider, value=42)
    assert kernel.run("slider.value, seen").result == "(42, [42])"
    page.run("slider.value = 7")
    assert page.models[slider]["value"] == 7


def test_tqdm_bar(kernel):
    page = Page(kernel)
    page.run("from tqdm.notebook import tqdm\nfor i in tqdm(range(20), desc='work'): pass")
    assert len(page.shown) == 1
    assert page.models[page.shown[0]]["_model_name"] == "HBoxModel"
    bar = page.models[page.named("FloatProgressModel")[0]]
    assert bar["value"] == 20 and bar["bar_style"] == "success"
    values = [page.models[model]["value"] for model in page.named("HTMLModel")]
    assert any("100%" in value for value in values) and any("20/20" in value for value in values)


def test_other_controls(kernel):
    """All that goes through is as the kernel sent it: the same code without the wall gives the same states."""
    code = """
import datetime, ipywidgets as w
made = [
    w.Tab([w.Text('a'), w.HTML('<b>x</b>')], titles=['one', 'two']), w.Controller(),
    w.Accordion([w.Button(description='go', icon='check')]), w.Password(), w.Combobox(options=['o']),
    w.Dropdown(options=['a', 'b'], value='b'), w.SelectionRangeSlider(options=[1, 2, 3], index=(0, 1)),
    w.ToggleButtons(options=['x', 'y'], tooltips=['p', 'q'], icons=['check', 'times']), w.FileUpload(),
    w.DatePicker(value=datetime.date(2026, 1, 2)), w.TagsInput(value=['t']), w.FloatLogSlider(),
    w.Image(value=b'\\x89PNG', format='png', width='10'), w.Valid(value=True), w.Play(), w.Label('plain'),
    w.GridspecLayout(2, 2), w.HTMLMath('$a^2$'), w.interactive(lambda x: x, x=(0, 3)),
    w.ColorPicker(value='#ff0000'),
]
made.append(w.jslink((w.IntSlider(), 'value'), (w.IntProgress(), 'value')))
"""
    pages = []
    for kind in (DIRECT, ISOLATED):
        other = kernel if kind == ISOLATED else harness.Kernel(kernel.site, kind)
        page = Page(other)
        page.run(code)
        states = page.models.values()
        pages.append([{k: v for k, v in state.items() if "IPY_MODEL" not in json.dumps(v)} for state in states])
        if other is not kernel:
            other.close()
    assert len(pages[0]) > 60
    assert pages[1] == pages[0]


def test_restore_after_reload(kernel):
    Page(kernel).run(
        "import ipywidgets as w\n"
        "kept = w.IntSlider(value=11); text = w.HTML('<b>bold</b>'); image = w.Image(value=b'\\x89PNG'); display(kept)"
    )
    states = Page(kernel).restore()
    by_name = {entry["model_name"]: entry["state"] for entry in states.values()}
    assert {entry["model_module"] for entry in states.values()} <= MODULES
    assert by_name["HTMLModel"]["value"] and "IntSliderModel" in by_name
    assert any(entry["state"].get("value") == 11 for entry in states.values())
    # the older way: one by one, by the list of comms
    client = kernel.client
    reply = harness.reply_to(client, request(client, "comm_info_request", {"target_name": "jupyter.widget"}))
    comms = reply["content"]["comms"]
    assert set(states) <= set(comms)
    model = next(m for m, entry in states.items() if entry["state"].get("value") == 11)
    messages = Page(kernel).ask("comm_msg", {"comm_id": model, "data": {"method": "request_state"}})
    update = [m["content"]["data"] for m in messages if m["msg_type"] == "comm_msg"][-1]
    assert update["state"]["_model_name"] == "IntSliderModel" and update["state"]["value"] == 11


def test_output_widget(kernel):
    page = Page(kernel)
    run = page.run(
        "import ipywidgets as w\nout = w.Output()\ndisplay(out)\nfrom IPython.display import HTML, Javascript\n"
        "with out:\n    print('within')\n    display(HTML('<script>top.alert(1)</script>seen'))"
    )
    (output,) = page.named("OutputModel")
    assert "within" in run.stdout
    assert page.models[output]["msg_id"] == ""
    # what the front end has captured it gives back to the kernel, which sends it to the next page
    captured = [
        {"output_type": "display_data", "data": content["data"], "metadata": {}}
        for content in run.of("display_data")
        if "text/html" in content["data"]
    ]
    page.set(output, outputs=captured)
    again = page.restore()[output]["state"]["outputs"]
    assert again == captured
    # and what the kernel puts there itself goes the way of all outputs
    page.run("data = {'application/javascript': 'alert(1)'}")
    page.run("out.outputs = ({'output_type': 'display_data', 'metadata': {}, 'data': data},)")
    assert "javascript" not in json.dumps([list(entry["data"]) for entry in page.models[output]["outputs"]])


HOSTILE = """
from comm import create_comm
def model(module, name, **state):
    return create_comm('jupyter.widget', data={'state': {'_model_module': module, '_model_name': name, **state},
                       'buffer_paths': []}, metadata={'version': '2.1.0'})
"""


def test_hostile_models(kernel):
    """Whatever the kernel sends, no page gets a model with code of its own."""
    page = Page(kernel)
    page.run(HOSTILE)
    page.run(
        "model('anywidget', 'AnyModel', _esm='x')\n"
        "model('@jupyter-widgets/controls', 'Nothing')\ncreate_comm('run-this')"
    )
    assert page.models == {}
    page.run(
        "c = '@jupyter-widgets/controls'\n"
        "html = model(c, 'HTMLModel', value='<img src=x onerror=alert(1)>')\n"
        "text = model(c, 'TextModel', _view_module=c, _view_name='HTMLView', value='<img src=x onerror=alert(1)>')\n"
        "ends = [['IPY_MODEL_' + end.comm_id, 'value'] for end in (text, html)]\n"
        "link = model(c, 'LinkModel', source=ends[0], target=ends[1])\n"
        "def update(**state): html.send({'method': 'update', 'state': state, 'buffer_paths': []})\n"
        "update(_model_module='evil', value='x')\n"
        "update(value='<script>1</script>', description_allow_html=True)"
    )
    html, text, link = page.models.values()
    assert "<" not in html["value"] and html["description_allow_html"] is False and html["_model_module"] != "evil"
    assert "_view_name" not in text
    assert "source" not in link and "target" not in link
