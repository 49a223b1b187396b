/* Talks to the store through /dev/xen/xenbus (io/xs_wire.h); each argument is a request: r=PATH, d=PATH, w=PATH=VALUE. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct message {
    uint32_t type, request, transaction, length;
};
enum { DIRECTORY = 1, READ = 2, WRITE = 11, ERROR = 16 };

static int whole(int file, void *at, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t part = read(file, (char *)at + done, size - done);
        if (part <= 0)
            return 0;
        done += part;
    }
    return 1;
}

static void ask(int file, const char *what, uint32_t type, const char *payload, uint32_t length)
{
    char out[4200], in[4200];
    struct message head = {type, 7, 0, length};
    memcpy(out, &head, sizeof head);
    memcpy(out + sizeof head, payload, length);
    if (write(file, out, sizeof head + length) != (ssize_t)(sizeof head + length)) {
        printf("%s -> write failed: %s\n", what, strerror(errno));
        return;
    }
    if (!whole(file, &head, sizeof head) || head.length > 4096 || !whole(file, in, head.length)) {
        printf("%s -> no answer\n", what);
        return;
    }
    in[head.length] = 0;
    for (uint32_t i = 0; i + 1 < head.length; i++)
        if (!in[i])
            in[i] = ' ';
    printf("%s -> %s%s\n", what, head.type == ERROR ? "error " : "", in);
}

int main(int count, char **arguments)
{
    int file = open("/dev/xen/xenbus", O_RDWR);
    if (file < 0)
        return perror("/dev/xen/xenbus"), 1;
    for (int i = 1; i < count; i++) {
        char *path = arguments[i] + 2, payload[4096];
        if (arguments[i][0] == 'w') {
            char *value = strchr(path, '=') + 1;
            size_t name = value - 1 - path;
            memcpy(payload, path, name);
            payload[name] = 0;
            memcpy(payload + name + 1, value, strlen(value));
            ask(file, arguments[i], WRITE, payload, name + 1 + strlen(value));
        } else {
            ask(file, arguments[i], arguments[i][0] == 'd' ? DIRECTORY : READ, path, strlen(path) + 1);
        }
    }
    return 0;
}
