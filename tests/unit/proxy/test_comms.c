/* comms, widgets: which comms there may be, and that no state of a widget carries code, markup or
 * an address, whichever way it comes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/comms.h"
#include "proxy/known.h"
#include "proxy/widgets.h"

#define MODULE "'_model_module':'@jupyter-widgets/controls','_model_module_version':'2.0.0',"
#define VIEW   "'_view_module':'@jupyter-widgets/controls','_view_module_version':'2.0.0',"

typedef enum content_verdict rule(struct content *content);

static struct outputs_rules rules = {.mode = OUTPUTS_STATIC};
static struct content content;
static char bytes[2];
static struct iovec buffers[4] = {{bytes, 2}, {bytes, 2}, {bytes, 2}, {bytes, 2}};

/* JSON with ' for ". */
static json_t *parse(const char *text)
{
	char *copy = strdup(text);
	json_t *value;

	for (char *c = copy; *c; c++)
		if (*c == '\'')
			*c = '"';
	value = json_loads(copy, 0, NULL);
	if (!value)
		fail_msg("not JSON: %s", copy);
	free(copy);
	return value;
}

static enum content_verdict judge_buffers(rule *judge, const char *text, size_t count)
{
	json_decref(content.content);
	json_decref(content.metadata);
	memset(&content.blocked, 0, sizeof(content.blocked));
	content.content = parse(text);
	content.metadata = parse("{'version':'2.1.0'}");
	content.buffers = buffers;
	content.buffer_count = count;
	return judge(&content);
}

static enum content_verdict judge(rule *by, const char *text)
{
	return judge_buffers(by, text, 0);
}

static void assert_content(const char *text)
{
	json_t *wanted = parse(text);

	if (!json_equal(wanted, content.content))
		fail_msg("is %s\nnot %s", json_dumps(content.content, JSON_SORT_KEYS),
			 json_dumps(wanted, JSON_SORT_KEYS));
	json_decref(wanted);
}

/* Opens a comm of a model with these traits, and returns the verdict. */
static enum content_verdict open_model(const char *id, const char *model, const char *traits)
{
	char text[8192];

	snprintf(text, sizeof(text),
		 "{'comm_id':'%s','target_name':'jupyter.widget','data':{'state':{" MODULE
		 "'_model_name':'%s'%s%s},'buffer_paths':[]}}",
		 id, model, *traits ? "," : "", traits);
	return judge(comms_open, text);
}

static enum content_verdict update(const char *id, const char *method, const char *traits)
{
	char text[8192];

	snprintf(text, sizeof(text),
		 "{'comm_id':'%s','data':{'method':'%s','state':{%s},'buffer_paths':[]}}", id,
		 method, traits);
	return judge(comms_msg, text);
}

/* The state that went on, as JSON with ' for ". */
static void assert_state(const char *text)
{
	json_t *wanted = parse(text);
	json_t *is = json_object_get(json_object_get(content.content, "data"), "state");

	if (!json_equal(wanted, is))
		fail_msg("is %s\nnot %s", json_dumps(is, JSON_SORT_KEYS),
			 json_dumps(wanted, JSON_SORT_KEYS));
	json_decref(wanted);
}

