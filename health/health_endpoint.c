// SPDX-License-Identifier: Apache-2.0
/*
 * Answers GET /healthz out of the file in which deploy_xdp.sh keeps the health state. One process with room for so many
 * connections and no more: a request starts nothing, so a flood of them takes neither memory nor processors from the packets,
 * and who connects and says nothing keeps nobody out. The listening socket comes from systemd; nothing else is needed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LISTENER 3 /* SD_LISTEN_FDS_START */
#define CONNECTIONS 256
#define PATIENCE_MS 2000
#define LONGEST_REQUEST 8192
#define FRESH_SECONDS 30 /* twice what passes between two health states at most */
#define WANTED "GET /healthz "
#define die(...) (fprintf(stderr, "health_endpoint: " __VA_ARGS__), exit(EXIT_FAILURE))

struct request {
	long long deadline; /* ms */
	unsigned int length, last_bytes;
	char start[sizeof(WANTED) - 1];
};

/* Stand in the order they came: the first is the oldest. */
static struct request requests[CONNECTIONS];
static struct pollfd watched[1 + CONNECTIONS] = { { .fd = LISTENER, .events = POLLIN } };
static int count;

static long long milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now); /* that of /proc/uptime */
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static int print_response(char *to, size_t size, const char *status, const char *body)
{
	return snprintf(to, size,
		"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
		status, strlen(body), body);
}

/* Prints the file: seconds since boot and the HTTP status, then the body. A watch that has stopped is no sign of health. */
static int print_health(char *to, size_t size, const char *path)
{
	char text[2048] = "", status[32], reason[64], body[256];
	long long at, age;
	int head = 0, file = open(path, O_RDONLY | O_CLOEXEC);

	if (file >= 0) {
		if (read(file, text, sizeof(text) - 1) < 0)
			text[0] = '\0';
		close(file);
	}
	if (sscanf(text, "%lld %31[0-9A-Za-z ]\n%n", &at, status, &head) == 2 && text[head]) {
		age = milliseconds() / 1000 - at;
		if (age <= FRESH_SECONDS)
			return print_response(to, size, status, text + head);
		snprintf(reason, sizeof(reason), "no verdict for %lld s", age);
	} else {
		snprintf(reason, sizeof(reason), "no verdict yet");
	}
	snprintf(body, sizeof(body),
		"{\"state\":\"broken\",\"engine\":\"unknown\",\"xdp_mode\":\"unknown\",\"reason\":\"%s; see: systemctl "
		"status mirror-gateway-network\"}\n",
		reason);
	return print_response(to, size, "503 Service Unavailable", body);
}

/* Sends into a socket that has sent nothing yet: there is room for all of it. */
static void answer(int connection, bool is_wanted, const char *path)
{
	char response[4096];
	int length = is_wanted ? print_health(response, sizeof(response), path)
			       : print_response(response, sizeof(response), "404 Not Found",
					 "{\"error\":\"only GET /healthz is served\"}\n");

	if (send(connection, response, length, MSG_NOSIGNAL) < 0)
		return; /* it has left */
}

static bool ends_here(struct request *request, char byte)
{
	if (request->length < sizeof(request->start))
		request->start[request->length] = byte;
	request->length++;
	request->last_bytes = request->last_bytes << 8 | (unsigned char)byte;
	return (request->last_bytes & 0xffff) == 0x0a0a || (request->last_bytes & 0xffffff) == 0x0a0d0a;
}

/* Reads everything that has come: closing over unread bytes would reset the connection under its answer. */
static bool is_done(int connection, struct request *request, const char *path)
{
	char bytes[1024];
	bool ended = false;
	ssize_t got;

	for (int reads = 0; (got = recv(connection, bytes, sizeof(bytes), 0)) > 0; reads++) {
		for (ssize_t i = 0; i < got && !ended; i++)
			ended = ends_here(request, bytes[i]);
		/* Who says on and on shall not have this process for itself, whatever was asked before. */
		if (request->length > LONGEST_REQUEST || reads > LONGEST_REQUEST / (int)sizeof(bytes))
			return true;
		if (got < (ssize_t)sizeof(bytes))
			break;
	}
	if (ended)
		answer(connection, !memcmp(request->start, WANTED, sizeof(request->start)), path);
	return ended || got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

static void drop(int index)
{
	close(watched[1 + index].fd);
	count--;
	memmove(&requests[index], &requests[index + 1], (count - index) * sizeof(*requests));
	memmove(&watched[1 + index], &watched[2 + index], (count - index) * sizeof(*watched));
}

static void welcome(int connection, const char *path)
{
	struct request request = { .deadline = milliseconds() + PATIENCE_MS };

	if (is_done(connection, &request, path)) {
		close(connection);
		return;
	}
	if (count == CONNECTIONS)
		drop(0);
	requests[count++] = request;
	watched[count] = (struct pollfd){ .fd = connection, .events = POLLIN };
}

/* Takes in not all that wait at once: those inside may have said their request by now. */
static void welcome_some(const char *path)
{
	for (int i = 0; i < 16; i++) {
		int connection = accept4(LISTENER, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (connection >= 0)
			welcome(connection, path);
		else if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK)
			die("accept: %m\n");
		else
			return; /* nobody waits, or what was wrong passes by itself: accept(2) */
	}
}

int main(int argc, char **argv)
{
	int listens = 0;
	socklen_t size = sizeof(listens);

	/* Proves that it starts, before an image's program is taken (deploy_xdp.sh). */
	if (argc == 2 && !strcmp(argv[1], "--help"))
		return puts("usage: health_endpoint FILE") < 0;
	if (argc != 2)
		die("%d arguments, 1 is needed: the file with the verdict; usage: health_endpoint FILE\n", argc - 1);
	if (getsockopt(LISTENER, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) || !listens)
		die("descriptor %d is no listening socket; start it by mirror-gateway-health.socket\n", LISTENER);
	fcntl(LISTENER, F_SETFL, fcntl(LISTENER, F_GETFL) | O_NONBLOCK);
	for (;;) {
		long long now = milliseconds();
		int wait = -1;

		while (count && requests[0].deadline <= now)
			drop(0);
		if (count)
			wait = requests[0].deadline - now;
		if (poll(watched, 1 + count, wait) < 0 && errno != EINTR)
			die("poll: %m\n");
		for (int i = count - 1; i >= 0; i--)
			if (watched[1 + i].revents && is_done(watched[1 + i].fd, &requests[i], argv[1]))
				drop(i);
		if (watched[0].revents)
			welcome_some(argv[1]);
	}
}
