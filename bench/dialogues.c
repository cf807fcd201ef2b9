/* SPDX-License-Identifier: Apache-2.0 */
/* dialogues: see dialogues.h. A tool's loader: whatever is wrong ends the program, with file and line. */
#include "bench/dialogues.h"

#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "net/json.h"

enum { LINE_BYTES_MAX = 1 << 20 };

static _Noreturn void die(const char *path, uint32_t line, const char *what)
{
    fprintf(stderr, "load: %s:%u: %s\n", path, line, what);
    exit(2);
}

/* Room for one more; doubles at powers of two. */
static void *grow(void *items, uint32_t count, size_t item_size)
{
    if (count != 0 && (count & (count - 1)) != 0)
        return items;
    void *grown = realloc(items, (count ? 2 * (size_t)count : 1) * item_size);
    if (!grown)
        die("", 0, "out of memory");
    return grown;
}

static void add_text(struct dialogues *dialogues, struct json_value text)
{
    char *copy = malloc(text.raw.size);
    struct slice unescaped;
    if (!copy || json_string(text, copy, text.raw.size, &unescaped) != OK)
        die("", 0, "out of memory");
    memmove(copy, unescaped.data, unescaped.size);
    dialogues->texts = grow(dialogues->texts, dialogues->text_count, sizeof *dialogues->texts);
    dialogues->texts[dialogues->text_count++] = slice_of(copy, unescaped.size);
}

static const char *read_line(struct dialogues *dialogues, struct slice line)
{
    struct json_value root, turns, turn, from, text;
    struct json_problem problem;
    struct json_iterator iterator = {0};
    if (json_validate(line, &root, &problem) != OK)
        return problem.reason;
    if (!json_find(root, "turns", &turns) || turns.type != JSON_ARRAY)
        return "no turns";
    struct dialogue dialogue = {.first_text = dialogues->text_count};
    while (json_next_element(turns, &iterator, &turn)) {
        if (!json_find(turn, "from", &from) || !json_find(turn, "text", &text) || text.type != JSON_STRING)
            return "a turn without from or text";
        if (slice_has_text(from.raw, "\"customer\"") && text.raw.size > 2)
            add_text(dialogues, text);
    }
    dialogue.text_count = dialogues->text_count - dialogue.first_text;
    if (dialogue.text_count == 0)
        return "a dialogue in which the customer says nothing";
    dialogues->items = grow(dialogues->items, dialogues->count, sizeof *dialogues->items);
    dialogues->items[dialogues->count++] = dialogue;
    return NULL;
}

void dialogues_load(struct dialogues *dialogues, const char *path)
{
    *dialogues = (struct dialogues){0};
    gzFile file = gzopen(path, "rb");
    char *line = malloc(LINE_BYTES_MAX);
    if (!file || !line)
        die(path, 0, "cannot open");
    while (gzgets(file, line, LINE_BYTES_MAX)) {
        const char *wrong = read_line(dialogues, slice_from_text(line));
        if (wrong)
            die(path, dialogues->count + 1, wrong);
    }
    if (dialogues->count == 0)
        die(path, 1, "no dialogue");
    free(line);
    gzclose(file);
}
