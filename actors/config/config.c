/* SPDX-License-Identifier: Apache-2.0 */
/* config: the levels put together (bundled < file < variables < flags), read along the schema, and the counted object.
 *
 * Two arenas: the tree's is gone when the load ends; the configuration's lives as long as its last reference.
 */
#include "actors/config/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "actors/config/config_arena.h"
#include "actors/config/config_internal.h"
#include "actors/config/config_schema.h"
#include "actors/config/config_tree.h"
#include "runtime/assert.h"

#define BUNDLED_NAME "(bundled configuration)"

extern const unsigned char config_bundled_yaml[];
extern const size_t config_bundled_yaml_size;

struct slice config_bundled_text(void)
{
    return slice_of((const char *)config_bundled_yaml, config_bundled_yaml_size);
}

/* A file without agents runs with the bundled ones and their routing. */
static enum err add_bundled_agents(struct config_arena *arena, struct config_node *root, struct error *error)
{
    static const char *const sections[] = {"agents", "routing"};
    struct config_node *bundled;
    enum err code = config_tree_parse(arena, BUNDLED_NAME, config_bundled_text(), &bundled, error);
    for (size_t i = 0; i < sizeof sections / sizeof sections[0] && code == OK; i++) {
        struct config_node *section = config_node_find(bundled, sections[i]);
        ASSERT(section);
        if (!config_node_find(root, sections[i])) {
            struct config_node *copy = config_arena_take(arena, 1, sizeof *copy);
            if (!copy)
                return error_set(error, ERR_NO_MEMORY, "no memory for the configuration");
            *copy = *section; /* the original keeps its place in the bundled tree's list */
            config_node_append(root, copy);
        }
    }
    return code;
}

/* One agent needs no routing. */
static enum err add_only_route(struct config_arena *arena, struct config_node *root, struct error *error)
{
    const struct config_node *agents = config_node_find(root, "agents");
    if (config_node_find(root, "routing") || agents->kind != CONFIG_MAP || agents->child_count != 1)
        return OK;
    return config_tree_overlay(arena, root, "routing", "default", BUNDLED_NAME, agents->children->key.data, error);
}

static enum err overlay_flags(struct config_arena *arena, struct config_node *root, const struct config_flags *flags,
                              struct error *error)
{
    char workers[16];
    snprintf(workers, sizeof workers, "%u", flags->workers);
    struct slice workers_kept;
    if (config_arena_copy(arena, slice_from_text(workers), &workers_kept) != OK)
        return error_set(error, ERR_NO_MEMORY, "no memory for the configuration");
    const struct {
        const char *key, *flag, *value;
    } given[] = {
        {"http_listen", "--listen", flags->http_listen},
        {"rpc_listen", "--rpc-listen", flags->rpc_listen},
        {"data", "--data", flags->data},
        {"workers", "--workers", flags->workers ? workers_kept.data : NULL},
    };
    enum err code = OK;
    for (size_t i = 0; i < sizeof given / sizeof given[0] && code == OK; i++) {
        if (given[i].value)
            code = config_tree_overlay(arena, root, "server", given[i].key, given[i].flag, given[i].value, error);
    }
    return code;
}

static enum err build_tree(struct config_arena *arena, const char *source, struct slice text, char *const *environment,
                           const struct config_flags *flags, struct config_node **ret_root, struct error *error)
{
    struct config_node *root;
    enum err code = config_tree_parse(arena, source, text, &root, error);
    if (code == OK && !config_node_find(root, "agents"))
        code = add_bundled_agents(arena, root, error);
    if (code == OK)
        code = config_tree_overlay_environment(arena, root, environment, error);
    if (code == OK)
        code = add_only_route(arena, root, error);
    if (code == OK)
        code = overlay_flags(arena, root, flags, error);
    if (code == OK)
        *ret_root = root;
    return code;
}

enum err config_parse(const char *source, struct slice text, char *const *environment, const struct config_flags *flags,
                      struct config **ret_config, struct error *error)
{
    struct config_arena *tree = config_arena_create();
    struct config_arena *memory = config_arena_create();
    struct config *config = calloc(1, sizeof *config);
    struct config_node *root = NULL;
    enum err code;
    if (!tree || !memory || !config)
        code = error_set(error, ERR_NO_MEMORY, "no memory for the configuration");
    else
        code = build_tree(tree, source, text, environment, flags, &root, error);
    if (code == OK)
        code = config_schema_read(root, memory, config, error);
    config_arena_destroy(tree);
    if (code != OK) {
        config_arena_destroy(memory);
        free(config);
        return code;
    }
    config->memory = memory;
    config->references = 1;
    *ret_config = config;
    return OK;
}

/* Reads at most one byte more than is allowed, so that the parser can say that it is too much. */
static enum err read_file(const char *path, char *bytes, size_t *ret_size, struct error *error)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return error_set_errno(error, ERR_CONFIG, errno, "%s", path);
    size_t size = fread(bytes, 1, CONFIG_FILE_BYTES_MAX + 1, file);
    enum err code = OK;
    if (ferror(file))
        code = error_set_errno(error, ERR_CONFIG, errno, "%s", path); /* a folder opens and then says EISDIR */
    fclose(file);
    *ret_size = size;
    return code;
}

enum err config_load(const struct config_flags *flags, struct config **ret_config, struct error *error)
{
    if (!flags->file)
        return config_parse(BUNDLED_NAME, config_bundled_text(), environ, flags, ret_config, error);
    char *bytes = malloc(CONFIG_FILE_BYTES_MAX + 1);
    if (!bytes)
        return error_set(error, ERR_NO_MEMORY, "no memory for the configuration");
    size_t size = 0;
    enum err code = read_file(flags->file, bytes, &size, error);
    if (code == OK)
        code = config_parse(flags->file, slice_of(bytes, size), environ, flags, ret_config, error);
    free(bytes);
    return code;
}

struct config *config_ref(struct config *config)
{
    __atomic_fetch_add(&config->references, 1, __ATOMIC_RELAXED); /* whoever gives one out holds one: no order needed */
    return config;
}

void config_unref(struct config *config)
{
    if (!config)
        return;
    /* Release: our reads are done before the count falls; acquire in the last one: it frees after everybody's. */
    uint64_t before = __atomic_fetch_sub(&config->references, 1, __ATOMIC_ACQ_REL);
    ASSERT(before > 0);
    if (before > 1)
        return;
    config_arena_destroy(config->memory);
    free(config);
}

int config_find_agent(const struct config *config, struct slice name)
{
    for (uint32_t i = 0; i < config->agent_count; i++) {
        if (slice_is_equal(config->agents[i].name, name))
            return (int)i;
    }
    return -1;
}
