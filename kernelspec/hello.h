/*
 * hello: the name that a TLS client asks for (RFC 8446 section 4.1.2, RFC 6066 section 3), read
 * from the first bytes of a connection. Every byte is hostile. Never logs.
 */
#ifndef KERNELSPEC_HELLO_H
#define KERNELSPEC_HELLO_H

#include <stddef.h>

#define HELLO_NAME 253
#define HELLO_MAX  16000 /* bytes of the records that hold it */

/*
 * Returns 0 with the one host_name of the ClientHello, in lower case ("": it has none); -EAGAIN:
 * more bytes are needed; -EPROTO: no TLS, more than HELLO_MAX, two names, one with other characters
 * than those of a host, or a ClientHello that may hide another in it (RFC 9849).
 */
int hello_name(const unsigned char *data, size_t size, char ret_name[HELLO_NAME + 1]);

#endif