/* What ipywidgets 8.1 and tqdm.notebook 4.70 send goes on byte by byte. */
static void test_real_traffic_keeps(void **state)
{
	(void)state;
	assert_int_equal(
		judge(comms_open,
		      "{'comm_id':'lay','target_name':'jupyter.widget','target_module':null,'data':"
		      "{"
		      "'state':{'_model_module':'@jupyter-widgets/base','_model_module_version':"
		      "'2.0.0','_model_name':'LayoutModel','_view_count':null,'_view_module':"
		      "'@jupyter-widgets/base','_view_module_version':'2.0.0','_view_name':"
		      "'LayoutView','align_content':null,'border_top':null,'display':'inline-flex',"
		      "'flex_flow':'row wrap','width':'100%','grid_template_columns':"
		      "'repeat(2, minmax(10px, 1fr))'},'buffer_paths':[]}}"),
		CONTENT_KEEP);
	assert_int_equal(open_model("sty", "SliderStyleModel",
				    "'_view_count':null,'_view_module':'@jupyter-widgets/base',"
				    "'_view_module_version':'2.0.0','_view_name':'StyleView',"
				    "'description_width':'initial','handle_color':null"),
			 CONTENT_KEEP);
	assert_int_equal(open_model("sli", "IntSliderModel",
				    VIEW "'_dom_classes':[],'_view_count':null,'_view_name':"
					 "'IntSliderView','behavior':'drag-tap','continuous_update'"
					 ":true,'description':'a','description_allow_html':false,"
					 "'disabled':false,'layout':'IPY_MODEL_lay','max':100,"
					 "'min':0,'orientation':'horizontal','readout':true,"
					 "'readout_format':'d','step':1,'style':'IPY_MODEL_sty',"
					 "'tabbable':null,'tooltip':null,'value':3"),
			 CONTENT_KEEP);
	assert_true(widgets_view_ok(&content, "sli"));
	assert_false(widgets_view_ok(&content, "other"));
	assert_int_equal(open_model("htm", "HTMLModel", "'value':''"), CONTENT_KEEP);
	assert_int_equal(open_model("bar", "FloatProgressModel",
				    VIEW "'_view_name':'ProgressView','max':2.0,'value':0.0,"
					 "'bar_style':''"),
			 CONTENT_KEEP);
	assert_int_equal(
		open_model("box", "HBoxModel", "'children':['IPY_MODEL_htm','IPY_MODEL_bar']"),
		CONTENT_KEEP);
	assert_int_equal(update("htm", "update",
				"'value':'\xe2\x80\x87"
				"0/2 [00:00&lt;?, ?it/s]'"),
			 CONTENT_KEEP);
	assert_int_equal(update("bar", "update", "'bar_style':'success'"), CONTENT_KEEP);
	assert_int_equal(update("sli", "echo_update", "'value':50"), CONTENT_KEEP);
	assert_int_equal(open_model("day", "DatePickerModel",
				    "'value':{'year':2020,'month':0,'date':1},'step':'any'"),
			 CONTENT_KEEP);
	assert_int_equal(open_model("lnk", "LinkModel",
				    VIEW "'_view_name':null,"
					 "'source':['IPY_MODEL_sli','value'],"
					 "'target':['IPY_MODEL_bar','value']"),
			 CONTENT_KEEP);
	assert_int_equal(judge(comms_close, "{'comm_id':'bar','data':{}}"), CONTENT_KEEP);
	assert_int_equal(update("bar", "update", "'value':1"), CONTENT_DROP);
}

static void test_targets(void **state)
{
	char name[] = "mine", *mine[] = {name, NULL};
	char usual[] = "jupyter.widget", *widgets[] = {usual, NULL};

	(void)state;
	assert_int_equal(judge(comms_open, "{'comm_id':'a','target_name':'jupyter-lab-git:run',"
					   "'data':{'cmd':'x'}}"),
			 CONTENT_DROP_COMM);
	assert_int_equal(judge(comms_msg, "{'comm_id':'a','data':{}}"), CONTENT_DROP);
	assert_int_equal(judge(comms_open, "{'comm_id':'a','target_name':'jupyter.widget.control',"
					   "'data':{}}"),
			 CONTENT_DROP_COMM);
	assert_int_equal(judge(comms_open, "{'comm_id':'a b','target_name':'jupyter.widget',"
					   "'data':{}}"),
			 CONTENT_DROP);
	assert_int_equal(judge(comms_open, "{'comm_id':1,'target_name':'jupyter.widget'}"),
			 CONTENT_DROP);
	rules.comm_targets = mine;
	assert_int_equal(judge(comms_open, "{'comm_id':'m','target_name':'mine','data':{'a':'<b>'},"
					   "'other':1}"),
			 CONTENT_CHANGED);
	assert_content("{'comm_id':'m','target_name':'mine','data':{'a':'<b>'}}");
	assert_int_equal(judge(comms_msg, "{'comm_id':'m','data':{'x':1}}"), CONTENT_KEEP);
	assert_int_equal(open_model("w", "TextModel", ""), CONTENT_DROP_COMM);
	assert_int_equal(judge(comms_open, "{'comm_id':'n','target_name':'mine','target_module':"
					   "'https://attacker.example/x.js','data':{}}"),
			 CONTENT_DROP_COMM);
	rules.comm_targets = widgets;
	assert_int_equal(open_model("w", "TextModel", ""), CONTENT_KEEP);
	rules.mode = OUTPUTS_TEXT; /* in which none is shown */
	assert_int_equal(open_model("v", "TextModel", ""), CONTENT_DROP_COMM);
	assert_non_null(strstr(content.blocked.text, "no widgets in mode text"));
	rules.mode = OUTPUTS_STATIC;
	rules.comm_targets = NULL;
}

