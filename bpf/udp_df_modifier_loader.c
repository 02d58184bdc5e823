// SPDX-License-Identifier: Apache-2.0
/*
 * Attaches an engine's XDP program to an interface through a pinned bpf_link, so that the program outlives this process: a
 * restart or an upgrade swaps it atomically, and only `detach` detaches it. The pinned maps carry settings and counters from
 * one to the next; where a new version lays them out differently, the counters move. The verbs are here; what they need is
 * in loader/.
 */
#define _GNU_SOURCE
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <systemd/sd-daemon.h>

#include "loader/errors.h"
#include "loader/links.h"
#include "loader/maps.h"
#include "loader/options.h"
#include "loader/pins.h"
#include "loader/preflight.h"
#include "loader/status.h"

#define CHECK_SECONDS 5 /* between two checks of what is attached; the status is logged once a minute */
#define LEAST_LOST 100  /* frames in that time that say something about the engine */

/* What an attach leaves to whoever watches over it. */
struct session {
	int lock;                    /* on the pins */
	bool watches;                /* counts what the kernel loses of redirected frames, while this process runs */
	struct direct_config direct; /* the settings that the direct engine began with */
};

static struct interface_state state_of(const char *pin_dir, const char *name, const char *pin_name)
{
	struct pinned_link link = open_pinned_link(pin_dir, pin_name);
	int ifindex = name ? if_nametoindex(name) : 0;
	struct interface_state state = { .interface = name, .own_program = link.program };

	close(link.fd);
	if (ifindex)
		state.found_program = query_xdp(ifindex).program;
	return state;
}

static void preflight(const struct options *options)
{
	const struct path parent = pin_parent(options->pin_dir);
	struct requirements needed = {
		.interfaces = { state_of(options->pin_dir, options->interface, PRIMARY_LINK) },
		.pin_parent = parent.text,
		.is_driver_mode = is_driver_mode(options),
		.is_direct = options->is_direct,
		.max_packet_size = options->config.fields.max_packet_size,
	};

	if (options->is_direct && is_driver_mode(options))
		needed.interfaces[1] = state_of(options->pin_dir, options->interfaces.secondary, SECONDARY_LINK);
	if (!check_requirements(&needed))
		exit(EXIT_REFUSED);
}

/* Dies of options that nothing can be attached by. Returns the interface's index. */
static int check_attachable(const struct options *options)
{
	int ifindex = options->interface ? if_nametoindex(options->interface) : 0;

	if (!options->interface)
		die("--interface is missing: name the interface to hook, as in --interface br0");
	if (!ifindex)
		die("interface '%s' is not in this network namespace: create it, or name another", options->interface);
	if (options->is_direct &&
		(!options->interfaces.secondary || !options->direct.ipsec_vm_ip || !options->direct.ipsec_vm_port))
		die("--secondary, --ipsec-vm-ip or --ipsec-vm-port is missing: the direct engine sends there");
	check_config(&options->config);
	check_pin_dir(options->pin_dir);
	return ifindex;
}

static void adopt_links(const char *pin_dir)
{
	adopt_pin(pin_dir, PRIMARY_LINK);
	adopt_pin(pin_dir, SECONDARY_LINK);
}

/* Gives new counters of identifications their random beginning. */
static void prepare_ids(const char *pin_dir, const struct engine_object *engine)
{
	int ids = bpf_map__fd(engine->ids);

	if (is_same_map(engine->pinned_ids, ids))
		return;
	die_on_error(direct_seed_ids(ids));
	pin(pin_dir, ids, IDS_MAP); /* at once: counters that no program has used yet are as good as others */
}

/* Lets the secondary interface's driver send, before anything is redirected there. Returns whether its link is new. */
static bool attach_secondary(
	const struct options *options, struct bpf_object *object, const struct direct_config *direct)
{
	const struct attach_point point = {
		.pin_dir = options->pin_dir,
		.pin_name = SECONDARY_LINK,
		.interface = options->interfaces.secondary,
		.ifindex = direct->egress_ifindex,
		.mode = options->mode,
		.bridge_ifindex = direct->bridge_ifindex,
	};
	struct bpf_program *pass = bpf_object__find_program_by_name(object, PASS_PROGRAM);
	struct pinned_link old = open_pinned_link(options->pin_dir, SECONDARY_LINK);
	bool is_new = old.fd < 0;

	refuse_foreign_program(&point, old.program);
	if (old.is_foreign)
		move_pin_aside(options->pin_dir, SECONDARY_LINK);
	attach_link(&point, bpf_program__fd(pass), &old);
	close(old.fd);
	return is_new;
}

/* Completes the direct engine's settings and maps. Returns whether there is a new link that only it needs. */
static bool prepare_direct(
	const struct options *options, const struct engine_object *engine, struct direct_config *direct)
{
	prepare_ids(options->pin_dir, engine);
	if (is_driver_mode(options) && !direct_can_copy()) {
		if (!is_final(errno))
			die("cannot try whether this kernel redirects to several interfaces: %s", reason());
		die_refused(
			"the direct engine needs Linux 5.13 in driver mode: this kernel redirects to one interface only; "
			"use --mode generic");
	}
	die_on_error(direct_describe(&options->interfaces, is_driver_mode(options), direct));
	die_on_error(direct_fill(engine->object, direct));
	return is_driver_mode(options) && attach_secondary(options, engine->object, direct);
}

