/* SPDX-License-Identifier: Apache-2.0 */
/* json: the writer (json.h). Appends to a growable buffer, which remembers an overflow, so that nothing here can fail.
 *
 * Beyond what RFC 8259 asks, '<' and '>' and the line separators U+2028 and U+2029 are escaped: what we write may end up
 * inside a page or a script, and an SSE or log line must stay one line.
 */
#include "net/json.h"
#include "net/utf8.h"
#include "runtime/buffer.h"
#include "runtime/decimal.h"

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != '<' && c != '>';
}

static void write_escape(struct buffer *out, uint32_t code_point)
{
    static const char letters[] = {
        ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't', ['"'] = '"', ['\\'] = '\\'};
    if (code_point < sizeof letters && letters[code_point]) {
        char escape[2] = {'\\', letters[code_point]};
        buffer_append(out, escape, sizeof escape);
        return;
    }
    static const char digits[] = "0123456789abcdef";
    char escape[6] = {'\\',
                      'u',
                      digits[code_point >> 12 & 15],
                      digits[code_point >> 8 & 15],
                      digits[code_point >> 4 & 15],
                      digits[code_point & 15]};
    buffer_append(out, escape, sizeof escape);
}

void json_write_string(struct buffer *out, struct slice utf8)
{
    buffer_append_byte(out, '"');
    size_t run = 0; /* start of the bytes that go out as they are */
    for (size_t i = 0; i < utf8.size;) {
        const char *at = utf8.data + i;
        if (is_plain((unsigned char)*at)) {
            i++;
            continue;
        }
        size_t size = utf8_sequence_size(at, utf8.size - i);
        bool is_separator = size == 3 && (memcmp(at, "\xe2\x80\xa8", 3) == 0 || memcmp(at, "\xe2\x80\xa9", 3) == 0);
        if (size > 1 && !is_separator) {
            i += size;
            continue;
        }
        if (i > run)
            buffer_append(out, utf8.data + run, i - run);
        if (size == 0)
            buffer_append(out, "\xef\xbf\xbd", 3); /* U+FFFD for each byte that fits nowhere */
        else if (is_separator)
            write_escape(out, at[2] == '\xa8' ? 0x2028 : 0x2029);
        else
            write_escape(out, (unsigned char)*at);
        i += size ? size : 1;
        run = i;
    }
    if (utf8.size > run)
        buffer_append(out, utf8.data + run, utf8.size - run);
    buffer_append_byte(out, '"');
}

void json_write_integer(struct buffer *out, int64_t value)
{
    if (value < 0)
        buffer_append_byte(out, '-');
    json_write_unsigned(out, value < 0 ? -(uint64_t)value : (uint64_t)value);
}

void json_write_unsigned(struct buffer *out, uint64_t value)
{
    char digits[DECIMAL_DIGITS_MAX];
    buffer_append_slice(out, decimal_format(value, digits));
}

void json_write_key(struct buffer *out, const char *key, bool *is_first)
{
    if (!*is_first)
        buffer_append_byte(out, ',');
    *is_first = false;
    json_write_string(out, slice_from_text(key));
    buffer_append_byte(out, ':');
}
