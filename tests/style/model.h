/*
 * model: what static analysis cannot see from one source file, told to it; included before each
 * source by analyze.py alone. err_set(), err_errno() and err_wrap() return a negative code.
 */
#ifndef TESTS_STYLE_MODEL_H
#define TESTS_STYLE_MODEL_H

#include "sandbox/base.h"

static inline int model_negative(int code)
{
	if (code >= 0)
		__builtin_unreachable();
	return code;
}

#define err_set(...)   model_negative((err_set)(__VA_ARGS__))
#define err_errno(...) model_negative((err_errno)(__VA_ARGS__))
#define err_wrap(...)  model_negative((err_wrap)(__VA_ARGS__))

#endif
