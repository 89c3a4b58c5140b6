/* replies: what a front end would trust or act on is gone from them, and the rest is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/known.h"
#include "proxy/replies.h"

typedef enum content_verdict rule(struct content *content);

static struct outputs_rules rules = {.mode = OUTPUTS_STATIC};
static struct content content;

/* JSON with ' for ". */
static json_t *parse(const char *text)
{
	char *copy = strdup(text);
	json_t *value;

	for (char *c = copy; *c; c++)
		if (*c == '\'')
			*c = '"';
	value = json_loads(copy, JSON_ALLOW_NUL, NULL);
	if (!value)
		fail_msg("not JSON: %s", copy);
	free(copy);
	return value;
}

static enum content_verdict judge(rule *by, const char *text)
{
	json_decref(content.content);
	json_decref(content.metadata);
	memset(&content.blocked, 0, sizeof(content.blocked));
	content.content = parse(text);
	content.metadata = json_object();
	return by(&content);
}

static const char python[] =
	"{'status':'ok','protocol_version':'5.3','implementation':'ipython',"
	"'implementation_version':'9.18.1','banner':'Python','help_links':[],'language_info':{"
	"'name':'python','version':'3.11.2','mimetype':'text/x-python','codemirror_mode':{"
	"'name':'ipython','version':3},'pygments_lexer':'ipython3','nbconvert_exporter':'python',"
	"'file_extension':'.py'},'supported_features':['kernel subshells']}";

