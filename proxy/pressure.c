#include "proxy/pressure.h"

#include "proxy/limits.h"

enum pressure_action pressure_step(struct pressure *pressure, long outstanding,
				   unsigned long progress, int64_t now)
{
	if (progress != pressure->progress) {
		pressure->progress = progress;
		pressure->moved = now;
	}
	if (outstanding <= OUTPUT_HIGH)
		pressure->over = 0;
	else if (!pressure->over)
		pressure->over = now;
	if (!pressure->paused) {
		if (outstanding <= OUTPUT_HIGH || now < pressure->exempt)
			return PRESSURE_NONE;
		if (outstanding <= OUTPUT_AT_ONCE && now - pressure->over < PAUSE_AFTER_MS)
			return PRESSURE_NONE;
		pressure->paused = true;
		pressure->moved = now;
		return PRESSURE_PAUSE;
	}
	if (outstanding < OUTPUT_LOW) {
		pressure->paused = false;
		return PRESSURE_RESUME;
	}
	if (now - pressure->moved >= STALL_MS) {
		pressure->moved = now;
		return PRESSURE_CUT;
	}
	return PRESSURE_NONE;
}

enum pressure_action pressure_exempt(struct pressure *pressure, int64_t now)
{
	pressure->exempt = now + EXEMPT_MS;
	if (!pressure->paused)
		return PRESSURE_NONE;
	pressure->paused = false;
	return PRESSURE_RESUME;
}
