#include "web/routes.h"

#include <string.h>

#include "web/areas.h"
#include "web/kernels_api.h"
#include "web/login.h"
#include "web/metrics.h"
#include "web/overview.h"

static const struct route routes[] = {
	{HTTP_GET, "/api", ROUTE_ANYBODY, 0, login_api},
	{HTTP_GET, "/api/me", ROUTE_USER, 0, login_me},
	{HTTP_POST, "/login", ROUTE_ANYBODY, 0, login_enter},
	{HTTP_POST, "/logout", ROUTE_ANYBODY, 0, login_leave},
	{HTTP_GET, "/", ROUTE_ANYBODY, 0, overview_page},
	{HTTP_GET, "/page/{}", ROUTE_ANYBODY, 0, overview_page},
	{HTTP_GET, "/api/wall/kernels", ROUTE_USER, 0, overview_kernels},
	{HTTP_GET, "/api/wall/kernels/{}/log", ROUTE_USER, 0, overview_log},
	{HTTP_GET, "/api/wall/kernels/{}/policy", ROUTE_USER, 0, overview_policy},
	{HTTP_POST, "/api/wall/kernels/{}/interrupt", ROUTE_USER, 0, kernels_api_interrupt},
	{HTTP_POST, "/api/wall/kernels/{}/restart", ROUTE_USER, 0, kernels_api_restart},
	{HTTP_POST, "/api/wall/kernels/{}/stop", ROUTE_USER, 0, overview_stop},
	{HTTP_GET, "/api/areas", ROUTE_USER, 0, areas_list},
	{HTTP_GET, "/api/areas/{}", ROUTE_USER, 0, areas_files},
	{HTTP_GET, "/api/areas/{}/{...}", ROUTE_USER, 0, areas_get},
	{HTTP_PUT, "/api/areas/{}/{...}", ROUTE_USER, ROUTE_STREAM, areas_put},
	{HTTP_DELETE, "/api/areas/{}/{...}", ROUTE_USER, 0, areas_remove},
	{HTTP_GET, "/api/uploads/{}/{...}", ROUTE_USER, 0, areas_offset},
	{HTTP_GET, "/metrics", ROUTE_ADMIN, 0, metrics_answer},
	{HTTP_GET, "/api/kernels", ROUTE_USER, 0, kernels_api_list},
	{HTTP_POST, "/api/kernels", ROUTE_USER, 0, kernels_api_start},
	{HTTP_GET, "/api/kernels/{}", ROUTE_USER, 0, kernels_api_get},
	{HTTP_DELETE, "/api/kernels/{}", ROUTE_USER, 0, kernels_api_delete},
	{HTTP_POST, "/api/kernels/{}/interrupt", ROUTE_USER, 0, kernels_api_interrupt},
	{HTTP_POST, "/api/kernels/{}/restart", ROUTE_USER, 0, kernels_api_restart},
	{HTTP_GET, "/api/kernels/{}/channels", ROUTE_USER, ROUTE_UPGRADE, kernels_api_channels},
	{HTTP_GET, "/api/kernelspecs", ROUTE_USER, 0, kernels_api_specs},
	{HTTP_GET, "/api/kernelspecs/{}", ROUTE_USER, 0, kernels_api_spec},
	{HTTP_GET, "/kernelspecs/{}/{}", ROUTE_USER, 0, kernels_api_file},
	{HTTP_GET, "/api/status", ROUTE_USER, 0, kernels_api_status},
	{HTTP_GET, "/api/sessions", ROUTE_USER, 0, sessions_api_list},
	{HTTP_POST, "/api/sessions", ROUTE_USER, 0, sessions_api_start},
	{HTTP_GET, "/api/sessions/{}", ROUTE_USER, 0, sessions_api_get},
	{HTTP_PATCH, "/api/sessions/{}", ROUTE_USER, 0, sessions_api_change},
	{HTTP_DELETE, "/api/sessions/{}", ROUTE_USER, 0, sessions_api_delete},
};

/* True when the parts are what the pattern says. */
static bool matches(const char *pattern, char *const *part, size_t parts)
{
	for (size_t i = 0; i < parts; i++) {
		const char *end;

		if (*pattern != '/')
			return false;
		pattern++;
		if (strcmp(pattern, "{...}") == 0)
			return true;
		end = strchrnul(pattern, '/');
		if (strncmp(pattern, "{}", 2) != 0 &&
		    (strlen(part[i]) != (size_t)(end - pattern) ||
		     strncmp(pattern, part[i], (size_t)(end - pattern)) != 0))
			return false;
		pattern = end;
	}
	return *pattern == '\0' || (parts == 0 && strcmp(pattern, "/") == 0);
}

const struct route *routes_find(unsigned method, char *const *part, size_t parts,
				unsigned *ret_methods)
{
	const struct route *found = NULL;

	*ret_methods = 0;
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		unsigned methods = routes[i].methods;

		if (!matches(routes[i].pattern, part, parts))
			continue;
		if (methods & HTTP_GET)
			methods |= HTTP_HEAD;
		*ret_methods |= methods;
		if (!found && (methods & method))
			found = &routes[i];
	}
	return found;
}
