// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <libgen.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "errors.h"
#include "maps.h"
#include "pins.h"

static int print_libbpf(enum libbpf_print_level level, const char *format, va_list values)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, values) : 0;
}

static struct path object_path(const struct options *options)
{
	struct path program = { "" }, path;

	if (options->object_file)
		snprintf(path.text, sizeof(path.text), "%s", options->object_file);
	else if (readlink("/proc/self/exe", program.text, sizeof(program.text) - 1) > 0)
		snprintf(path.text, sizeof(path.text), "%s/%s.bpf.o", dirname(program.text),
			program_of(options->is_direct));
	else
		die("cannot tell where this program lies: %s; name its BPF object with --object", reason());
	return path;
}

static struct bpf_object *open_object(const char *path)
{
	struct bpf_object *object;

	libbpf_set_print(NULL);
	object = bpf_object__open_file(path, NULL);
	if (!object)
		die("cannot read the BPF object '%s': %s; build it with make -C bpf, or name another with --object",
			path, errno < 4000 ? reason() : "no BPF object");
	libbpf_set_print(print_libbpf);
	return object;
}

static struct bpf_map *find_map(struct bpf_object *object, const char *path, const char *name, size_t size)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, name);

	if (!map || bpf_map__value_size(map) != size)
		die_refused(
			"the BPF object '%s' is of another version than this loader: build both anew: deploy_xdp.sh install",
			path);
	return map;
}

static bool has_layout(int pinned, const struct bpf_map *map)
{
	struct bpf_map_info info = { 0 };
	__u32 size = sizeof(info);

	return !bpf_obj_get_info_by_fd(pinned, &info, &size) && info.type == bpf_map__type(map) &&
	       info.key_size == bpf_map__key_size(map) && info.value_size == bpf_map__value_size(map) &&
	       info.max_entries == bpf_map__max_entries(map) && info.map_flags == bpf_map__map_flags(map);
}

/* Puts the pinned map under the program that is to come, if it may go on. Returns the pinned map, or -1. */
static int keep_map(struct bpf_map *map, const char *pin_dir, const char *name, bool may)
{
	int pinned = open_pin(pin_dir, name);

	if (pinned < 0 || !may)
		return pinned;
	if (!has_layout(pinned, map))
		say("'%s' is of another version: replaced", pin_path(pin_dir, name).text);
	else if (bpf_map__reuse_fd(map, pinned))
		die("cannot use '%s': %s", pin_path(pin_dir, name).text, reason());
	return pinned;
}

struct engine_object open_engine(const struct options *options, bool keeps_config)
{
	const size_t config_size =
		options->is_direct ? sizeof(struct direct_config_slots) : sizeof(struct gateway_config_slots);
	const size_t stats_size = options->is_direct ? sizeof(struct direct_stats) : sizeof(struct gateway_stats);
	const struct path path = object_path(options);
	struct engine_object engine = { .object = open_object(path.text), .pinned_ids = -1 };

	engine.config = find_map(engine.object, path.text, CONFIG_MAP, config_size);
	engine.stats = find_map(engine.object, path.text, STATS_MAP, stats_size);
	if (options->is_direct)
		engine.ids = find_map(engine.object, path.text, IDS_MAP, sizeof(struct id_counter));
	engine.pinned_config = keep_map(engine.config, options->pin_dir, CONFIG_MAP, keeps_config);
	engine.pinned_stats = keep_map(engine.stats, options->pin_dir, STATS_MAP, true);
	if (options->is_direct)
		engine.pinned_ids = keep_map(engine.ids, options->pin_dir, IDS_MAP, true);
	return engine;
}

void load_engine(const struct engine_object *engine)
{
	if (!bpf_object__load(engine->object))
		return;
	if (is_final(errno))
		die_refused("the kernel refused the BPF program: the lines above say why");
	die("the BPF program cannot be loaded now: %s", reason());
}

void close_engine(struct engine_object *engine)
{
	bpf_object__close(engine->object);
	close(engine->pinned_config);
	close(engine->pinned_stats);
	close(engine->pinned_ids);
}

bool is_same_map(int one, int other)
{
	struct bpf_map_info infos[2] = { 0 };
	__u32 size = sizeof(*infos);

	return !bpf_obj_get_info_by_fd(one, &infos[0], &size) && !bpf_obj_get_info_by_fd(other, &infos[1], &size) &&
	       infos[0].id == infos[1].id;
}

