/* SPDX-License-Identifier: Apache-2.0 */
/* config_internal: loading without the process around it, for tests and the fuzz target. */
#ifndef CIRANDA_ACTORS_CONFIG_CONFIG_INTERNAL_H
#define CIRANDA_ACTORS_CONFIG_CONFIG_INTERNAL_H

#include "actors/config/config.h"

/* The whole of config_load but for reading the file: `text` was read from `source`. `environment` as environ(7). */
MUST_USE enum err config_parse(const char *source, struct slice text, char *const *environment,
                               const struct config_flags *flags, struct config **ret_config, struct error *error);

/* samples/ciranda.yaml, compiled in. */
struct slice config_bundled_text(void);

#endif
