/* The least that a service costs: a UNIX socket, frames of docs/fast.md that come back as results, one thread with epoll.
 *
 *     echo SOCKET
 *
 * build: gcc -O2 -o echo echo.c */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { HEAD = 24, AT_ONCE = 1 << 20, RESULT = 0x81 };

struct connection {
    int fd;
    size_t got, room;
    char *held;
};

static int send_all(int fd, const char *data, size_t size) {
    for (ssize_t n; size; data += n, size -= n)
        if ((n = send(fd, data, size, MSG_NOSIGNAL)) <= 0)
            return -1;
    return 0;
}

/* Reads what is there and answers each whole frame; not 0 when the connection has ended. */
static int serve(struct connection *c) {
    if (c->room < c->got + AT_ONCE && !(c->held = realloc(c->held, c->room = c->got + 2 * AT_ONCE)))
        return -1;
    ssize_t n = recv(c->fd, c->held + c->got, AT_ONCE, 0);
    if (n <= 0)
        return -1;
    c->got += n;
    for (unsigned size; c->got >= HEAD; c->got -= size, memmove(c->held, c->held + size, c->got)) {
        memcpy(&size, c->held, sizeof size);
        if ((size += HEAD) > c->got)
            break;
        c->held[5] = (char)RESULT;
        if (send_all(c->fd, c->held, size))
            return -1;
    }
    return 0;
}

int main(int argc, char **argv) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, ready[256];
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), poll = epoll_create1(0);
    if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path)
        return 2;
    strcpy(address.sun_path, argv[1]);
    unlink(argv[1]); /* of a run before */
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 128)) {
        perror(argv[1]);
        return 2;
    }
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poll, ready, 256, -1);
        for (int i = 0; i < count; i++) {
            struct connection *c = ready[i].data.ptr;
            if (!c) {
                if (!(c = calloc(1, sizeof *c)) || (c->fd = accept(listener, NULL, NULL)) < 0)
                    return 3;
                event.data.ptr = c;
                epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event);
            } else if (serve(c)) {
                close(c->fd);
                free(c->held);
                free(c);
            }
        }
    }
}