/* Puts the program to work with its settings, and gives it the counters of the one before. */
static void take_over(const struct options *options, const struct engine_object *engine,
	const struct attach_point *point, const struct pinned_link *old, const struct direct_config *direct)
{
	int config = bpf_map__fd(engine->config), stats = bpf_map__fd(engine->stats);
	bool keeps_config = is_same_map(engine->pinned_config, config);

	/* A new map, all zero, matches nothing: its rules come before its program. One that is kept has rules in force. */
	if (!keeps_config)
		write_config(config, &options->config, direct);
	attach_link(point, bpf_program__fd(bpf_object__next_program(engine->object, NULL)), old);
	if (!options->is_direct || !is_driver_mode(options))
		detach_secondary(options->pin_dir);
	/* Not before: a refused attach must change nothing. */
	if (keeps_config)
		write_config(engine->pinned_config, &options->config, direct);
	else
		pin(options->pin_dir, config, CONFIG_MAP);
	if (is_same_map(engine->pinned_stats, stats))
		return;
	carry_stats(engine->pinned_stats, stats);
	pin(options->pin_dir, stats, STATS_MAP);
}

static void report_attached(const struct options *options, bool is_update)
{
	__u32 mode = query_xdp(if_nametoindex(options->interface)).mode;
	char message[128];

	snprintf(message, sizeof(message), "%s %s %s in %s mode", program_of(options->is_direct),
		is_update ? "updated on" : "hooked to", options->interface, mode_name(mode));
	report(&(struct engine_facts){ options->interface, options->is_direct, mode }, message);
}

/* Returns with the pins locked. */
static struct session attach_engine(const struct options *options, bool watches)
{
	struct attach_point point = {
		.pin_dir = options->pin_dir,
		.pin_name = PRIMARY_LINK,
		.interface = options->interface,
		.ifindex = check_attachable(options),
		.mode = options->mode,
	};
	struct session session = {
		.lock = lock_pins(options->pin_dir),
		.watches = watches,
		.direct = options->direct,
	};

	adopt_links(options->pin_dir);
	struct pinned_link old = open_pinned_link(options->pin_dir, PRIMARY_LINK);
	bool is_update = old.mode == point.mode && old.ifindex == point.ifindex;

	refuse_foreign_program(&point, old.program);
	/* What the direct engine may do depends on the mode: its program must not see the settings of the other one. */
	struct engine_object engine = open_engine(options, !options->is_direct || is_update);

	if (options->is_direct)
		die_on_error(direct_prepare(engine.object, is_driver_mode(options), watches));
	load_engine(&engine);
	make_pin_dir(options->pin_dir);
	if (old.is_foreign)
		move_pin_aside(options->pin_dir, PRIMARY_LINK);
	if (options->is_direct) {
		point.owns_secondary_link = prepare_direct(options, &engine, &session.direct);
		point.bridge_ifindex = session.direct.bridge_ifindex;
	}
	take_over(options, &engine, &point, &old, options->is_direct ? &session.direct : NULL);
	if (options->is_direct && watches)
		die_on_error(direct_watch(engine.object));
	close_engine(&engine);
	close(old.fd);
	report_attached(options, is_update);
	return session;
}

static void attach(const struct options *options)
{
	close(attach_engine(options, false).lock);
}

static void detach(const struct options *options)
{
	const char *pin_dir = options->pin_dir;
	int lock = lock_pins(pin_dir);

	adopt_links(pin_dir);
	struct pinned_link link = open_pinned_link(pin_dir, PRIMARY_LINK);
	const char *interface = *link.interface ? link.interface : "elsewhere";
	char message[128];

	if (link.is_foreign)
		move_pin_aside(pin_dir, PRIMARY_LINK);
	if (open_pinned_link(pin_dir, SECONDARY_LINK).is_foreign)
		move_pin_aside(pin_dir, SECONDARY_LINK);

	int config = open_pin(pin_dir, CONFIG_MAP);
	bool is_direct = is_config_of_direct(config);

	close(config);
	if (link.ifindex && bpf_link_detach(link.fd))
		die("cannot detach '%s': %s", pin_path(pin_dir, PRIMARY_LINK).text, reason());
	detach_secondary(pin_dir);
	remove_all_pins(pin_dir);
	close(lock);
	if (!link.ifindex) {
		say("nothing was attached by way of '%s'", pin_dir);
		return;
	}
	snprintf(message, sizeof(message), "%s detached from interface %s", program_of(is_direct), interface);
	report(&(struct engine_facts){ interface, is_direct, link.mode }, message);
}

