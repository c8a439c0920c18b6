// The congruence of lcg64.h, of whose state before the step 32 bits are put out,
// permuted. VARIANT 1 has the seed as its first state, and 0 what pcg-cpp makes of it.

#define STREAM

typedef struct { UL x; } generator;

FN void advance(generator *g) { g->x = g->x * 6364136223846793005ul + 1442695040888963407ul; }

FN void seed(generator *g, UL seeds) {
	g->x = seeds;
	if (VARIANT == 0) {
		g->x += 1442695040888963407ul;
		advance(g);
	}
}

FN UL output(const generator *g) {
	UV x = NARROW(((g->x >> 18) ^ g->x) >> 27), turn = NARROW(g->x >> 59);
	return WIDE((x >> turn) | (x << ((32 - turn) & 31)));
}
