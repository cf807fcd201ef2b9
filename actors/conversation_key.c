/* SPDX-License-Identifier: Apache-2.0 */
/* A conversation id holds no control bytes (docs: 1..128 of A-Z a-z 0-9 . _ ~ : -), so keys whose second part begins with one
 * are the server's own (dead_letters.c) and no conversation's. */
#include "actors/conversation_key.h"

static struct hash128 process_seed; /* fixed after start */

void conversation_key_set_seed(struct hash128 seed)
{
    process_seed = seed;
}

uint32_t conversation_key_write(struct slice tenant, struct slice conversation, char ret_key[JOURNAL_KEY_BYTES_MAX])
{
    if (tenant.size == 0 || tenant.size > CONV_TENANT_BYTES_MAX || conversation.size == 0 ||
        conversation.size > CONV_ID_BYTES_MAX || memchr(tenant.data, 0, tenant.size))
        return 0;
    memcpy(ret_key, tenant.data, tenant.size);
    ret_key[tenant.size] = 0;
    memcpy(ret_key + tenant.size + 1, conversation.data, conversation.size);
    return (uint32_t)(tenant.size + 1 + conversation.size);
}

bool conversation_key_split(struct slice key, struct slice *ret_tenant, struct slice *ret_conversation)
{
    const char *zero = key.size ? memchr(key.data, 0, key.size) : NULL;
    if (!zero || zero == key.data || zero + 1 == key.data + key.size || (unsigned char)zero[1] < ' ')
        return false;
    *ret_tenant = slice_of(key.data, (size_t)(zero - key.data));
    *ret_conversation = slice_of(zero + 1, (size_t)(key.data + key.size - zero - 1));
    return true;
}

struct hash128 conversation_key_hash(struct slice key)
{
    return hash_bytes(key, process_seed);
}
