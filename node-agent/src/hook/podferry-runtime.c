/*
 * podferry-runtime: an OCI runtime in front of runc, the BinaryName of the RuntimeClass "podferry".
 *
 * Whatever is no business of a migration is exec'd straight to runc. Three commands are looked at first:
 *
 *   create  when config.json of the bundle names a migration, the node agent is asked, and may answer that this container
 *           is restored instead of created;
 *   start   of a restored container has nothing left to do: its tasks run, or stand stopped until the migration commits;
 *   delete  of a restored container also removes its marker.
 *
 * The agent decides; this program knows no migration and no option of CRIU. Its whole conversation with the agent runs over
 * one SOCK_SEQPACKET connection to SOCKET, one message each way, the first byte being the kind:
 *
 *   hook  → agent   the argument vector, arguments separated by NUL bytes
 *   agent → hook    P                exec runc with the same arguments
 *                   F<message>       fail
 *                   R<argv>          run this (separated by NUL bytes), stdio inherited, and say how it ended
 *   hook  → agent   E<code>          after R: exit code, decimal
 *   agent → hook    K                done: exit 0
 *                   F<message>       fail
 *
 * The agent may take its time for every answer; it sees by the closed connection when containerd gave up and killed the hook.
 * A connection that closes without an answer is a failure: a migrating container is never started afresh by default.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef RUNC
#define RUNC "/usr/sbin/runc"
#endif
#ifndef RUN_DIR
#define RUN_DIR "/run/podferry"
#endif
#define SOCKET RUN_DIR "/hook.sock"
#define MARKERS RUN_DIR "/restored"

/* podferry.ids.MIGRATION_ANNOTATION. Only a hint, so that ordinary containers cost nothing: the agent parses the JSON. */
#define ANNOTATION "podferry.dev/migration"

#define MESSAGE_MAX 65536
#define ARGUMENTS_MAX 256

static const char *log_path; /* value of runc's --log: where containerd looks for the reason of a failure */

static void write_json_string(FILE *out, const char *text)
{
	putc('"', out);
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c == '"' || *c == '\\')
			fprintf(out, "\\%c", *c);
		else if (*c < 0x20)
			fprintf(out, "\\u%04x", *c);
		else
			putc(*c, out);
	}
	putc('"', out);
}

/* Say what went wrong where people and containerd look for it (as runc does with --log-format json), and end. */
__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
	static char message[MESSAGE_MAX];
	char now[32];
	time_t seconds = time(NULL);
	struct tm utc;
	va_list arguments;
	FILE *log;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	fprintf(stderr, "podferry: %s\n", message);
	log = log_path ? fopen(log_path, "ae") : NULL;
	if (log) {
		strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &utc));
		fprintf(log, "{\"level\":\"error\",\"msg\":");
		write_json_string(log, message);
		fprintf(log, ",\"time\":\"%s\"}\n", now);
		fclose(log);
	}
	exit(1);
}

__attribute__((noreturn)) static void exec_runc(char **argv)
{
	argv[0] = (char *)RUNC;
	execv(RUNC, argv);
	fail("cannot execute %s: %s", RUNC, strerror(errno));
}

/* The value of option `name` at argv[i] ("--name value" or "--name=value"), or NULL when argv[i] is something else. */
static const char *option_value(char **argv, int i, const char *name)
{
	size_t length = strlen(name);

	if (strncmp(argv[i], name, length))
		return NULL;
	if (argv[i][length] == '=')
		return argv[i] + length + 1;
	return argv[i][length] == '\0' ? argv[i + 1] : NULL;
}

/* Find runc's command behind its global options; remember --log on the way. 0 when there is none. */
static int find_command(int argc, char **argv)
{
	static const char *const valued[] = { "--log", "--log-format", "--root", "--criu", "--rootless" };

	for (int i = 1; i < argc; i++) {
		const char *log = option_value(argv, i, "--log");

		if (log)
			log_path = log;
		if (argv[i][0] != '-')
			return i;
		for (size_t k = 0; k < sizeof(valued) / sizeof(*valued); k++) {
			if (!strcmp(argv[i], valued[k])) {
				i++;
				break;
			}
		}
	}
	return 0;
}

