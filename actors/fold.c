/* SPDX-License-Identifier: Apache-2.0 */
/* Folding by two tables of base letters, one a block, indexed by code point: a table row is easier to check against the
 * Unicode charts than code, and each entry is one or two ASCII letters, which is never longer than the two or three bytes of
 * the letter it replaces (F1). What folds to nothing (combining marks) has an empty entry; what stays has NULL.
 *
 * Composed and decomposed forms meet: U+00E7 and "c" + U+0327 both fold to "c". */
#include "actors/fold.h"

#include <stdint.h>

/* U+00C0 .. U+017F */
static const char *const latin[] = {
    /* 00C0 */ "a", "a", "a",  "a",  "a", "a", "ae", "c",  "e", "e", "e", "e", "i", "i", "i",  "i",
    /* 00D0 */ "d", "n", "o",  "o",  "o", "o", "o",  NULL, "o", "u", "u", "u", "u", "y", "th", "ss",
    /* 00E0 */ "a", "a", "a",  "a",  "a", "a", "ae", "c",  "e", "e", "e", "e", "i", "i", "i",  "i",
    /* 00F0 */ "d", "n", "o",  "o",  "o", "o", "o",  NULL, "o", "u", "u", "u", "u", "y", "th", "y",
    /* 0100 */ "a", "a", "a",  "a",  "a", "a", "c",  "c",  "c", "c", "c", "c", "c", "c", "d",  "d",
    /* 0110 */ "d", "d", "e",  "e",  "e", "e", "e",  "e",  "e", "e", "e", "e", "g", "g", "g",  "g",
    /* 0120 */ "g", "g", "g",  "g",  "h", "h", "h",  "h",  "i", "i", "i", "i", "i", "i", "i",  "i",
    /* 0130 */ "i", "i", "ij", "ij", "j", "j", "k",  "k",  "k", "l", "l", "l", "l", "l", "l",  "l",
    /* 0140 */ "l", "l", "l",  "n",  "n", "n", "n",  "n",  "n", "n", "n", "n", "o", "o", "o",  "o",
    /* 0150 */ "o", "o", "oe", "oe", "r", "r", "r",  "r",  "r", "r", "s", "s", "s", "s", "s",  "s",
    /* 0160 */ "s", "s", "t",  "t",  "t", "t", "t",  "t",  "u", "u", "u", "u", "u", "u", "u",  "u",
    /* 0170 */ "u", "u", "u",  "u",  "w", "w", "y",  "y",  "y", "z", "z", "z", "z", "z", "z",  "s",
};

/* U+1E00 .. U+1EFF, one letter each; '.' stands for the two that fold to more than one letter or stay. */
static const char latin_additional[] = "aabbbbbbccdddddddddd"                 /* 1E00 */
                                       "eeeeeeeeeeffgghhhhhhhhhhiiii"         /* 1E14 */
                                       "kkkkkkllllllllmmmmmmnnnnnnnn"         /* 1E30 */
                                       "ooooooooppppr"                        /* 1E4C */
                                       "rrrrrrrsssssssssstttttttt"            /* 1E59 */
                                       "uuuuuuuuuuvvvvwwwwwwwwwwxxxxyyzzzzzz" /* 1E72 */
                                       "htwya"                                /* 1E96 */
                                       "sss."                                 /* 1E9B */
                                       "."                                    /* 1E9F */
                                       "aaaaaaaaaaaaaaaaaaaaaaaa"             /* 1EA0 */
                                       "eeeeeeeeeeeeeeee"                     /* 1EB8 */
                                       "iiii"                                 /* 1EC8 */
                                       "oooooooooooooooooooooooo"             /* 1ECC */
                                       "uuuuuuuuuuuuuu"                       /* 1EE4 */
                                       "yyyyyyyy"                             /* 1EF2 */
                                       "llvvyy" /* 1EFA */;
_Static_assert(sizeof latin / sizeof *latin == 0x180 - 0xC0, "one entry a code point");
_Static_assert(sizeof latin_additional - 1 == 0x100, "one entry a code point");

