/* SPDX-License-Identifier: Apache-2.0 */
/* assert: for bugs only, never for input from outside. ASSERT stays on in release; ASSERT_SLOW in debug and simulation. */
#ifndef CIRANDA_RUNTIME_ASSERT_H
#define CIRANDA_RUNTIME_ASSERT_H

/* Prints the expression, the place and a stack to stderr as one JSON log line, then aborts. */
_Noreturn void assert_failed(const char *expression, const char *file, int line, const char *function);

#define ASSERT(condition) ((condition) ? (void)0 : assert_failed(#condition, __FILE__, __LINE__, __func__))
#ifdef CIRANDA_SLOW_ASSERTS
#define ASSERT_SLOW(condition) ASSERT(condition)
#else
#define ASSERT_SLOW(condition) ((void)sizeof(condition))
#endif

#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
