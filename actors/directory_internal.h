/* SPDX-License-Identifier: Apache-2.0 */
/* directory_internal: what conversations use of the directory of the worker they are on. */
#ifndef CIRANDA_ACTORS_DIRECTORY_INTERNAL_H
#define CIRANDA_ACTORS_DIRECTORY_INTERNAL_H

#include "actors/conversation.h"
#include "actors/directory.h"

struct directory;

struct conversation_scratch *directory_scratch(struct directory *directory);
struct directory_stats *directory_live_stats(struct directory *directory);

#endif
