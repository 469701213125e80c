/* SPDX-License-Identifier: Apache-2.0
 *
 * What a backend moves for a connection, plain or in TLS records. Guarantees: what arrived before
 * a failure is still delivered (a broker says why and then closes): after a failed send the
 * socket is shut down and read to its end, and only then the connection is DOWN, with the send's
 * error. Nothing is offered to the kernel of a connection that is not live.
 */
#include "io_internal.h"

#include <errno.h>

int salvo_io_wire_spans(salvo_io_conn *conn, struct iovec *spans, int max)
{
    if (!salvo_io_wire_live(conn) || conn->send_errno != 0)
        return 0;
    if (conn->tls != NULL)
        return salvo_io_tls_spans(conn, spans);
    return salvo_io_out_spans(&conn->out, spans, max);
}

void salvo_io_wire_sent(salvo_io_conn *conn, size_t n)
{
    if (conn->tls != NULL)
        salvo_io_tls_sent(conn, n);
    else
        salvo_io_out_take(&conn->out, n);
    conn->io->events++;
}

void *salvo_io_wire_space(salvo_io_conn *conn, size_t *n)
{
    if (!salvo_io_wire_live(conn)) {
        *n = 0;
        return NULL;
    }
    if (conn->tls != NULL)
        return salvo_io_tls_space(conn, n);
    return salvo_io_in_space(&conn->in, n);
}

static void lost(salvo_io_conn *conn, int error)
{
    char text[96];
    salvo_io_down(conn, "connection to %s lost: %s", conn->where,
                  salvo_io_errno_text(error, text, sizeof text));
}

void salvo_io_wire_received(salvo_io_conn *conn, size_t n)
{
    if (!salvo_io_wire_live(conn))
        return;
    if (n == 0 && conn->send_errno != 0) {
        lost(conn, conn->send_errno);
    } else if (n == 0) {
        salvo_io_down(conn, conn->phase == SALVO_IO_PHASE_UP
                                ? "%s closed the connection"
                                : "%s closed the connection during the TLS handshake; does it "
                                  "speak TLS on this port?",
                      conn->where);
    } else if (conn->tls != NULL) {
        salvo_io_tls_received(conn, n);
    } else {
        conn->in.arrived += n;
        conn->io->events++;
    }
}

void salvo_io_wire_send_failed(salvo_io_conn *conn, int error)
{
    size_t space;
    if (!salvo_io_wire_live(conn) || conn->send_errno != 0)
        return;
    conn->send_errno = error;
    salvo_io_sys->shutdown(conn->fd, SHUT_RDWR); /* so that reading comes to an end */
    salvo_io_wire_space(conn, &space);
    if (space == 0)
        lost(conn, error);
}

void salvo_io_wire_receive_failed(salvo_io_conn *conn, int error)
{
    if (salvo_io_wire_live(conn))
        lost(conn, conn->send_errno != 0 ? conn->send_errno : error);
}