/* One code point of well-formed UTF-8. Returns: its bytes; 0 when malformed. */
static size_t decode(const unsigned char *at, size_t left, uint32_t *ret_code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t size = at[0] < 0x80             ? 1
                  : (at[0] & 0xE0) == 0xC0 ? 2
                  : (at[0] & 0xF0) == 0xE0 ? 3
                  : (at[0] & 0xF8) == 0xF0 ? 4
                                           : 0;
    if (size == 0 || size > left)
        return 0;
    uint32_t code = size == 1 ? at[0] : at[0] & (0x7Fu >> size);
    for (size_t i = 1; i < size; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (at[i] & 0x3Fu);
    }
    if (code < least[size] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        return 0;
    *ret_code = code;
    return size;
}

static bool is_blank(uint32_t code)
{
    return code == ' ' || (code >= '\t' && code <= '\r') || code == 0xA0 || (code >= 0x2000 && code <= 0x200A) ||
           code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x3000;
}

/* The folded form of a code point from 0x80 up; NULL: itself. `letter` is room for a one-letter answer. */
static const char *fold_code(uint32_t code, char letter[2])
{
    if (code >= 0xC0 && code <= 0x17F)
        return latin[code - 0xC0];
    if (code >= 0x1E00 && code <= 0x1EFF) {
        if (code == 0x1E9E)
            return "ss";
        letter[0] = latin_additional[code - 0x1E00];
        return letter[0] == '.' ? NULL : letter;
    }
    if ((code >= 0x300 && code <= 0x36F) || code == 0xAD || (code >= 0x200B && code <= 0x200D))
        return ""; /* combining marks; soft hyphen; zero-width */
    if (code == 0xAA)
        return "a";
    if (code == 0xBA)
        return "o";
    if (code == 0x2018 || code == 0x2019)
        return "'";
    return NULL;
}

enum err fold_text(struct slice text, char *buffer, size_t size, size_t *ret_size)
{
    if (size < text.size)
        return ERR_LIMIT;
    const unsigned char *at = (const unsigned char *)text.data;
    size_t written = 0;
    bool has_blank = false; /* one is due before the next letter */
    for (size_t i = 0; i < text.size;) {
        uint32_t code = 0;
        size_t bytes = decode(at + i, text.size - i, &code);
        if (bytes && is_blank(code)) {
            has_blank = written > 0;
            i += bytes;
            continue;
        }
        char letter[2] = {0};
        const char *folded = bytes && code >= 0x80 ? fold_code(code, letter) : NULL;
        if (folded && !*folded) { /* a mark between blank and letter must not swallow the blank */
            i += bytes;
            continue;
        }
        if (has_blank)
            buffer[written++] = ' ';
        has_blank = false;
        if (folded) {
            for (; *folded; folded++)
                buffer[written++] = *folded;
        } else if (bytes == 1) {
            buffer[written++] = (char)(code >= 'A' && code <= 'Z' ? code + ('a' - 'A') : code);
        } else {
            memmove(buffer + written, at + i, bytes ? bytes : 1);
            written += bytes ? bytes : 1;
        }
        i += bytes ? bytes : 1;
    }
    *ret_size = written;
    return OK;
}

/* Letters and digits; from U+0080 up everything but punctuation, symbols and emoji. */
static bool is_word(uint32_t code)
{
    if (code < 0x80)
        return (code >= 'a' && code <= 'z') || (code >= '0' && code <= '9') || (code >= 'A' && code <= 'Z');
    return code >= 0xC0 && code != 0xD7 && code != 0xF7 && !(code >= 0x2000 && code <= 0x2BFF) &&
           !(code >= 0x3000 && code <= 0x303F) && !(code >= 0xFE00 && code <= 0xFE0F) &&
           !(code >= 0x1F000 && code <= 0x1FAFF);
}

static bool begins_with_word(struct slice text, size_t at)
{
    uint32_t code = 0;
    return at < text.size && decode((const unsigned char *)text.data + at, text.size - at, &code) && is_word(code);
}

static bool ends_with_word(struct slice text, size_t end)
{
    size_t begin = end;
    while (begin > 0 && end - begin < 4) {
        begin--;
        if (((unsigned char)text.data[begin] & 0xC0) != 0x80)
            break;
    }
    uint32_t code = 0;
    return begin < end && decode((const unsigned char *)text.data + begin, end - begin, &code) == end - begin &&
           is_word(code);
}

bool fold_has_phrase(struct slice folded_text, struct slice folded_phrase)
{
    if (folded_phrase.size == 0)
        return false;
    bool is_word_first = begins_with_word(folded_phrase, 0);
    bool is_word_last = ends_with_word(folded_phrase, folded_phrase.size);
    for (size_t at = 0; at + folded_phrase.size <= folded_text.size; at++) {
        const char *hit = memmem(folded_text.data + at, folded_text.size - at, folded_phrase.data, folded_phrase.size);
        if (!hit)
            return false;
        at = (size_t)(hit - folded_text.data);
        size_t end = at + folded_phrase.size;
        if (!(is_word_first && ends_with_word(folded_text, at)) && !(is_word_last && begins_with_word(folded_text, end)))
            return true;
    }
    return false;
}
