/* Closed-loop MQTT load on libmosquitto (3.1.1): one connection, WINDOW messages outstanding.
 *
 *     mqload PORT QOS IN OUT BODY WINDOW SECONDS [TIMES]
 *
 * Publishes the file BODY on the topic IN of the broker at 127.0.0.1:PORT; each message on OUT is the answer to the
 * oldest one that is outstanding (answers come in order, or this measures nothing). It stops sending after SECONDS
 * and waits for what is in flight. samples.h prints; `sent` above `answers` were lost.
 * build: gcc -O2 -o mqload mqload.c -lmosquitto */
#define _GNU_SOURCE
#include "samples.h"
#include <mosquitto.h>

enum { PATIENCE_S = 20 };

static struct samples samples;
static const char *topic;
static char *body;
static size_t size;
static int qos, window;
static long sent, bad;
static double seconds, *begun; /* begun: a ring of the last WINDOW sending times */

static void send_one(struct mosquitto *client) {
    begun[sent++ % window] = now_s();
    mosquitto_publish(client, NULL, topic, size, body, qos, false);
}

static void on_message(struct mosquitto *client, void *context, const struct mosquitto_message *message) {
    (void)context;
    if (!sent) /* somebody else's, from before */
        return;
    if (message->payloadlen == 0)
        bad++;
    samples_add(&samples, begun[samples.n % window], message->payload, message->payloadlen);
    if (now_s() - samples.start < seconds)
        send_one(client);
    else if (samples.n >= sent)
        mosquitto_disconnect(client);
}

static void on_subscribe(struct mosquitto *client, void *context, int id, int count, const int *granted) {
    (void)context, (void)id, (void)count, (void)granted;
    samples_begin(&samples);
    for (int i = 0; i < window; i++)
        send_one(client);
}

int main(int argc, char **argv) {
    if (argc < 8) {
        fputs("mqload PORT QOS IN OUT BODY WINDOW SECONDS [TIMES]\n", stderr);
        return 2;
    }
    qos = atoi(argv[2]);
    topic = argv[3];
    body = read_file(argv[5], &size);
    window = atoi(argv[6]);
    seconds = atof(argv[7]);
    begun = need(calloc(window, sizeof *begun));
    mosquitto_lib_init();
    struct mosquitto *client = need(mosquitto_new(NULL, true, NULL));
    mosquitto_message_callback_set(client, on_message);
    mosquitto_subscribe_callback_set(client, on_subscribe);
    mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1);
    mosquitto_int_option(client, MOSQ_OPT_SEND_MAXIMUM, 1000);
    mosquitto_int_option(client, MOSQ_OPT_RECEIVE_MAXIMUM, 1000);
    if (mosquitto_connect(client, "127.0.0.1", atoi(argv[1]), 30)) {
        fputs("mqload: no connection to the broker\n", stderr);
        return 2;
    }
    mosquitto_subscribe(client, NULL, argv[4], qos);
    double give_up = now_s() + seconds + PATIENCE_S;
    while (mosquitto_loop(client, 200, 1) == MOSQ_ERR_SUCCESS && now_s() < give_up)
        ;
    samples_report(&samples, sent, bad, 0, argc > 8 ? argv[8] : NULL);
    return 0;
}
