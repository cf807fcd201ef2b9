/* SPDX-License-Identifier: Apache-2.0 */
/* main: the table of subcommands. Before anything else descriptors 0, 1 and 2 are made sure of: were one of them closed, the
 * first socket or the journal would get its number, and the next line printed would go there. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"

static const struct {
    const char *name;
    int (*run)(int count, char **arguments);
    const char *summary;
} commands[] = {
    {"serve", command_serve, "run the server"},
    {"chat", command_chat, "talk to a conversation of a running server"},
    {"events", command_events, "print a conversation's events, one a line"},
    {"doctor", command_doctor, "check whether this machine can run it, and how well"},
};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static int print_usage(FILE *stream, int code)
{
    fputs("Ciranda runs AI-agent conversations.\n\nusage: ciranda COMMAND [OPTIONS]\n\n", stream);
    for (int i = 0; i < COMMAND_COUNT; i++)
        fprintf(stream, "  %-8s %s\n", commands[i].name, commands[i].summary);
    fputs("\n  --help, --version; ciranda COMMAND --help tells more\n", stream);
    return code;
}

static void reserve_standard_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
}

int command_print_version(void)
{
    puts("ciranda " CIRANDA_VERSION);
    return COMMAND_OK;
}

int command_print_help(const char *text)
{
    fputs(text, stdout);
    return COMMAND_OK;
}

int command_refuse(const char *name, const char *what)
{
    fprintf(stderr, "ciranda %s: %s; see ciranda %s --help\n", name, what, name);
    return COMMAND_USAGE;
}

int main(int count, char **arguments)
{
    reserve_standard_descriptors();
    if (count < 2)
        return print_usage(stderr, COMMAND_USAGE);
    if (strcmp(arguments[1], "--help") == 0 || strcmp(arguments[1], "-h") == 0)
        return print_usage(stdout, COMMAND_OK);
    if (strcmp(arguments[1], "--version") == 0)
        return command_print_version();
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(arguments[1], commands[i].name) == 0)
            return commands[i].run(count - 1, arguments + 1);
    }
    fprintf(stderr, "ciranda: no such command: %s\n\n", arguments[1]);
    return print_usage(stderr, COMMAND_USAGE);
}
