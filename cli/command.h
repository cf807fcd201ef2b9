/* SPDX-License-Identifier: Apache-2.0 */
/* command: one subcommand of the binary: its name, and a main of its own. Exit codes are the contract's (docs/API.md). */
#ifndef CIRANDA_CLI_COMMAND_H
#define CIRANDA_CLI_COMMAND_H

enum { COMMAND_OK = 0, COMMAND_FAILED = 1, COMMAND_USAGE = 2 };

/* `arguments[0]` is the subcommand's name. Each answers --help and --version itself, on stdout. Returns: an exit code. */
int command_serve(int count, char **arguments);
int command_chat(int count, char **arguments);
int command_events(int count, char **arguments);
int command_doctor(int count, char **arguments);

/* "ciranda 0.1.0" on stdout. Returns: COMMAND_OK. */
int command_print_version(void);
/* The text on stdout. Returns: COMMAND_OK. */
int command_print_help(const char *text);
/* "ciranda NAME: <what>; see ciranda NAME --help" on stderr. Returns: COMMAND_USAGE. */
int command_refuse(const char *name, const char *what);

#endif
