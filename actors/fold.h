/* SPDX-License-Identifier: Apache-2.0 */
/* fold: texts made comparable: lower case, without accents, blanks collapsed; and phrases found in them at word borders.
 *
 * For matching only, never for showing. Covers what Portuguese, English and the other Latin scripts write (Latin-1,
 * Latin Extended-A, Latin Extended Additional, combining marks); other scripts pass unchanged, so that a phrase in them still
 * matches itself. Pure functions, no locale. Callers: config (folds the phrases of rules once), routing (folds a message).
 *
 * Invariants: F1 folding never lengthens. F2 folding well-formed text twice is folding it once. F3 malformed UTF-8 is copied byte by byte.
 */
#ifndef CIRANDA_ACTORS_FOLD_H
#define CIRANDA_ACTORS_FOLD_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/error.h"
#include "runtime/slice.h"

/* Writes the folded text to `buffer`; text.size bytes always suffice. Returns: ERR_LIMIT, *ret_size untouched, when the
 * buffer is smaller than the text. */
MUST_USE enum err fold_text(struct slice text, char *buffer, size_t size, size_t *ret_size);

/* Is the phrase in the text? Both folded. Where the phrase begins or ends with a letter or digit, the text must not go on with
 * one there: "preco" is in "qual o preco?" and not in "precos". An empty phrase is in no text. */
bool fold_has_phrase(struct slice folded_text, struct slice folded_phrase);

#endif
