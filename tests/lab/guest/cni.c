/*
 * The lab's CNI plugins (CNI specification 0.4), one program under two names.
 *
 *   podferry-lab   a veth per pod on one flat layer-2 network: the host end is a port of the node's bridge
 *   loopback       brings lo up
 *
 * A pod gets the next address of its node's range, or the one in Calico's annotation `cni.projectcalico.org/ipAddrs`.
 * Its MAC follows from the address (0a:58 and the four bytes), so that neighbours keep a right entry when a pod with
 * the same address starts on another node. With `podferry.dev/hold-network: "true"` link, address and route are up, but
 * the host end is no port of the bridge: nothing gets in or out, and its interface alias names the bridge to join later
 * (docs/adr/0003).
 *
 * The network configuration has, besides what CNI wants, "bridge", "range" (the node's /24, as 10.77.1.0) and "prefix"
 * (length for the pod's address).
 *
 * In C and without an `ip` to start, since it runs six times in a pod's life, on an emulated processor: Python took
 * 1.5 s each time. The JSON is not parsed but searched for whole `"key":"value"` pairs. That is enough for what
 * containerd writes: inside another annotation's value the quotes would be escaped and not match.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef STATE
#define STATE "/run/podferry-lab-cni" /* a file per address given: its name the address, its content the sandbox's id */
#endif
#define VERSION "0.4.0"
#define FIXED_ADDRESS "cni.projectcalico.org/ipAddrs"
#define HOLD "podferry.dev/hold-network"

enum { BAD_CONFIG = 7, TRY_LATER = 11, OTHER = 100 }; /* error codes of the CNI specification, and our own */

static void fail(int code, const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	for (char *c = text; *c; c++)
		if (*c == '"' || *c == '\\' || *c < ' ')
			*c = '\'';
	printf("{\"cniVersion\": \"" VERSION "\", \"code\": %d, \"msg\": \"%s\"}", code, text);
	exit(1);
}

static const char *environment(const char *name)
{
	const char *value = getenv(name);

	if (!value || !*value)
		fail(4, "%s is not set", name);
	return value;
}

/* -- configuration ---------------------------------------------------------------------------------------------- */

static char config[65536];

static void config_read(void)
{
	size_t length = fread(config, 1, sizeof(config) - 1, stdin);

	config[length] = 0;
}

/* Copy the string or number that belongs to `key`, still escaped; false when there is no such key. */
static bool config_get(const char *key, char *value, size_t size)
{
	char quoted[128];
	char *found = config;

	snprintf(quoted, sizeof(quoted), "\"%s\"", key);
	while ((found = strstr(found, quoted))) {
		char *c = found + strlen(quoted);
		size_t used = 0;
		bool string;

		found = c;
		c += strspn(c, " \n\t");
		if (*c++ != ':')
			continue;
		c += strspn(c, " \n\t");
		string = *c == '"';
		if (string)
			c++;
		while (*c && !strchr(string ? "\"" : ",} \n", *c) && used < size - 1) {
			if (*c == '\\' && used < size - 2)
				value[used++] = *c++;
			value[used++] = *c++;
		}
		value[used] = 0;
		return true;
	}
	return false;
}

static void config_need(const char *key, char *value, size_t size)
{
	if (!config_get(key, value, size))
		fail(BAD_CONFIG, "no %s in the network configuration", key);
}

/* -- netlink ---------------------------------------------------------------------------------------------------- */

struct request {
	struct nlmsghdr header;
	char body[2048];
};

static void request_init(struct request *request, int type, int flags, const void *fixed, size_t size)
{
	memset(request, 0, sizeof(*request));
	request->header.nlmsg_type = type;
	request->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	request->header.nlmsg_len = NLMSG_LENGTH(size);
	memcpy(NLMSG_DATA(&request->header), fixed, size);
}