static const struct {
	rule *rule;
	const char *sent, *kept; /* NULL: goes on byte by byte */
} cases[] = {
	/* execute */
	{replies_execute, "{'status':'ok','execution_count':1,'user_expressions':{},'payload':[]}",
	 NULL},
	{replies_execute,
	 "{'status':'error','ename':'E','evalue':'v','traceback':['\\u001b[31mE\\u001b[0m'],"
	 "'execution_count':2,'user_expressions':{},'payload':[]}",
	 NULL},
	{replies_execute,
	 "{'status':'error','ename':'E\\u001b]0;x\\u0007','evalue':{},'traceback':[1,'a'],"
	 "'engine_info':{'a':1},'execution_count':'x'}",
	 "{'status':'error','ename':'E','traceback':['a']}"},
	{replies_execute,
	 "{'status':'ok','payload':[{'source':'ask_exit','keepkernel':false},"
	 "{'source':'edit_magic','filename':'/home/u/.bashrc','line_number':1},"
	 "{'source':'load_next','text':'x'},{},1,'page',{'source':'page'}]}",
	 "{'status':'ok','payload':[]}"},
	{replies_execute,
	 "{'status':'ok','payload':[{'source':'set_next_input','text':'!curl','replace':true,"
	 "'more':1},{'source':'set_next_input','text':'again'},{'source':'page','data':{"
	 "'text/html':'<script>','text/plain':'a'},'start':0,'x':1},{'source':'page','data':{}}]}",
	 "{'status':'ok','payload':[{'source':'set_next_input','text':'!curl','replace':false},"
	 "{'source':'page','data':{'text/plain':'a'},'start':0}]}"},
	{replies_execute,
	 "{'status':'ok','user_expressions':{'a':{'status':'ok','data':{'text/plain':'1',"
	 "'text/html':'<script>'},'metadata':{'isolated':true}},'__proto__':{'status':'ok'},"
	 "'b':{'status':'error','ename':'E','evalue':'v','traceback':[]},'c':1}}",
	 "{'status':'ok','user_expressions':{'a':{'status':'ok','data':{'text/plain':'1'},"
	 "'metadata':{}},'b':{'status':'error','ename':'E','evalue':'v','traceback':[]}}}"},
	{replies_execute, "{'status':'<script>'}", "{}"},
	/* inspect */
	{replies_inspect,
	 "{'status':'ok','found':true,'data':{'text/plain':'sig','text/html':'<img>',"
	 "'application/javascript':'1'},'metadata':{}}",
	 "{'status':'ok','found':true,'data':{'text/plain':'sig'},'metadata':{}}"},
	{replies_inspect, "{'status':'ok','found':false,'data':{},'metadata':{}}", NULL},
	{replies_inspect, "{'status':'ok','found':'yes','data':[],'metadata':{'a':1}}",
	 "{'status':'ok','metadata':{}}"},
	/* complete */
	{replies_complete,
	 "{'status':'ok','matches':['print','a.b('],'cursor_start':0,'cursor_end':2,'metadata':{"
	 "'_jupyter_types_experimental':[{'start':0,'end':2,'text':'print','type':'function',"
	 "'signature':'(x)'},{'start':0,'end':2,'text':'z','type':'<unknown>','signature':''}]}}",
	 NULL},
	{replies_complete,
	 "{'status':'ok','matches':['a\\nimport os','b\\u001b[2J','c\\u0000d','https://a/',1,'e'],"
	 "'cursor_start':'0','cursor_end':2,'metadata':{'html':'x',"
	 "'_jupyter_types_experimental':[{'text':'a\\nb'},{'text':'g','type':'<script>'},{'text':'"
	 "f','type':'<img src=x>',"
	 "'signature':1,'start':1.5,'html':'<b>'}]}}",
	 "{'status':'ok','matches':['https://a/','e'],'cursor_end':2,'metadata':{"
	 "'_jupyter_types_experimental':[{'text':'g'},{'text':'f'}]}}"},
	/* history */
	{replies_history, "{'status':'ok','history':[[1,2,'a'],[1,3,['b','c']]]}", NULL},
	{replies_history,
	 "{'status':'ok','history':[['x',2,'a'],[1,3],[1,4,{}],[1,5,'a\\u009d0;t\\u0007'],5,"
	 "[1,6,['b',null]],[1,7,['c',{'x':1}]],[1,8,[{'x':1}]],[1,9,[]]]}",
	 "{'status':'ok','history':[[1,5,'a'],[1,6,['b',null]]]}"},
	{replies_history, "{'status':'ok','history':{'a':[1]}}", "{'status':'ok'}"},
	{replies_comm_info, "{'status':'ok','comms':['a']}", "{'status':'ok'}"},
	{replies_complete, "{'status':'ok','matches':[],'metadata':['a']}",
	 "{'status':'ok','matches':[]}"},
	/* is_complete */
	{replies_is_complete, "{'status':'incomplete','indent':'    '}", NULL},
	{replies_is_complete, "{'status':'incomplete','indent':'import os','x':1}",
	 "{'status':'incomplete'}"},
	/* kernel_info */
	{replies_kernel_info, python, NULL},
	{replies_kernel_info,
	 "{'status':'ok','protocol_version':'5.3','banner':'\\u001b]0;pwn\\u0007\\u001b[31mhi','"
	 "help_links':["
	 "{'text':'Help','url':'javascript:1'}],'debugger':true,'language_info':{'name':'python',"
	 "'version':'3.11','file_extension':'/../../x.py','nbconvert_exporter':'evilmod.Exporter',"
	 "'more':1},'supported_features':['debugger','kernel subshells','x'],'x':{}}",
	 "{'status':'ok','protocol_version':'5.3','banner':'hi','help_links':[],'debugger':false,"
	 "'language_info':{'name':'python','version':'3.11','mimetype':'text/x-python',"
	 "'codemirror_mode':{'name':'ipython','version':3},'pygments_lexer':'ipython3',"
	 "'nbconvert_exporter':'python','file_extension':'.py'},"
	 "'supported_features':['kernel subshells']}"},
	{replies_kernel_info,
	 "{'status':'ok','protocol_version':'5.3','help_links':[],'language_info':{'name':'R',"
	 "'version':'4.2.2','codemirror_mode':'r','pygments_lexer':'r','mimetype':"
	 "'text/x-r-source','file_extension':'.r'}}",
	 NULL},
	{replies_kernel_info,
	 "{'status':'ok','protocol_version':'5','help_links':[],'language_info':{'name':'julia',"
	 "'version':'1.9','nbconvert_exporter':'evil.X','codemirror_mode':'<x>','pygments_lexer':"
	 "'evil','mimetype':'application/julia','file_extension':'.jl'}}",
	 "{'status':'ok','protocol_version':'5','help_links':[],'language_info':{'name':'julia',"
	 "'version':'1.9','mimetype':'application/julia','file_extension':'.jl'}}"},
	{replies_kernel_info,
	 "{'status':'ok','protocol_version':{},'implementation':'<b>','implementation_version':'"
	 "\\u001b','language_info':{'name':'a/../b'}}",
	 "{'status':'ok','protocol_version':'5.3','help_links':[]}"},
	{replies_kernel_info,
	 "{'status':'ok','protocol_version':'5.3','help_links':[],'language_info':{'name':'x',"
	 "'version':'<b>','mimetype':'text/x; a','file_extension':'.a/b'}}",
	 "{'status':'ok','protocol_version':'5.3','help_links':[],'language_info':{'name':'x'}}"},
	/* usage */
	{replies_usage,
	 "{'hostname':'cellwall','pid':7,'kernel_cpu':1.5,'kernel_memory':5,'cpu_count':64,"
	 "'host_cpu_percent':3.0,'host_virtual_memory':{'total':1}}",
	 "{'hostname':'cellwall','pid':7,'kernel_cpu':1.5,'kernel_memory':5}"},
	/* subshells */
	{replies_subshell, "{'status':'ok','subshell_id':['a-1','<b>',1]}",
	 "{'status':'ok','subshell_id':['a-1']}"},
	{replies_subshell, "{'status':'ok','subshell_id':'a-1'}", NULL},
	{replies_subshell, "{'status':'ok','subshell_id':{}}", "{'status':'ok'}"},
	/* shutdown, interrupt */
	{replies_status, "{'status':'ok','restart':false}", NULL},
	{replies_status, "{'status':'ok','restart':'x','html':'<b>'}", "{'status':'ok'}"},
	/* the debugger */
	{replies_debug,
	 "{'seq':1,'type':'response','request_seq':2,'success':true,'command':'variables','body':{"
	 "'variables':[{'name':'a','value':'<b>','type':'str','variablesReference':0}]}}",
	 NULL},
	{replies_debug,
	 "{'seq':1,'type':'response','success':true,'command':'source','body':{'data':{'text/html':"
	 "'<script>','text/plain':'x\\u001b]0;t\\u0007'},'metadata':{'a':1},'__proto__':{}},'x':1}",
	 "{'seq':1,'type':'response','success':true,'command':'source','body':{'data':{"
	 "'text/plain':'x'},'metadata':{}}}"},
	{replies_debug,
	 "{'seq':1,'command':'<b>','body':{'stackFrames':[{'source':{'path':"
	 "'/tmp/ipykernel_1/2.py'},'constructor':1,'name':'a\\u202eb'}]}}",
	 "{'seq':1,'body':{'stackFrames':[{'source':{'path':'/tmp/ipykernel_1/2.py'},"
	 "'name':'a\\\\u202eb'}]}}"},
	/* questions */
	{replies_input_request,
	 "{'prompt':'\\u001b[2J[sudo] password for you: ','password':true,'x':1}",
	 "{'prompt':'[isolated kernel] [sudo] password for you: ','password':true}"},
	{replies_input_request, "{'prompt':{},'password':'yes'}",
	 "{'prompt':'[isolated kernel] '}"},
};

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum content_verdict verdict = judge(cases[i].rule, cases[i].sent);
		json_t *wanted = parse(cases[i].kept ? cases[i].kept : cases[i].sent);

		if (!json_equal(wanted, content.content))
			fail_msg("case %zu is %s\nnot %s", i,
				 json_dumps(content.content, JSON_SORT_KEYS),
				 json_dumps(wanted, JSON_SORT_KEYS));
		assert_int_equal(verdict, cases[i].kept ? CONTENT_CHANGED : CONTENT_KEEP);
		json_decref(wanted);
	}
}

