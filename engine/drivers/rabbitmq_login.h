/* SPDX-License-Identifier: Apache-2.0
 *
 * The login of a link, for rabbitmq_link.c alone.
 */
#ifndef SALVO_RABBITMQ_LOGIN_H
#define SALVO_RABBITMQ_LOGIN_H

#include "rabbitmq_link.h"

/* amqp(s)://[user:password@]host[:port][/vhost] into link->url. 0 or CONFIG with its text. */
int salvo_rabbitmq_login_url(salvo_rabbitmq_link *link, const char *text, char *error,
                             size_t error_size);

/* A frame of channel 0 while logging in. */
void salvo_rabbitmq_login_frame(salvo_rabbitmq_link *link, const salvo_rabbitmq_frame *frame);

#endif