static struct rtattr *attribute(struct request *request, int type, const void *data, size_t size)
{
	struct rtattr *made = (void *)((char *)request + NLMSG_ALIGN(request->header.nlmsg_len));

	made->rta_type = type;
	made->rta_len = RTA_LENGTH(size);
	if (size)
		memcpy(RTA_DATA(made), data, size);
	request->header.nlmsg_len = NLMSG_ALIGN(request->header.nlmsg_len) + RTA_ALIGN(made->rta_len);
	return made;
}

static struct rtattr *nest_begin(struct request *request, int type)
{
	return attribute(request, type, NULL, 0);
}

static void nest_end(struct request *request, struct rtattr *nest)
{
	nest->rta_len = (char *)request + request->header.nlmsg_len - (char *)nest;
}

static void attribute_string(struct request *request, int type, const char *text)
{
	attribute(request, type, text, strlen(text) + 1);
}

/* Send a request in the network namespace that the process is in; return 0 or a negative errno. */
static int request_send(struct request *request)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[4096];
	} answer;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int result = -errno;

	if (fd < 0)
		return result;
	if (send(fd, request, request->header.nlmsg_len, 0) < 0 || recv(fd, &answer, sizeof(answer), 0) < 0)
		result = -errno;
	else
		result = answer.error.error;
	close(fd);
	return result;
}

static int link_up(const char *name)
{
	struct ifinfomsg info = { .ifi_index = if_nametoindex(name), .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	struct request request;

	request_init(&request, RTM_NEWLINK, 0, &info, sizeof(info));
	return request_send(&request);
}

static int link_delete(const char *name)
{
	struct ifinfomsg info = { 0 };
	struct request request;

	request_init(&request, RTM_DELLINK, 0, &info, sizeof(info));
	attribute_string(&request, IFLA_IFNAME, name);
	return request_send(&request);
}

static int veth_create(const char *host, const char *name, const unsigned char mac[6], int netns)
{
	struct ifinfomsg info = { 0 };
	struct rtattr *linkinfo, *data, *peer;
	struct request request;

	request_init(&request, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof(info));
	attribute_string(&request, IFLA_IFNAME, host);
	linkinfo = nest_begin(&request, IFLA_LINKINFO);
	attribute_string(&request, IFLA_INFO_KIND, "veth");
	data = nest_begin(&request, IFLA_INFO_DATA);
	peer = attribute(&request, VETH_INFO_PEER, &info, sizeof(info));
	attribute_string(&request, IFLA_IFNAME, name);
	attribute(&request, IFLA_ADDRESS, mac, 6);
	attribute(&request, IFLA_NET_NS_FD, &netns, sizeof(netns));
	nest_end(&request, peer);
	nest_end(&request, data);
	nest_end(&request, linkinfo);
	return request_send(&request);
}

/* Bring the host end up, as a port of `bridge` or, when held, with an alias that says which bridge waits for it. */
static int host_end_up(const char *host, const char *bridge, bool held)
{
	struct ifinfomsg info = { .ifi_index = if_nametoindex(host), .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	int master = if_nametoindex(bridge);
	unsigned char none = IN6_ADDR_GEN_MODE_NONE;
	struct rtattr *families, *family;
	struct request request;
	char alias[64];

	request_init(&request, RTM_NEWLINK, 0, &info, sizeof(info));
	if (held) {
		snprintf(alias, sizeof(alias), "podferry-hold:%s", bridge);
		attribute_string(&request, IFLA_IFALIAS, alias);
	} else {
		attribute(&request, IFLA_MASTER, &master, sizeof(master));
	}
	families = nest_begin(&request, IFLA_AF_SPEC);
	family = nest_begin(&request, AF_INET6);
	attribute(&request, IFLA_INET6_ADDR_GEN_MODE, &none, 1);
	nest_end(&request, family);
	nest_end(&request, families);
	return request_send(&request);
}

static int address_add(const char *name, struct in_addr address, int prefix)
{
	struct ifaddrmsg info = { .ifa_family = AF_INET, .ifa_prefixlen = prefix, .ifa_index = if_nametoindex(name) };
	struct in_addr broadcast = { address.s_addr | htonl(0xffffffffu >> prefix) };
	struct request request;

	request_init(&request, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof(info));
	attribute(&request, IFA_LOCAL, &address, sizeof(address));
	attribute(&request, IFA_ADDRESS, &address, sizeof(address));
	attribute(&request, IFA_BROADCAST, &broadcast, sizeof(broadcast));
	return request_send(&request);
}

/* -- addresses -------------------------------------------------------------------------------------------------- */

/* Give `address` to a sandbox; false when another has it. */
static bool address_mark(const char *address, const char *sandbox)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), STATE "/%s", address);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return false;
	if (write(fd, sandbox, strlen(sandbox)) < 0)
		fail(OTHER, "%s: %m", path);
	close(fd);
	return true;
}

