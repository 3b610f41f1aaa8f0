/* Closed-loop load over HTTP/1.1 or edged's fast lane: one fixed request, CONNECTIONS connections, one thread.
 *
 *     hload TARGET REQUEST CONNECTIONS SECONDS [TIMES [RING]]
 *
 * TARGET is a port of 127.0.0.1 or the path of a UNIX socket, REQUEST a file with a whole request, or a whole frame of
 * docs/fast.md. RING: a file that each connection puts at the beginning of a ring of its own, of RING_SIZE bytes, for a
 * request that says that its tensors are there; "-" as TIMES is none. A frame whose connection ends before its answer is
 * sent again over another one, as docs/fast.md asks of clients, TIMES_SENT times in all. It stops sending
 * after SECONDS and waits for what is in flight, so that the server's CPU time / answers is exact. samples.h prints.
 * build: gcc -O2 -o hload hload.c */
#define _GNU_SOURCE
#include "samples.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { AT_ONCE = 65536, PATIENCE_S = 60, RING_SIZE = 1 << 20, FRAME_HEAD = 24, TIMES_SENT = 4 };

struct connection {
    int fd, busy, status, chunked, to_end, closing, times;
    size_t sent, got, room, head; /* head: bytes of the answer's header, 0 while it is incomplete */
    long length;                  /* of the answer's body, -1 while unknown */
    char *answer;
    double begun;
};

static const char *target;
static char *request, *ring;
static size_t request_size, ring_size;
static int poll_fd;
static struct samples samples;
static long sent, bad, broken;

static void watch(struct connection *c, int operation, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(poll_fd, operation, c->fd, &event);
}

/* Hands a sealed memfd to the other side, with the frame that says so; waits for its answer. */
static int hand_over(int fd) {
    char head[FRAME_HEAD] = {[4] = (char)0xED, [5] = 0x03}, answer[FRAME_HEAD], control[CMSG_SPACE(sizeof(int))] = {0};
    int memory = memfd_create("hload", MFD_ALLOW_SEALING);
    if (memory < 0 || ftruncate(memory, RING_SIZE) || pwrite(memory, ring, ring_size, 0) != (ssize_t)ring_size ||
        fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
        return -1;
    struct iovec data = {head, sizeof head};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof memory);
    memcpy(CMSG_DATA(rights), &memory, sizeof memory);
    int failed = sendmsg(fd, &message, 0) != sizeof head || recv(fd, answer, sizeof answer, MSG_WAITALL) < FRAME_HEAD ||
                 (unsigned char)answer[5] != 0x83;
    close(memory);
    return failed;
}

static int dial(struct connection *c) {
    int one = 1, failed;
    if (strchr(target, '/')) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        strncpy(address.sun_path, target, sizeof address.sun_path - 1);
        c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
        failed = connect(c->fd, (void *)&address, sizeof address) || (ring && hand_over(c->fd));
    } else {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(target))};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        failed = connect(c->fd, (void *)&address, sizeof address);
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    if (failed) {
        close(c->fd);
        c->fd = -1;
        broken++;
        return -1;
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
    return 0;
}