/* Returns what makes this process useless, or NULL. */
static const char *check_links(const struct options *options)
{
	static char gone[128];
	struct pinned_link primary = open_pinned_link(options->pin_dir, PRIMARY_LINK);
	struct pinned_link secondary = open_pinned_link(options->pin_dir, SECONDARY_LINK);
	const char *name = !primary.ifindex ? options->interface : NULL;

	if (secondary.fd >= 0 && !secondary.ifindex)
		name = options->interfaces.secondary;
	close(primary.fd);
	close(secondary.fd);
	if (!name)
		return NULL;
	snprintf(gone, sizeof(gone), "interface '%s' is gone or was unhooked by another process", name);
	return gone;
}

/* Interfaces come back with other indices, addresses and MTUs, which the direct engine has from its settings. */
static const char *check_interfaces(const struct options *options, const struct direct_config *before)
{
	struct direct_config now = *before;
	const char *error = direct_describe(&options->interfaces, is_driver_mode(options), &now);

	if (error)
		return error;
	return memcmp(&now, before, sizeof(now)) ? "an interface has changed" : NULL;
}

/* Counts copies that never came, too: for an interface that takes none, the kernel does not even say that it made none. */
static __u64 lost_by(const struct direct_stats *stats)
{
	return stats->redirects_refused + stats->fragments_due - stats->fragments_sent;
}

/* Detaches where more than one in a hundred is lost for a reason that does not pass: another engine does better. */
static void give_up_if_lost(const struct options *options, struct direct_stats *before)
{
	struct direct_stats now = read_direct_stats(options->pin_dir);
	__s64 lost = lost_by(&now) - lost_by(before);
	__s64 sent = now.sent_whole + now.fragments_due - before->sent_whole - before->fragments_due;

	*before = now;
	if (lost < LEAST_LOST || lost * 100 <= sent)
		return;
	detach(options);
	journal(LOG_ERR, NULL, 0, "%lld of %lld redirected frames were lost in %d s: the engine is given up", lost,
		sent, CHECK_SECONDS);
	exit(EXIT_GIVEN_UP);
}

/* Dies when what is attached is not what it was. */
static void check_session(const struct options *options, const struct session *session, struct direct_stats *before)
{
	const char *error = check_links(options);

	if (!error && options->is_direct)
		error = check_interfaces(options, &session->direct);
	if (error)
		die("%s: start again to hook it", error);
	if (options->is_direct)
		give_up_if_lost(options, before);
}

static void run(const struct options *options)
{
	struct direct_stats before;
	struct session session;
	sigset_t stop;

	/* Blocked first, so that no signal falls between attaching and waiting. */
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	session = attach_engine(options, options->is_direct && direct_can_watch());
	close(session.lock);
	if (options->is_direct && !session.watches)
		say("this kernel has no type information (CONFIG_DEBUG_INFO_BTF): refused redirects are not noticed");
	before = read_direct_stats(options->pin_dir);
	sd_notify(0, "READY=1");
	for (int checks = 1; sigtimedwait(&stop, NULL, &(struct timespec){ CHECK_SECONDS, 0 }) < 0; checks++) {
		check_session(options, &session, &before);
		if (checks % (60 / CHECK_SECONDS) == 0)
			report_counters(options, options->mode);
	}
	report_counters(options, query_xdp(if_nametoindex(options->interface)).mode);
	say("%s stays hooked until 'detach'", options->interface);
}

static void configure(const struct options *options)
{
	int lock = lock_pins(options->pin_dir);
	union config config;
	int map = read_config(options, &config);

	for (size_t i = 0; i < SETTINGS; i++)
		if (options->given[i])
			config.values[i] = options->config.values[i];
	check_config(&config);
	if (map >= 0)
		write_config(map, &config, NULL);
	close(lock);
	print_config(&config);
	putchar('\n');
}

static const struct {
	const char *name;
	void (*act)(const struct options *options);
	const char *purpose;
} verbs[] = {
	{ "preflight", preflight, "probe what an attach needs, a line each; changes nothing" },
	{ "attach", attach, "hook the program to --interface, or update it there atomically" },
	{ "run", run, "attach, then log a summary each minute; the program stays hooked after the end" },
	{ "detach", detach, "unhook the program and remove its pins" },
	{ "status", print_status, "print state, counters and settings as a line of JSON" },
	{ "measure", print_cost, "print the nanoseconds that a packet costs, over a second, as a line of JSON" },
	{ "config", configure, "check the settings given, apply them if attached, and print all" },
};

static int print_usage(void)
{
	puts("usage: udp_df_modifier_loader VERB [OPTION]...");
	for (size_t i = 0; i < COUNT(verbs); i++)
		printf("  %-9s %s\n", verbs[i].name, verbs[i].purpose);
	print_option_usage();
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	struct options options;

	if (!strcmp(name, "--help"))
		return print_usage();
	for (size_t i = 0; i < COUNT(verbs); i++) {
		if (strcmp(name, verbs[i].name))
			continue;
		if (!parse_options(argc, argv, &options))
			return print_usage();
		verbs[i].act(&options);
		return EXIT_SUCCESS;
	}
	die("'%s' is no verb: give preflight, attach, run, detach, status, measure or config; see --help", name);
}