static void test_modules(void **state)
{
	(void)state;
	assert_int_equal(
		judge(comms_open,
		      "{'comm_id':'a','target_name':'jupyter.widget','data':{'state':{"
		      "'_model_module':'anywidget','_model_name':'AnyModel','_esm':'x'}}}"),
		CONTENT_DROP_COMM);
	assert_int_equal(open_model("a", "NoSuchModel", ""), CONTENT_DROP_COMM);
	/* a known name of another module */
	assert_int_equal(open_model("a", "OutputModel", ""), CONTENT_DROP_COMM);
	assert_int_equal(judge(comms_open, "{'comm_id':'a','target_name':'jupyter.widget',"
					   "'data':{'state':[]}}"),
			 CONTENT_DROP_COMM);
	assert_false(widgets_view_ok(&content, "a"));
	assert_int_equal(open_model("t", "TextModel", "'_esm':'x','_css':'https://a/','n':1"),
			 CONTENT_CHANGED);
	assert_null(json_object_get(
		json_object_get(json_object_get(content.content, "data"), "state"), "_esm"));
	/* it stays what it is */
	assert_int_equal(update("t", "update", "'_model_module':'evil-npm-pkg'"), CONTENT_DROP);
	assert_int_equal(update("t", "echo_update", "'_model_name':'HTMLModel'"), CONTENT_DROP);
	assert_int_equal(open_model("t", "HTMLModel", ""), CONTENT_DROP);
	assert_int_equal(judge(comms_close, "{'comm_id':'t','data':{'x':1}}"), CONTENT_CHANGED);
	assert_int_equal(open_model("t", "HTMLModel", ""), CONTENT_DROP);
	assert_int_equal(open_model("t", "TextModel", ""), CONTENT_KEEP);
}

/* A text field's value is the user's; the view of another model would make HTML of it. */
static void test_views(void **state)
{
	(void)state;
	assert_int_equal(
		open_model("t", "TextModel", VIEW "'_view_name':'HTMLView','value':'<img src=x>'"),
		CONTENT_CHANGED);
	assert_null(json_object_get(
		json_object_get(json_object_get(content.content, "data"), "state"), "_view_name"));
	assert_int_equal(update("t", "update", "'_view_name':'HTMLView'"), CONTENT_CHANGED);
	assert_state("{}");
	assert_int_equal(update("t", "update", "'_view_module':'evil'"), CONTENT_CHANGED);
	assert_state("{}");
}

static void test_links(void **state)
{
	(void)state;
	assert_int_equal(open_model("t", "TextModel", ""), CONTENT_KEEP);
	assert_int_equal(open_model("h", "HTMLModel", ""), CONTENT_KEEP);
	assert_int_equal(open_model("i", "IntSliderModel", ""), CONTENT_KEEP);
	assert_int_equal(open_model("l", "LinkModel",
				    "'source':['IPY_MODEL_t','value'],"
				    "'target':['IPY_MODEL_h','value']"),
			 CONTENT_CHANGED);
	assert_int_equal(update("l", "update", "'target':['IPY_MODEL_h','value']"),
			 CONTENT_CHANGED);
	assert_state("{}");
	assert_int_equal(open_model("v", "DirectionalLinkModel",
				    "'source':['IPY_MODEL_h','_view_name'],"
				    "'target':['IPY_MODEL_t','_view_name']"),
			 CONTENT_CHANGED);
	assert_int_equal(open_model("w", "DirectionalLinkModel",
				    "'source':['IPY_MODEL_i','value'],"
				    "'target':['IPY_MODEL_t','description_allow_html']"),
			 CONTENT_CHANGED);
	assert_int_equal(open_model("d", "DirectionalLinkModel",
				    "'source':['IPY_MODEL_i','value'],"
				    "'target':['IPY_MODEL_h','value']"),
			 CONTENT_KEEP);
}