static void test_metadata(void **state)
{
	(void)state;
	judge(replies_execute, "{'status':'ok'}");
	json_object_set_new(content.metadata, "started", json_string("2026-01-01T00:00:00.000Z"));
	json_object_set_new(content.metadata, "dependencies_met", json_true());
	assert_int_equal(replies_execute(&content), CONTENT_KEEP);
	json_object_set_new(content.metadata, "started", json_string("<img src=x>"));
	json_object_set_new(content.metadata, "colab", json_object());
	assert_int_equal(replies_execute(&content), CONTENT_CHANGED);
	assert_int_equal(json_object_size(content.metadata), 1);
}

static void test_comm_info(void **state)
{
	const struct known_comm open = {.kind = KNOWN_WIDGET, .open = true, .model = 1};
	const struct known_comm closed = {.kind = KNOWN_WIDGET, .model = 1};
	json_t *comms;

	(void)state;
	known_comm_set(content.known, "a", &open);
	known_comm_set(content.known, "b", &closed);
	assert_int_equal(judge(replies_comm_info,
			       "{'status':'ok','comms':{'a':{'target_name':'jupyter.widget'}}}"),
			 CONTENT_KEEP);
	assert_int_equal(judge(replies_comm_info,
			       "{'status':'ok','comms':{'a':{'target_name':'jupyter.widget','x':1},"
			       "'b':{'target_name':'jupyter.widget'},'c':{'target_name':"
			       "'jupyter.widget'},'d':1}}"),
			 CONTENT_CHANGED);
	comms = json_object_get(content.content, "comms");
	assert_int_equal(json_object_size(comms), 1);
	assert_int_equal(json_object_size(json_object_get(comms, "a")), 1);
	judge(replies_comm_info, "{'status':'ok','comms':{'a':{'target_name':'other'}}}");
	assert_int_equal(json_object_size(json_object_get(content.content, "comms")), 0);
}

