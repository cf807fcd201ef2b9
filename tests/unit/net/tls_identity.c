/* SPDX-License-Identifier: Apache-2.0 */
/* tls_identity: see tls_identity.h. */
#include "tls_identity.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <unistd.h>

#include "raw_server.h"

static void check(bool condition)
{
    if (!condition)
        abort(); /* the test's own plumbing broke */
}

static X509 *make_certificate(EVP_PKEY *key, int days)
{
    X509 *certificate = X509_new();
    check(certificate && X509_set_version(certificate, 2) && X509_set_pubkey(certificate, key));
    check(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1));
    check(X509_gmtime_adj(X509_getm_notBefore(certificate), -10L * 86400) != NULL);
    check(X509_gmtime_adj(X509_getm_notAfter(certificate), days * 86400L) != NULL);
    X509_NAME *name = X509_get_subject_name(certificate);
    check(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0));
    check(X509_set_issuer_name(certificate, name));
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:localhost");
    check(names && X509_add_ext(certificate, names, -1));
    X509_EXTENSION_free(names);
    check(X509_sign(certificate, key, EVP_sha256()) > 0);
    return certificate;
}

void tls_identity_init(struct tls_identity *identity, int days)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    check(key != NULL);
    X509 *certificate = make_certificate(key, days);
    snprintf(identity->file, sizeof identity->file, "/tmp/ciranda_tls_XXXXXX");
    int fd = mkstemp(identity->file);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    check(file && PEM_write_X509(file, certificate) && fclose(file) == 0);
    identity->context = SSL_CTX_new(TLS_server_method());
    check(identity->context && SSL_CTX_use_certificate(identity->context, certificate) &&
          SSL_CTX_use_PrivateKey(identity->context, key));
    X509_free(certificate);
    EVP_PKEY_free(key);
}

void tls_identity_deinit(struct tls_identity *identity)
{
    SSL_CTX_free(identity->context);
    unlink(identity->file);
}

void tls_identity_serve(struct raw_server *server, int fd)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    struct tls_identity *identity = server->context;
    SSL *ssl = SSL_new(identity->context);
    check(ssl && SSL_set_fd(ssl, fd));
    char request[4096];
    if (SSL_accept(ssl) == 1 && SSL_read(ssl, request, sizeof request) > 0) {
        atomic_fetch_add(&server->requests, 1);
        (void)SSL_write(ssl, answer, sizeof answer - 1);
    }
    ERR_clear_error();
    SSL_free(ssl);
}
