// The general form of the kernels, for CUDA's driver without its compiler: what a
// program for one search has as constants is read from memory. FAMILY is the file of
// the kind of generator. clang makes PTX of it (see ptx/generate).

#define GENERAL
#define LANES 1
#include "prelude.h"

// Bounds of a search: those that the host has for every program.
#define MOST_ROWS 1024
#define MOST_TESTS 1024
#define MOST_GROUPS 512

// A row is an output, so many steps behind the one before, and its tests. Each test
// that holds counts for its group, and a group with enough of them is a hit. The row
// that is refused asks instead whether a word so far is drawn again.
typedef struct {
	u64 steps[2];
	u32 tests, refused;
} row;

typedef struct {
	u32 first, width, group;
} test;

// The host's copy of this is in kernels/accelerator_general.go.
typedef struct {
	u64 seed_xor, modulus;
	u32 variant, drop;
	u32 per_item, most, from, quirk, plain, accepted, seed_left, least_seed;
	u32 shift, multiplier, rotate; // that the words are seen with
	u32 rows, groups, hits;
	row row[MOST_ROWS];
	test test[MOST_TESTS];
} search_parameters;

static_assert(sizeof(search_parameters) == 80 + 24 * MOST_ROWS + 12 * MOST_TESTS, "there are gaps");

extern "C" {
__constant__ search_parameters parameters;
}

#define PER_ITEM parameters.per_item
#define MOST parameters.most
#define FROM parameters.from
#define QUIRK parameters.quirk
#define PLAIN parameters.plain
#define ACCEPTED parameters.accepted
#define SEED_LEFT parameters.seed_left
#define SEED_XOR parameters.seed_xor
#define LEAST_SEED parameters.least_seed
#define VARIANT parameters.variant
#define MODULUS parameters.modulus
#define DROP parameters.drop

#include FAMILY
#ifdef STREAM
#include "stream.h"
#endif

FN UV seen(UV word) {
	UV x = (word >> parameters.shift) * parameters.multiplier;
	return (x >> parameters.rotate) | (x << (-parameters.rotate & 31));
}

FN UV seen_at(state *g, const row *r) {
#ifdef REFUSES
	if (r->refused)
		return seen(refused(g) << parameters.shift);
#endif
	step(g, BY(r->steps));
	return seen(word(g));
}

FN UV candidates(u64 first) {
	unsigned short tallies[MOST_GROUPS];
	for (u32 i = 0; i < parameters.groups; i++)
		tallies[i] = 0;
	state g;
	start(&g, first);
	UV hit = 0;
	const test *t = parameters.test;
	for (u32 i = 0; i < parameters.rows; i++) {
		UV x = seen_at(&g, &parameters.row[i]);
		for (const test *end = t + parameters.row[i].tests; t < end; t++) {
			if (x - t->first <= t->width)
				hit |= HIT(++tallies[t->group] >= parameters.hits);
		}
	}
	return hit;
}

#include "search.h"