static const char *find_bundle(int argc, char **argv, int command)
{
	const char *bundle = NULL;

	for (int i = command + 1; i < argc && !bundle; i++) {
		bundle = option_value(argv, i, "--bundle");
		if (!bundle)
			bundle = option_value(argv, i, "-b");
	}
	return bundle ? bundle : ".";
}

/* Whether config.json of the bundle mentions a migration at all. What cannot be read is left for runc to complain about. */
static bool mentions_migration(const char *bundle)
{
	char path[4096];
	struct stat file;
	bool found = false;
	char *text;
	int fd;

	if (snprintf(path, sizeof(path), "%s/config.json", bundle) >= (int)sizeof(path))
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (!fstat(fd, &file) && file.st_size > 0) {
		text = malloc((size_t)file.st_size);
		if (text) {
			ssize_t got = read(fd, text, (size_t)file.st_size);

			found = got > 0 && memmem(text, (size_t)got, ANNOTATION, strlen(ANNOTATION));
			free(text);
		}
	}
	close(fd);
	return found;
}

/* Send one message, and wait, however long, for the next one; it is ended by a NUL byte. Returns its length. */
static size_t ask(int agent, const char *question, size_t length, char answer[MESSAGE_MAX])
{
	ssize_t got;

	if (send(agent, question, length, MSG_NOSIGNAL) != (ssize_t)length)
		fail("cannot speak to the node agent: %s", strerror(errno));
	do
		got = recv(agent, answer, MESSAGE_MAX - 1, 0);
	while (got < 0 && errno == EINTR);
	if (got <= 0)
		fail("the node agent went away without an answer");
	answer[got] = '\0';
	return (size_t)got;
}

/* Run what the agent asked for and return its exit code as a shell would. It must not outlive this process. */
static int run(char *arguments, size_t length)
{
	char *argv[ARGUMENTS_MAX + 1];
	int count = 0, status;
	pid_t child;

	for (char *at = arguments; at < arguments + length && count < ARGUMENTS_MAX; at += strlen(at) + 1)
		argv[count++] = at;
	argv[count] = NULL;
	child = fork();
	if (child < 0)
		fail("cannot fork: %s", strerror(errno));
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execv(argv[0], argv);
		_exit(127);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			fail("cannot wait for %s: %s", argv[0], strerror(errno));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void create(int argc, char **argv)
{
	static char message[MESSAGE_MAX], answer[MESSAGE_MAX];
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = SOCKET };
	size_t length = 0, got;
	int agent;

	for (int i = 1; i < argc; i++) {
		size_t size = strlen(argv[i]) + 1;

		if (length + size > sizeof(message))
			fail("the command line is too long");
		memcpy(message + length, argv[i], size);
		length += size;
	}
	agent = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (agent < 0 || connect(agent, (struct sockaddr *)&address, sizeof(address)))
		fail("cannot reach the node agent at %s, and a migrating container is not started without it: %s", SOCKET,
		     strerror(errno));
	got = ask(agent, message, length, answer);
	if (answer[0] == 'P')
		exec_runc(argv);
	if (answer[0] == 'R') {
		length = (size_t)snprintf(message, sizeof(message), "E%d", run(answer + 1, got - 1));
		ask(agent, message, length, answer);
		if (answer[0] == 'K')
			exit(0);
	}
	if (answer[0] == 'F')
		fail("%s", answer + 1);
	fail("the node agent gave an answer that this hook does not know: '%c'", answer[0]);
}

/* The marker of container `id` in `path`; false when there is no such file, as for every ordinary container. */
static bool find_marker(const char *id, char *path, size_t size)
{
	if (strchr(id, '/') || snprintf(path, size, "%s/%s", MARKERS, id) >= (int)size)
		return false;
	return !access(path, F_OK);
}

int main(int argc, char **argv)
{
	int command = find_command(argc, argv);
	const char *name = command ? argv[command] : "";
	char marker[4096];

	if (!strcmp(name, "create") && mentions_migration(find_bundle(argc, argv, command))) {
		create(argc, argv);
	} else if (!strcmp(name, "start") && find_marker(argv[argc - 1], marker, sizeof(marker))) {
		return 0;
	} else if (!strcmp(name, "delete") && find_marker(argv[argc - 1], marker, sizeof(marker))) {
		unlink(marker);
	}
	exec_runc(argv);
}
