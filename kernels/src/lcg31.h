// x = mul*x + add modulo 2^31-1. A seed that is 0 modulo that becomes LEAST_SEED.
// One step leaps over any number of outputs.

#define BY(steps) (u32)(steps)[0], (u32)(steps)[1]
#define PRIME 0x7fffffffu

typedef struct { UV x; } state;

FN void start(state *g, u64 first) {
	UV x = SEEDS(first);
	x = (x & PRIME) + (x >> 31);
	x = MIN(x, x - PRIME);
	g->x = x + LEAST_SEED * HIT(x == 0);
}

FN void step(state *g, u32 mul, u32 add) {
	UL product = WIDE(g->x) * mul + add;
	UV x = NARROW(product & PRIME) + NARROW(product >> 31);
	g->x = MIN(x, x - PRIME);
}

FN UV word(const state *g) { return g->x; }
