/* SPDX-License-Identifier: Apache-2.0 */
/* ring_socket: the plain socket calls of ring.h, on the system's sockets. They stand beside the ring because they neither
 * wait nor repeat; ring_sim.c has its own. Callers: net/.
 */
#include "runtime/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/assert.h"
#include "runtime/ring_address.h"

/* The kernel cuts it to net.core.somaxconn, 4096 since Linux 5.4. */
enum { LISTEN_BACKLOG = 4096 };

static const char *remedy_of(int os_errno)
{
    switch (os_errno) {
    case EADDRINUSE: return " (another process listens there: stop it or choose another port)";
    case EACCES: return " (ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one)";
    case EADDRNOTAVAIL: return " (no interface of this machine has that address)";
    case EAFNOSUPPORT: return " (IPv6 is switched off here: use an IPv4 address)";
    case EMFILE:
    case ENFILE: return " (out of descriptors: raise LimitNOFILE or ulimit -n)";
    }
    return "";
}

enum err ring_listen(const char *address, int *ret_fd, struct error *error)
{
    struct sockaddr_storage parsed;
    socklen_t size;
    enum err code = ring_address_parse(address, &parsed, &size, error);
    if (code != OK)
        return code;
    int fd = socket(parsed.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set_errno(error, ERR_SYSTEM, errno, "listen on %s%s", address, remedy_of(errno));
    /* Accepted sockets inherit TCP_NODELAY: one call here instead of one a connection. */
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        bind(fd, (const struct sockaddr *)&parsed, size) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        code = error_set_errno(error, ERR_SYSTEM, errno, "listen on %s%s", address, remedy_of(errno));
        close(fd);
        return code;
    }
    *ret_fd = fd;
    return OK;
}

enum err ring_local_address(int fd, char *ret_text, size_t size)
{
    struct sockaddr_storage address;
    socklen_t address_size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &address_size) != 0)
        return ERR_SYSTEM;
    return ring_address_format(&address, ret_text, size);
}

enum err ring_peer_address(int fd, char *ret_text, size_t size)
{
    struct sockaddr_storage address;
    socklen_t address_size = sizeof address;
    if (getpeername(fd, (struct sockaddr *)&address, &address_size) != 0)
        return ERR_SYSTEM;
    return ring_address_format(&address, ret_text, size);
}

int ring_open_reserve(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* ENOTCONN: the peer was quicker. */
void ring_shutdown_write(int fd)
{
    int result = shutdown(fd, SHUT_WR);
    ASSERT(result == 0 || errno != EBADF);
}

void ring_shutdown_both(int fd)
{
    int result = shutdown(fd, SHUT_RDWR);
    ASSERT(result == 0 || errno != EBADF);
}

void ring_close(int fd)
{
    int result = close(fd); /* also on EINTR the descriptor is gone: never again */
    ASSERT(result == 0 || errno != EBADF);
}