static const struct {
	const char *model, *sent, *kept;
} traits[] = {
	{"IntSliderModel",
	 "'description':'<a href=javascript:1>x</a>','description_allow_html':true",
	 "{'description':'<\xe2\x80\x8b"
	 "a href=javascript:1>x<\xe2\x80\x8b/a>','description_allow_html':false}"},
	{"HTMLModel", "'value':'<img src=x onerror=alert(1)>'",
	 "{'value':'&lt;img src=x onerror=alert(1)&gt;'}"},
	{"HTMLModel", "'value':['<img>']", "{}"},
	{"HTMLMathModel", "'value':'so $a^2$'", "{'value':'so $a^2$'}"},
	{"HTMLMathModel", "'value':'$\\\\url{x}$'", "{'value':'$\\\\\xe2\x80\x8burl{x}$'}"},
	{"LabelModel", "'value':'$\\\\href{javascript:1}{x}$'",
	 "{'value':'$\\\\\xe2\x80\x8bhref{javascript:1}{x}$'}"},
	{"LabelModel", "'value':'$\\\\frac{1}{2}$'", "{'value':'$\\\\frac{1}{2}$'}"},
	{"TextModel", "'value':'<b>mine'", "{'value':'<b>mine'}"},
	{"ImageModel", "'format':'url','value':'https://attacker.example/'", "{}"},
	{"ImageModel", "'format':'svg+xml'", "{}"},
	{"ImageModel", "'format':'png','width':'10'", "{'format':'png','width':'10'}"},
	{"AudioModel", "'format':'url','autoplay':true", "{'autoplay':true}"},
	{"HTMLStyleModel", "'background':'url(https://attacker.example/)'", "{}"},
	{"HTMLStyleModel", "'background':'image-set(\\\"https://a/\\\" 1x)'", "{}"},
	{"HTMLStyleModel", "'background':'u\\\\72l(//a/)','text_color':'rgba(1, 2, 3, 0.5)'",
	 "{'text_color':'rgba(1, 2, 3, 0.5)'}"},
	{"HBoxModel", "'_dom_classes':['jp-Dialog']", "{}"},
	{"HBoxModel", "'_dom_classes':['a jp-Dialog']", "{}"},
	{"HBoxModel", "'_dom_classes':['mine']", "{'_dom_classes':['mine']}"},
	{"HBoxModel", "'children':['IPY_MODEL_none','IPY_MODEL_known','x',1]",
	 "{'children':['IPY_MODEL_known']}"},
	{"HBoxModel", "'layout':'IPY_MODEL_known','__proto__':{'a':1},'constructor':1", "{}"},
	{"ButtonModel", "'icon':'check\\\" onclick=\\\"x','tooltip':'ok\\u001b[2J'",
	 "{'tooltip':'ok'}"},
	{"DropdownModel", "'_options_labels':['a','<script>'],'index':1",
	 "{'_options_labels':['a','<\xe2\x80\x8bscript>'],'index':1}"},
	{"ComboboxModel", "'options':['a\\\" onfocus=x ']",
	 "{'options':['a\xe2\x80\x9d onfocus=x ']}"},
	{"TabModel", "'_titles':{'0':'<b>','__proto__':'x'}",
	 "{'_titles':{'0':'<\xe2\x80\x8b"
	 "b>'}}"},
	{"IntSliderModel", "'value':'<img>','max':{'a':'<img>'},'unknown':'x','more':1.5",
	 "{'more':1.5}"},
	{"FileUploadModel",
	 "'value':[{'name':'a.txt','type':'text/plain','size':3,'content':null,'x':1}]",
	 "{'value':[{'name':'a.txt','type':'text/plain','size':3,'content':null}]}"},
};

