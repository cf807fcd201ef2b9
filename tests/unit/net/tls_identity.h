/* SPDX-License-Identifier: Apache-2.0 */
/* tls_identity: a self-signed certificate for "localhost" made on the spot, and the server's side of TLS with it. */
#ifndef CIRANDA_TESTS_TLS_IDENTITY_H
#define CIRANDA_TESTS_TLS_IDENTITY_H

struct ssl_ctx_st;
struct raw_server;

struct tls_identity {
    struct ssl_ctx_st *context;
    char file[64]; /* the certificate, for who wants to trust it */
};

/* Valid from yesterday for `days`; negative: expired. */
void tls_identity_init(struct tls_identity *identity, int days);
void tls_identity_deinit(struct tls_identity *identity);

/* For raw_server_start, whose context is a tls_identity: answers one request with 200 "ok". */
void tls_identity_serve(struct raw_server *server, int fd);

#endif
