/*
 * areas: the staging areas of a user, over the port: DATA/users/NAME/AREA is the folder of the
 * kernels that she starts in it, its staging/in what they see, staging/out what they made. An area
 * outlives its kernels. Handlers of web/routes.c.
 *
 * In: names and bytes of strangers, and below staging/out what a kernel made. Out: regular files
 * alone, never through a link (openat2(2), RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS). An upload goes to
 * a file beside the areas and takes its place when it is whole; one that was cut off goes on where
 * it ended (Content-Range), and is forgotten when another has begun since. Of several to one path
 * the newest counts; ?upload=ID keeps a client from going on with another file than it began with.
 */
#ifndef WEB_AREAS_H
#define WEB_AREAS_H

struct request;

#define AREAS_FILES_MAX 20000 /* of one listing, and of what counts towards a limit */

void areas_list(struct request *request);   /* GET /api/areas */
void areas_files(struct request *request);  /* GET /api/areas/{} */
void areas_get(struct request *request);    /* GET /api/areas/{}/{...}: in/… or out/… */
void areas_put(struct request *request);    /* PUT /api/areas/{}/{...}: in/… */
void areas_remove(struct request *request); /* DELETE /api/areas/{}/{...} */
/* GET /api/uploads/{}/{...}: {"offset": N}, how much of an upload is there. */
void areas_offset(struct request *request);

#endif
