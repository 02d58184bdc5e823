// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "../../lib/settings.h"
#include "errors.h"
#include "options.h"

#define LARGEST_MIRRORED (MIRROR_PACKET_LENGTH - ETHERNET_HEADER)

/* Of LIVE_SETTINGS: rows of the tables below, each at the place of its field in struct gateway_config. */
#define POSITION(name) (offsetof(struct gateway_config, name) / sizeof(__u32))
#define OPTION(name, option, ...) [POSITION(name)] = { option, required_argument, NULL, SETTING + POSITION(name) }
#define BOUNDS(name, option, ...) [POSITION(name)] = { #name, __VA_ARGS__ }

/* No letters: they are what getopt says of an unknown short option. One value each, or an abbreviation of several fits. */
enum option_value {
	SETTING = 256,
	INTERFACE = SETTING + 100,
	MODE,
	OBJECT,
	PIN_DIR,
	HELP,
	ENGINE,
	SECONDARY,
	BRIDGE,
	VNI,
	EGRESS_MTU,
	IPSEC_VM_IP,
	IPSEC_VM_PORT,
	HANDOVER_MAC
};

/* The settings come first, in the order of struct gateway_config. */
static const struct option long_options[] = {
	LIVE_SETTINGS(OPTION),
	{ "interface", required_argument, NULL, INTERFACE },
	{ "mode", required_argument, NULL, MODE },
	{ "object", required_argument, NULL, OBJECT },
	{ "pin-dir", required_argument, NULL, PIN_DIR },
	{ "engine", required_argument, NULL, ENGINE },
	{ "secondary", required_argument, NULL, SECONDARY },
	{ "bridge", required_argument, NULL, BRIDGE },
	{ "vni", required_argument, NULL, VNI },
	{ "egress-mtu", required_argument, NULL, EGRESS_MTU },
	{ "ipsec-vm-ip", required_argument, NULL, IPSEC_VM_IP },
	{ "ipsec-vm-port", required_argument, NULL, IPSEC_VM_PORT },
	{ "handover-mac", required_argument, NULL, HANDOVER_MAC },
	{ "help", no_argument, NULL, HELP },
	{ 0 },
};

static const struct {
	const char *key;
	__u32 min, max, initial;
} settings[] = {
	LIVE_SETTINGS(BOUNDS),
};
_Static_assert(COUNT(settings) == SETTINGS, "every setting has a name");

void print_config(const union config *config)
{
	for (size_t i = 0; i < SETTINGS; i++)
		printf("%s\"%s\":%u", i ? "," : "{", settings[i].key, config->values[i]);
	putchar('}');
}

void check_config(const union config *config)
{
	if (config->fields.min_packet_size >= LARGEST_MIRRORED)
		die("--min-packet-size %u must be less than %u, the longest datagram that is mirrored whole",
			config->fields.min_packet_size, LARGEST_MIRRORED);
	if (config->fields.min_packet_size >= config->fields.max_packet_size)
		die("--min-packet-size %u must be less than --max-packet-size %u, or nothing matches",
			config->fields.min_packet_size, config->fields.max_packet_size);
}

void print_option_usage(void)
{
	puts("options:\n"
	     "  --interface NAME\n"
	     "  --mode generic|driver (generic)\n"
	     "  --engine bridge|direct (bridge)\n"
	     "  --object FILE (" BRIDGE_PROGRAM ".bpf.o, or " DIRECT_PROGRAM ".bpf.o, beside the loader)\n"
	     "  --pin-dir DIR (" BPFFS "/mirror_gateway)");
	puts("of the direct engine, whose --interface is the primary one:\n"
	     "  --secondary NAME, --bridge NAME (br0)\n"
	     "  --ipsec-vm-ip ADDRESS, --ipsec-vm-port PORT\n"
	     "  --handover-mac ADDRESS (generic mode: a random one, which netfilter knows)");
	printf("  --vni NUMBER (%u), --egress-mtu BYTES (%u; before Linux 5.12)\nsettings:\n", VNI_DEFAULT,
		EGRESS_MTU_DEFAULT);
	for (size_t i = 0; i < SETTINGS; i++)
		printf("  --%s %u..%u (%u)\n", long_options[i].name, settings[i].min, settings[i].max,
			settings[i].initial);
}

