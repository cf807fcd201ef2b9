/* SPDX-License-Identifier: Apache-2.0 */
/* ring_address: see ring_address.h. The port is the part after the last colon; an IPv6 address stands in brackets, so that
 * its own colons are not mistaken for it.
 */
#include "runtime/ring_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static bool parse_port(const char *text, uint16_t *ret_port)
{
    uint32_t port = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits] != '\0')
        return false;
    for (size_t i = 0; i < digits; i++)
        port = port * 10 + (uint32_t)(text[i] - '0');
    if (port > 65535)
        return false;
    *ret_port = (uint16_t)port;
    return true;
}

enum err ring_address_parse(const char *text, struct sockaddr_storage *ret_address, socklen_t *ret_size,
                            struct error *error)
{
    char host[INET6_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    bool is_ipv6 = text[0] == '[';
    const char *host_start = is_ipv6 ? text + 1 : text;
    const char *host_end = is_ipv6 ? strchr(text, ']') : colon;
    uint16_t port = 0;
    if (!colon || !host_end || (is_ipv6 && host_end + 1 != colon) || !parse_port(colon + 1, &port))
        return error_set(error, ERR_INVALID, "address \"%.80s\": write it as 127.0.0.1:7400 or [::1]:7400", text);
    size_t host_size = (size_t)(host_end - host_start);
    if (host_size >= sizeof host)
        return error_set(error, ERR_INVALID, "address \"%.80s\": the host is too long", text);
    memcpy(host, host_start, host_size);
    host[host_size] = '\0';

    struct sockaddr_storage address = {0};
    struct sockaddr_in *ipv4 = (struct sockaddr_in *)&address;
    struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)&address;
    int result;
    if (is_ipv6) {
        *ipv6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
        result = inet_pton(AF_INET6, host, &ipv6->sin6_addr);
    } else {
        *ipv4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
        result = inet_pton(AF_INET, host, &ipv4->sin_addr);
    }
    if (result != 1)
        return error_set(
            error, ERR_INVALID,
            "address \"%.80s\": \"%s\" is no IP address (names are not looked up; 0.0.0.0 is every interface)", text,
            host);
    *ret_address = address;
    *ret_size = is_ipv6 ? sizeof *ipv6 : sizeof *ipv4;
    return OK;
}

enum err ring_address_format(const struct sockaddr_storage *address, char *ret_text, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "", text[INET6_ADDRSTRLEN + 10];
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &ipv4->sin_addr, host, sizeof host);
        snprintf(text, sizeof text, "%s:%u", host, ntohs(ipv4->sin_port));
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &ipv6->sin6_addr, host, sizeof host);
        snprintf(text, sizeof text, "[%s]:%u", host, ntohs(ipv6->sin6_port));
    } else {
        return ERR_INVALID;
    }
    size_t length = strlen(text);
    if (length >= size)
        return ERR_LIMIT;
    memcpy(ret_text, text, length + 1);
    return OK;
}
