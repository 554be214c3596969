/* An engine that answers every call after a fixed time, and costs next to nothing itself.

       engine PORT DELAY_MS ANSWER_FILE MODELS_FILE

   HTTP/1.1 on 127.0.0.1, keep-alive, one call at a time on a connection. A POST is answered with
   the first file after the delay, GET /stamp with the CLOCK_MONOTONIC time of the first call since
   the last stamp and how many came, GET /calls with the same but no stamp, any other GET with the
   second file. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 16384, ROOM = 1 << 16, EVENTS = 512 };

typedef struct {
    char *buffer;
    size_t length;
    unsigned life; /* of the descriptor: a call of an earlier one gets no answer */
} Connection;

typedef struct {
    int fd;
    unsigned life;
    int64_t due_ns;
} Due;

static Connection connections[MOST];
static Due queue[MOST]; /* in the order in which they are due: the delay is the same for all */
static size_t head, tail;
static int64_t delay_ns, first_ns;
static long calls;
static char *answer, *models;
static size_t answer_bytes, models_bytes;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* The file as a whole HTTP answer. */
static char *read_answer(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    if (!file) fail(path);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *text = malloc((size_t)size + 256);
    if (!text) fail("malloc");
    int n = sprintf(text, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %ld\r\n\r\n", size);
    if (fread(text + n, 1, (size_t)size, file) != (size_t)size) fail(path);
    fclose(file);
    *bytes = (size_t)n + (size_t)size;
    return text;
}

static void drop(int fd) {
    connections[fd].length = 0;
    connections[fd].life++;
    close(fd);
}

static void answer_with(int fd, const char *text, size_t bytes) {
    if (send(fd, text, bytes, MSG_NOSIGNAL) != (ssize_t)bytes) drop(fd);
}

static void answer_stamp(int fd, int ends) {
    char body[128], text[256];
    int n = calls ? sprintf(body, "{\"first\": %.9f, \"count\": %ld}", (double)first_ns / 1e9, calls)
                  : sprintf(body, "{\"first\": null, \"count\": 0}");
    int m = sprintf(text, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, body);
    if (ends) calls = 0;
    answer_with(fd, text, (size_t)m);
}

static void called(int fd, int64_t now) {
    if (calls++ == 0) first_ns = now;
    if (delay_ns == 0) {
        answer_with(fd, answer, answer_bytes);
        return;
    }
    if (tail - head == MOST) {
        drop(fd);
        return;
    }
    queue[tail++ % MOST] = (Due){fd, connections[fd].life, now + delay_ns};
}

/* How many bytes the first request in the buffer has; 0 where it is not whole yet. */
static size_t request_bytes(const char *buffer, size_t length) {
    const char *end = memmem(buffer, length, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t bytes = (size_t)(end - buffer) + 4;
    for (const char *line = buffer; line < end;) {
        if (!strncasecmp(line, "content-length:", 15)) bytes += strtoul(line + 15, NULL, 10);
        const char *next = memmem(line, (size_t)(end - line), "\r\n", 2);
        if (!next) break;
        line = next + 2;
    }
    return bytes <= length ? bytes : 0;
}

static void readable(int fd, int64_t now) {
    Connection *c = &connections[fd];
    ssize_t got = recv(fd, c->buffer + c->length, ROOM - c->length, 0);
    if (got <= 0) {
        drop(fd);
        return;
    }
    c->length += (size_t)got;
    size_t bytes = request_bytes(c->buffer, c->length);
    if (!bytes) {
        if (c->length == ROOM) drop(fd);
        return;
    }
    int is_call = c->buffer[0] == 'P', is_stamp = !strncmp(c->buffer, "GET /stamp", 10);
    int is_look = !strncmp(c->buffer, "GET /calls", 10);
    c->length -= bytes;
    memmove(c->buffer, c->buffer + bytes, c->length);
    if (is_call) called(fd, now);
    else if (is_stamp || is_look) answer_stamp(fd, is_stamp);
    else answer_with(fd, models, models_bytes);
}

static void accept_all(int listener, int epoll) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MOST) {
            close(fd);
            continue;
        }
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (!connections[fd].buffer && !(connections[fd].buffer = malloc(ROOM))) fail("malloc");
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
    }
}

static void answer_due(int64_t now) {
    while (head != tail && queue[head % MOST].due_ns <= now) {
        Due due = queue[head++ % MOST];
        if (connections[due.fd].life == due.life) answer_with(due.fd, answer, answer_bytes);
    }
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "engine PORT DELAY_MS ANSWER_FILE MODELS_FILE\n");
        return 2;
    }
    delay_ns = (int64_t)(atof(argv[2]) * 1e6);
    answer = read_answer(argv[3], &answer_bytes);
    models = read_answer(argv[4], &models_bytes);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) fail("listen");
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event)) fail("epoll");
    for (;;) {
        struct timespec wait, *most = NULL;
        if (head != tail) {
            int64_t left = queue[head % MOST].due_ns - now_ns();
            if (left < 0) left = 0;
            wait = (struct timespec){left / 1000000000, left % 1000000000};
            most = &wait;
        }
        int n = epoll_pwait2(epoll, events, EVENTS, most, NULL);
        int64_t now = now_ns();
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener) accept_all(listener, epoll);
            else readable(events[i].data.fd, now);
        }
        answer_due(now_ns());
    }
}