static void hang_up(struct connection *c) {
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static void send_more(struct connection *c) {
    while (c->sent < request_size) {
        ssize_t n = send(c->fd, request + c->sent, request_size - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return;
        }
        if (n < 0)
            break; /* the read that follows says why */
        c->sent += n;
    }
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

static void send_anew(struct connection *c) {
    c->sent = c->got = c->head = 0;
    c->length = -1;
    c->chunked = c->to_end = c->closing = 0;
    c->times++;
    send_more(c);
}

static void begin(struct connection *c) {
    c->busy = 1;
    c->times = 0;
    c->begun = now_s();
    sent++;
    send_anew(c);
}

static void complete(struct connection *c) {
    c->busy = 0;
    if (c->status == 200)
        samples_add(&samples, c->begun, c->answer, c->got);
    else if (!bad++)
        fprintf(stderr, "status %d: %.300s\n", c->status, c->answer + c->head);
    if (c->closing)
        hang_up(c);
}

static void ended(struct connection *c) {
    if (c->busy && c->to_end && c->head) {
        c->closing = 1;
        complete(c);
        return;
    }
    hang_up(c);
    if (c->busy && (unsigned char)request[4] == 0xED && c->times < TIMES_SENT && !dial(c)) {
        send_anew(c);
        return;
    }
    if (c->busy)
        broken++;
    c->busy = 0;
}

/* Whether the header is complete; reads from it how the body ends. A frame's result counts as a 200. */
static int read_head(struct connection *c) {
    if (c->got > 4 && (unsigned char)c->answer[4] == 0xED) {
        unsigned size;
        if (c->got < FRAME_HEAD)
            return 0;
        memcpy(&size, c->answer, sizeof size);
        c->head = FRAME_HEAD;
        c->length = size;
        c->status = (unsigned char)c->answer[5] == 0x81 ? 200 : (unsigned char)c->answer[5];
        return 1;
    }
    char *end = memmem(c->answer, c->got, "\r\n\r\n", 4);
    if (!end)
        return 0;
    c->head = end + 4 - c->answer;
    c->status = atoi(c->answer + 9);
    end[2] = 0;
    if (c->status == 100) { /* Continue: the answer itself follows */
        c->got -= c->head;
        memmove(c->answer, c->answer + c->head, c->got);
        c->head = 0;
        return 0;
    }
    char *length = strcasestr(c->answer, "content-length:");
    if (length)
        c->length = atol(length + 15);
    else if (strcasestr(c->answer, "chunked"))
        c->chunked = 1;
    else
        c->to_end = 1;
    if (strcasestr(c->answer, "connection: close") || !strncmp(c->answer, "HTTP/1.0", 8))
        c->closing = 1;
    return 1;
}

static void receive(struct connection *c) {
    for (;;) {
        if (c->got + AT_ONCE > c->room)
            c->answer = need(realloc(c->answer, c->room = c->room * 2 + 2 * AT_ONCE));
        ssize_t n = recv(c->fd, c->answer + c->got, AT_ONCE - 1, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            ended(c);
            return;
        }
        c->got += n;
        c->answer[c->got] = 0;
        if (!c->head && !read_head(c))
            continue;
        int whole = c->length >= 0 && c->got >= c->head + c->length;
        int last_chunk = c->chunked && c->got >= c->head + 5 && !memcmp(c->answer + c->got - 5, "0\r\n\r\n", 5);
        if (whole || last_chunk) {
            complete(c);
            return;
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fputs("hload TARGET REQUEST CONNECTIONS SECONDS [TIMES [RING]]\n", stderr);
        return 2;
    }
    target = argv[1];
    request = read_file(argv[2], &request_size);
    if (argc > 6)
        ring = read_file(argv[6], &ring_size);
    int count = atoi(argv[3]);
    double seconds = atof(argv[4]);
    struct connection *all = need(calloc(count, sizeof *all));
    for (int i = 0; i < count; i++)
        all[i].fd = -1;
    poll_fd = epoll_create1(0);
    samples_begin(&samples);
    for (;;) {
        double elapsed = now_s() - samples.start;
        int open = elapsed < seconds, busy = 0;
        for (int i = 0; i < count; i++) {
            struct connection *c = &all[i];
            if (!c->busy && open && (c->fd >= 0 || !dial(c)))
                begin(c);
            busy += c->busy;
        }
        if (!open && (!busy || elapsed > seconds + PATIENCE_S))
            break;
        struct epoll_event events[256];
        int ready = epoll_wait(poll_fd, events, 256, busy ? 200 : 5);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->fd >= 0 && c->busy && c->sent < request_size && events[i].events & EPOLLOUT)
                send_more(c);
            if (c->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                receive(c);
        }
    }
    samples_report(&samples, sent, bad, broken, argc > 5 && strcmp(argv[5], "-") ? argv[5] : NULL);
    return 0;
}