/* The same filter on every way that a state can arrive. */
static void test_traits(void **state)
{
	(void)state;
	assert_int_equal(open_model("known", "ButtonModel", ""), CONTENT_KEEP);
	for (size_t i = 0; i < sizeof(traits) / sizeof(traits[0]); i++) {
		char id[16], text[4096];
		json_t *states, *sent, *kept;

		snprintf(id, sizeof(id), "c%zu", i);
		open_model(id, traits[i].model, "");
		snprintf(text, sizeof(text), "{%s}", traits[i].sent);
		sent = parse(text);
		kept = parse(traits[i].kept);
		assert_int_equal(update(id, "update", traits[i].sent),
				 json_equal(sent, kept) ? CONTENT_KEEP : CONTENT_CHANGED);
		assert_state(traits[i].kept);
		json_decref(sent);
		json_decref(kept);
		update(id, "echo_update", traits[i].sent);
		assert_state(traits[i].kept);

		judge(comms_client_open,
		      "{'comm_id':'ctl','target_name':'jupyter.widget.control','data':{}}");
		snprintf(text, sizeof(text),
			 "{'comm_id':'ctl','data':{'method':'update_states','states':{'%s':{"
			 "'model_name':'%s','model_module':'@jupyter-widgets/controls',"
			 "'model_module_version':'2.0.0','state':{%s}}},'buffer_paths':[]}}",
			 id, traits[i].model, traits[i].sent);
		assert_int_not_equal(judge(comms_msg, text), CONTENT_DROP);
		states = json_object_get(json_object_get(content.content, "data"), "states");
		json_object_set(json_object_get(content.content, "data"), "state",
				json_object_get(json_object_get(states, id), "state"));
		assert_state(traits[i].kept);

		snprintf(id, sizeof(id), "o%zu", i);
		open_model(id, traits[i].model, traits[i].sent);
		states = json_object_get(json_object_get(content.content, "data"), "state");
		json_object_del(states, "_model_name");
		json_object_del(states, "_model_module");
		json_object_del(states, "_model_module_version");
		assert_state(traits[i].kept);
	}
}

static void test_outputs(void **state)
{
	json_t *outputs, *bundle;

	(void)state;
	judge(comms_open, "{'comm_id':'out','target_name':'jupyter.widget','data':{'state':{"
			  "'_model_module':'@jupyter-widgets/output','_model_name':'OutputModel',"
			  "'msg_id':'','outputs':[]}}}");
	assert_int_equal(update("out", "update",
				"'outputs':[{'output_type':'display_data','data':{"
				"'application/javascript':'alert(1)','text/plain':'x'},"
				"'metadata':{}},{'output_type':'evil'},1]"),
			 CONTENT_CHANGED);
	outputs = json_object_get(
		json_object_get(json_object_get(content.content, "data"), "state"), "outputs");
	assert_int_equal(json_array_size(outputs), 1);
	bundle = json_object_get(json_array_get(outputs, 0), "data");
	assert_non_null(json_object_get(bundle, "text/plain"));
	assert_null(json_object_get(bundle, "application/javascript"));
	assert_string_equal(
		json_string_value(json_object_get(json_array_get(outputs, 0), "output_type")),
		"display_data");
	/* the front end has what it sent itself */
	assert_int_equal(update("out", "echo_update", "'outputs':[],'msg_id':'a b'"),
			 CONTENT_CHANGED);
	assert_state("{}");
}

