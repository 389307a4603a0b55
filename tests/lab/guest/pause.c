/* The container that keeps a pod's namespaces: it waits, reaps what is orphaned in a shared PID namespace, and ends when told. */

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal)
{
	(void)signal;
	_exit(0);
}

static void reap(int signal)
{
	(void)signal;
	while (waitpid(-1, 0, WNOHANG) > 0)
		;
}

int main(void)
{
	struct sigaction action = { .sa_handler = reap, .sa_flags = SA_NOCLDSTOP };

	sigaction(SIGCHLD, &action, 0);
	signal(SIGTERM, end);
	signal(SIGINT, end);
	for (;;)
		pause();
}