static void test_debug_event(void **state)
{
	static const char event[] =
		"{'seq':1,'type':'event','event':'stopped','body':{'threadId':1}}";

	(void)state;
	assert_int_equal(judge(replies_debug_event, event), CONTENT_DROP);
	known_debug(content.known);
	assert_int_equal(judge(replies_debug_event, event), CONTENT_KEEP);
	assert_int_equal(judge(replies_debug_event, "{'event':'output','body':{'output':'a"
						    "\\u001b]0;t\\u0007'},'html':'<b>'}"),
			 CONTENT_CHANGED);
	assert_string_equal(json_string_value(json_object_get(
				    json_object_get(content.content, "body"), "output")),
			    "a");
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

static void test_long_question(void **state)
{
	static char text[3 * 8192];
	const char *prompt;
	size_t used = (size_t)snprintf(text, sizeof(text), "{'prompt':'x");

	(void)state;
	while (used < 2 * 8192)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "\xc3\xa9");
	(void)snprintf(text + used, sizeof(text) - used, "'}");
	assert_int_equal(judge(replies_input_request, text), CONTENT_CHANGED);
	prompt = json_string_value(json_object_get(content.content, "prompt"));
	assert_non_null(prompt);
	/* the label, whole characters, and that it is cut */
	assert_int_equal(strlen(prompt), 18 + 8191 + 7);
	assert_string_equal(prompt + strlen(prompt) - 9, "\xc3\xa9 (cut) ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(cases),	 TEST(long_question), TEST(metadata),
		TEST(comm_info), TEST(debug_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