static void test_control(void **state)
{
	(void)state;
	assert_int_equal(judge(comms_client_open, "{'comm_id':'ctl','target_name':"
						  "'jupyter.widget.control','data':{}}"),
			 CONTENT_KEEP);
	assert_int_equal(open_model("t", "TextModel", ""), CONTENT_KEEP);
	assert_int_equal(
		judge_buffers(comms_msg,
			      "{'comm_id':'ctl','data':{'method':'update_states','states':{"
			      "'t':{'model_name':'HTMLModel','model_module':"
			      "'@jupyter-widgets/controls','state':{}},"
			      "'e':{'model_name':'AnyModel','model_module':'evil','state':{}},"
			      "'__proto__':{'model_name':'TextModel','model_module':"
			      "'@jupyter-widgets/controls','state':{}},'-':{},"
			      "'i':{'model_name':'ImageModel','model_module':"
			      "'@jupyter-widgets/controls','model_module_version':'http://x',"
			      "'state':{'format':'png'},'x':1}},"
			      "'buffer_paths':[['i','value'],['e','_esm'],['i','_css']]}}",
			      3),
		CONTENT_CHANGED);
	assert_content("{'comm_id':'ctl','data':{'method':'update_states','states':{"
		       "'i':{'model_name':'ImageModel','model_module':'@jupyter-widgets/controls',"
		       "'state':{'format':'png'}}},"
		       "'buffer_paths':[['i','value'],['-'],['-']]}}");
	assert_true(widgets_view_ok(&content, "i"));
	assert_int_equal(
		judge(comms_msg, "{'comm_id':'ctl','data':{'method':'update','state':{}}}"),
		CONTENT_DROP);
	judge(comms_client_close, "{'comm_id':'ctl','data':{}}");
	assert_int_equal(judge(comms_msg, "{'comm_id':'ctl','data':{'method':'update_states',"
					  "'states':{},'buffer_paths':[]}}"),
			 CONTENT_DROP);
}

/* A front end that was loaded anew opens the kernel's comms itself and asks each for its state. */
static void test_client_opened(void **state)
{
	(void)state;
	assert_int_equal(open_model("t", "TextModel", ""), CONTENT_KEEP);
	judge(comms_client_open, "{'comm_id':'t','target_name':'jupyter.widget','data':{}}");
	assert_int_equal(
		update("t", "update", MODULE "'_model_name':'HTMLModel','value':'<script>'"),
		CONTENT_DROP);
	assert_int_equal(update("t", "update", MODULE "'_model_name':'TextModel','value':'a'"),
			 CONTENT_KEEP);
	/* one that is known from the client alone */
	judge(comms_client_open, "{'comm_id':'n','target_name':'jupyter.widget','data':{}}");
	assert_false(widgets_view_ok(&content, "n"));
	assert_int_equal(update("n", "update", "'value':'<script>'"), CONTENT_DROP);
	assert_int_equal(update("n", "update", "'_model_module':'evil','_model_name':'M'"),
			 CONTENT_DROP);
	assert_int_equal(update("n", "update", MODULE "'_model_name':'HTMLModel'"), CONTENT_KEEP);
	assert_int_equal(update("n", "update", MODULE "'_model_name':'TextModel'"), CONTENT_DROP);
	/* a target that is not on the list: the client may open it, the kernel may not answer */
	judge(comms_client_open, "{'comm_id':'x','target_name':'matplotlib','data':{}}");
	assert_int_equal(judge(comms_msg, "{'comm_id':'x','data':{}}"), CONTENT_DROP);
	/* nor does a client make a widget of what is a control, or the other way */
	judge(comms_client_open, "{'comm_id':'t','target_name':'jupyter.widget.control'}");
	assert_int_equal(judge(comms_msg, "{'comm_id':'t','data':{'method':'update_states',"
					  "'states':{},'buffer_paths':[]}}"),
			 CONTENT_DROP);
}