static size_t value_size(int map)
{
	struct bpf_map_info info = { 0 };
	__u32 size = sizeof(info);

	return bpf_obj_get_info_by_fd(map, &info, &size) ? 0 : info.value_size;
}

bool is_config_of_direct(int map)
{
	return map >= 0 && value_size(map) != sizeof(struct gateway_config_slots);
}

static struct gateway_config_slots *map_slots(int map)
{
	void *all = mmap(NULL, sizeof(struct gateway_config_slots), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);

	if (all == MAP_FAILED)
		die("cannot map the settings: %s; attach again, in case another version made the map", reason());
	return all;
}

int read_config(const struct options *options, union config *config)
{
	int map = open_pin(options->pin_dir, CONFIG_MAP);

	*config = options->config;
	if (map < 0)
		return map;
	if (value_size(map) == sizeof(struct direct_config_slots)) {
		struct direct_config direct;

		die_on_error(direct_read(map, &direct));
		config->fields = direct.rule;
		return map;
	}
	struct gateway_config_slots *all = map_slots(map);

	config->fields = all->slots[all->active & 1];
	munmap(all, sizeof(*all));
	return map;
}

static void write_direct_config(int map, const union config *config, const struct direct_config *direct)
{
	struct direct_config all;

	if (direct)
		all = *direct;
	else
		die_on_error(direct_read(map, &all));
	all.rule = config->fields;
	die_on_error(direct_write(map, &all));
}

void write_config(int map, const union config *config, const struct direct_config *direct)
{
	if (value_size(map) == sizeof(struct direct_config_slots)) {
		write_direct_config(map, config, direct);
		return;
	}
	struct gateway_config_slots *all = map_slots(map);
	__u32 idle = !(all->active & 1);

	/* The idle slot may have readers yet, if whoever wrote last was killed before it had waited for them. */
	wait_rcu_grace_period();
	all->slots[idle] = config->fields;
	__atomic_store_n(&all->active, idle, __ATOMIC_RELEASE);
	wait_rcu_grace_period();
	munmap(all, sizeof(*all));
}

void sum_stats(int map, __u64 *sums, size_t size)
{
	struct bpf_map_info info = { 0 };
	__u32 info_size = sizeof(info);
	int cpus = libbpf_num_possible_cpus();

	if (map < 0 || bpf_obj_get_info_by_fd(map, &info, &info_size) || info.type != BPF_MAP_TYPE_PERCPU_ARRAY)
		return;
	/* The kernel gives each CPU's value a multiple of 8 bytes. */
	size_t known = info.value_size / sizeof(__u64), stride = (info.value_size + 7) / 8;
	__u64 *each = calloc(cpus, stride * sizeof(__u64));

	for (__u32 entry = 0; each && entry < info.max_entries; entry++) {
		if (bpf_map_lookup_elem(map, &entry, each))
			continue;
		for (int cpu = 0; cpu < cpus; cpu++)
			for (size_t i = 0; i < size / sizeof(__u64) && i < known; i++)
				sums[i] += each[cpu * stride + i];
	}
	free(each);
}

void sum_pinned_stats(const char *pin_dir, __u64 *sums, size_t size, bool is_exact)
{
	int map = open_pin(pin_dir, STATS_MAP);

	if (!is_exact || value_size(map) == size)
		sum_stats(map, sums, size);
	close(map);
}

void carry_stats(int from, int to)
{
	size_t size = value_size(to);
	/* The first CPU's value begins the array. */
	__u64 *each = calloc(libbpf_num_possible_cpus(), (size + 7) / 8 * 8);

	if (!each)
		die("cannot carry the counters over: %s", reason());
	wait_rcu_grace_period();
	sum_stats(from, each, size); /* all begin with the rule's counters, whatever the engine and the version */
	if (bpf_map_update_elem(to, &(__u32){ STATS_CARRIED }, each, BPF_ANY))
		die("cannot carry the counters over: %s", reason());
	free(each);
}

__u32 id_of_stats(const char *pin_dir)
{
	struct bpf_map_info info = { 0 };
	__u32 size = sizeof(info);
	int map = open_pin(pin_dir, STATS_MAP);

	if (map >= 0)
		bpf_obj_get_info_by_fd(map, &info, &size);
	close(map);
	return info.id;
}