static __u32 parse_number(const char *option, const char *text, __u32 min, __u32 max)
{
	size_t digits = strspn(text, "0123456789");
	unsigned long value = strtoul(text, NULL, 10); /* ULONG_MAX where it is larger */

	if (!digits || text[digits] || value < min || value > max)
		die("--%s '%s' is not allowed: give a whole number from %u to %u", option, text, min, max);
	return value;
}

static void parse_setting(size_t i, const char *text, struct options *options)
{
	options->config.values[i] = parse_number(long_options[i].name, text, settings[i].min, settings[i].max);
	options->given[i] = true;
}

static bool parse_engine(const char *text)
{
	if (strcmp(text, "direct") && strcmp(text, "bridge"))
		die("--engine '%s' is not allowed: give bridge or direct", text);
	return !strcmp(text, "direct");
}

static __u32 parse_mode(const char *text)
{
	if (strcmp(text, "driver") && strcmp(text, "generic"))
		die("--mode '%s' is not allowed: give generic or driver", text);
	return strcmp(text, "driver") ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
}

/* Parses those of the direct engine. */
static void parse_direct(int option, const char *text, struct options *options)
{
	struct direct_config *direct = &options->direct;

	if (option == SECONDARY)
		options->interfaces.secondary = text;
	else if (option == BRIDGE)
		options->interfaces.bridge = text;
	else if (option == VNI)
		direct->vni = parse_number("vni", text, VNI_MIN, VNI_MAX);
	else if (option == EGRESS_MTU)
		direct->egress_mtu = parse_number("egress-mtu", text, EGRESS_MTU_MIN, EGRESS_MTU_MAX);
	else if (option == IPSEC_VM_PORT)
		direct->ipsec_vm_port =
			htons(parse_number("ipsec-vm-port", text, AWS_IPSEC_VM_PORT_MIN, AWS_IPSEC_VM_PORT_MAX));
	else if (option == IPSEC_VM_IP && inet_pton(AF_INET, text, &direct->ipsec_vm_ip) != 1)
		die("--ipsec-vm-ip '%s' is not allowed: give an IPv4 address", text);
	else if (option == HANDOVER_MAC && !direct_parse_mac(text, direct))
		die("--handover-mac '%s' is not allowed: give the address of one host, as in 02:00:00:00:00:01", text);
}

static void parse_option(int option, const char *text, struct options *options)
{
	if (option == INTERFACE)
		options->interface = text;
	else if (option == OBJECT)
		options->object_file = text;
	else if (option == PIN_DIR)
		options->pin_dir = text;
	else if (option == MODE)
		options->mode = parse_mode(text);
	else if (option == ENGINE)
		options->is_direct = parse_engine(text);
	else if (option > HELP)
		parse_direct(option, text, options);
	else
		parse_setting(option - SETTING, text, options);
}

static void refuse_option(int answer, const char *argument)
{
	if (answer == ':')
		die("'%s' needs a value; see --help", argument);
	if (optopt && optopt < SETTING)
		die("'-%c' is no option; see --help", optopt);
	die("'%s' is no option; see --help", argument);
}

bool parse_options(int argc, char **argv, struct options *options)
{
	int option;

	*options = (struct options){
		.pin_dir = BPFFS "/mirror_gateway",
		.mode = XDP_FLAGS_SKB_MODE,
		.interfaces = { .bridge = "br0" },
		.direct = { .vni = VNI_DEFAULT, .egress_mtu = EGRESS_MTU_DEFAULT },
	};
	for (size_t i = 0; i < SETTINGS; i++)
		options->config.values[i] = settings[i].initial;
	opterr = 0;
	optind = 2;
	while ((option = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
		if (option == ':' || option == '?')
			refuse_option(option, argv[optind - 1]);
		if (option == HELP)
			return false;
		parse_option(option, optarg, options);
	}
	if (optind < argc)
		die("'%s' is one argument too many; see --help", argv[optind]);
	options->interfaces.primary = options->interface;
	options->direct.rule = options->config.fields;
	return true;
}