static void test_buffers(void **state)
{
	static const char *const bad[] = {"[]",
					  "[['width']]",
					  "[['value','x']]",
					  "[['__proto__','x']]",
					  "[[]]",
					  "[['value'],['value']]",
					  "[1]",
					  "null",
					  "[['_esm']]"};
	char text[512];

	(void)state;
	assert_int_equal(open_model("i", "ImageModel", "'format':'png'"), CONTENT_KEEP);
	assert_int_equal(judge_buffers(comms_msg,
				       "{'comm_id':'i','data':{'method':'update','state':{},"
				       "'buffer_paths':[['value']]}}",
				       1),
			 CONTENT_KEEP);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text),
			 "{'comm_id':'i','data':{'method':'update','state':{},'buffer_paths':%s}}",
			 bad[i]);
		assert_int_equal(judge_buffers(comms_msg, text, 1), CONTENT_DROP);
	}
	buffers[1].iov_len = (size_t)64 << 20; /* a count is all that is asked of it */
	assert_int_equal(judge_buffers(comms_msg,
				       "{'comm_id':'i','data':{'method':'update','state':{},"
				       "'buffer_paths':[['value'],['value']]}}",
				       2),
			 CONTENT_DROP);
	buffers[1].iov_len = 2;
	assert_non_null(strstr(content.blocked.text, "more than 64 MiB in buffers"));
	assert_int_equal(open_model("f", "FileUploadModel", ""), CONTENT_KEEP);
	assert_int_equal(judge_buffers(comms_msg,
				       "{'comm_id':'f','data':{'method':'echo_update','state':{"
				       "'value':[{'name':'a'}]},'buffer_paths':[['value',0,"
				       "'content']]}}",
				       1),
			 CONTENT_KEEP);
}

static void test_custom(void **state)
{
	(void)state;
	assert_int_equal(open_model("b", "ButtonModel", ""), CONTENT_KEEP);
	assert_int_equal(judge(comms_msg, "{'comm_id':'b','data':{'method':'custom','content':{"
					  "'do':'focus'}}}"),
			 CONTENT_KEEP);
	assert_int_equal(judge(comms_msg, "{'comm_id':'b','data':{'method':'custom','content':{"
					  "'html':'<script>'}}}"),
			 CONTENT_DROP);
	assert_int_equal(judge(comms_msg, "{'comm_id':'b','data':{'method':'request_state'}}"),
			 CONTENT_DROP);
	assert_int_equal(judge(comms_msg, "{'comm_id':'b','data':'x'}"), CONTENT_DROP);
	assert_int_equal(judge(comms_msg, "{'comm_id':'b'}"), CONTENT_DROP);
}

static void test_metadata(void **state)
{
	(void)state;
	assert_int_equal(open_model("b", "ButtonModel", ""), CONTENT_KEEP);
	json_object_set_new(content.metadata, "colab", json_object());
	json_object_set_new(content.metadata, "version", json_string("2.x"));
	assert_int_equal(comms_open(&content), CONTENT_CHANGED);
	assert_int_equal(json_object_size(content.metadata), 0);
}

/* A trusted kernel's messages are not looked at; in mode text there are no widgets. */
static void test_modes(void **state)
{
	(void)state;
	rules.mode = OUTPUTS_OFF;
	assert_int_equal(judge(comms_open, "{'comm_id':'a','target_name':'any','target_module':'x',"
					   "'data':{}}"),
			 CONTENT_KEEP);
	assert_int_equal(judge(comms_msg, "{'comm_id':'a','data':{'x':1},'y':1}"), CONTENT_KEEP);
	assert_int_equal(judge(comms_close, "{'comm_id':'b','data':{'x':1}}"), CONTENT_KEEP);
	rules.mode = OUTPUTS_TEXT;
	assert_int_equal(open_model("t", "TextModel", ""), CONTENT_DROP_COMM);
	rules.mode = OUTPUTS_STATIC;
}

static int set_up(void **state)
{
	(void)state;
	content = (struct content){.rules = &rules, .known = known_new()};
	return content.known ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	json_decref(content.content);
	json_decref(content.metadata);
	known_free(content.known);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(real_traffic_keeps),
		TEST(targets),
		TEST(modules),
		TEST(views),
		TEST(links),
		TEST(traits),
		TEST(outputs),
		TEST(control),
		TEST(client_opened),
		TEST(buffers),
		TEST(custom),
		TEST(metadata),
		TEST(modes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