/* Give the next free address after the one given last: one that was just freed is not used again at once. */
static void address_next(struct in_addr range, const char *sandbox, char address[INET_ADDRSTRLEN])
{
	int last = 1, fd = open(STATE "/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	struct in_addr next;
	char text[16] = "";

	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		fail(OTHER, STATE "/lock: %m");
	if (read(fd, text, sizeof(text) - 1) > 0)
		last = atoi(text);
	for (int tries = 0; tries < 253; tries++) {
		last = last >= 254 ? 2 : last + 1;
		next.s_addr = range.s_addr | htonl(last);
		inet_ntop(AF_INET, &next, address, INET_ADDRSTRLEN);
		if (address_mark(address, sandbox)) {
			snprintf(text, sizeof(text), "%d\n", last);
			if (ftruncate(fd, 0) < 0 || pwrite(fd, text, strlen(text), 0) < 0)
				fail(OTHER, STATE "/lock: %m");
			close(fd);
			return;
		}
	}
	fail(TRY_LATER, "no address left in the range after %s", address);
}

static void addresses_free(const char *sandbox)
{
	DIR *given = opendir(STATE);
	struct dirent *entry;

	while (given && (entry = readdir(given))) {
		char path[512], owner[256] = "";
		int fd;

		snprintf(path, sizeof(path), STATE "/%s", entry->d_name);
		if (!strchr(entry->d_name, '.') || (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
			continue;
		if (read(fd, owner, sizeof(owner) - 1) > 0 && !strcmp(owner, sandbox))
			unlink(path);
		close(fd);
	}
	if (given)
		closedir(given);
}

/* Read the address out of a JSON list of one in a JSON string, [\"10.77.0.50\"]. False when none is asked for. */
static bool address_fixed(char *address, size_t size)
{
	char list[128];
	const char *first;
	size_t length;
	struct in_addr parsed;

	if (!config_get(FIXED_ADDRESS, list, sizeof(list)))
		return false;
	first = list + strcspn(list, "0123456789");
	length = strspn(first, "0123456789.");
	snprintf(address, size, "%.*s", (int)length, first);
	if (strpbrk(first + length, "0123456789") || inet_pton(AF_INET, address, &parsed) != 1)
		fail(BAD_CONFIG, FIXED_ADDRESS ": not a list of one IPv4 address: %s", list);
	return true;
}

/* -- commands --------------------------------------------------------------------------------------------------- */

static void host_name(char name[IFNAMSIZ], const char *sandbox)
{
	snprintf(name, IFNAMSIZ, "veth%.11s", sandbox);
}

static void delete(const char *sandbox)
{
	char host[IFNAMSIZ];
	int error;

	host_name(host, sandbox);
	error = link_delete(host);
	if (error && error != -ENODEV)
		fail(OTHER, "deleting %s: %s", host, strerror(-error));
	addresses_free(sandbox);
}

static int netns_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fail(OTHER, "%s: %m", path);
	return fd;
}

static void netns_enter(int fd)
{
	if (setns(fd, CLONE_NEWNET) < 0)
		fail(OTHER, "setns: %m");
}

static void check(const char *what, int error)
{
	if (error)
		fail(OTHER, "%s: %s", what, strerror(-error));
}

static void add(const char *sandbox, const char *netns_path, const char *name)
{
	char bridge[IFNAMSIZ], first[32], prefix[8], address[INET_ADDRSTRLEN], hold[8] = "", host[IFNAMSIZ];
	unsigned char mac[6] = { 0x0a, 0x58 };
	struct in_addr range, parsed;
	int netns;

	config_need("bridge", bridge, sizeof(bridge));
	config_need("range", first, sizeof(first));
	if (inet_pton(AF_INET, first, &range) != 1)
		fail(BAD_CONFIG, "range: not an IPv4 address: %s", first);
	config_need("prefix", prefix, sizeof(prefix));
	config_get(HOLD, hold, sizeof(hold));
	mkdir(STATE, 0755);
	delete(sandbox); /* a repeated ADD replaces what an interrupted one made */
	if (!address_fixed(address, sizeof(address)))
		address_next(range, sandbox, address);
	else if (!address_mark(address, sandbox))
		fail(TRY_LATER, "address %s is in use on this node", address);
	inet_pton(AF_INET, address, &parsed);
	memcpy(mac + 2, &parsed, 4);

	host_name(host, sandbox);
	netns = netns_open(netns_path);
	check("creating the veth", veth_create(host, name, mac, netns));
	check("bringing the host end up", host_end_up(host, bridge, !strcmp(hold, "true")));
	netns_enter(netns);
	check("adding the address", address_add(name, parsed, atoi(prefix)));
	/* Last: its gratuitous ARP (sysctl arp_notify) then finds the way out open. */
	check("bringing the pod's end up", link_up(name));

	printf("{\"cniVersion\": \"" VERSION "\", \"interfaces\": [{\"name\": \"%s\"}, {\"name\": \"%s\", \"mac\": "
	       "\"%02x:%02x:%02x:%02x:%02x:%02x\", \"sandbox\": \"%s\"}], \"ips\": [{\"version\": \"4\", \"interface\": 1, "
	       "\"address\": \"%s/%s\"}], \"dns\": {}}",
	       host, name, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], netns_path, address, prefix);
}

static void loopback(const char *netns_path)
{
	netns_enter(netns_open(netns_path));
	check("bringing lo up", link_up("lo"));
	printf("{\"cniVersion\": \"" VERSION "\", \"interfaces\": [{\"name\": \"lo\", "
	       "\"mac\": \"00:00:00:00:00:00\", \"sandbox\": \"%s\"}], "
	       "\"ips\": [{\"version\": \"4\", \"interface\": 0, \"address\": \"127.0.0.1/8\"}], \"dns\": {}}",
	       netns_path);
}

int main(int argc, char **argv)
{
	const char *command = environment("CNI_COMMAND");
	const char *slash = argc ? strrchr(argv[0], '/') : NULL;
	bool is_loopback = slash && !strcmp(slash + 1, "loopback");

	if (!strcmp(command, "VERSION")) {
		printf("{\"cniVersion\": \"" VERSION "\", \"supportedVersions\": [\"0.3.1\", \"" VERSION "\"]}");
		return 0;
	}
	config_read();
	if (!strcmp(command, "ADD") && is_loopback)
		loopback(environment("CNI_NETNS"));
	else if (!strcmp(command, "ADD"))
		add(environment("CNI_CONTAINERID"), environment("CNI_NETNS"), environment("CNI_IFNAME"));
	else if (!strcmp(command, "DEL") && !is_loopback)
		delete(environment("CNI_CONTAINERID"));
	else if (strcmp(command, "DEL") && strcmp(command, "CHECK"))
		fail(4, "unknown command %s", command);
	return 0;
}
